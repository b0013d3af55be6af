"""Sockets as clients see them."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any

from subinterp_asgi import Config
from subinterp_asgi.supervisor.listeners import Listeners


@contextlib.contextmanager
def opened(sockets: Sequence[socket.socket] = (), **options: Any) -> Iterator[Listeners]:
    listeners = Listeners(Config(**options), sockets)
    try:
        yield listeners
    finally:
        listeners.close()


def handed(listeners: Listeners) -> Sequence[Any]:
    """As another process gets them; here it has descriptors of its own."""
    return [(os.dup(fd), *more) for fd, *more in listeners.hand_over()]


def client_of(address: tuple[str, int | None]) -> tuple[socket.socket, Any]:
    """Return a socket, and what it is to connect to."""
    host, port = address
    if port is None:
        return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), host.replace("@", "\0", 1)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.socket(family, socket.SOCK_STREAM), address


def accepts(address: tuple[str, int | None]) -> bool:
    """Whether a connection attempt succeeds."""
    client, target = client_of(address)
    with client:
        client.settimeout(10)
        try:
            client.connect(target)
        except OSError:
            return False
    return True
