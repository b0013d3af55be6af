"""Which requests proxies before several hosts send again, when a host has said nothing to one."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ..rawclient import RawClient, request
from .proxies import HAPROXY, NGINX, behind, documented

_HOSTS = [(f"10.0.{number}.2:8000", "{target}") for number in (1, 2, 3)]
_HTTP = NGINX.config.partition("server {{")[0] + "DOCUMENTED }}"
_LISTEN = ("listen 80;", "listen 127.0.0.1:{port};")
_BIND = ("bind :80", "bind 127.0.0.1:{port}")
PROXIES = {
    "haproxy": replace(
        HAPROXY, config=documented("haproxy-hosts.cfg", "DOCUMENTED", _BIND, *_HOSTS)
    ),
    "nginx": replace(NGINX, config=documented("nginx-hosts.conf", _HTTP, _LISTEN, *_HOSTS)),
}
"""All three hosts are the same here."""
REPEATED = {
    "haproxy": ["GET", "HEAD"],
    "nginx": ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"],
}
"""As the page on several hosts has it."""
METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]


class Silent:
    """A host that ends the connection when a request has come, but for those about health."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="test-host", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            with sock:
                sock.settimeout(10)
                data = b""
                with contextlib.suppress(OSError):
                    while b"\r\n\r\n" not in data and (more := sock.recv(65536)):
                        data += more
                if data.startswith(b"END"):
                    return
                if data.startswith(b"GET /health "):
                    with contextlib.suppress(OSError):
                        sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
                elif data:
                    self.heard.append(data.split()[0].decode())

    def close(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(b"END\r\n\r\n")
        self._thread.join()
        self._listener.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    with contextlib.closing(Silent()) as host:
        yield host


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("program", PROXIES)
def test_only_some_methods(program: str, method: str, silent: Silent, tmp_path: Path) -> None:
    with (
        behind(PROXIES[program], tmp_path, silent.port) as port,
        RawClient(("127.0.0.1", port)) as client,
    ):
        client.send(request(method.encode(), b"/", b"Content-Length: 0"))
        assert client.response(method.encode()).status == 502
    assert set(silent.heard) == {method}
    assert (len(silent.heard) > 1) is (method in REPEATED[program])
