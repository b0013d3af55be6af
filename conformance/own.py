"""Starts this project's own server, on the probe application or on the WebSocket one.

The package under test is imported here, late and by name: against other servers the
suite needs nothing but the standard library.
"""

import contextlib
import importlib
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any

from conformance import codec
from conformance.probes.lifespan import SHUTDOWN_PORT


class OwnServer:
    """A running server, and the listener to which its workers report their shutdown."""

    def __init__(self, url: str, listener: socket.socket) -> None:
        self.url = url
        self._listener = listener
        self._reports: list[Any] = []

    def collect(self) -> None:
        """Take the reports that wait in the listener's queue."""
        self._listener.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            while True:
                peer, _ = self._listener.accept()
                with peer:
                    peer.settimeout(2)
                    self._reports.append(codec.loads(_all_of(peer)))

    def shutdown_reports(self) -> list[Any]:
        """The lifespan messages that the workers' applications got at the end."""
        return self._reports


def _all_of(peer: socket.socket) -> bytes:
    data = b""
    while piece := peer.recv(4096):
        data += piece
    return data


@contextlib.contextmanager
def server(workers: int, tls: Sequence[str] | None = None) -> Iterator[OwnServer]:
    """Serve `conformance.apps:app` in subinterpreters on a free port while the block runs."""
    package = importlib.import_module("subinterp_asgi")
    options: dict[str, Any] = {"workers": workers, "port": 0}
    # Cases make applications fail on purpose: nobody wants to read all that.
    options |= {"access_log": False, "log_level": "critical"}
    options |= {"early_hints": True}  # there is no proxy that could take them for responses
    if tls:
        options |= {"ssl_certfile": tls[0], "ssl_keyfile": tls[1]}
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        os.environ[SHUTDOWN_PORT] = str(listener.getsockname()[1])
        try:
            with package.Supervisor("conformance.apps:app", **options) as running:
                mine = OwnServer(running.url, listener)
                yield mine
            mine.collect()
        finally:
            del os.environ[SHUTDOWN_PORT]


@contextlib.contextmanager
def echo_server(workers: int) -> Iterator[Any]:
    """Serve `conformance.websocket_echo:app` in subinterpreters on a free port meanwhile."""
    package = importlib.import_module("subinterp_asgi")
    options: dict[str, Any] = {"workers": workers, "port": 0, "lifespan": "off"}
    options |= {"access_log": False, "log_level": "warning"}
    options |= {"ws_max_size": 16 * 1024 * 1024}  # the largest message of the suite, to the octet
    with package.Supervisor("conformance.websocket_echo:app", **options) as running:
        yield running
