"""``python -m tests.fuzz [--seconds N] [--seed S] [--case N] [--target NAME]``."""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import os
import sys
import time
import traceback
import tracemalloc
from collections.abc import Callable

from . import corpus, files, parsing, serving, sockets

ARENAS = {"serving": serving.Arena, "sockets": sockets.SocketArena}
ALONE = {"parsing": parsing.run_case, "files": files.run_case}
TARGETS = (*ALONE, *ARENAS)
WATCHDOG = 60.0
"""Seconds after which a batch that is still running is taken for an endless loop."""
GROWTH = 16 * 1024 * 1024
"""Octets by which the memory in use may grow after the first batches."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (default: 600)")
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time")
    parser.add_argument("--case", type=int, default=None, help="run only this case of the seed")
    parser.add_argument("--target", choices=(*TARGETS, "all"), default="all")
    options = parser.parse_args()
    seed = int.from_bytes(os.urandom(4)) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    targets = TARGETS if options.target == "all" else (options.target,)
    counts = {}
    for target in targets:
        run = Run(seed, options.seconds / len(targets), options.case)
        try:
            if target in ALONE:
                run.call(ALONE[target])
            else:
                asyncio.run(run.serve(ARENAS[target]))
        except Exception:
            traceback.print_exc()
            print(f"found by: --seed {seed} --target {target} --case {run.number}")
            return 1
        finally:
            faulthandler.cancel_dump_traceback_later()
            tracemalloc.stop()
        counts[target] = run.done
    print("nothing found in", ", ".join(f"{n} cases of {target}" for target, n in counts.items()))
    return 0


class Run:
    """One target's share of the time."""

    def __init__(self, seed: int, seconds: float, only: int | None) -> None:
        self._seed = seed
        self._end = time.monotonic() + seconds
        self._only = only
        self.number = 0 if only is None else only
        self.done = 0
        self._baseline = 0
        tracemalloc.start()

    def _more(self) -> bool:
        if self._only is not None:
            return self.done == 0
        return time.monotonic() < self._end

    def call(self, run_case: Callable[[int, int], None]) -> None:
        """Run cases that need nothing else until the time is over."""
        batches = 0
        while self._more():
            faulthandler.dump_traceback_later(WATCHDOG, exit=True)
            for _ in range(1 if self._only is not None else 200):
                run_case(self._seed, self.number)
                self.number += 1
                self.done += 1
            batches += 1
            self._check_memory(batches)

    async def serve(self, make_arena: type[serving.Arena]) -> None:
        """Serve streams, some at a time, until the time is over."""
        batches = 0
        async with make_arena() as arena:
            while self._more():
                faulthandler.dump_traceback_later(WATCHDOG, exit=True)
                size = 1 if self._only is not None else 120
                first = self.number
                cases = [
                    asyncio.create_task(arena.run_case(self._seed, first + index))
                    for index in range(size)
                ]
                while not all(case.done() for case in cases):
                    await asyncio.wait(cases, timeout=0.05)
                    arena.check_memory()
                for index, case in enumerate(cases):
                    self.number = first + index
                    case.result()
                self.number = first + size
                self.done += size
                await arena.settle()
                batches += 1
                self._check_memory(batches)

    def _check_memory(self, batches: int) -> None:
        if batches % 10:
            return
        gc.collect()
        now, _ = tracemalloc.get_traced_memory()
        if not self._baseline:
            self._baseline = now
        if now > self._baseline + GROWTH:
            raise serving.Finding(f"memory has grown from {self._baseline} to {now} octets")


def show(seed: int, number: int, target: str) -> bytes:
    """The stream of a case, for a look at it."""
    from random import Random

    return corpus.make_stream(Random(f"{target} {seed} {number}"))


if __name__ == "__main__":
    sys.exit(main())
