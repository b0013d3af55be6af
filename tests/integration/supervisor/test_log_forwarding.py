"""What workers log in interpreters of their own, as the host's logging sees it."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Config, Supervisor
from subinterp_asgi.control.launch import Runtime
from subinterp_asgi.control.log_records import rebuild, take
from subinterp_asgi.supervisor.log_receiver import LogReceiver
from tests.support import get, nothing_left, wait_until

from ..worker.driving import Drive

APP = "tests.integration.apps.logged:app"
CONFIGURATION = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"null": {"class": "logging.NullHandler"}},
    "root": {"handlers": ["null"], "level": "INFO"},
}


@pytest.fixture(autouse=True)
def levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    with nothing_left():
        yield


class Forwarded:
    """A worker in an interpreter, driven by hand, whose records go to the host."""

    def __init__(self, app: str = APP, *, path: tuple[str, ...] = (), **options: Any) -> None:
        state = options.pop("state", {})
        self.receiver = LogReceiver()
        self.fd = self.receiver.open(7, 3)
        config = Config(**{"shutdown_timeout": 10, **options})
        self.worker = Drive(
            app=app,
            config_json=Runtime(log_fd=self.fd).join(config),
            state=json.dumps(state),
            path=path,
        )

    def get(self, path: str) -> None:
        get(self.worker.url, path)

    def end(self, command: str | None = "shutdown") -> list[str]:
        """Wait for the worker's end, and for its records; return its statuses."""
        if command is not None:
            self.worker.tell(command)
        statuses = self.worker.finish()
        self.receiver.worker_ended(self.fd)
        assert self.receiver.close()
        return statuses


def serve(*paths: str, **options: Any) -> list[str]:
    """Serve requests for these paths, from start to end."""
    forwarded = Forwarded(**options)
    forwarded.worker.wait_for("serving")
    for path in paths:
        forwarded.get(path)
    return forwarded.end()


def of(caplog: pytest.LogCaptureFixture, name: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == name]


def the(caplog: pytest.LogCaptureFixture, name: str, start: str) -> Any:
    (found,) = [r for r in caplog.records if r.name == name and r.getMessage().startswith(start)]
    return found


# --- what is forwarded


def test_everything_from_the_import_to_the_end_in_this_order(
    caplog: pytest.LogCaptureFixture,
) -> None:
    serve("/level")
    records = [r for r in caplog.records if r.name in ("the_app", "subinterp_asgi.access")]
    texts = [re.sub(r"127.*GET", "GET", record.getMessage()) for record in records]
    assert re.fullmatch(r'GET /level HTTP/1.1" 200 OK [0-9.]+ms', texts[4])
    assert texts[:4] + texts[5:] == ["imported", "started", "info", "warning", "shut down"]
    assert {(r.worker_id, r.generation) for r in records} == {(7, 3)}  # type: ignore[attr-defined]
    assert {r.threadName for r in records} == {"asgi-worker-7"}
    assert [r.created for r in records] == sorted(r.created for r in records)


def test_an_exception_arrives_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    serve("/caught")
    record = the(caplog, "the_app", "caught it")
    assert (record.worker_id, record.generation, record.levelname) == (7, 3, "ERROR")
    assert record.funcName == "app"
    assert record.filename == "logged.py"
    assert record.request_id == 17
    assert re.search(r'logged\.py", line \d+, in app\n', record.exc_text)
    assert "LookupError: inner wörds" in caplog.text
    assert "Stack (most recent call last):" in caplog.text


def test_an_exception_that_leaves_the_application(caplog: pytest.LogCaptureFixture) -> None:
    serve("/raise")
    record = the(caplog, "subinterp_asgi.error", "")
    assert record.worker_id == 7
    assert "LookupError: out of the application" in record.exc_text


def test_odd_and_large_texts(caplog: pytest.LogCaptureFixture) -> None:
    serve("/text/odd", "/text/big")
    assert "said wörds \ud800 \0 \U0001f40d" in of(caplog, "the_app")
    assert "said " + "x" * 200_000 in of(caplog, "the_app")


def test_threads_of_the_application(caplog: pytest.LogCaptureFixture) -> None:
    serve("/threads/200")
    per_thread: dict[str, list[int]] = {}
    for record in caplog.records:
        if re.fullmatch(r"\d+ \d+", record.getMessage()):
            name, number = record.getMessage().split()
            assert record.threadName != "asgi-worker-7"
            per_thread.setdefault(name, []).append(int(number))
    assert per_thread == {str(name): list(range(200)) for name in range(4)}


