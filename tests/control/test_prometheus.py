"""The scoreboard in Prometheus' text format, read by Prometheus' own parser."""

from __future__ import annotations

import math
import shutil
import subprocess
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from subinterp_asgi import Config
from subinterp_asgi.control import prometheus, scoreboard
from subinterp_asgi.control.counters import Counters
from subinterp_asgi.control.scoreboard import BOUNDS, GENERATION, SLOTS_USED, WORKER, Slot

# OpenTelemetry's, for http.server.request.duration
ADVISED = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

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
            counters.statuses[2 + slot] += 1
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
    assert list(buckets) == [*BOUNDS, math.inf]
    assert set(ADVISED) < set(buckets)
    assert list(buckets.values()) == [2, *[3] * 8, *[4] * 6, 5, 7]
    assert samples["request_duration_seconds_count", ()] == 7
    assert samples["request_duration_seconds_sum", ()] == pytest.approx(119.8026)


def test_turns_of_loops_are_a_histogram(board: Slot) -> None:
    first, second = Counters(board, 1), Counters(board, 3)
    second.serving = True
    first.turned(3_000_000_000)  # before it serves it holds nobody up
    first.turns, first.turn_sum = 7, 3_000_000
    for nanoseconds in (1_000_001, 80_000_000, 11_000_000_000):
        second.turned(nanoseconds)
    first.flush()
    second.flush()
    samples = parse(prometheus.render(board))
    buckets = labelled(samples, "loop_lag_seconds_bucket")
    assert list(buckets.values()) == [7, *[8] * 6, *[9] * 9, 10]
    assert samples["loop_lag_seconds_count", ()] == 10
    assert samples["loop_lag_seconds_sum", ()] == pytest.approx(11.084000001)


def test_of_workers_of_one_number_it_is_the_worse_that_is_told_of(board: Slot) -> None:
    scoreboard.slot_of(board, 3)[WORKER] = 1  # in the place of the other, which is stuck
    stuck, new = Counters(board, 1), Counters(board, 3)
    stuck.lag, new.lag = 250_000_000, 500_000_000
    stuck.flush(time.monotonic_ns() - 5_000_000_000)
    new.flush()
    samples = parse(prometheus.render(board))
    number = (("worker", "0"),)
    assert labelled(samples, "worker_loop_lag_seconds") == {number: 0.5}
    busy = labelled(samples, "worker_busy_seconds")
    assert set(busy) == {number}
    assert busy[number] >= 5


def test_series_are_as_many_after_a_thousand_generations(board: Slot) -> None:
    """All that were ever there, and none of the sums goes back."""
    series = set(parse(prometheus.render(board)))
    sums: Samples = {}
    for generation in range(3, 1003):
        for slot in (1, 3):
            counters = Counters(board, slot)
            counters.serving = True
            counters.requests = counters.turns = 1
            counters.statuses[2] += 1
            counters.took(generation / 100)
            counters.turned(generation * 10_000_000)
            counters.flush()
            scoreboard.fold(board, slot)
            words = scoreboard.slot_of(board, slot)
            words[WORKER], words[GENERATION] = slot // 2 + 1, generation
        before, samples = sums, parse(prometheus.render(board))
        sums = {key: value for key, value in samples.items() if grows(key[0])}
        assert all(value <= sums[key] for key, value in before.items())
        assert set(samples) == series
    assert sums["requests_total", ()] == sums["request_duration_seconds_count", ()] == 2000
    assert sums["loop_lag_seconds_count", ()] == 4000
    assert samples["generation", ()] == 1002


def grows(name: str) -> bool:
    """Whether a metric only grows, of which Prometheus takes rates."""
    return name.endswith(("_total", "_bucket", "_sum", "_count"))


def test_limits_are_those_of_all_workers(board: Slot) -> None:
    samples = parse(prometheus.render(board, Config(limit_concurrency=10)))
    assert samples["requests_in_flight_limit", ()] == 20
    assert ("connections_limit", ()) not in samples
    samples = parse(prometheus.render(board, Config(limit_connections=7)))
    assert samples["connections_limit", ()] == 14
    totals: dict[str, int] = {"limit_concurrency_total": 25, "limit_connections_total": 13}
    config = Config(limit_concurrency=10, limit_connections=7, **totals)
    samples = parse(prometheus.render(board, config))
    assert samples["requests_in_flight_limit", ()] == 20
    assert samples["connections_limit", ()] == 13


def test_names_and_units_are_as_prometheus_advises(board: Slot) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    page = prometheus.render(board, Config(limit_concurrency=10, limit_connections=10))
    done = subprocess.run(
        [promtool, "check", "metrics"], input=page, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    bad = page.replace(b"_seconds", b"_milliseconds")
    assert subprocess.run(
        [promtool, "check", "metrics"], input=bad, capture_output=True, timeout=60
    ).stderr


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
