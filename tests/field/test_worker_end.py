"""Libraries with threads of their own: a worker ends at once, and what was queued is sent."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.control import interpreters
from subinterp_asgi.supervisor import kept
from tests.integration.command import Command
from tests.support import ROOT, get, wait_until

from .sinks import Sink

APPS = "tests.field.apps"
LIBRARIES = {
    "otel": "a-span-of-the-test",
    "sentry": "a-message-of-the-test",
    "mongo": None,
    "progress": None,
    "schedule": None,
    "debugged": None,
    "sette": None,
    "pooled": None,
}
"""Each application, and what it exports."""
NEVER_END = {"debugged"}
"""Debuggers have threads of ``_thread``, which nobody can end: the interpreter is kept."""

all_of_them = pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(  # (a crash of CPython's, not ours)
                name == "debugged" and sys.version_info < (3, 14),
                reason="debugpy in an interpreter crashes CPython 3.13",
            ),
        )
        for name in LIBRARIES
    ],
)


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


def exported(sink: Sink, name: str, count: int) -> bool:
    text = LIBRARIES[name]
    return text is None or b"".join(sink.bodies).count(text.encode()) >= count


@all_of_them
def test_sigterm(name: str, sink: Sink) -> None:
    """With the default options, and the whole time that the command is given."""
    arguments = (f"{APPS}.{name}:app", "--port", "0", "--workers", "2")
    environment = {"SINK": str(sink.port)}
    with Command(*arguments, cwd=ROOT, environment=environment, warnings="default") as command:
        for _ in range(4):
            assert get(command.url).status in (200, 302)
        command.send(signal.SIGTERM)
        assert command.wait(4.0) == 0
        assert ("still runs" in command.stderr) == (name in NEVER_END)
    assert exported(sink, name, 4)


@pytest.mark.parametrize("name", sorted(set(LIBRARIES) - NEVER_END))
def test_reloads(name: str, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINK", str(sink.port))
    others = interpreters.alive()
    with Supervisor(f"{APPS}.{name}:app", port=0, access_log=False) as server:
        get(server.url)
        threads, alive = threading.active_count(), interpreters.alive()
        for _ in range(10):
            server.reload()
            get(server.url)
        wait_until(lambda: interpreters.alive() == alive, "interpreters to be closed")
        wait_until(lambda: threading.active_count() == threads, "threads to end")
    assert not kept.any_left()
    assert interpreters.alive() == others
    assert exported(sink, name, 11)
