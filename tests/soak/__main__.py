"""``python -m tests.soak [chaos] [--seconds 60] [--seed S] [--kind interpreter|thread|command]``
or ``python -m tests.soak reloads [--count 500] [--warm-up 20] [--app django|bare]``
or ``python -m tests.soak copies [--seconds 60] [--count 12] [--reuse]``
or ``python -m tests.soak day [--seconds 7200] [--rate 50] [--seed S]``."""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys

HANGING = 300.0
"""Seconds over what a run should take after which it is taken to hang."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument(
        "what", nargs="?", choices=("chaos", "reloads", "copies", "day"), default="chaos"
    )
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="chaos, copies, day: how long, in all"
    )
    parser.add_argument("--rate", type=float, default=50.0, help="day: requests a second")
    parser.add_argument("--seed", type=int, help="chaos, day: default: another one each time")
    parser.add_argument("--kind", choices=("interpreter", "thread", "command"), action="append")
    parser.add_argument("--count", type=int, help="how many reloads; default: 500, with copies 12")
    parser.add_argument("--reuse", action="store_true", help="copies: use interpreters again")
    parser.add_argument("--warm-up", type=int, default=20, help="reloads: how many before those")
    parser.add_argument("--app", choices=("django", "bare"), default="django")
    options = parser.parse_args()
    if options.what == "reloads":
        from . import reloads

        good = reloads.run(options.app, options.count or 500, say, warm_up=options.warm_up)
        return 0 if good else 1
    if options.what == "copies":
        from . import copies

        good = copies.run(options.seconds, options.count or 12, say, reuse=options.reuse)
        return 0 if good else 1
    seed = int.from_bytes(os.urandom(4)) if options.seed is None else options.seed
    say(f"seed {seed}")
    if options.what == "day":
        from . import day

        return 0 if day.run(options.seconds, seed, options.rate, say) else 1
    from . import chaos

    kinds = options.kind or ["interpreter", "command"]
    faulthandler.dump_traceback_later(options.seconds + HANGING, exit=True)
    outcomes = [chaos.run(options.seconds / len(kinds), seed, kind, say) for kind in kinds]
    faulthandler.cancel_dump_traceback_later()
    return 0 if all(outcomes) else 1


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
