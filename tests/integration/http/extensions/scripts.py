"""Applications that send given messages, and how their messages are written."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ...rawclient import TIMEOUT, RawClient, request
from ...serving import Served, respond, serving

TE = b"TE: trailers"
LARGE = 30_000_000

type Message = dict[str, Any]


def start(*headers: tuple[bytes, bytes], status: int = 200, trailers: bool = False) -> Message:
    return {
        "type": "http.response.start",
        "status": status,
        "headers": headers,
        "trailers": trailers,
    }


def body(data: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def trailers(*headers: Any, more: bool = False) -> Message:
    return {"type": "http.response.trailers", "headers": headers, "more_trailers": more}


def zero_copy(file: Any, **options: Any) -> Message:
    return {"type": "http.response.zerocopysend", "file": file, **options}


class Script:
    """An application that sends messages one after the other, whatever becomes of each.

    Attributes:
        outcomes: For each message what ``send()`` raised, or ``None``.
    """

    def __init__(self, *messages: Message) -> None:
        self._messages = messages
        self.outcomes: list[Exception | None] = []
        self.done = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/next":
            await respond(send, b"next")
            return
        for message in self._messages:
            try:
                await send(message)
            except Exception as exc:
                self.outcomes.append(exc)
            else:
                self.outcomes.append(None)
        self.done.set()

    @property
    def raised(self) -> list[type[Exception] | None]:
        """Types of the outcomes, once all messages were sent."""
        assert self.done.wait(TIMEOUT)
        return [outcome and type(outcome) for outcome in self.outcomes]


def failing(*messages: Message) -> Callable[..., Any]:
    """An application that sends messages and lets go what that raises."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/next":
            await respond(send, b"next")
            return
        for message in messages:
            await send(message)

    return app


@contextlib.contextmanager
def asking(app: Any, *lines: bytes, **kwargs: Any) -> Iterator[tuple[Served, RawClient]]:
    """Serve an application and send it a request."""
    method, version = kwargs.pop("method", b"GET"), kwargs.pop("version", b"1.1")
    client_options = kwargs.pop("client", {})
    with serving(app, **kwargs) as server, server.connect(**client_options) as client:
        client.send(request(method, b"/", *lines, version=version))
        yield server, client


def assert_next(client: RawClient) -> None:
    """Check that the connection serves another request, so that no octet was out of place."""
    assert client.get(b"/next").body == b"next"


def assert_broken(client: RawClient) -> None:
    """Check that the response can't be taken for a whole one."""
    with pytest.raises((AssertionError, ConnectionError)):
        client.response()


@contextlib.contextmanager
def opened(path: Path, position: int = 0) -> Iterator[io.FileIO]:
    """A file, at a position."""
    with path.open("rb", buffering=0) as file:
        file.seek(position)
        yield file
