"""Endless streams of sse-starlette, which end when their worker drains."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Callable, Iterator

import pytest

from subinterp_asgi import Supervisor
from tests.integration.supervising import both

APP = "tests.field.apps.streams:app"
END = {"reload": Supervisor.reload, "stop": Supervisor.stop}
FOR_EVER = 3600.0


@contextlib.contextmanager
def open_streams(server: Supervisor, path: str) -> Iterator[list[http.client.HTTPResponse]]:
    """Open some and read their first event."""
    host, port = server.addresses[0]
    with contextlib.ExitStack() as stack:
        streams = []
        for _ in range(4):
            client = http.client.HTTPConnection(host, port, timeout=60)
            stack.callback(client.close)
            client.request("GET", path)
            streams.append(stack.enter_context(client.getresponse()))
            assert streams[-1].readline() == b"data: first\r\n"
        yield streams


def serve(isolation: str) -> Supervisor:
    return Supervisor(
        APP, port=0, workers=2, isolation=isolation, timeout_graceful_shutdown=FOR_EVER
    )


@both
@pytest.mark.parametrize("end", END.values(), ids=END)
def test_a_response_that_watches_ends(
    isolation: str, end: Callable[[Supervisor], object], caplog: pytest.LogCaptureFixture
) -> None:
    with serve(isolation) as server:
        with open_streams(server, "/until-drain") as streams:
            end(server)
            # They are not cut short.
            assert [stream.read() for stream in streams] == [b"\r\n"] * len(streams)
        if end is Supervisor.reload:
            with open_streams(server, "/until-drain"):
                pass
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("end", END.values(), ids=END)
def test_the_library_can_be_told(
    end: Callable[[Supervisor], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each interpreter has a module of its own, and with that a flag."""
    monkeypatch.setenv("TELL_SSE_STARLETTE", "1")
    with serve("interpreter") as server:
        with open_streams(server, "/until-told") as streams:
            end(server)
            for stream in streams:
                with pytest.raises(http.client.IncompleteRead):  # as with uvicorn
                    stream.read()
        if end is Supervisor.reload:
            with open_streams(server, "/until-told"):  # the new ones have not been told
                pass
