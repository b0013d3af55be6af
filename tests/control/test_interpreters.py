"""Interpreters and the queues between them, on whatever the running CPython offers."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi.control import interpreters
from subinterp_asgi.control.interpreters import Interpreter, InterpreterFailed
from tests.support import ROOT, run_script, wait_until


@pytest.fixture
def interpreter() -> Iterator[Interpreter]:
    other = Interpreter()
    other.adopt_path((str(ROOT), *sys.path))
    yield other
    wait_until(lambda: not other.has_threads(), "the interpreter's threads to end")
    other.close()


# --- interpreters


def test_out_of_memory_is_no_success(interpreter: Interpreter) -> None:
    """CPython 3.14 returns as if nothing was; what is executed next would lack a name."""
    with pytest.raises(InterpreterFailed, match="MemoryError") as caught:
        interpreter.execute("raise MemoryError\nname = 1")
    assert caught.value.lacking
    assert not interpreter.confirms("raise MemoryError", "True")
    with pytest.raises(InterpreterFailed) as caught:
        interpreter.execute("raise OSError(2, 'no such file')")
    assert not caught.value.lacking


def test_none_is_made_where_there_is_no_memory_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython crashes if it gives out just then."""

    def refuse(number: int, size: int) -> None:
        raise OSError(12, "Cannot allocate memory")

    before = interpreters.alive()
    monkeypatch.setattr(interpreters, "mmap", refuse)
    for _ in range(2):
        with pytest.raises(InterpreterFailed, match="MemoryError") as caught:
            Interpreter()
        assert caught.value.lacking
    assert interpreters.alive() == before
    assert not interpreters._beginning


def test_they_are_counted_while_they_live() -> None:
    before = interpreters.alive()
    first, second = Interpreter(), Interpreter()
    assert interpreters.alive() == before + 2
    assert first._interpreter.id != second._interpreter.id
    first.close()
    second.close()
    assert interpreters.alive() == before


def test_modules_and_globals_are_their_own(interpreter: Interpreter) -> None:
    interpreter.execute("import json; json.set_there = True; name_of_mine = 1")
    import json

    assert not hasattr(json, "set_there")
    interpreter.execute("assert json.set_there and name_of_mine == 1")  # kept between calls


def test_it_has_a_gil_of_its_own(interpreter: Interpreter) -> None:
    """While one computes, the other does too: neither waits for a switch interval to end."""
    if hasattr(sys, "_is_gil_enabled"):
        interpreter.execute(
            "import sys; sys.setswitchinterval(1000); assert sys.getswitchinterval() == 1000"
        )
    flag = memoryview(bytearray(2)).cast("B")
    interpreter.prepare({"flag": flag})
    # With one GIL and that interval this thread would not come back in a thousand seconds.
    spinning = threading.Thread(
        target=interpreter.execute, args=("flag[0] = 1\nwhile not flag[1]: pass",)
    )
    spinning.start()
    wait_until(lambda: flag[0], "the other to compute")
    flag[1] = 1
    spinning.join(20)
    assert not spinning.is_alive()


def test_adopt_path_replaces_the_import_path(interpreter: Interpreter) -> None:
    path = ("/somewhere", str(ROOT), *sys.path)
    interpreter.adopt_path(path)
    interpreter.prepare({"expected": path})
    interpreter.execute("import sys; assert tuple(sys.path) == expected, sys.path")


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -1,
        2**62,
        1.5,
        "text",
        "surrogate \ud800 and \0",
        b"bytes\0",
        (),
        (1, ("nested", (b"", None))),
    ],
)
def test_plain_values_cross_unchanged(interpreter: Interpreter, value: Any) -> None:
    interpreter.prepare({"value": value, "shown": ascii(value)})
    interpreter.execute("assert ascii(value) == shown, ascii(value)")


def test_what_cannot_cross_is_refused_here(interpreter: Interpreter) -> None:
    with pytest.raises((ValueError, TypeError)):
        interpreter.prepare({"value": object()})


def test_what_is_raised_there_comes_as_text(interpreter: Interpreter) -> None:
    with pytest.raises(InterpreterFailed) as caught:
        interpreter.execute("def inner():\n    raise LookupError('words')\ninner()")
    assert "Traceback (most recent call last):" in str(caught.value)
    assert "LookupError: words" in str(caught.value)
    assert "in inner" in str(caught.value)


