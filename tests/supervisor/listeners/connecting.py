"""Sockets as clients see them."""

from __future__ import annotations

import contextlib
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
