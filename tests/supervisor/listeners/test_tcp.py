"""Listening on TCP: what is opened for which options, and what happens at the end."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Config
from subinterp_asgi.errors import BindError, ConfigError
from subinterp_asgi.supervisor import listeners as listeners_module
from subinterp_asgi.supervisor.listeners import Listeners
from tests.support import free_port, has_ipv6

from .connecting import accepts, opened

needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")


# --- TCP


def test_host_and_port() -> None:
    port = free_port()
    with opened(host="127.0.0.1", port=port) as listeners:
        assert listeners.addresses == (("127.0.0.1", port),)
        assert listeners.url == f"http://127.0.0.1:{port}"
        assert accepts(("127.0.0.1", port))
    assert not accepts(("127.0.0.1", port))


def test_port_0_is_a_free_port_whose_number_is_told() -> None:
    with opened(port=0) as listeners:
        ((host, port),) = listeners.addresses
        assert host == "127.0.0.1"
        assert port
        assert accepts((host, port))


def test_all_duplicates_are_of_one_socket() -> None:
    with opened(port=0) as listeners:
        duplicates = listeners.duplicate() + listeners.duplicate()
        assert {family for _, family in duplicates} == {int(socket.AF_INET)}
        assert len({os.fstat(fd).st_ino for fd, _ in duplicates}) == 1
        assert len({fd for fd, _ in duplicates}) == 2
        for fd, _ in duplicates:
            os.close(fd)


def test_sockets_are_non_blocking_and_not_inherited_by_programs() -> None:
    with opened(port=0) as listeners:
        ((fd, _),) = listeners.duplicate()
        assert not os.get_blocking(fd)
        assert not os.get_inheritable(fd)
        os.close(fd)


def test_a_port_can_be_taken_again_at_once() -> None:
    """Connections in TIME_WAIT don't stand in the way (SO_REUSEADDR)."""
    with opened(port=0) as listeners:
        ((host, port),) = listeners.addresses
        assert port
        client = socket.create_connection((host, port))
        ((fd, family),) = listeners.duplicate()
        with socket.socket(family, socket.SOCK_STREAM, fileno=fd) as server:
            connection, _ = server.accept()
            connection.close()  # the side that closes first is the one in TIME_WAIT
        assert client.recv(1) == b""
        client.close()
    with opened(port=port) as listeners:
        assert listeners.addresses == ((host, port),)


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BindError) as caught:
            Listeners(Config(port=port))
    error = caught.value
    assert error.errno == errno.EADDRINUSE
    assert error.address == f"127.0.0.1:{port}"
    assert str(error) == (f"cannot listen on 127.0.0.1:{port}: {os.strerror(errno.EADDRINUSE)}")
    assert isinstance(error, OSError)


def test_an_address_of_another_machine() -> None:
    with pytest.raises(BindError) as caught:
        Listeners(Config(host="192.0.2.1", port=0))  # reserved for documentation (RFC 5737)
    assert caught.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize("host", ["no such host", "a..b", "x" * 300])
def test_what_is_no_host(host: str) -> None:
    with pytest.raises(BindError, match="is not the address of a host") as caught:
        Listeners(Config(host=host, port=0))
    assert host in str(caught.value)


@needs_ipv6
def test_ipv6() -> None:
    with opened(host="::1", port=0) as listeners:
        ((host, port),) = listeners.addresses
        assert host == "::1"
        assert listeners.url == f"http://[::1]:{port}"
        assert accepts((host, port))


def test_the_url_of_a_wildcard_can_be_connected_to() -> None:
    with opened(host="0.0.0.0", port=0) as listeners:
        ((host, port),) = listeners.addresses
        assert host == "0.0.0.0"
        assert listeners.url == f"http://127.0.0.1:{port}"


@needs_ipv6
def test_all_addresses_of_a_host_get_the_same_port() -> None:
    with opened(host="", port=0) as listeners:
        hosts = {host for host, _ in listeners.addresses}
        assert hosts == {"0.0.0.0", "::"}
        assert len({port for _, port in listeners.addresses}) == 1
        for _, port in listeners.addresses:
            assert accepts(("127.0.0.1", port))
            assert accepts(("::1", port))


# --- localhost


def loopback(listeners: Listeners) -> int:
    """Check that both addresses are listened on, and nothing else; return their port."""
    ((first, port), (second, same)) = listeners.addresses
    assert (first, second) == ("127.0.0.1", "::1")
    assert port is not None
    assert port == same
    assert all(accepts(address) for address in listeners.addresses)
    return port


@needs_ipv6
@pytest.mark.parametrize("name", ["localhost", "LocalHost"])
def test_localhost_is_both_loopback_addresses(name: str) -> None:
    with opened(host=name, port=0) as listeners:
        port = loopback(listeners)
        assert listeners.url == f"http://127.0.0.1:{port}"
        listeners.grow(3)
        loopback(listeners)
        families = [socket.AF_INET, socket.AF_INET6]
        for slot in range(3):
            duplicates = listeners.duplicate(slot)
            assert [family for _, family in duplicates] == families
            for fd, _ in duplicates:
                os.close(fd)
    with opened(bind=[f"{name}:{port}"]) as listeners:
        assert loopback(listeners) == port