@pytest.mark.parametrize("statement", ["raise SystemExit(3)", "raise KeyboardInterrupt"])
def test_not_even_an_exit_leaves_it(interpreter: Interpreter, statement: str) -> None:
    with pytest.raises(InterpreterFailed):
        interpreter.execute(statement)
    interpreter.execute("pass")


def test_threads_are_seen_of_both_modules(interpreter: Interpreter) -> None:
    assert not interpreter.has_threads()
    for module in ("threading", "_thread"):
        interpreter.execute(
            "import _thread, threading\n"
            "lock = _thread.allocate_lock(); lock.acquire()\n"
            "begun = _thread.allocate_lock(); begun.acquire()\n"
            "def hold():\n"
            "    begun.release()\n"
            "    with lock: pass\n"
            + (
                "threading.Thread(target=hold).start()"
                if module == "threading"
                else "_thread.start_new_thread(hold, ())"
            )
            + "\nwith begun: pass"
        )
        assert interpreter.has_threads()
        interpreter.execute("lock.release()")
        wait_until(lambda: not interpreter.has_threads(), "the thread to end")


def test_a_failure_before_the_library_can_be_imported_is_told_too() -> None:
    other = Interpreter()

    def prepare() -> None:
        other.adopt_path(("/nowhere",))
        other.execute("import subinterp_asgi.config")

    try:
        with pytest.raises(InterpreterFailed, match="ModuleNotFoundError"):
            prepare()
    finally:
        other.close()


def test_threads_are_seen_without_assert_statements(tmp_path: Path) -> None:
    """Under -O an assertion would see nothing, and closing would then abort the process."""
    done = run_script(
        tmp_path,
        """
        import sys
        from subinterp_asgi.control.interpreters import Interpreter
        assert False, "not run with -O"
        other = Interpreter()
        other.adopt_path(tuple(sys.path))
        other.execute(
            "import threading; event = threading.Event()\\n"
            "threading.Thread(target=event.wait).start()"
        )
        print(other.has_threads())
        other.execute("event.set()")
        while other.has_threads():
            pass
        other.close()
        """,
        flags=("-O",),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


# --- queues


def test_items_come_in_order() -> None:
    q = interpreters.create_queue(8)
    for i in range(8):
        q.put_nowait(("n", i))
    assert [q.get_nowait() for _ in range(8)] == [("n", i) for i in range(8)]


def test_an_empty_queue_raises_the_standard_exception() -> None:
    q = interpreters.create_queue(1)
    with pytest.raises(queue.Empty):
        q.get_nowait()


def test_a_full_queue_raises_the_standard_exception() -> None:
    q = interpreters.create_queue(2)
    q.put_nowait(1)
    q.put_nowait(2)
    with pytest.raises(queue.Full):
        q.put_nowait(3)
    assert q.get_nowait() == 1


def test_a_queue_between_two_interpreters(interpreter: Interpreter) -> None:
    there, back = interpreters.create_queue(8), interpreters.create_queue(8)
    interpreter.prepare({"there": there, "back": back})
    there.put_nowait(("drain",))
    interpreter.execute(
        "import queue\n"
        "back.put(there.get_nowait() + ('seen',))\n"
        "try: there.get_nowait()\n"
        "except queue.Empty: back.put(('empty',))\n"
    )
    assert back.get_nowait() == ("drain", "seen")
    assert back.get_nowait() == ("empty",)


def test_items_can_be_taken_while_their_producer_lives_and_not_after() -> None:
    """Hence a worker's statuses are collected before its interpreter is closed."""
    q = interpreters.create_queue(8)
    other = Interpreter()
    other.adopt_path((str(ROOT), *sys.path))
    other.prepare({"q": q})
    other.execute("q.put(('first',)); q.put(('second',))")
    assert q.get_nowait() == ("first",)
    other.close()
    try:
        item = q.get_nowait()
    except queue.Empty:
        return
    assert item != ("second",)


def test_an_empty_queue_does_not_import_cpythons_test_package(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        """
        import queue, sys
        from subinterp_asgi.control import interpreters
        try:
            interpreters.create_queue(1).get_nowait()
        except queue.Empty:
            print([name for name in sys.modules if name == "test" or name.startswith("test.")])
        """,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
