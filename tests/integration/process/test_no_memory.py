"""A system that has no memory left: a request fails, and the worker, and the server, go on."""

from __future__ import annotations

import logging
import re
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi.worker.asgi.http import HTTPSession

from ...support import get, wait_until
from ..command import Command
from ..rawclient import RawClient
from ..serving import serving

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it needs prlimit()")

MB = 1_000_000


class Limited(Command):
    """The command, with a bound on what it may take."""

    def __init__(self, *arguments: str, **options: Any) -> None:
        app = "holds_bodies:app"
        super().__init__(app, "--port=0", "--no-access-log", *arguments, **options)

    def leave(self, size: int | None) -> None:
        """Let it have so many octets more than it has; ``None``: as many as it likes."""
        limit = resource.RLIM_INFINITY
        if size is not None:
            status = Path(f"/proc/{self.pid}/status").read_text()
            found = re.search(r"VmSize:\s+(\d+) kB", status)
            assert found is not None
            limit = int(found[1]) * 1024 + size
        resource.prlimit(self.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

    def upload(self, size: int) -> int | None:
        """Send a body of zeros; return the status, or ``None``: the connection was closed."""
        host, port = self.url.removeprefix("http://").split(":")
        with RawClient((host, int(port))) as client:
            head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"
            try:
                client.send(head.encode())
                for _ in range(0, size, MB):
                    client.send(bytes(MB))
                return client.response().status
            except (ConnectionError, EOFError):
                return None


@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
def test_requests(isolation: str) -> None:
    with Limited(f"--isolation={isolation}") as server:
        name = get(server.url).text
        server.leave(10 * MB)
        assert server.upload(100 * MB) in (None, 500)
        assert get(server.url, f"/big?{100 * MB}").status == 500
        assert server.upload(1 * MB) == 200
        assert get(server.url).text == name, "it is the same worker"
        server.send(signal.SIGTERM)
        assert server.wait(20) == 0
    assert "died" not in server.stderr


@pytest.mark.parametrize("left", [1, 10, 20])
def test_a_reload(left: int) -> None:
    """Of what an interpreter needs too little may be left at any time; CPython can crash of it."""
    with Limited("--workers=2") as server:
        url = server.url
        server.leave(left * MB)
        server.send(signal.SIGHUP)
        server.wait_for(
            "Error: generation 2 does not serve, generation 1 goes on: worker . could not .*; "
            "what bounds (memory|threads) is "
        )
        assert get(url).status == 200
        server.leave(None)
        server.send(signal.SIGHUP)
        server.wait_for("Generation 3 serves")
        server.send(signal.SIGTERM)
        assert server.wait(20) == 0


def test_none_to_log_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection that needs too much is closed first, which may give back what is lacking."""
    closed: list[bool] = []

    def refuse(session: HTTPSession, data: bytes) -> None:
        raise MemoryError

    class Lacking(logging.Handler):
        emitted = 0

        def emit(self, record: logging.LogRecord) -> None:
            self.emitted += 1
            raise MemoryError

    def lose(session: HTTPSession) -> None:
        closed.append(not handler.emitted)
        connection_lost(session)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    handler, connection_lost = Lacking(), HTTPSession.connection_lost
    logger = logging.getLogger("subinterp_asgi.error")
    with serving(app, access_log=False, lifespan="off") as served, served.connect() as other:
        assert other.get(b"/").status == 200
        logger.addHandler(handler)
        try:
            with monkeypatch.context() as patch, served.connect() as client:
                patch.setattr(HTTPSession, "data_received", refuse)
                patch.setattr(HTTPSession, "connection_lost", lose)
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                client.assert_closed()
                wait_until(lambda: handler.emitted)
        finally:
            logger.removeHandler(handler)
        assert other.get(b"/").status == 200
        served.records.messages.clear()  # the loss was told
    assert closed == [True]
    assert handler.emitted == 1
