"""What code can do with greenlets; run as a program with the real ones and with threads.

Each scenario returns what it saw. Nothing may depend on which of the two it was: ``test_greenlets``
compares. Called with the name of the module to import, this prints all of it as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import importlib
import json
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any

SCENARIOS: dict[str, Callable[[Any], Any]] = {}
var: contextvars.ContextVar[Any] = contextvars.ContextVar("var", default="unset")


def scenario(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    SCENARIOS[function.__name__] = function
    return function


def outcome(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    try:
        return repr(function(*args, **kwargs))
    except BaseException as exc:
        return f"{type(exc).__module__}.{type(exc).__name__}: {str(exc).splitlines()[:1]}"


# --- switching


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


# --- context variables


@scenario
def contexts_are_shared(g: Any) -> Any:
    """As SQLAlchemy does: the greenlet's context is the very one that it is started in."""

    def run() -> Any:
        seen = [var.get(), g.getcurrent().gr_context is context]
        token = var.set("inside")
        seen.append(g.getcurrent().parent.switch())
        seen.append(var.get())
        var.reset(token)
        return seen

    def main() -> Any:
        var.set("outside")
        child = g.greenlet(run)
        seen = [child.gr_context]
        child.gr_context = g.getcurrent().gr_context
        seen += [child.gr_context is context, child.switch(), var.get()]
        var.set("changed")
        seen += [child.gr_context is context, child.switch("back"), var.get()]
        return [*seen, child.gr_context is context, g.getcurrent().gr_context is context]

    context = contextvars.copy_context()
    return context.run(main), context[var], sorted(map(str, (item.name for item in context)))


@scenario
def contexts_are_own(g: Any) -> Any:
    def run() -> Any:
        seen = [var.get()]
        var.set("inside")
        seen.append(g.getcurrent().parent.switch())
        return [*seen, var.get()]

    def main() -> Any:
        var.set("outside")
        seen = []
        for context in (None, contextvars.Context(), contextvars.copy_context()):
            child = g.greenlet(run)
            child.gr_context = context
            seen += [child.switch(), var.get(), child.gr_context is context]
            seen += [child.gr_context[var], child.switch(), var.get()]
        return seen

    return contextvars.copy_context().run(main)


@scenario
def contexts_within_contexts(g: Any) -> Any:
    """Whoever switches may be in several contexts, one entered in the other."""
    seen = []

    def inner() -> Any:
        var.set("inner")
        seen.append(g.getcurrent().parent.switch("from inner"))
        return var.get()

    def run() -> Any:
        seen.append(contextvars.copy_context().run(inner))
        return var.get()

    def main() -> None:
        var.set("main")
        child = g.greenlet(run)
        child.gr_context = g.getcurrent().gr_context
        seen.append(contextvars.copy_context().run(child.switch))
        seen.append(var.get())
        var.set("main again")
        seen.append(contextvars.copy_context().run(child.switch, "back"))

    contextvars.copy_context().run(main)
    return seen


@scenario
def contexts_set_while_suspended_and_while_running(g: Any) -> Any:
    def run() -> Any:
        seen = [var.get()]
        g.getcurrent().parent.switch()
        seen.append(var.get())
        g.getcurrent().gr_context = other
        seen += [var.get(), g.getcurrent().gr_context is other]
        return seen

    other = contextvars.Context()
    other.run(var.set, "other")
    third = contextvars.Context()
    third.run(var.set, "third")

    def main() -> Any:
        child = g.greenlet(run)
        child.gr_context = contextvars.copy_context()
        child.switch()
        child.gr_context = third
        return child.switch(), var.get(), outcome(setattr, child, "gr_context", 1)

    return contextvars.copy_context().run(main)


@scenario
def without_a_context(g: Any) -> Any:
    seen = []

    def thread() -> None:
        seen.append(type(g.getcurrent().gr_context))
        child = g.greenlet(lambda: (var.get(), var.set(1) and g.getcurrent().parent.switch(2)))
        seen.append(child.switch())
        seen.append(child.gr_context[var])
        seen.append(outcome(child.switch))

    run_in_thread(thread)
    return seen


