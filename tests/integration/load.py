"""Clients of several kinds that send request after request, and retry nothing.

Whatever does not go as it should, a reset, a connection that is closed before a response has come,
another status than 200 or another body than expected, is kept as a failure. A connection that a
response announces to be closed is left, as any client does.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

from tests.support import wait_until

from .apps.pool import CHUNKS
from .rawclient import RawClient, Response, request

PIECE = b"p" * 8192
PIECES = 6
PAUSE = 0.002  # seconds from one request of a client to its next, so that others have a turn


@dataclass(frozen=True)
class Failure:
    """A request that did not go well.

    Attributes:
        kind: The kind of client.
        worker: The name of the worker that had answered on this connection before, or "".
        error: What happened.
    """

    kind: str
    worker: str
    error: str


class Load:
    """Runs clients, each in a thread, while the block lasts.

    Args:
        address: Where to connect.
        clients: How many of which kind: ``keep_alive``, ``fresh``, ``slow``, ``upload``,
            ``stream``.
        connect: Makes a client's connection instead, such as one with TLS.
        pause: Seconds from one request of a client to its next.

    Attributes:
        failures: What went wrong.
        answered: Requests that were answered as they should, by kind.
        workers: The same, by worker.
    """

    def __init__(
        self,
        address: tuple[str, int] | str,
        connect: Callable[[], RawClient] | None = None,
        pause: float = PAUSE,
        **clients: int,
    ) -> None:
        self.failures: list[Failure] = []
        self.answered: Counter[str] = Counter()
        self.workers: Counter[str] = Counter()
        self._connect = connect or partial(RawClient, address)
        self._pause = pause
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(kind,), name=f"test-{kind}", daemon=True)
            for kind, count in clients.items()
            for _ in range(count)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a client hangs"

    @property
    def requests(self) -> int:
        """Requests that were answered."""
        return self.answered.total()

    def wait_for(self, more: int) -> None:
        """Wait until so many more requests were answered."""
        goal = self.requests + more
        wait_until(lambda: self.requests >= goal, f"{more} more answers; {self.failures}")

    def _run(self, kind: str) -> None:
        exchange = _EXCHANGES[kind]
        client: RawClient | None = None
        worker = ""
        while not self._ending.is_set():
            try:
                if client is None:
                    worker = ""
                    client = self._connect()
                response = exchange(client)
                assert response.status == 200, response
            except Exception as exc:
                self.failures.append(Failure(kind, worker, f"{type(exc).__name__}: {exc}"))
                if client is not None:
                    client.close()
                client = None
                time.sleep(0.05)  # what is broken shall not be asked a thousand times
                continue
            worker = (response.get(b"worker") or b"").decode()
            with self._lock:
                self.answered[kind] += 1
                self.workers[worker] += 1
            if response.closes or kind == "fresh":
                client.close()
                client = None
            time.sleep(self._pause)
        if client is not None:
            client.close()


def _get(target: bytes, body: bytes, *lines: bytes) -> Callable[[RawClient], Response]:
    def exchange(client: RawClient) -> Response:
        response = client.get(target, *lines)
        assert response.body == body, response
        return response

    return exchange


def _upload(client: RawClient) -> Response:
    client.send(request(b"POST", b"/upload", b"Content-Length: %d" % (len(PIECE) * PIECES)))
    for _ in range(PIECES):
        client.send(PIECE)
        time.sleep(0.002)
    response = client.response()
    assert response.body == b"%d" % (len(PIECE) * PIECES), response
    return response


_EXCHANGES: dict[str, Callable[[RawClient], Response]] = {
    "keep_alive": _get(b"/", b"ok"),
    "fresh": _get(b"/", b"ok", b"Connection: close"),
    "slow": _get(b"/slow", b"slow"),
    "upload": _upload,
    "stream": _get(b"/stream", b"".join(CHUNKS)),
}
