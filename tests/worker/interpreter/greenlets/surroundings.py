"""Scenarios: context variables and threads."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any

from .scenarios import outcome, scenario, var


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