@pytest.mark.parametrize(
    ("level", "expected"),
    [("debug", ["debug", "info", "warning"]), ("info", ["info", "warning"]), ("error", [])],
)
def test_the_level(level: str, expected: list[str], caplog: pytest.LogCaptureFixture) -> None:
    serve("/level", log_level=level)
    seen = [text for text in of(caplog, "the_app") if text in ("debug", "info", "warning")]
    assert seen == expected
    assert bool(of(caplog, "subinterp_asgi.access")) == (level != "error")


def test_without_an_access_log(caplog: pytest.LogCaptureFixture) -> None:
    serve("/level", access_log=False)
    assert of(caplog, "subinterp_asgi.access") == []
    assert "info" in of(caplog, "the_app")


def test_nothing_is_written_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    serve("/level", "/raise")
    assert capfd.readouterr().err == ""


# --- applications that configure logging


@pytest.mark.parametrize(
    "how",
    [
        f"logging.config.dictConfig({CONFIGURATION})",
        f"logging.config.dictConfig({CONFIGURATION | {'disable_existing_loggers': True}})",
        "logging.basicConfig(level='ERROR')",
        "logging.basicConfig(level='INFO', filename=os.devnull, force=True)",
    ],
)
def test_an_application_that_configures_logging_when_it_is_imported(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "configuring.py").write_text(
        f"import logging.config, os\n{how}\nfrom tests.integration.apps.logged import app\n"
    )
    serve("/level", "/raise", app="configuring:app", path=(str(tmp_path),))
    assert of(caplog, "the_app")[-4:] == ["started", "info", "warning", "shut down"]
    assert len(of(caplog, "subinterp_asgi.access")) == 2
    assert len(of(caplog, "subinterp_asgi.error")) == 1


def test_an_application_that_configures_logging_when_it_starts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    serve("/level", state={"configure": CONFIGURATION})
    assert "info" in of(caplog, "the_app")
    assert len(of(caplog, "subinterp_asgi.access")) == 1


def test_a_logger_that_keeps_its_records_to_itself(caplog: pytest.LogCaptureFixture) -> None:
    serve("/apart")
    assert of(caplog, "apart") == []


# --- the end of a worker


def test_the_last_words_of_a_worker_that_dies(caplog: pytest.LogCaptureFixture) -> None:
    forwarded = Forwarded()
    forwarded.worker.wait_for("serving")
    forwarded.get("/die")
    assert forwarded.end(command=None)[-1] == "error"
    assert "last words" in of(caplog, "the_app")


def test_the_last_words_of_a_worker_that_cannot_start(caplog: pytest.LogCaptureFixture) -> None:
    forwarded = Forwarded("tests.integration.apps.logged:broken()")
    assert forwarded.end(command=None)[-1] == "error"
    assert of(caplog, "the_app") == ["imported", "about to fail"]


def test_a_thread_that_goes_on_after_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    serve("/leave-thread")
    assert of(caplog, "the_app")[-1] == "has lingered"


# --- a host that does not read


def test_a_host_that_does_not_read_holds_nobody_up() -> None:
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    os.set_blocking(write_fd, False)
    worker = Drive(
        app=APP,
        config_json=Runtime(log_fd=write_fd).join(Config(access_log=False, shutdown_timeout=10)),
    )
    worker.wait_for("serving")
    logged = 3 * 10_000
    for _ in range(3):
        assert get(worker.url, "/flood/10000").status == 200
    buffer, texts = bytearray(), []

    def read() -> bool:
        while True:
            try:
                data = os.read(read_fd, 65536)
            except BlockingIOError:
                return any("dropped" in text for text in texts)
            buffer.extend(data)
            texts.extend(rebuild(fields, "").getMessage() for fields in take(buffer))

    wait_until(read, "the report of what was dropped")
    worker.tell("shutdown")
    worker.finish()
    read()
    os.close(read_fd)
    os.close(write_fd)
    arrived = sum(text.endswith("x" * 100) for text in texts)
    reports = [re.search(r": (\d+) log record\(s\) were dropped", text) for text in texts]
    assert arrived < logged
    assert arrived + sum(int(match[1]) for match in reports if match) == logged


# --- a supervisor


def test_a_supervisor_forwards(caplog: pytest.LogCaptureFixture) -> None:
    with Supervisor(APP, port=0, workers=2, log_forwarding=True) as server:
        get(server.url, "/caught")
    records = [record for record in caplog.records if record.name == "the_app"]
    assert {(r.worker_id, r.generation) for r in records} == {(0, 1), (1, 1)}  # type: ignore[attr-defined]
    assert of(caplog, "the_app").count("imported") == 2
    assert of(caplog, "the_app").count("shut down") == 2
    assert "LookupError: inner wörds" in caplog.text
    assert len(of(caplog, "subinterp_asgi.access")) == 1


