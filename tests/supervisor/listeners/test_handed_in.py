"""Sockets that are the caller's: they are served, and stay as they were."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Config
from subinterp_asgi.errors import BindError
from subinterp_asgi.supervisor.listeners import Listeners

from .connecting import accepts, handed, opened


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


def test_a_process_that_had_more_slots() -> None:
    """Its sockets are shared as long as there are no such slots; none is opened beside them."""
    with opened(workers=2) as first:
        first.grow(4)
        with closing(Listeners(Config(workers=2), handed=handed(first))) as second:
            assert len(list(second)) == 4
            assert [len(closed(second.duplicate(slot))) for slot in (0, 1)] == [3, 3]
            second.grow(3)
            assert len(list(second)) == 4
            assert [len(closed(second.duplicate(slot))) for slot in (0, 1, 2)] == [2, 2, 2]
            second.grow(5)
            assert [slot for _, slot, *_ in second.hand_over()] == [0, 1, 2, 3, 4]


def closed(duplicates: list[tuple[int, int]]) -> list[tuple[int, int]]:
    for fd, _ in duplicates:
        os.close(fd)
    return duplicates


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
