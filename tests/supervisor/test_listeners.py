"""Listening sockets: what is opened for which options, whose it is, and what happens at the end."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Config
from subinterp_asgi.errors import BindError, ConfigError
from subinterp_asgi.supervisor.listeners import Listeners
from tests.support import open_descriptors


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = open_descriptors()
    yield
    assert {n: kind for n, kind in open_descriptors().items() if n not in before} == {}


@contextlib.contextmanager
def opened(sockets: Sequence[socket.socket] = (), **options: Any) -> Iterator[Listeners]:
    listeners = Listeners(Config(**options), sockets)
    try:
        yield listeners
    finally:
        listeners.close()


def accepts(address: tuple[str, int | None]) -> bool:
    """Whether a connection attempt succeeds."""
    host, port = address
    family = socket.AF_UNIX if port is None else socket.AF_INET6 if ":" in host else socket.AF_INET
    target: Any = host if port is not None else host.replace("@", "\0", 1)
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(10)
        try:
            client.connect(target if port is None else (host, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    return port


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


# --- Unix sockets


def test_unix_by_option(tmp_path: Path) -> None:
    path = tmp_path / "the socket"
    with opened(uds=str(path)) as listeners:
        assert listeners.addresses == ((str(path), None),)
        assert listeners.url == "http+unix://" + str(path).replace("/", "%2F").replace(" ", "%20")
        assert accepts((str(path), None))
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists()


def test_the_mode_is_set_before_anybody_can_connect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "socket"
    modes = []
    listen = socket.socket.listen

    def watched(self: socket.socket, backlog: int) -> None:
        modes.append(stat.S_IMODE(path.stat().st_mode))
        listen(self, backlog)

    monkeypatch.setattr(socket.socket, "listen", watched)
    umask = os.umask(0)
    try:
        with opened(uds=str(path), uds_permissions=0o600):
            assert modes == [0o600]
    finally:
        assert os.umask(umask) == 0  # it was not changed


def make_stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))


def test_a_stale_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    make_stale(path)
    assert path.is_socket()
    with opened(uds=str(path)):
        assert accepts((str(path), None))
    assert not path.exists()


def test_the_file_of_a_live_server_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as live:
        live.bind(str(path))
        live.listen(5)
        with pytest.raises(BindError, match="another server listens there") as caught:
            Listeners(Config(uds=str(path)))
        assert caught.value.errno == errno.EADDRINUSE
        assert caught.value.address == f"unix:{path}"
        assert accepts((str(path), None))


def test_a_live_server_with_a_full_queue_is_alive(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with contextlib.ExitStack() as stack:
        live = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        live.bind(str(path))
        live.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                client.setblocking(False)
                client.connect(str(path))
        with pytest.raises(BindError, match="another server listens there"):
            Listeners(Config(uds=str(path)))
        assert path.is_socket()


@pytest.mark.parametrize("kind", ["file", "directory", "link to a file"])
def test_what_is_no_socket_is_refused_and_kept(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "socket", tmp_path / "target"
    if kind == "directory":
        path.mkdir()
    elif kind == "file":
        path.write_text("precious")
    else:
        target.write_text("precious")
        path.symlink_to(target)
    with pytest.raises(BindError, match="exists and is not a socket") as caught:
        Listeners(Config(uds=str(path)))
    assert caught.value.errno == errno.EADDRINUSE
    assert path.is_dir() if kind == "directory" else path.read_text() == "precious"


@pytest.mark.parametrize("successor", ["none", "socket", "file"])
def test_only_the_file_that_was_made_is_removed(tmp_path: Path, successor: str) -> None:
    path = tmp_path / "socket"
    with contextlib.ExitStack() as stack:
        with opened(uds=str(path)):
            # Somebody replaces it, as a new server during a hand-over may.
            path.unlink()
            if successor == "socket":
                other = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                other.bind(str(path))
                other.listen(1)
            elif successor == "file":
                path.write_text("precious")
        assert path.exists() is (successor != "none")
        if successor == "socket":
            assert accepts((str(path), None))


def test_the_file_is_removed_after_a_change_of_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with opened(uds="socket"):
        assert (tmp_path / "socket").is_socket()
        monkeypatch.chdir("/")
    assert not (tmp_path / "socket").exists()


@pytest.mark.parametrize("path", ["/no/such/directory/socket", "/tmp/" + "x" * 200])
def test_a_path_that_cannot_be_bound(path: str) -> None:
    with pytest.raises(BindError) as caught:
        Listeners(Config(uds=path))
    assert str(caught.value).startswith(f"cannot listen on unix:{path}: ")
    assert "None" not in str(caught.value)


def test_nothing_is_left_if_listening_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: socket.socket, backlog: int) -> None:
        raise PermissionError(errno.EACCES, "refused")

    monkeypatch.setattr(socket.socket, "listen", refuse)
    path = tmp_path / "socket"
    with pytest.raises(BindError) as caught:
        Listeners(Config(uds=str(path)))
    assert caught.value.errno == errno.EACCES
    assert not path.exists()


def test_an_abstract_name(tmp_path: Path) -> None:
    name = f"@{tmp_path}/abstract"
    with opened(uds=name) as listeners:
        assert listeners.addresses == ((name, None),)
        assert accepts((name, None))
    assert not accepts((name, None))


# --- sockets that are the caller's


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("how", ["sockets", "fd", "bind"])
def test_a_socket_handed_in_stays_the_callers(how: str, blocking: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        given.setblocking(blocking)
        options: dict[str, Any] = {
            "sockets": {"sockets": [given]},
            "fd": {"fd": given.fileno()},
            "bind": {"bind": (f"fd://{given.fileno()}",)},
        }[how]
        with opened(**options) as listeners:
            assert listeners.addresses == (given.getsockname(),)
            assert accepts(given.getsockname())
        # It is still open, listens, and blocks as it did.
        assert os.get_blocking(given.fileno()) is blocking
        assert accepts(given.getsockname())


def test_the_same_socket_twice_keeps_its_mode() -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        with opened([given, given]):
            assert not os.get_blocking(given.fileno())
        assert os.get_blocking(given.fileno())


def test_a_socket_that_is_bound_only_is_made_to_listen() -> None:
    with socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        with opened([given]) as listeners:
            assert accepts(listeners.addresses[0])


def test_a_unix_socket_handed_in_keeps_its_file(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as given:
        given.bind(str(path))
        with opened([given]) as listeners:
            assert listeners.addresses == ((str(path), None),)
        assert accepts((str(path), None))


def test_sockets_go_before_options() -> None:
    with socket.create_server(("127.0.0.1", 0)) as given, opened([given], port=1) as listeners:
        assert listeners.addresses == (given.getsockname(),)


def test_a_socket_that_is_not_bound() -> None:
    with socket.socket() as given, pytest.raises(BindError, match="not bound to an address"):
        Listeners(Config(), [given])


def test_a_socket_that_is_closed() -> None:
    given = socket.socket()
    given.close()
    with pytest.raises(BindError) as caught:
        Listeners(Config(), [given])
    assert caught.value.errno == errno.EBADF


def test_a_datagram_socket() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as given:
        given.bind(("127.0.0.1", 0))
        with pytest.raises(BindError, match="not a stream socket"):
            Listeners(Config(), [given])


def test_a_connected_socket_cannot_be_served() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with (
            socket.create_connection(server.getsockname()) as client,
            pytest.raises(BindError) as caught,
        ):
            Listeners(Config(), [client])
        assert caught.value.errno == errno.EINVAL


def test_a_descriptor_that_is_no_socket(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        with pytest.raises(BindError, match="not a socket") as caught:
            Listeners(Config(fd=file.fileno()))
        assert caught.value.errno == errno.ENOTSOCK
        assert caught.value.address == f"fd://{file.fileno()}"


def test_a_descriptor_that_is_not_open() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(BindError) as caught:
        Listeners(Config(fd=reader))
    assert caught.value.errno == errno.EBADF


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
