"""Scenarios: greenlets that wait for what a loop does, as SQLAlchemy uses them."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable
from typing import Any

from .scenarios import outcome, scenario, var


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
