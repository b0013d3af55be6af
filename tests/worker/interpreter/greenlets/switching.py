"""Scenarios: switches, exceptions and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import traceback
import weakref
from typing import Any

from .scenarios import outcome, scenario


@scenario
def values(g: Any) -> Any:
    seen = []

    def run(*args: Any, **kwargs: Any) -> Any:
        parent = g.getcurrent().parent
        seen.append((args, kwargs))
        for sent in ((), (1,), (None,), ((),), ((1,),), (1, 2)):
            seen.append(parent.switch(*sent))
            seen.append(parent.switch(*sent, key=1))
        return ("a", "tuple")

    child = g.greenlet(run)
    seen.append(child.switch(1, 2, key=3))
    for number in range(12):
        seen.append(child.switch(*range(number % 3), **{"n": number} if number % 2 else {}))
    return seen, child.dead


@scenario
def states(g: Any) -> Any:
    def run() -> str:
        seen.append((bool(child), child.dead, g.getcurrent() is child))
        main.switch()
        return "result"

    seen: list[Any] = []
    main = g.getcurrent()
    child = g.greenlet(run)
    seen.append((bool(child), child.dead, child.run is run, child.parent is main))
    seen.append(child.switch())
    seen.append((bool(child), child.dead, outcome(lambda: child.run)))
    seen.append(outcome(setattr, child, "run", run))
    seen.append(child.switch())
    seen.append((bool(child), child.dead, child.parent is main, outcome(lambda: child.run)))
    seen += [child.switch(), child.switch(1), child.switch(1, 2), child.switch(k=1)]
    seen += [main.switch(), main.switch(1), main.switch(1, k=2)]
    seen += [bool(main), main.dead, main.parent, outcome(lambda: main.run)]
    seen += [outcome(setattr, main, "parent", child), outcome(setattr, child, "parent", 1)]
    seen += [outcome(g.greenlet, run, 7), outcome(g.greenlet().switch)]
    one, other = g.greenlet(run), g.greenlet(run)
    other.parent = one
    seen += [outcome(setattr, one, "parent", other), outcome(setattr, one, "parent", one)]
    return seen


@scenario
def subclasses(g: Any) -> Any:
    class Own(g.greenlet):  # type: ignore[misc]
        mark = True

        def __init__(self, number: int) -> None:
            self.number = number

        def run(self, *args: Any) -> Any:
            return self.number, args, g.getcurrent() is self, getattr(g.getcurrent(), "mark", 0)

    class Given(g.greenlet):  # type: ignore[misc]
        def __init__(self, function: Any, parent: Any) -> None:
            g.greenlet.__init__(self, function, parent)

    own = Own(5)
    given = Given(lambda: g.getcurrent().parent.switch("left"), g.getcurrent())
    return own.switch(1, 2), own.dead, given.switch(), given.switch("back"), given.dead


@scenario
def nested(g: Any) -> Any:
    seen = []

    def inner() -> str:
        seen.append(("inner", g.getcurrent().parent is outer_greenlet))
        seen.append(outer_greenlet.switch("up"))
        seen.append(g.getcurrent().parent.parent.switch("to main"))
        return "inner ends"

    def outer() -> Any:
        child = g.greenlet(inner)
        seen.append(child.switch())
        seen.append(child.switch("down"))
        return "outer ends", child.dead

    outer_greenlet = g.greenlet(outer)
    seen.append(outer_greenlet.switch())
    seen.append(outer_greenlet.switch("again"))
    return seen, outer_greenlet.dead


@scenario
def siblings(g: Any) -> Any:
    seen = []

    def player(name: str) -> Any:
        for number in range(3):
            seen.append((name, players[name != "ping"].switch(f"{name} {number}")))
        return name

    players = [g.greenlet(player), g.greenlet(player)]
    first, second = players
    seen.append(first.switch("ping"))
    seen += [first.dead, second.dead, outcome(second.switch, "last"), outcome(first.switch, "x")]
    return seen


@scenario
def deep(g: Any) -> Any:
    def run(depth: int) -> int:
        return 1 + (g.greenlet(run).switch(depth - 1) if depth else g.getcurrent().parent.switch(0))

    child = g.greenlet(run)

    def lowest() -> Any:
        return g.getcurrent().parent

    return outcome(child.switch, 40), child.dead, lowest() is None


@scenario
def parents_that_end_first(g: Any) -> Any:
    main = g.getcurrent()
    parent = g.greenlet(lambda: main.switch("parent suspended"))
    child = g.greenlet(lambda: main.switch("child suspended"), parent)
    seen = [parent.switch(), child.switch(), parent.switch("parent ends"), parent.dead]
    seen += [child.switch("child ends"), child.dead]
    unstarted = g.greenlet(lambda *args: ("started by the end of a child", args))
    seen.append(g.greenlet(lambda: (1, 2), unstarted).switch())
    without = g.greenlet(None)
    seen.append(outcome(g.greenlet(lambda: 1, without).switch))
    seen.append(outcome(g.greenlet(lambda: 1 / 0, without).switch))
    moved = g.greenlet(lambda: main.switch("m"))
    seen.append(moved.switch())
    catcher = g.greenlet(lambda: moved.switch("go on"))
    moved.parent = catcher
    seen += [catcher.switch(), moved.dead, catcher.dead]
    return seen


# --- exceptions


@scenario
def exceptions(g: Any) -> Any:
    seen = []

    def run() -> Any:
        try:
            g.getcurrent().parent.switch()
        except KeyError as exc:
            seen.append(repr(exc))
        raise LookupError("out")

    child = g.greenlet(run)
    child.switch()
    seen.append(outcome(child.throw, KeyError("in")))
    seen += [child.dead, outcome(child.throw, ValueError("dead")), outcome(child.throw)]
    for kind in (SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit):
        other = g.greenlet(lambda kind=kind: (_ for _ in ()).throw(kind("x")))
        seen.append(outcome(other.switch))
        waiting = g.greenlet(lambda: g.getcurrent().parent.switch())
        waiting.switch()
        seen += [outcome(waiting.throw, kind("thrown")), waiting.dead]
    return seen


@scenario
def throw_before_the_start(g: Any) -> Any:
    seen = []
    ran: list[Any] = []
    for args in ((), (ValueError,), (ValueError("v"),), (g.GreenletExit, "why"), (KeyError, 1)):
        child = g.greenlet(ran.append)
        seen += [outcome(child.throw, *args), child.dead, bool(child), outcome(child.switch, 4)]
    seen.append(outcome(g.greenlet().throw, ValueError("no run")))
    parent = g.greenlet(lambda: ("parent gets", outcome(g.getcurrent().parent.switch, 1)))
    parent.switch()
    orphan = g.greenlet(ran.append, parent)
    seen += [outcome(orphan.throw, ValueError("to the parent")), orphan.dead, parent.dead]
    return seen, ran


@scenario
def arguments_of_throw(g: Any) -> Any:
    def thrown(*args: Any) -> Any:
        child = g.greenlet(lambda: outcome(g.getcurrent().parent.switch))
        child.switch()
        return outcome(child.throw, *args), child.dead

    tb = None
    try:
        raise ValueError("with traceback")
    except ValueError as exc:
        tb, instance = exc.__traceback__, exc
    return [
        thrown(),
        thrown(ValueError, "text"),
        thrown(ValueError, ("a", "b")),
        thrown(ValueError, None, None),
        thrown(ValueError, instance, tb),
        thrown(instance, None, tb),
        thrown(ValueError, KeyError("other")),
        thrown(instance, "value")[0],
        thrown(ValueError, "text", "no traceback")[0],
        thrown("no exception")[0],
        thrown(int)[0],
    ]


@scenario
def greenlet_exit(g: Any) -> Any:
    seen = []

    def run() -> Any:
        try:
            g.getcurrent().parent.switch()
        finally:
            seen.append("finally")

    child = g.greenlet(run)
    child.switch()
    seen += [repr(child.throw()), child.dead]
    child = g.greenlet(lambda: (_ for _ in ()).throw(g.GreenletExit("a", "b")))
    seen += [repr(child.switch()), child.dead]
    seen += [issubclass(g.GreenletExit, Exception), issubclass(g.error, Exception)]
    seen += [g.GreenletExit.__module__, g.error.__module__, g.greenlet.__module__]
    return seen


@scenario
def chains_of_exceptions(g: Any) -> Any:
    def run() -> None:
        try:
            g.getcurrent().parent.switch()
        except KeyError as exc:
            raise LookupError("replaced") from exc
        finally:
            with contextlib.suppress(OSError):
                raise OSError("handled inside")

    def chain(exc: BaseException | None) -> Any:
        return exc and (repr(exc), chain(exc.__context__), repr(exc.__cause__))

    seen = []
    child = g.greenlet(run)
    child.switch()
    try:
        try:
            raise KeyError("outer")
        except KeyError:
            child.throw(*sys.exc_info())
    except LookupError as exc:
        seen.append(chain(exc))
        names = [frame.name for frame in traceback.extract_tb(exc.__traceback__)]
        seen.append([name for name in names if name in ("chains_of_exceptions", "run")])
    child = g.greenlet(run)
    child.switch()
    try:
        try:
            raise OSError("handled here")
        except OSError:
            child.throw(RuntimeError("other"))
    except RuntimeError as exc:
        seen.append(chain(exc))
    seen.append(repr(sys.exc_info()))
    return seen


@scenario
def handled_exceptions_are_each_greenlets_own(g: Any) -> Any:
    seen = []

    def run() -> None:
        seen.append(repr(sys.exc_info()[1]))
        try:
            raise ValueError("inside")
        except ValueError:
            g.getcurrent().parent.switch()
            seen.append(repr(sys.exc_info()[1]))

    child = g.greenlet(run)
    try:
        raise KeyError("outside")
    except KeyError:
        child.switch()
        seen.append(repr(sys.exc_info()[1]))
    child.switch()
    return seen


@scenario
def collected_while_suspended(g: Any) -> Any:
    seen: list[Any] = []

    def run() -> None:
        try:
            g.getcurrent().parent.switch()
        except BaseException as exc:
            seen.append((repr(exc), g.getcurrent().parent is main))
        finally:
            seen.append("finally")

    main = g.getcurrent()
    child = g.greenlet(run)
    child.switch()
    ref = weakref.ref(child)
    seen.append("deleted")
    del child
    gc.collect()
    seen.append((ref(), g.getcurrent() is main))
    return seen


@scenario
def nothing_is_kept(g: Any) -> Any:
    class Object:
        pass

    def run(thing: Any) -> Any:
        return g.getcurrent().parent.switch(thing)

    refs = []
    for end in (
        lambda child: child.switch(Object()),
        lambda child: outcome(child.throw, OSError()),
    ):
        thing = Object()
        child = g.greenlet(run)
        refs += [weakref.ref(thing), weakref.ref(child)]
        child.switch(thing)
        result = end(child)
        refs.append(weakref.ref(result) if isinstance(result, Object) else lambda: None)
        del child, thing, result
    g.greenlet(int).switch()
    gc.collect()
    return [ref() for ref in refs]
