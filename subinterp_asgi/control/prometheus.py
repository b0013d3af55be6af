"""The scoreboard as a page for Prometheus, in its text format 0.0.4.

Counters are sums over all workers that are and that were, so that any worker can answer for all and
a reload does not reset them. What another worker counted is as of the last time its loop slept.
Labels are such as reloads and crashes make no more of: each new one would be a series for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import monotonic_ns

from ..config import Config
from . import scoreboard
from .scoreboard import BOUNDS, LATENCY, LATENCY_SUM, STATUS, TURN_SUM, TURNS, Slot

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def render(board: Slot, config: Config | None = None) -> bytes:
    """Render what a scoreboard says at this moment, and limits of the configuration."""
    sums, workers = scoreboard.snapshot(board)
    accepting = sum(words[scoreboard.ACCEPTING] for words in workers.values())
    generation = max((words[scoreboard.GENERATION] for words in workers.values()), default=0)
    lines = [
        *_rows("counter", sums),
        *_metric(
            "responses_total",
            "counter",
            "Responses by class of their status.",
            [(f'{{class="{n}xx"}}', sums[STATUS + n]) for n in range(1, 6)],
        ),
        *_metric(
            "request_duration_seconds",
            "histogram",
            "Time from a request's head to the end of its response.",
            _histogram(sums[LATENCY_SUM] / 1e6, sums[LATENCY:]),
        ),
        *_metric(
            "loop_lag_seconds",
            "histogram",
            "How long a loop was busy at one time, which is how long what came then had to wait.",
            _histogram(sums[TURN_SUM] / 1e9, sums[TURNS:]),
        ),
        *_metric("workers", "gauge", "Workers that have not ended.", [("", len(workers))]),
        *_rows("gauge", sums),
        *_metric(
            "workers_accepting", "gauge", "Workers that accept connections.", [("", accepting)]
        ),
        *_metric("generation", "gauge", "The newest generation of workers.", [("", generation)]),
        *(() if config is None else _limits(config, len(workers))),
        *_health(workers.values()),
        "",
    ]
    return "\n".join(lines).encode("ascii")


def _rows(kind: str, sums: Sequence[int]) -> Iterable[str]:
    for name, (its_kind, metric, text) in scoreboard.ROWS.items():
        if its_kind == kind:
            yield from _metric(metric, kind, text, [("", sums[scoreboard.WORDS[name]])])


def _histogram(total: float, buckets: Sequence[int]) -> Iterable[tuple[str, float]]:
    count = 0
    for bound, number in zip((*BOUNDS, "+Inf"), buckets, strict=False):
        count += number
        yield f'_bucket{{le="{bound}"}}', count
    yield "_sum", total
    yield "_count", count


def _limits(config: Config, workers: int) -> Iterable[str]:
    """How much there may be of what gauges count, where there is a limit."""
    gauges = {"requests_in_flight": "limit_concurrency", "connections": "limit_connections"}
    for gauge, option in gauges.items():
        each, total = getattr(config, option), getattr(config, f"{option}_total")
        limits = [] if each is None else [each * workers]
        if total is not None:
            limits.append(total)
        if limits:
            text = f"{option}, for all workers together, or {option}_total: the lower one."
            yield from _metric(f"{gauge}_limit", "gauge", text, [("", min(limits))])


def _health(workers: Iterable[list[int]]) -> Iterable[str]:
    """What tells of workers that are held up; each for itself, since a sum would say nothing.

    Of those that have a number in common, such as one that is stuck and the one in its place, it is
    what the worse of them has.
    """
    now = monotonic_ns()
    lags: dict[str, float] = {}
    busy: dict[str, float] = {}
    for words in workers:
        label = f'{{worker="{words[scoreboard.WORKER] - 1}"}}'
        since = words[scoreboard.BUSY_SINCE]
        lags[label] = max(lags.get(label, 0.0), words[scoreboard.LAG] / 1e9)
        held_up = max(0, now - since) / 1e9 if since else 0.0
        busy[label] = max(busy.get(label, 0.0), held_up)
    yield from _metric(
        "worker_loop_lag_seconds",
        "gauge",
        "How long the worker's loop was held up lately at one time.",
        lags.items(),
    )
    yield from _metric(
        "worker_busy_seconds",
        "gauge",
        "How long the worker's loop has not slept nor begun a round; it grows if it is stuck.",
        busy.items(),
    )


def _metric(name: str, kind: str, text: str, samples: Iterable[tuple[str, float]]) -> list[str]:
    """The lines of a metric; a sample is what follows its name, and the value."""
    name = f"subinterp_asgi_{name}"
    head = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    return head + [f"{name}{suffix} {value}" for suffix, value in samples]