def test_a_supervisor_forwards_of_each_generation(caplog: pytest.LogCaptureFixture) -> None:
    with Supervisor(APP, port=0, log_forwarding=True) as server:
        for number in (1, 2):
            get(server.url, "/level")
            if number == 1:
                server.reload()
    told = [(r.generation, r.getMessage()) for r in caplog.records if r.name == "the_app"]  # type: ignore[attr-defined]
    words = ["imported", "started", "info", "warning", "shut down"]
    for number in (1, 2):
        assert [text for generation, text in told if generation == number] == words
    assert len(told) == 10


def test_a_worker_that_cannot_start_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    app = "tests.integration.apps.logged:broken()"
    with pytest.raises(Exception, match="no application"):
        Supervisor(app, port=0, log_forwarding=True).start()
    assert of(caplog, "the_app") == ["imported", "about to fail"]


def test_in_threads_records_are_in_the_hosts_logging_already(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Supervisor(APP, port=0, isolation="thread", log_forwarding=True, spares=1) as server:
        get(server.url, "/level")
        server.reload()
        get(server.url, "/threads/1")
    assert of(caplog, "the_app").count("info") == 1
    assert len(of(caplog, "subinterp_asgi.access")) == 2
    marks = [
        (r.getMessage().partition(" ")[0], r.worker_id, r.generation)  # type: ignore[attr-defined]
        for r in caplog.records
        if r.name == "the_app" and hasattr(r, "worker_id")
    ]
    assert {("started", 0, 1), ("info", 0, 1)} <= set(marks)
    assert ("0", 0, 2) in marks  # of asyncio.to_thread()
    assert ("shut", 0, 2) in marks
    assert not _filters(), "the host's handlers are as they were"


@pytest.mark.parametrize("log_forwarding", [False, True])
def test_this_packages_records_are_always_marked(
    log_forwarding: bool, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"isolation": "thread", "log_forwarding": log_forwarding}
    with Supervisor(APP, port=0, **options) as server:
        get(server.url, "/raise")
        assert bool([f for h in logging.getLogger().handlers for f in h.filters]) == log_forwarding
    records = [r for r in caplog.records if r.name.startswith("subinterp_asgi.")]
    assert {(r.name.rpartition(".")[2], r.worker_id, r.generation) for r in records} == {  # type: ignore[attr-defined]
        ("error", 0, 1),
        ("access", 0, 1),
    }
    assert not _filters()


def _filters() -> list[Any]:
    places = [logging.getLogger(f"subinterp_asgi.{name}") for name in ("error", "access")]
    return [f for place in (*places, *logging.getLogger().handlers) for f in place.filters]


@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
def test_the_record_of_an_exception_names_the_request(
    isolation: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Supervisor(APP, port=0, isolation=isolation, log_forwarding=True) as server:
        get(server.url, "/raise?secret=1")
    record = the(caplog, "subinterp_asgi.error", "exception in the ASGI application: GET /raise")
    assert record.msg == "exception in the ASGI application: %s %s"
    assert record.args == ("GET", "/raise")
    assert (record.method, record.path) == ("GET", "/raise")
    assert record.exc_info[0].__name__ == "LookupError"
    assert str(record.exc_info[1]) == "out of the application"
    (access,) = [r for r in caplog.records if r.name == "subinterp_asgi.access"]
    assert isinstance(access.args, tuple)
    assert access.args[1:5] == ("GET", "/raise?secret=1", "1.1", 500)


@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
def test_records_have_the_requests_id(isolation: str, caplog: pytest.LogCaptureFixture) -> None:
    options: dict[str, Any] = {"isolation": isolation, "request_id_header": "x-request-id"}
    with Supervisor(APP, port=0, log_forwarding=True, **options) as server:
        get(server.url, "/raise", headers={"x-request-id": "abc-1"})
        get(server.url, "/level", headers={"x-request-id": "abc-2"})
        get(server.url, "/caught", headers={"x-request-id": "abc-3"})
    seen = {(r.name, getattr(r, "request_id", "-")) for r in caplog.records}
    assert seen >= {
        ("subinterp_asgi.error", "abc-1"),
        ("subinterp_asgi.access", "abc-1"),
        ("subinterp_asgi.access", "abc-2"),
        ("the_app", "abc-2"),
        ("the_app", 17),  # which the application says itself
    }