# --- threads


def run_in_thread(function: Callable[[], Any]) -> None:
    thread = threading.Thread(target=contextvars.Context().run, args=(function,))
    thread.start()
    thread.join()


@scenario
def other_threads(g: Any) -> Any:
    seen: list[Any] = []

    def run() -> Any:
        return g.getcurrent().parent.switch("suspended")

    ours, unstarted = g.greenlet(run), g.greenlet(run)
    ours.switch()
    main = g.getcurrent()

    def thread() -> None:
        seen.append(g.getcurrent() is main)
        seen.extend(outcome(which.switch).split(":")[0] for which in (ours, unstarted, main))
        seen.append(outcome(ours.throw, ValueError()).split(":")[0])
        own = g.greenlet(run)
        seen.extend((own.switch(), outcome(setattr, own, "parent", main), own.switch("ends")))
        own = g.greenlet(run)
        own.parent = main
        seen.append(outcome(own.switch).split(":")[0])

    run_in_thread(thread)
    return seen, ours.switch("still here"), unstarted.switch()


@scenario
def ended_by_their_thread(g: Any) -> Any:
    """What is suspended when its thread ends."""
    seen: list[Any] = []

    def run() -> None:
        try:
            g.getcurrent().parent.switch()
        except BaseException as exc:
            seen.append(repr(exc))
            raise

    def thread() -> None:
        child = g.greenlet(run)
        child.switch()

    run_in_thread(thread)
    g.getcurrent()
    return seen


# --- garbage


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


# --- asyncio


async def spawn(g: Any, function: Callable[..., Any], *args: Any) -> Any:
    """Run a function that may wait (see below); what SQLAlchemy does, in few words."""
    child = g.greenlet(function)
    child.gr_context = g.getcurrent().gr_context
    result = child.switch(*args)
    while not child.dead:
        try:
            value = await result
        except BaseException:
            result = child.throw(*sys.exc_info())
        else:
            result = child.switch(value)
    return result


def wait_for(g: Any, awaitable: Any) -> Any:
    return g.getcurrent().parent.switch(awaitable)


@scenario
def running_loop_and_task(g: Any) -> Any:
    async def main() -> Any:
        def run() -> Any:
            seen = []
            for _ in range(2):
                seen.append(asyncio.get_running_loop() is loop)
                seen.append(asyncio.current_task() is task)
                seen.append(asyncio.current_task(loop) is task)
                seen.append(asyncio.get_event_loop() is loop)
                seen.append(sys.get_asyncgen_hooks() == hooks)
                wait_for(g, asyncio.sleep(0))
            return seen

        loop, task, hooks = (
            asyncio.get_running_loop(),
            asyncio.current_task(),
            sys.get_asyncgen_hooks(),
        )
        seen = await spawn(g, run)
        seen.append(asyncio.current_task() is task)
        return seen, len(asyncio.all_tasks())

    return [asyncio.run(main()), asyncio.run(main(), debug=True)]


@scenario
def tasks_made_in_greenlets(g: Any) -> Any:
    async def work(result: Any) -> Any:
        await asyncio.sleep(0)
        return result, var.get(), asyncio.current_task() is not main_task

    main_task: Any = None

    async def count() -> int:
        return len(asyncio.all_tasks())

    async def main() -> Any:
        nonlocal main_task
        main_task = asyncio.current_task()

        def run() -> Any:
            loop = asyncio.get_running_loop()
            var.set("greenlet's")
            called: Any = loop.create_future()
            loop.call_soon(called.set_result, "called")
            tasks = [loop.create_task(work(1)), asyncio.ensure_future(work(2))]
            shielded = asyncio.shield(work(3))
            return wait_for(g, count()), wait_for(g, asyncio.gather(called, *tasks, shielded))

        return await spawn(g, run)

    seen = [asyncio.run(main()), asyncio.run(main(), debug=True)]
    with asyncio.Runner() as runner:
        runner.get_loop().set_task_factory(asyncio.eager_task_factory)
        seen.append(runner.run(main()))
    return seen


