"""The host's side of log forwarding: one thread for all pipes, and what it owns."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from subinterp_asgi.control import log_records
from subinterp_asgi.supervisor.log_receiver import LogReceiver
from tests.support import nothing_left, run_script, wait_until


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    with nothing_left():
        yield


@pytest.fixture
def receiver(leaves_nothing: None) -> Iterator[LogReceiver]:
    receiver = LogReceiver()
    yield receiver
    assert receiver.close()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    seen = Seen()
    logger = logging.getLogger("test.host")
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.manager._clear_cache()  # type: ignore[attr-defined]
    logger.addHandler(seen)
    yield seen
    logger.removeHandler(seen)


class Seen(logging.Handler):
    """Keeps the records that arrive."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records]

    def wait(self, number: int) -> list[str]:
        wait_until(lambda: len(self.records) >= number, f"{number} records")
        return self.messages


def frame(text: str, name: str = "test.host", level: int = logging.INFO) -> bytes:
    own = threading.get_ident()
    return log_records.encode(logging.LogRecord(name, level, __file__, 1, text, (), None), own)


# --- records


def test_records_come_with_the_worker_that_logged_them(receiver: LogReceiver, seen: Seen) -> None:
    first, second = receiver.open(0, 1), receiver.open(3, 2)
    os.write(first, frame("one"))
    seen.wait(1)
    os.write(second, frame("two"))
    assert seen.wait(2) == ["one", "two"]
    assert [(r.worker_id, r.generation, r.threadName) for r in seen.records] == [
        (0, 1, "asgi-worker-0"),
        (3, 2, "asgi-worker-3"),
    ]
    assert seen.records[0].processName == "MainProcess"
    assert seen.records[0].process == os.getpid()
    receiver.worker_ended(first)
    receiver.worker_ended(second)


def test_a_spare_that_becomes_a_worker(receiver: LogReceiver, seen: Seen) -> None:
    fd = receiver.open(-1, 1)
    os.write(fd, frame("one"))
    seen.wait(1)
    receiver.became(fd, 2)
    os.write(fd, frame("two"))
    seen.wait(2)
    assert [(r.worker_id, r.threadName) for r in seen.records] == [
        (-1, "asgi-spare"),
        (2, "asgi-worker-2"),
    ]
    receiver.worker_ended(fd)


def test_the_hosts_levels_and_filters_decide(receiver: LogReceiver, seen: Seen) -> None:
    def choose(record: logging.LogRecord) -> bool:
        return record.getMessage() != "filtered"

    fd = receiver.open(0, 1)
    logger = logging.getLogger("test.host")
    logger.addFilter(choose)
    try:
        os.write(fd, frame("too fine", level=logging.DEBUG) + frame("filtered") + frame("last"))
        assert seen.wait(1) == ["last"]
    finally:
        logger.removeFilter(choose)
        receiver.worker_ended(fd)


def test_the_hosts_record_factory_is_used(receiver: LogReceiver, seen: Seen) -> None:
    class Special(logging.LogRecord):
        pass

    fd = receiver.open(0, 1)
    logging.setLogRecordFactory(Special)
    try:
        os.write(fd, frame("one"))
        seen.wait(1)
    finally:
        logging.setLogRecordFactory(logging.LogRecord)
        receiver.worker_ended(fd)
    assert type(seen.records[0]) is Special


