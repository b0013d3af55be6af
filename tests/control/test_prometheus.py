"""The scoreboard in Prometheus' text format, read by Prometheus' own parser."""

from __future__ import annotations

import math
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from subinterp_asgi.control import prometheus, scoreboard
from subinterp_asgi.control.counters import Counters
from subinterp_asgi.control.scoreboard import GENERATION, LATENCY_BOUNDS, SLOTS_USED, WORKER, Slot

type Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parse(page: bytes) -> Samples:
    """Values by name, without the prefix, and labels."""
    samples: Samples = {}
    for family in text_string_to_metric_families(page.decode()):
        assert family.documentation.endswith("."), family
        assert family.type != "unknown", family
        for sample in family.samples:
            name = sample.name.removeprefix("subinterp_asgi_")
            assert name != sample.name
            assert name.endswith("_total") == (family.type == "counter")
            key = (name, tuple(sorted(sample.labels.items())))
            assert key not in samples, key
            samples[key] = sample.value
    return samples


def labelled(samples: Samples, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    return {labels: value for (found, labels), value in samples.items() if found == name}


@pytest.fixture
def board() -> Slot:
    """A board with a worker that has ended, two that run, and a free slot."""
    board = scoreboard.new_board(3)
    board[SLOTS_USED] = 4
    for slot, worker, generation in ((1, 0, 2), (3, 1, 2)):
        words = scoreboard.slot_of(board, slot)
        words[WORKER], words[GENERATION] = worker + 1, generation
    return board


def test_counters_are_those_of_all_workers_that_are_and_that_were(board: Slot) -> None:
    for slot in range(4):
        counters = Counters(board, slot) if slot else None
        number = 10**slot
        if counters is None:  # what was counted before is in the header
            header = scoreboard.slot_of(board, 0)
            header[scoreboard.REQUESTS] = header[scoreboard.ACCEPTED] = number
            header[scoreboard.STATUS + 5] = number
            continue
        counters.requests = counters.accepted = number
        counters.bytes_in, counters.bytes_out, counters.errors, counters.logs_dropped = 1, 2, 3, 4
        for _ in range(slot):
            counters.responded(200 + 100 * slot)
        counters.flush()
    samples = parse(prometheus.render(board))
    # The second slot is free: whatever stands there is nobody's.
    assert samples["requests_total", ()] == 1011
    assert samples["connections_accepted_total", ()] == 1011
    assert samples["received_bytes_total", ()] == 2
    assert samples["sent_bytes_total", ()] == 4
    assert samples["app_exceptions_total", ()] == 6
    assert samples["log_records_dropped_total", ()] == 8
    assert labelled(samples, "responses_total") == {
        (("class", "1xx"),): 0,
        (("class", "2xx"),): 0,
        (("class", "3xx"),): 1,
        (("class", "4xx"),): 0,
        (("class", "5xx"),): 4,
    }


def test_gauges_are_those_of_workers_that_are(board: Slot) -> None:
    for slot in (1, 2, 3):
        counters = Counters(board, slot)
        counters.connections, counters.websockets, counters.in_flight = 5 * slot, 2 * slot, 3 * slot
        counters.flush()
    Counters(board, 3).accepting(True)
    samples = parse(prometheus.render(board))
    assert samples["connections", ()] == 20
    assert samples["websockets", ()] == 8
    assert samples["requests_in_flight", ()] == 12
    assert samples["workers", ()] == 2
    assert samples["workers_accepting", ()] == 1


def test_durations_are_a_histogram(board: Slot) -> None:
    first, second = Counters(board, 1), Counters(board, 3)
    for seconds in (0.0005, 0.001, 0.0011):
        first.took(seconds)
    for seconds in (0.3, 10.0, 10.5, 99.0):
        second.took(seconds)
    first.flush()
    second.flush()
    samples = parse(prometheus.render(board))
    buckets = {
        float(dict(labels)["le"]): value
        for labels, value in labelled(samples, "request_duration_seconds_bucket").items()
    }
    assert list(buckets) == [*LATENCY_BOUNDS, math.inf]
    assert list(buckets.values()) == [2, 3, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 5, 7]
    assert samples["request_duration_seconds_count", ()] == 7
    assert samples["request_duration_seconds_sum", ()] == pytest.approx(119.8026)


def test_who_is_held_up_is_told_apart(board: Slot) -> None:
    scoreboard.slot_of(board, 3)[WORKER] = 1  # in the place of the other, which is stuck
    stuck, new = Counters(board, 1), Counters(board, 3)
    stuck.lag = 250_000_000
    stuck.flush(time.monotonic_ns() - 5_000_000_000)
    new.flush()
    samples = parse(prometheus.render(board))
    old_labels, new_labels = (
        (("generation", "2"), ("slot", slot), ("worker", "0")) for slot in ("1", "3")
    )
    assert labelled(samples, "worker_loop_lag_seconds") == {old_labels: 0.25, new_labels: 0}
    busy = labelled(samples, "worker_busy_seconds")
    assert busy[old_labels] >= 5
    assert busy[new_labels] == 0


def test_a_worker_without_a_supervisor_is_the_only_one() -> None:
    samples = parse(prometheus.render(scoreboard.private_board()[0]))
    assert samples["workers", ()] == 1
    assert samples["requests_total", ()] == 0


def test_the_page_is_lines_of_ascii(board: Slot) -> None:
    page = prometheus.render(board)
    assert page.isascii()
    assert page.endswith(b"\n")
    assert b"\n\n" not in page
    assert b"\r" not in page
