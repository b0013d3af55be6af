"""The scoreboard as a page for Prometheus, in its text format 0.0.4.

Counters are sums over all workers that are and that were, so that any worker can answer for all and
a reload does not reset them. What another worker counted is as of the last time its loop slept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import monotonic_ns

from . import scoreboard
from .scoreboard import LATENCY, LATENCY_BOUNDS, LATENCY_SUM, STATUS, Slot

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def render(board: Slot) -> bytes:
    """Render what a scoreboard says at this moment."""
    sums, workers = scoreboard.snapshot(board)
    accepting = sum(words[scoreboard.ACCEPTING] for words in workers.values())
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
            _histogram(sums[LATENCY_SUM], sums[LATENCY : LATENCY + len(LATENCY_BOUNDS) + 1]),
        ),
        *_metric("workers", "gauge", "Workers that have not ended.", [("", len(workers))]),
        *_rows("gauge", sums),
        *_metric(
            "workers_accepting", "gauge", "Workers that accept connections.", [("", accepting)]
        ),
        *_health(workers),
        "",
    ]
    return "\n".join(lines).encode("ascii")


def _rows(kind: str, sums: Sequence[int]) -> Iterable[str]:
    for name, (its_kind, metric, text) in scoreboard.ROWS.items():
        if its_kind == kind:
            yield from _metric(metric, kind, text, [("", sums[scoreboard.WORDS[name]])])


def _histogram(microseconds: int, buckets: Sequence[int]) -> Iterable[tuple[str, float]]:
    count = 0
    for bound, responses in zip((*LATENCY_BOUNDS, "+Inf"), buckets, strict=True):
        count += responses
        yield f'_bucket{{le="{bound}"}}', count
    yield "_sum", microseconds / 1e6
    yield "_count", count


def _health(workers: dict[int, list[int]]) -> Iterable[str]:
    """What tells of workers that are held up; each for itself, since a sum would say nothing.

    The number of the slot is among the labels because two workers may have all else in common, such
    as one that is stuck and the one in its place.
    """
    now = monotonic_ns()
    lags: list[tuple[str, float]] = []
    busy: list[tuple[str, float]] = []
    for index, words in workers.items():
        worker, generation = words[scoreboard.WORKER] - 1, words[scoreboard.GENERATION]
        labels = f'{{worker="{worker}",generation="{generation}",slot="{index}"}}'
        since = words[scoreboard.BUSY_SINCE]
        lags.append((labels, words[scoreboard.LAG] / 1e9))
        busy.append((labels, max(0, now - since) / 1e9 if since else 0.0))
    yield from _metric(
        "worker_loop_lag_seconds",
        "gauge",
        "How long the worker's loop was held up lately at one time.",
        lags,
    )
    yield from _metric(
        "worker_busy_seconds",
        "gauge",
        "How long the worker's loop has not slept nor begun a round; it grows if it is stuck.",
        busy,
    )


def _metric(name: str, kind: str, text: str, samples: Iterable[tuple[str, float]]) -> list[str]:
    """The lines of a metric; a sample is what follows its name, and the value."""
    name = f"subinterp_asgi_{name}"
    head = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    return head + [f"{name}{suffix} {value}" for suffix, value in samples]