def test_a_handler_that_fails_costs_no_other_record(
    receiver: LogReceiver, seen: Seen, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(record: logging.LogRecord) -> None:
        if record.getMessage() == "bad":
            raise SystemExit("the handler's")

    fd = receiver.open(0, 1)
    seen.addFilter(lambda record: fail(record) or True)
    os.write(fd, frame("bad") + frame("good"))
    assert seen.wait(1) == ["good"]
    receiver.worker_ended(fd)
    assert "SystemExit: the handler's" in capsys.readouterr().err


def test_octets_that_are_no_records_end_one_log_only(
    receiver: LogReceiver, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    broken, other = receiver.open(0, 1), receiver.open(1, 1)
    os.write(broken, b"somebody else's output\n")
    wait_until(lambda: caplog.messages)
    assert "worker 0: its log is not forwarded any more" in caplog.messages[0]
    os.write(broken, frame("not read"))
    os.write(other, frame("read"))
    assert seen.wait(1) == ["read"]
    receiver.worker_ended(other)
    receiver.worker_ended(broken)


# --- ends


def test_what_a_worker_wrote_before_its_end_is_read(receiver: LogReceiver, seen: Seen) -> None:
    fd = receiver.open(0, 1)
    os.write(fd, b"".join(frame(str(number)) for number in range(200)))
    receiver.worker_ended(fd)
    receiver.close()
    assert seen.messages == [str(number) for number in range(200)]


def test_closing_at_once(seen: Seen) -> None:
    for _ in range(50):
        receiver = LogReceiver()
        fd = receiver.open(0, 1)
        os.write(fd, frame("words"))
        receiver.worker_ended(fd)
        assert receiver.close()
        assert receiver.close()
    assert seen.messages == ["words"] * 50


def test_closing_before_the_thread_has_begun(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, receiver = threading.Event(), LogReceiver()
    run = receiver._run
    monkeypatch.setattr(receiver, "_run", lambda selector: (gate.wait(20), run(selector)))
    fd = receiver.open(0, 1)
    os.write(fd, frame("words"))
    receiver.worker_ended(fd)
    assert not receiver.close(timeout=0)
    gate.set()
    assert receiver.close()
    assert seen.messages == ["words"]


def test_a_pipe_that_holds_more_than_is_read_at_once(seen: Seen) -> None:
    gate, receiver = threading.Event(), LogReceiver()
    seen.addFilter(lambda record: gate.wait(20))
    fd = receiver.open(0, 1)
    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, 256 * 1024)
    os.write(fd, frame("first"))
    wait_until(lambda: not receiver._new)
    for number in range(1000):
        assert os.write(fd, frame(str(number)))
    receiver.worker_ended(fd)
    assert not receiver.close(timeout=0)
    gate.set()
    assert receiver.close()
    assert seen.messages == ["first", *map(str, range(1000))]


def test_closing_one_that_was_never_used() -> None:
    receiver = LogReceiver()
    assert receiver.close()
    with pytest.raises(RuntimeError, match="closed"):
        receiver.open(0, 1)


def test_a_pipe_is_gone_when_its_worker_is(receiver: LogReceiver) -> None:
    idle = receiver.open(0, 1)
    with nothing_left():
        fds = [receiver.open(number, 1) for number in range(20)]
        for fd in fds:
            receiver.worker_ended(fd)
        wait_until(lambda: receiver._pipes.keys() == {idle})
        wait_until(lambda: not any(os.path.exists(f"/proc/self/fd/{fd}") for fd in fds))
        wait_until(lambda: _pipes_open() == 2)
    receiver.worker_ended(idle)


def _pipes_open() -> int:
    """Number of ends of pipes of ours, which are the only non-blocking ones."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("pipe:"):
                count += not os.get_blocking(int(name))
    return count


def test_the_pipe_of_a_worker_that_does_not_end_stays_open(seen: Seen) -> None:
    """Who writes to a pipe that nobody has open is sent a signal that may end the process."""
    receiver = LogReceiver()
    fd = receiver.open(0, 1)
    os.write(fd, frame("before"))
    assert receiver.close()
    assert seen.messages == ["before"]
    os.write(fd, frame("nobody reads"))
    receiver.worker_ended(fd)


def test_a_handler_that_takes_its_time_delays_the_end_for_a_while_only(seen: Seen) -> None:
    gate = threading.Event()
    receiver = LogReceiver()
    fd = receiver.open(0, 1)
    seen.addFilter(lambda record: gate.wait(20))
    os.write(fd, frame("one") + frame("two"))
    receiver.worker_ended(fd)
    assert not receiver.close(timeout=0.05)
    gate.set()
    assert receiver.close()
    assert seen.messages == ["one", "two"]


def test_a_handler_that_closes_the_receiver(seen: Seen) -> None:
    receiver = LogReceiver()
    fd = receiver.open(0, 1)
    closed: list[bool] = []
    seen.addFilter(lambda record: closed.append(receiver.close()) or True)
    os.write(fd, frame("one"))
    seen.wait(1)
    assert closed == [False]  # it is still at it
    receiver.worker_ended(fd)
    assert receiver.close()


def test_the_thread_sleeps_when_nothing_is_logged(receiver: LogReceiver) -> None:
    fd = receiver.open(0, 1)
    thread = receiver._thread
    assert thread is not None
    status = f"/proc/self/task/{thread.native_id}/status"

    def switches() -> list[str]:
        with open(status) as lines:
            return [line for line in lines if "ctxt_switches" in line]

    wait_until(lambda: not receiver._new)

    def is_asleep() -> bool:
        with open(status) as lines:
            return "State:\tS" in lines.read()

    wait_until(is_asleep)
    before = switches()
    for _ in range(5):
        threading.Event().wait(0.05)
    assert switches() == before
    receiver.worker_ended(fd)


def test_what_it_imports(tmp_path: Any) -> None:
    """A host that does not want records pays for nothing, and none pays for asyncio."""
    done = run_script(
        tmp_path,
        """
        import sys
        import subinterp_asgi.supervisor.log_receiver
        assert "asyncio" not in sys.modules
        assert "subinterp_asgi.worker.log_forwarder" not in sys.modules
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")
