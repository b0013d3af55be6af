"""Listening on Unix sockets: the file, who may connect, and what is in its place."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from subinterp_asgi import Config
from subinterp_asgi.errors import BindError
from subinterp_asgi.supervisor.listeners import Listeners

from .connecting import accepts, opened


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


@pytest.mark.parametrize("first", ["@", "\0"])
def test_an_abstract_name(first: str, tmp_path: Path) -> None:
    """However it is written, it is told in one way."""
    name = f"@{tmp_path}/abstract"
    for option in ({"uds": first + name[1:]}, {"bind": [f"unix:{first}{name[1:]}"]}):
        with opened(**option) as listeners:
            assert listeners.addresses == ((name, None),)
            assert listeners.url == "http+unix://" + name.replace("@", "%40").replace("/", "%2F")
            assert accepts((name, None))
            with pytest.raises(BindError) as caught:
                Listeners(Config(uds=first + name[1:]))
            assert caught.value.address == f"unix:{name}"
        assert not accepts((name, None))


def test_an_abstract_socket_handed_in(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as given:
        given.bind(f"\0{tmp_path}/abstract")
        with opened([given]) as listeners:
            assert listeners.addresses == ((f"@{tmp_path}/abstract", None),)
