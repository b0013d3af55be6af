"""Who the application is told its client is, behind proxies of all kinds."""

from __future__ import annotations

import ast
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from subinterp_asgi import Supervisor

from ..rawclient import RawClient
from ..serving import Served, serving

REQUEST = b"GET / HTTP/1.1\r\nHost: original\r\nConnection: close\r\n\r\n"


async def tell(scope: Any, receive: Any, send: Any) -> None:
    """Answer with client, server, scheme and Host as the scope has them."""
    host = [value for name, value in scope["headers"] if name == b"host"]
    body = repr((scope["client"], scope["server"], scope["scheme"], host)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def serve(**options: Any) -> Iterator[Supervisor]:
    options = {"port": 0, "isolation": "thread", "lifespan": "off", **options}
    with Supervisor(tell, **options) as server:
        yield server


def ask(server: Supervisor, headers: dict[str, str]) -> Any:
    return ast.literal_eval(httpx.get(server.url, headers=headers).text)


FORWARDED = {
    "x-forwarded-for": "203.0.113.7, 10.0.0.1",
    "x-forwarded-proto": "https",
    "x-forwarded-host": "example.org",
    "forwarded": 'for="[2001:db8::1]:4711";proto=https;host=example.net',
}


def test_the_address_beside_us_is_believed_by_default() -> None:
    with serve() as server:
        client, at, scheme, host = ask(server, FORWARDED)
        assert client == ("10.0.0.1", 0)  # which is not trusted itself
        assert scheme == "https"
        assert at == server.addresses[0]
        assert host == [server.url.removeprefix("http://").encode()]


def test_the_first_untrusted_hop_is_the_client() -> None:
    with serve(forwarded_allow_ips=["127.0.0.1", "10.0.0.0/8"]) as server:
        assert ask(server, FORWARDED)[0] == ("203.0.113.7", 0)


@pytest.mark.parametrize(
    "options", [{"proxy_headers": False}, {"forwarded_allow_ips": "192.0.2.0/24"}]
)
def test_others_are_not_believed(options: dict[str, Any]) -> None:
    with serve(**options) as server:
        client, at, scheme, _ = ask(server, FORWARDED)
        assert client[0] == "127.0.0.1"
        assert client[1] > 0
        assert scheme == "http"
        assert at == server.addresses[0]


def test_host_by_option_only() -> None:
    with serve(forwarded_host=True) as server:
        _, at, _, host = ask(server, FORWARDED)
        assert at == ("example.org", 443)
        assert host == [b"example.org"]


def test_rfc_7239_by_option_only() -> None:
    with serve(forwarded_header="forwarded") as server:
        client, _, scheme, _ = ask(server, FORWARDED)
        assert client == ("2001:db8::1", 4711)
        assert scheme == "https"


def exchange(server: Supervisor, *pieces: bytes) -> bytes:
    """Send pieces, each in a segment of its own, and read to the end."""
    host, port = server.addresses[0]
    with socket.create_connection((host, port or 0), timeout=10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        try:
            for piece in pieces:
                client.sendall(piece)
            while data := client.recv(65536):
                received += data
        except ConnectionResetError:
            return received
        return received


V1 = b"PROXY TCP4 203.0.113.7 198.51.100.1 1111 443\r\n"
V2 = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"
    + bytes((203, 0, 113, 7, 198, 51, 100, 1))
    + (1111).to_bytes(2, "big")
    + (443).to_bytes(2, "big")
)


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("split", ["with the request", "by itself", "octet by octet"])
def test_proxy_protocol(header: bytes, split: str) -> None:
    pieces = {
        "with the request": [header + REQUEST],
        "by itself": [header, REQUEST],
        "octet by octet": [bytes((octet,)) for octet in header + REQUEST],
    }[split]
    with serve(proxy_protocol=True) as server:
        body = exchange(server, *pieces).partition(b"\r\n\r\n")[2]
        client, at, _, _ = ast.literal_eval(body.decode())
        assert client == ("203.0.113.7", 1111)
        assert at == ("198.51.100.1", 443)


def test_proxy_protocol_of_a_health_check() -> None:
    with serve(proxy_protocol=True) as server:
        body = exchange(server, b"PROXY UNKNOWN\r\n" + REQUEST).partition(b"\r\n\r\n")[2]
        client, at, _, _ = ast.literal_eval(body.decode())
        assert client[0] == "127.0.0.1"
        assert at == server.addresses[0]


def test_without_a_header_there_is_no_answer() -> None:
    with serve(proxy_protocol=True) as server:
        assert exchange(server, REQUEST) == b""
        assert b"203.0.113.7" in exchange(server, V1 + REQUEST)


def test_a_header_of_somebody_untrusted_is_not_read() -> None:
    with serve(proxy_protocol=True, forwarded_allow_ips="192.0.2.1") as server:
        assert exchange(server, V1 + REQUEST) == b""


def test_a_header_that_does_not_come_is_waited_for_no_longer_than_the_timeout() -> None:
    with serve(proxy_protocol=True, timeout_tls_handshake=0.2) as server:
        assert exchange(server, V1[:10]) == b""


# --- proxies that are not served, or not believed, and get no word of it


def refused(served: Served) -> str:
    """Connect twice without a header, and return the one line that was logged of that."""
    for _ in range(2):
        with served.connect() as client:
            client.try_send(REQUEST)
            client.wait_for_end()
            assert client.buffer == b""
    (line,) = served.records.messages
    return line


def test_a_proxy_that_sends_no_header_is_named_once() -> None:
    with serving(tell, proxy_protocol=True) as served:
        line = refused(served)
        assert line.startswith("a connection from 127.0.0.1 is closed")
        assert "have that proxy send one, or turn proxy_protocol off" in line
        with served.connect() as client:  # which only leaves, as probes do
            client.half_close()
            client.assert_closed()
        assert served.records.messages == [line]


def test_a_peer_that_may_send_no_header_is_named_once() -> None:
    with serving(tell, proxy_protocol=True, forwarded_allow_ips="192.0.2.1") as served:
        line = refused(served)
        assert line.startswith("connections from 127.0.0.1 are closed")
        assert "forwarded_allow_ips" in line


def test_each_kind_is_told_of(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with serving(tell, proxy_protocol=True, family=socket.AF_UNIX, path=path) as served:
        assert "a peer on a Unix socket are closed" in refused(served)
    options = {"forwarded_allow_ips": "unix", "proxy_protocol": True}
    with serving(tell, **options, family=socket.AF_UNIX, path=path + "2") as served:
        assert "a peer on a Unix socket is closed" in refused(served)


FOR = b"X-Forwarded-For: 203.0.113.7"
ELEMENT = b"Forwarded: for=203.0.113.7"


@pytest.mark.parametrize(
    ("options", "fields", "said"),
    [
        ({}, [FOR], "x-forwarded-for"),
        ({}, [b"X-Forwarded-Proto: https", FOR], "x-forwarded-proto"),
        ({"forwarded_header": "forwarded"}, [FOR, ELEMENT], "forwarded"),
        ({"forwarded_allow_ips": "*"}, [FOR], None),
        ({"forwarded_allow_ips": "unix"}, [FOR], None),
        ({"proxy_headers": False}, [FOR], None),
        ({}, [ELEMENT], None),
        ({}, [], None),
    ],
)
def test_a_proxy_on_a_unix_socket_that_is_not_believed_is_named_once(
    options: dict[str, Any], fields: list[bytes], said: str | None, tmp_path: Path
) -> None:
    path = str(tmp_path / "socket")
    with serving(tell, **options, family=socket.AF_UNIX, path=path) as served:
        for _ in range(2):
            with RawClient(path) as client:
                assert client.get(b"/").status == client.get(b"/", *fields).status == 200
        if said is None:
            assert served.records.messages == []
        else:
            (line,) = served.records.messages
            assert f"{path} sends {said} and is not believed" in line
            assert "add 'unix' to forwarded_allow_ips" in line


def test_of_tcp_peers_nothing_is_said() -> None:
    """Anybody can send such fields."""
    with serving(tell, forwarded_allow_ips="192.0.2.1") as served, served.connect() as client:
        assert client.get(b"/", FOR, ELEMENT).status == 200
        assert served.records.messages == []


def test_proxy_protocol_before_tls(tmp_path: Any) -> None:
    authority = trustme.CA()
    pem = tmp_path / "cert.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pem)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with serve(proxy_protocol=True, ssl_certfile=str(pem)) as server:
        host, port = server.addresses[0]
        with socket.create_connection((host, port or 0), timeout=10) as plain:
            plain.sendall(V2)
            with context.wrap_socket(plain, server_hostname="localhost") as client:
                client.sendall(REQUEST)
                answer = b""
                while data := client.recv(65536):
                    answer += data
        found = ast.literal_eval(answer.partition(b"\r\n\r\n")[2].decode())
        assert found[0] == ("203.0.113.7", 1111)
        assert found[2] == "https"
