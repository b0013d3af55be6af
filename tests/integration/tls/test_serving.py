"""HTTPS, from two workers in interpreters of their own, to clients that know what TLS is."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from subinterp_asgi import Supervisor

from ...support import wait_until
from ..apps.tls import pattern
from ..pki import Pki, TLSClient
from ..rawclient import RawClient, post, request
from .clients import APP

# --- what HTTP needs


def test_both_workers_serve_a_real_client(server: Supervisor, trusting: ssl.SSLContext) -> None:
    assert server.url == f"https://127.0.0.1:{server.addresses[0][1]}"

    def all_have_served() -> bool:
        with httpx.Client(base_url=server.url, verify=trusting, trust_env=False) as client:
            assert client.get("/").text == "hello"
            assert client.post("/echo", content=b"payload").content == b"payload"
        return all(worker.requests for worker in server.workers)

    wait_until(all_have_served, "each worker has served a request")


def test_a_client_with_another_authority_is_not_fooled(server: Supervisor) -> None:
    context = ssl.create_default_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        TLSClient(server.addresses[0], context)


def test_keep_alive(client: TLSClient) -> None:
    for number in range(20):
        body = b"%d" % number
        client.send(post(b"/echo", body))
        assert client.response().body == body


def test_pipelining(client: TLSClient) -> None:
    targets = [b"/whole/%d" % (number * 997) for number in range(40)]
    client.send(b"".join(request(b"GET", target) for target in targets))
    for number in range(40):
        assert client.response().body == pattern(0, number * 997)
    client.assert_open()


def test_octets_one_by_one(server: Supervisor, trusting: ssl.SSLContext) -> None:
    """Each octet of handshake and request is a segment of its own."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with RawClient(server.addresses[0]) as raw:

        def step[T](act: Callable[[], T]) -> T:
            while True:
                try:
                    return act()
                except ssl.SSLWantReadError:
                    for octet in outgoing.read():
                        raw.send(bytes((octet,)))
                    incoming.write(raw.receive())

        step(tls.do_handshake)
        tls.write(request(b"GET", b"/"))
        answer = b""
        while not answer.endswith(b"hello"):
            answer += step(tls.read)
        assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_request_in_many_records(client: TLSClient) -> None:
    for octet in post(b"/echo", b"in many records"):
        client.send(bytes((octet,)))
    assert client.response().body == b"in many records"


# --- what applications are told


def test_scope(server: Supervisor, pki: Pki, client: TLSClient) -> None:
    scheme, extensions = json.loads(client.get(b"/show").body)
    assert scheme == "https"
    cipher = client.tls.cipher()
    assert cipher is not None
    assert extensions["tls"] == {
        "server_cert": Path(pki.certificate).read_text().partition("\n-----BEGIN")[0].rstrip("\n")
        + "\n",
        "client_cert_chain": [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": 0x0304,
        "cipher_suite": {"TLS_AES_256_GCM_SHA384": 0x1302, "TLS_AES_128_GCM_SHA256": 0x1301}[
            cipher[0]
        ],
    }
    assert {"http.response.pathsend", "http.response.trailers"} < set(extensions)


def test_scope_with_tls_1_2(server: Supervisor, pki: Pki) -> None:
    context = pki.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")
    with TLSClient(server.addresses[0], context) as client:
        _, extensions = json.loads(client.get(b"/show").body)
        assert extensions["tls"]["tls_version"] == 0x0303
        assert extensions["tls"]["cipher_suite"] == 0xCCA9  # RFC 7905


def test_the_extension_is_absent_without_tls() -> None:
    with Supervisor(APP, workers=1, port=0) as server, RawClient(server.addresses[0]) as client:
        scheme, extensions = json.loads(client.get(b"/show").body)
        assert scheme == "http"
        assert "tls" not in extensions


def test_alpn(server: Supervisor, pki: Pki) -> None:
    for offered, chosen in ((["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1")):
        context = pki.client()
        context.set_alpn_protocols(offered)
        with TLSClient(server.addresses[0], context) as client:
            assert client.tls.selected_alpn_protocol() == chosen
            client.assert_open()


def test_a_unix_socket(pki: Pki, trusting: ssl.SSLContext, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with (
        Supervisor(APP, workers=2, uds=path, ssl_certfile=pki.server) as server,
        TLSClient(path, trusting) as client,
    ):
        assert server.url.startswith("https+unix:")
        client.assert_open()


def test_an_ipv6_address(pki: Pki, trusting: ssl.SSLContext) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 on this machine")
    with (
        Supervisor(APP, workers=1, host="::1", port=0, ssl_certfile=pki.server) as server,
        TLSClient(server.addresses[0], trusting) as client,
    ):
        client.assert_open()
