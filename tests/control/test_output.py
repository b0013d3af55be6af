"""Writing to what takes nothing: no way of doing it waits, and what is lost is counted."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from subinterp_asgi.control import output
from subinterp_asgi.control.output import MAX_WAITING, Output

from ..support import run_script, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="all is written as it is there")

WAYS = ["asked", "opened anew", "polled"]


@pytest.fixture(params=WAYS)
def pipe(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    if request.param != "asked":
        monkeypatch.delattr(os, "RWF_NOWAIT", raising=False)
    if request.param == "polled":
        monkeypatch.setattr(output, "open_anew", lambda fd: None)
    with contextlib.closing(Pipe()) as pipe:
        yield pipe


class Pipe:
    """A pipe, and an output that writes to it."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.output = Output(self.writer)
        self.output.counters = self.counters = SimpleNamespace(logs_dropped=0)
        self.octets = b""

    def read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while octets := os.read(self.reader, 65536):
                self.octets += octets

    def fill(self) -> int:
        """Write lines until some wait; return how many lines there are."""
        number = 0
        while not self.output._waiting:
            self.output.write(line(number))
            number += 1
        return number

    def close(self) -> None:
        self.output.end()
        assert os.get_blocking(self.writer)
        assert self.output._thread is None
        for fd in (self.reader, self.writer):
            with contextlib.suppress(OSError):
                os.close(fd)


def line(number: int, length: int = 1000) -> bytes:
    return f"{number} ".encode().ljust(length - 1, b"x") + b"\n"


def lines(count: int, length: int = 1000) -> bytes:
    return b"".join(line(number, length) for number in range(count))


def test_what_waits_comes_in_turn(pipe: Pipe) -> None:
    count = pipe.fill()
    for number in range(count, count + 50):
        pipe.output.write(line(number))

    def all_is_there() -> bool:
        pipe.read()
        return len(pipe.octets) >= 1000 * (count + 50)

    wait_until(all_is_there)
    assert pipe.octets == lines(count + 50)
    wait_until(lambda: pipe.output._thread is None, "the thread to end")
    pipe.output.write(b"at once\n")
    pipe.read()
    assert pipe.octets.endswith(b"at once\n")
    assert pipe.counters.logs_dropped == 0


def test_long_lines_arrive_whole(pipe: Pipe) -> None:
    length = 100_000
    for number in range(5):
        pipe.output.write(line(number, length))

    def all_is_there() -> bool:
        pipe.read()
        return len(pipe.octets) >= 5 * length

    wait_until(all_is_there)
    assert pipe.octets == lines(5, length)


def test_more_than_memory_is_to_hold(pipe: Pipe) -> None:
    pipe.fill()
    while not pipe.counters.logs_dropped:
        pipe.output.write(b"y" * 9999 + b"\n")
    assert pipe.output._size <= MAX_WAITING
    for _ in range(9):
        pipe.output.write(b"short, but it is not this one's turn\n")
    assert pipe.counters.logs_dropped == 10

    def told() -> bool:
        pipe.read()
        return pipe.octets.endswith(b"y\nWARNING: 10 line(s) are missing here\n")

    wait_until(told)
    pipe.output.write(b"afterwards\n")
    pipe.read()
    assert pipe.octets.endswith(b"here\nafterwards\n")


def test_without_a_thread_the_next_line_brings_the_others(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    count = pipe.fill()
    pipe.output.write(line(count))
    pipe.read()
    pipe.output.write(line(count + 1))
    pipe.read()
    assert pipe.octets == lines(count + 2)


def test_the_end_waits_for_a_reader_but_not_long(pipe: Pipe) -> None:
    count = pipe.fill()
    pipe.output.end()  # in vain
    assert pipe.output._waiting
    pipe.read()
    pipe.output.end()
    pipe.read()
    assert pipe.octets == lines(count)
    pipe.output.write(b"and nevertheless\n")
    pipe.read()
    assert pipe.octets.endswith(b"and nevertheless\n")


def test_a_reader_that_left_and_what_comes_instead(pipe: Pipe) -> None:
    pipe.output.write(b"read\n")
    os.close(pipe.reader)
    for _ in range(3):
        pipe.output.write(b"lost\n")
    pipe.reader, writer = os.pipe()
    os.set_blocking(pipe.reader, False)
    os.dup2(writer, pipe.writer)
    os.close(writer)
    pipe.output.write(b"heard\n")
    pipe.read()
    assert pipe.octets == b"WARNING: 3 line(s) are missing here\nheard\n"
    assert pipe.counters.logs_dropped == 3


def test_a_reader_that_leaves_while_lines_wait(pipe: Pipe) -> None:
    pipe.fill()
    os.close(pipe.reader)
    wait_until(lambda: pipe.output._thread is None, "the thread to end")
    assert not pipe.output._waiting
    assert pipe.counters.logs_dropped


def test_many_writers_to_one_pipe_that_nobody_reads() -> None:
    """There was room when each of them looked, but not for all."""
    reader, writer = os.pipe()
    outputs = [Output(writer) for _ in range(4)]

    def write(its: Output) -> None:
        for number in range(500):
            its.write(line(number))

    threads = [threading.Thread(target=write, args=(its,)) for its in outputs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    for its in outputs:
        its.end()
    os.close(reader)
    os.close(writer)


def test_no_descriptor_at_all() -> None:
    its = Output(None)
    its.write(b"nothing\n")
    its.end()


def test_a_file_is_written_as_it_is(tmp_path: os.PathLike[str]) -> None:
    fd = os.open(os.fspath(tmp_path) + "/log", os.O_RDWR | os.O_CREAT)
    Output(fd).write(b"line\n")
    Output(fd).write(b"another\n")
    assert os.pread(fd, 100, 0) == b"line\nanother\n"
    os.close(fd)


def test_polling_knows_a_full_pipe() -> None:
    with contextlib.closing(Pipe()) as pipe:
        assert output.has_room(pipe.writer)
        pipe.fill()
        assert not output.has_room(pipe.writer)
        assert select.select([pipe.reader], [], [], 0)[0]


@pytest.mark.skipif(sys.platform != "linux", reason="it needs a bound on the size of files")
def test_the_line_that_a_full_disk_has_cut_off_ends_there(tmp_path: Path) -> None:
    """What comes next, once there is room, is a line of its own."""
    script = """
    import os, resource, signal, sys
    from subinterp_asgi.control.output import Output
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path = sys.argv[1]
    output = Output(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND))
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
    output.write(b"first\\n")
    output.write(b"second\\n")  # of which the disk takes four octets
    output.write(b"third\\n")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    output.write(b"fourth\\n")
    output.write(b"fifth\\n")
    print(open(path).read())
    """
    text = run_script(tmp_path, script, str(tmp_path / "file")).stdout
    assert text.splitlines()[:2] == ["first", "seco"]
    assert "WARNING: 2 line(s) are missing here" in text.splitlines()
    assert [line for line in text.splitlines() if line][-1] == "fifth"