@needs_ipv6
def test_a_port_that_is_free_for_one_address_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """With port 0 another is tried."""
    taken: list[socket.socket] = []
    bound = listeners_module._bound

    def ports() -> list[int]:
        return [sock.getsockname()[1] for sock in taken]

    def bound_and_taken(family: int, *args: Any, **kwargs: Any) -> socket.socket:
        sock = bound(family, *args, **kwargs)
        port = sock.getsockname()[1]
        if family == socket.AF_INET and len(taken) < 3 and port not in ports():
            taken.append(socket.create_server(("::1", port), family=socket.AF_INET6))
        return sock

    monkeypatch.setattr(listeners_module, "_bound", bound_and_taken)
    try:
        with opened(host="localhost", port=0) as listeners:
            assert loopback(listeners) not in ports()
    finally:
        for sock in taken:
            sock.close()
    assert len(taken) == 3


@needs_ipv6
def test_a_port_that_is_taken_for_one_address() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        port = other.getsockname()[1]
        with pytest.raises(BindError) as caught:
            Listeners(Config(host="localhost", port=port))
    assert caught.value.errno == errno.EADDRINUSE
    assert caught.value.address == f"localhost:{port} (::1)"
    assert not accepts(("127.0.0.1", port))


@pytest.mark.parametrize("code", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
def test_localhost_without_ipv6(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = listeners_module._bound

    def without_ipv6(family: int, *args: Any, **kwargs: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(code, os.strerror(code))
        return bound(family, *args, **kwargs)

    monkeypatch.setattr(listeners_module, "_bound", without_ipv6)
    with opened(host="localhost", port=0) as listeners:
        ((host, port),) = listeners.addresses
        assert host == "127.0.0.1"
        assert accepts((host, port))


@needs_ipv6
@pytest.mark.parametrize("hosts", [["0.0.0.0", "::"], ["::", "0.0.0.0"]])
def test_a_name_of_all_addresses(hosts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In whatever order they are resolved."""
    getaddrinfo = socket.getaddrinfo

    def resolve(host: str, *args: Any, **kwargs: Any) -> list[Any]:
        return [found for each in hosts for found in getaddrinfo(each, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with opened(host="everywhere", port=0) as listeners:
        assert [host for host, _ in listeners.addresses] == hosts
        assert len({port for _, port in listeners.addresses}) == 1
        for _, port in listeners.addresses:
            assert accepts(("127.0.0.1", port))
            assert accepts(("::1", port))


def test_backlog_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    listen = socket.socket.listen
    monkeypatch.setattr(
        socket.socket, "listen", lambda self, backlog: (seen.append(backlog), listen(self, backlog))
    )
    with opened(port=0, backlog=77):
        assert seen == [77]


# --- several


@needs_ipv6
def test_several_addresses(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    given = socket.create_server(("127.0.0.1", 0))
    with (
        given,
        opened(
            bind=["127.0.0.1:0", "[::1]:0", f"unix:{path}", f"fd://{given.fileno()}"]
        ) as listeners,
    ):
        hosts = [host for host, _ in listeners.addresses]
        assert hosts == ["127.0.0.1", "::1", path, "127.0.0.1"]
        assert all(accepts(address) for address in listeners.addresses)
        duplicates = listeners.duplicate()
        families = [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_INET]
        assert [family for _, family in duplicates] == families
        for fd, _ in duplicates:
            os.close(fd)
        assert listeners.url == f"http://127.0.0.1:{listeners.addresses[0][1]}"


@needs_ipv6
def test_both_wildcards_on_one_port() -> None:
    port = free_port()
    with opened(bind=[f"0.0.0.0:{port}", f"[::]:{port}"]) as listeners:
        assert listeners.addresses == (("0.0.0.0", port), ("::", port))
        assert accepts(("127.0.0.1", port))
        assert accepts(("::1", port))


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ("127.0.0.1", ("127.0.0.1", None)),
        pytest.param("[::1]", ("::1", None), marks=needs_ipv6),
    ],
)
def test_an_entry_without_a_port_takes_that_of_the_option(
    entry: str, address: tuple[str, None]
) -> None:
    port = free_port()
    with opened(bind=[entry], port=port) as listeners:
        assert listeners.addresses == ((address[0], port),)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("::1:80", "needs brackets"),
        ("127.0.0.1:http", "has no valid port"),
        ("127.0.0.1:65536", "has no valid port"),
        ("127.0.0.1:-1", "has no valid port"),
        ("127.0.0.1:", "has no valid port"),
        ("fd://", "must be fd:// and a number"),
        ("fd://x", "must be fd:// and a number"),
        ("fd://-1", "must be fd:// and a number"),
        ("unix:", "needs a path"),
    ],
)
def test_an_entry_that_says_nothing(entry: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        Listeners(Config(bind=(entry,)))
    assert caught.value.option == "bind"


def test_nothing_stays_open_if_one_of_several_fails(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(BindError) as caught:
            Listeners(Config(bind=("127.0.0.1:0", f"unix:{path}", taken)))
    assert caught.value.address == taken
    assert not path.exists()


# --- the end


def test_closing_twice_does_nothing(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listeners = Listeners(Config(uds=str(path)))
    listeners.close()
    path.write_text("somebody else's")
    listeners.close()
    assert path.exists()


def test_closing_refuses_clients_although_a_worker_still_has_a_duplicate() -> None:
    listeners = Listeners(Config(port=0))
    ((fd, _),) = listeners.duplicate()
    (address,) = listeners.addresses
    listeners.close()
    assert not accepts(address)
    os.close(fd)


def test_a_failed_duplication_closes_what_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(bind=("127.0.0.1:0", "127.0.0.1:0")) as listeners:
        dup, made = os.dup, []

        def failing(fd: int) -> int:
            if made:
                raise OSError(errno.EMFILE, "too many")
            made.append(dup(fd))
            return made[0]

        monkeypatch.setattr(os, "dup", failing)
        with pytest.raises(OSError, match="too many"):
            listeners.duplicate()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(made[0])