@scenario
def asynchronous_generators(g: Any) -> Any:
    seen: list[Any] = []

    async def numbers() -> Any:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            seen.append("closed by the loop")

    async def main() -> None:
        def run() -> None:
            generator = numbers()
            seen.append(wait_for(g, generator.__anext__()))
            kept.append(generator)

        await spawn(g, run)

    kept: list[Any] = []
    asyncio.run(main())
    return seen


@scenario
def spawned_in_spawned(g: Any) -> Any:
    async def inner(number: int) -> Any:
        await asyncio.sleep(0)
        return await spawn(g, lambda: (number, wait_for(g, asyncio.sleep(0, "inner")), var.get()))

    async def main() -> Any:
        var.set("task's")
        results = await asyncio.gather(
            *(spawn(g, lambda n=n: wait_for(g, inner(n))) for n in range(20))
        )
        direct = await spawn(g, lambda: g.greenlet(lambda: 5).switch())
        return results, direct

    return asyncio.run(main())


@scenario
def cancellation(g: Any) -> Any:
    seen: list[Any] = []

    async def main() -> None:
        def run(how: str) -> Any:
            try:
                wait_for(g, asyncio.Event().wait())
            except asyncio.CancelledError:
                seen.append((how, "cancelled", asyncio.current_task().cancelling()))  # type: ignore[union-attr]
                wait_for(g, asyncio.sleep(0))  # as a rollback
                if how == "swallow":
                    return "swallowed"
                raise
            finally:
                seen.append((how, "finally"))

        for how in ("raise", "swallow"):
            task = asyncio.create_task(spawn(g, run, how))
            await asyncio.sleep(0)
            task.cancel("why")
            seen.append(
                outcome(lambda: None) and await asyncio.gather(task, return_exceptions=True)
            )
        try:
            async with asyncio.timeout(0.01):
                await spawn(g, run, "raise")
        except TimeoutError:
            seen.append("timeout")
        task = asyncio.create_task(spawn(g, run, "before it starts"))
        task.cancel()
        seen.append(await asyncio.gather(task, return_exceptions=True))

    asyncio.run(main())
    return repr(seen)


@scenario
def failing_awaitables(g: Any) -> Any:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ConnectionError("lost")

    async def main() -> Any:
        def run() -> Any:
            seen = []
            try:
                wait_for(g, fail())
            except ConnectionError as exc:
                seen.append((repr(exc), repr(exc.__context__)))
            seen.append(outcome(wait_for, g, asyncio.wait_for(asyncio.sleep(9), 0.01)))
            try:
                wait_for(g, fail())
            except ConnectionError as exc:
                raise LookupError(seen) from exc

        try:
            await spawn(g, run)
        except LookupError as exc:
            return repr(exc), repr(exc.__cause__), repr(exc.__context__)

    return asyncio.run(main())


@scenario
def closed_in_the_middle(g: Any) -> Any:
    seen: list[Any] = []

    def run() -> None:
        try:
            wait_for(g, asyncio.sleep(0))
        except BaseException as exc:
            seen.append(type(exc).__name__)
            raise

    coroutine = spawn(g, run)
    coroutine.send(None)
    coroutine.close()
    return seen


@scenario
def many(g: Any) -> Any:
    async def main() -> Any:
        def run(number: int) -> int:
            for _ in range(5):
                number = wait_for(g, asyncio.sleep(0, number + 1))
            return number

        return sum(await asyncio.gather(*(spawn(g, run, number) for number in range(200))))

    return asyncio.run(main())


@scenario
def constants(g: Any) -> Any:
    package = importlib.import_module("greenlet") if g.__name__ == "greenlet" else g
    names = ["GREENLET_USE_CONTEXT_VARS", "gettrace", "greenlet", "getcurrent", "error"]
    return [hasattr(package, name) for name in names], g.gettrace(), hasattr(g.greenlet, "error")


if __name__ == "__main__":
    module = importlib.import_module(sys.argv[1])
    found = {}
    for name, function in SCENARIOS.items():
        if len(sys.argv) < 3 or name in sys.argv[2:]:
            found[name] = contextvars.Context().run(function, module)
    print(json.dumps(found, default=repr))
