"""Daemon threads demoted to ordinary ones, each time in an interpreter of its own."""

from __future__ import annotations

import sys
import textwrap
import threading
from collections.abc import Callable, Iterator

import pytest

from subinterp_asgi.control.interpreters import Interpreter, InterpreterFailed
from tests.support import ROOT, wait_until

type Run = Callable[[str], None]

PRELUDE = """
import threading, time
from subinterp_asgi.worker.interpreter import daemon_threads
release = threading.Event()
"""


@pytest.fixture
def run() -> Iterator[Run]:
    """Runs source code in a new interpreter; its ``release`` event lets its threads end."""
    other = Interpreter()
    other.adopt_path((str(ROOT), *sys.path))
    other.execute(PRELUDE)
    yield lambda source: other.execute(textwrap.dedent(source))
    other.execute("release.set()")
    wait_until(lambda: not other.has_threads(), "the interpreter's threads to end")
    other.close()


def test_without_it_cpython_refuses(run: Run) -> None:
    """What all this is for; if this fails one day, the module has become needless."""
    with pytest.raises(InterpreterFailed, match="daemon threads are disabled"):
        run("threading.Thread(target=release.wait, daemon=True).start()")


def test_a_daemon_by_argument_becomes_an_ordinary_thread(run: Run) -> None:
    run(
        """
        daemon_threads.demote()
        thread = threading.Thread(target=release.wait, name="worker bee", daemon=True)
        assert not thread.daemon
        thread.start()
        assert thread.is_alive()
        """
    )


def test_a_daemon_by_attribute_becomes_an_ordinary_thread(run: Run) -> None:
    run(
        """
        daemon_threads.demote()
        thread = threading.Thread(target=release.wait)
        thread.daemon = True
        assert not thread.daemon
        thread.start()
        thread.daemon = True  # too late, which is an error for others; here it changes nothing
        """
    )


def test_ordinary_threads_are_left_alone(run: Run) -> None:
    run(
        """
        daemon_threads.demote()
        for options in ({}, {"daemon": False}, {"daemon": None}):
            seen = []
            thread = threading.Thread(None, seen.append, "its name", ("argument",), **options)
            thread.daemon = False
            assert thread.name == "its name"
            thread.start()
            thread.join()
            assert seen == ["argument"]
        """
    )


def test_subclasses_are_demoted_as_well(run: Run) -> None:
    run(
        """
        daemon_threads.demote()

        class Bee(threading.Thread):
            def __init__(self, event):
                super().__init__(name="bee", daemon=True)
                self.event = event
            def run(self):
                self.event.wait()

        class Drone(threading.Thread):
            daemon = True  # a class attribute hides the property: the constructor still decides
            def run(self):
                pass

        Bee(release).start()
        timer = threading.Timer(0.001, release.set)
        timer.daemon = True
        timer.start()
        timer.join()
        assert release.is_set()
        """
    )


def test_threads_of_a_demoted_thread_are_ordinary(run: Run) -> None:
    run(
        """
        daemon_threads.demote()
        seen = []
        def outer():
            inner = threading.Thread(target=seen.append, args=(1,))  # inherits from its creator
            assert not inner.daemon
            inner.start()
            inner.join()
        thread = threading.Thread(target=outer, daemon=True)
        thread.start()
        thread.join()
        assert seen == [1]
        """
    )


def test_demoting_twice_is_the_same_as_once(run: Run) -> None:
    run(
        """
        daemon_threads.demote()
        once = threading.Thread.__init__
        daemon_threads.demote()
        assert threading.Thread.__init__ is once
        """
    )


def test_only_the_interpreter_where_it_was_called_is_changed(run: Run) -> None:
    before = threading.Thread.__init__
    run("daemon_threads.demote()")
    assert threading.Thread.__init__ is before
    assert threading.Thread(daemon=True).daemon


def test_join_all_waits_for_threads_that_end(run: Run) -> None:
    run(
        """
        daemon_threads.demote()
        began, ended = threading.Event(), []
        def work():
            began.set()
            release.wait()
            ended.append(1)
        threads = [threading.Thread(target=work, daemon=d) for d in (True, False)]
        for thread in threads:
            thread.start()
        threading.Timer(0.02, release.set).start()
        assert daemon_threads.join_all(20) == []
        assert ended == [1, 1]
        """
    )


def test_join_all_names_those_that_do_not_and_says_who_asked_to_be_a_daemon(run: Run) -> None:
    run(
        """
        daemon_threads.demote()
        threading.Thread(target=release.wait, name="exporter", daemon=True).start()
        threading.Thread(target=release.wait, name="stubborn").start()
        late = threading.Thread(target=release.wait, name="flusher")
        late.daemon = True
        late.start()
        names = daemon_threads.join_all(0.05)
        assert sorted(names) == ["exporter (a daemon)", "flusher (a daemon)", "stubborn"], names
        """
    )


def test_the_time_of_join_all_is_for_all_together(run: Run) -> None:
    run(
        """
        for _ in range(20):
            threading.Thread(target=release.wait).start()
        waited = []
        join = threading.Thread.join
        def watched(self, timeout=None):
            waited.append(timeout)
            join(self, timeout)
        threading.Thread.join = watched
        assert len(daemon_threads.join_all(0.05)) == 20
        assert sum(waited) < 0.1, waited  # and not 20 times as long
        """
    )


def test_join_all_with_no_thread_left_returns_at_once(run: Run) -> None:
    run("assert daemon_threads.join_all(1e6) == []")


def test_idle_threads_of_executors_that_nobody_shut_down_are_let_go(run: Run) -> None:
    run(
        """
        from concurrent.futures import ThreadPoolExecutor
        pools = [ThreadPoolExecutor(2) for _ in range(2)]
        for pool in pools:
            assert pool.submit(int, "5").result() == 5
        assert len(daemon_threads.join_all(0.02)) == 2
        daemon_threads.release_pools()
        assert daemon_threads.join_all(20) == []
        """
    )


def test_busy_threads_of_executors_finish_what_they_do(run: Run) -> None:
    run(
        """
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(1, "busy")
        job = pool.submit(release.wait)
        daemon_threads.release_pools()
        assert daemon_threads.join_all(0.02) == ["busy_0"]
        release.set()
        assert job.result(20) is True
        assert daemon_threads.join_all(20) == []
        """
    )
