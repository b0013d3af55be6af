"""Nobody connects any more before what listens is closed, save where others go on to serve."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Config
from subinterp_asgi.supervisor import listeners as module
from subinterp_asgi.supervisor.listeners import Listeners
from tests.support import has_ipv6

from .connecting import accepts, client_of, handed, opened

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nearly nobody does")


def connecting(address: tuple[str, int | None]) -> socket.socket:
    """Begin to connect, which is done at once on this machine if it succeeds."""
    client, target = client_of(address)
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        client.connect(target)
    client.settimeout(10)
    return client


def bar(listeners: Listeners) -> None:
    for local in (False, True):
        listeners.bar(local=local)


def talk(one: socket.socket, other: socket.socket) -> None:
    for sender, receiver in ((one, other), (other, one)):
        sender.sendall(b"x" * 100_000)
        sent = b""
        while len(sent) < 100_000:
            sent += receiver.recv(65536)


def accepted(listeners: Listeners) -> socket.socket:
    sock, _ = next(iter(listeners)).accept()
    sock.settimeout(10)
    return sock


WHERE = ["127.0.0.1", "[::1]", "[::]", "unix", "abstract"]


@pytest.mark.parametrize("where", WHERE)
def test_only_those_that_had_connected_are_served(where: str, tmp_path: Path) -> None:
    if ":" in where and not has_ipv6():
        pytest.skip("no IPv6 here")
    bind = {"unix": f"unix:{tmp_path}/socket", "abstract": f"unix:@{tmp_path}"}.get(where, where)
    with contextlib.ExitStack() as stack, opened(bind=(bind,), port=0) as listeners:
        address = listeners.addresses[0]
        if where == "[::]":
            address = ("127.0.0.1", address[1])  # whose packets have another header before TCP's
        served = stack.enter_context(connecting(address))
        serving = stack.enter_context(accepted(listeners))
        queued = stack.enter_context(connecting(address))
        bar(listeners)
        talk(served, serving)
        if address[1] is None:
            assert not accepts(address)
        else:
            late = stack.enter_context(connecting(address))
            with pytest.raises(OSError) as caught:  # noqa: PT011
                late.getpeername()
            assert caught.value.errno == errno.ENOTCONN
        talk(queued, stack.enter_context(accepted(listeners)))
        with pytest.raises(OSError) as caught:  # noqa: PT011
            accepted(listeners)
        assert caught.value.errno == errno.EAGAIN
        listeners.refuse()
        assert not accepts(address)


def test_each_slot() -> None:
    with opened(port=0, workers=3) as listeners:
        bar(listeners)
        for _ in range(16):
            with connecting(listeners.addresses[0]) as client, pytest.raises(OSError):  # noqa: PT011
                client.getpeername()


def test_where_the_kernel_takes_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError(errno.EPERM, "refused")

    monkeypatch.setattr(module, "_attach", refuse)
    with opened(port=0) as listeners, connecting(listeners.addresses[0]) as queued:
        bar(listeners)
        with accepted(listeners) as serving:
            talk(queued, serving)


def given(where: str, tmp_path: Path) -> socket.socket:
    if where == "unix":
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(str(tmp_path / "socket"))
        sock.listen()
        return sock
    return socket.create_server(("127.0.0.1", 0))


@pytest.mark.parametrize("where", ["tcp", "unix"])
def test_what_is_the_callers_is_left_as_it_is(where: str, tmp_path: Path) -> None:
    """A service manager's, say, from which the next process accepts."""
    with given(where, tmp_path) as sock:
        for sockets, options in [((sock,), {}), ((), {"fd": sock.fileno()})]:
            with opened(sockets, **options) as listeners:
                address = listeners.addresses[0]
                bar(listeners)
                assert accepts(address)
            assert accepts(address)


@pytest.mark.parametrize("where", ["tcp", "unix"])
def test_what_another_process_goes_on_to_serve_is_left_as_it_is(where: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"uds": f"{tmp_path}/socket"} if where == "unix" else {"port": 0}
    with opened(**options) as old:
        address = old.addresses[0]
        new = Listeners(Config(**options), handed=handed(old))
        try:
            bar(new)  # it ends without having taken over
            assert accepts(address)
            new.take_over()
            old.give_up()
            bar(old)
            old.close()
            assert accepts(address)
            bar(new)
            if where == "unix":
                assert not accepts(address)
            else:
                with connecting(address) as late, pytest.raises(OSError):  # noqa: PT011
                    late.getpeername()
        finally:
            new.close()
