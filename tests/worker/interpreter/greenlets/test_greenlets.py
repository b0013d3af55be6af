"""Threads that stand in for greenlets, beside the real ones: what they do is the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import run_script

from . import on_loops, surroundings, switching
from .scenarios import SCENARIOS

pytest.importorskip("greenlet")

THREADS = "subinterp_asgi.worker.interpreter.greenlets"
HERE = __package__
SCRIPT = f"""
    import sys
    from {HERE} import on_loops, scenarios, surroundings, switching
    scenarios.run_all(sys.argv[1])
"""
assert all((on_loops, surroundings, switching)), "they have filled SCENARIOS"


def run(folder: Path, module: str) -> dict[str, Any]:
    folder.mkdir()
    done = run_script(folder, SCRIPT, module, flags=("-X", "dev", "-W", "error"), timeout=100)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("greenlets")
    return [run(folder / "real", "greenlet"), run(folder / "threads", THREADS)]


@pytest.mark.parametrize("name", SCENARIOS)
def test_threads_do_what_greenlets_do(outcomes: list[dict[str, Any]], name: str) -> None:
    real, threads = outcomes
    assert threads[name] == real[name]


PROLOGUE = f"""
    import sys, threading, gc
    import {THREADS} as g

    def names():
        return sorted(t.name for t in threading.enumerate() if "greenlet" in t.name)

    def suspended():
        child = g.greenlet(lambda: g.getcurrent().parent.switch())
        child.switch()
        return child
"""


def printed(folder: Path, source: str) -> list[str]:
    done = run_script(folder, PROLOGUE + source, flags=("-X", "dev", "-W", "error"))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_threads_are_used_again_and_named(tmp_path: Path) -> None:
    source = """
    for _ in range(50):
        g.greenlet(int).switch()
    print(names())
    two = [suspended(), suspended()]
    print(names())
    """
    assert printed(tmp_path, source) == [
        "['asgi-greenlet-0']",
        "['asgi-greenlet-0', 'asgi-greenlet-1']",
    ]


def test_idle_threads_end(tmp_path: Path) -> None:
    source = """
    g._IDLE_TIME = 0.01
    children = [suspended() for _ in range(5)]
    print(len(names()))
    for child in children:
        child.switch()
    for thread in threading.enumerate():
        if "greenlet" in thread.name:
            thread.join(20)
    print(names(), len(g._runners), g.greenlet(int).switch())
    """
    assert printed(tmp_path, source) == ["5", "[] 0 0"]


def test_threads_are_bounded(tmp_path: Path) -> None:
    source = """
    import contextvars
    var = contextvars.ContextVar("var")
    def main():
        var.set(1)
        g.MOST_THREADS = 20
        children = [suspended() for _ in range(20)]
        child = g.greenlet(int)
        try:
            child.switch()
        except g.error as exc:
            print("limit_concurrency" in str(exc), bool(child), child.dead, var.get())
        children.pop().switch()
        print(child.switch(), child.dead)
    contextvars.copy_context().run(main)
    """
    assert printed(tmp_path, source) == ["True False False 1", "0 True"]


def test_a_thread_that_can_not_start(tmp_path: Path) -> None:
    source = """
    def fail(self):
        raise RuntimeError("can't start new thread")
    start, threading.Thread.start = threading.Thread.start, fail
    child = g.greenlet(int)
    try:
        child.switch()
    except g.error as exc:
        print(exc)
    threading.Thread.start = start
    print(child.switch(), len(g._runners))
    """
    assert printed(tmp_path, source) == [
        "a greenlet needs a thread of its own: can't start new thread",
        "0 1",
    ]


@pytest.mark.parametrize("kept", [True, False])
def test_nothing_holds_up_the_end(tmp_path: Path, kept: bool) -> None:
    """Those in the middle of something are ended, whether somebody refers to them or not."""
    source = f"""
    def run():
        me = g.getcurrent()  # so that nobody collects it
        try:
            me.parent.switch()
        except g.GreenletExit:
            try:
                me.parent.switch("again")
            except BaseException as exc:
                sys.stdout.write(f"ended by {{type(exc).__name__}}\\n")
    children = [g.greenlet(run) for _ in range(3)]
    for child in children:
        child.switch()
    if not {kept}:
        del child, children
    """
    assert printed(tmp_path, source) == ["ended by GreenletExit"] * 3


def test_greenlets_of_a_thread_end_with_it(tmp_path: Path) -> None:
    source = """
    kept = []
    g._IDLE_TIME = 0.0
    thread = threading.Thread(target=lambda: kept.append(suspended()))
    thread.start()
    thread.join()
    for other in threading.enumerate():
        if "greenlet" in other.name:
            other.join(20)
    print(names(), kept[0].dead)
    try:
        kept[0].switch()
    except g.error as exc:
        print(exc)
    """
    assert printed(tmp_path, source) == ["[] True", "Cannot switch to a different thread"]


def test_gevent_is_told_that_it_can_not_be(tmp_path: Path) -> None:
    source = """
    for module in ("gevent.hub", "eventlet.greenthread"):
        try:
            type("Hub", (g.greenlet,), {"__module__": module})
        except g.error as exc:
            print(exc)
    try:
        g.settrace(print)
    except g.error as exc:
        print(exc)
    """
    first, second, third = printed(tmp_path, source)
    assert first.startswith("gevent needs the real greenlet")
    assert second.startswith("eventlet needs the real greenlet")
    assert "can't be traced" in third


def test_garbage_that_is_collected_anywhere(tmp_path: Path) -> None:
    """Greenlets are killed from within the switches of others."""
    source = """
    gc.set_threshold(1, 1, 1)
    class Cycle:
        pass
    def run(number):
        for _ in range(3):
            cycle = Cycle()
            cycle.self, cycle.child = cycle, suspended()
            del cycle
            number = g.getcurrent().parent.switch(number + 1)
        return number
    for _ in range(30):
        children = [g.greenlet(run) for _ in range(5)]
        results = [child.switch(n) for n, child in enumerate(children)]
        for _ in range(3):
            results = [child.switch(r) for r, child in zip(results, children)]
        assert results == [3, 4, 5, 6, 7], results
        assert all(child.dead for child in children)
    gc.collect()
    print("ok")
    """
    assert printed(tmp_path, source) == ["ok"]


def test_the_module_is_the_extension_modules_only(tmp_path: Path) -> None:
    """All that the Python part of greenlet imports is there."""
    import greenlet

    source = Path(greenlet.__file__).read_text()
    wanted = {
        line.split(" import ")[1].split("#")[0].strip()
        for line in source.splitlines()
        if line.startswith("from ._greenlet import ")
    }
    assert len(wanted) > 5
    script = f"print(sorted(set({sorted(wanted)}) - set(g.OFFERED)))"
    assert printed(tmp_path, f"\n    {script}\n") == ["[]"]
