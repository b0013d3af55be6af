"""prometheus_client's metrics of an application, of all workers and of those that were."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from subinterp_asgi import Supervisor
from subinterp_asgi.supervisor.events import WorkerDied
from subinterp_asgi.supervisor.states import WorkerState
from tests.support import ROOT, get, wait_until

from ..load import Load
from ..process.upgrading import Service
from ..rawclient import RawClient, request
from ..supervising import Heard, Servers

pytest.importorskip("fcntl")
APP = "tests.integration.apps.counting:app"


def figures(url: str) -> dict[str, float]:
    """The samples on the page; those of buckets by their bounds."""
    answer = get(url, "/app-metrics")
    assert answer.status == 200, answer.text
    samples = [
        sample
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    ]
    named = {sample.name + sample.labels.pop("le", ""): sample.value for sample in samples}
    assert len(named) == len(samples)
    assert not any(sample.labels for sample in samples)
    return named


def check(url: str, orders: int, died: int = 0) -> None:
    found = figures(url)
    assert found["shop_orders_total"] == orders + died
    assert found["shop_order_items_count"] == found["shop_order_items_bucket5.0"] == orders
    assert found["shop_order_items_bucket2.0"] == 0
    assert found["shop_order_items_sum"] == 3 * orders


def all_serve(server: Supervisor, workers: int) -> bool:
    """Whether there are so many workers, and all of them serve."""
    return [worker.state for worker in server.workers] == [WorkerState.SERVING] * workers


def test_nothing_that_was_counted_is_lost(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    heard = Heard()
    options = {"workers": 2, "factory": False, "restart_delay": 0.01, "on_event": heard}
    server = servers.start(APP, "interpreter", **options)
    orders = died = 0
    workers = 2
    for step in ("reload", "die", "reload", "up", "down", "reload", "die", "reload"):
        with Load(server.addresses[0], keep_alive=2, fresh=2) as load:
            load.wait_for(20)
            match step:
                case "reload":
                    server.reload()
                case "up" | "down":
                    workers = 3 if step == "up" else 1
                    server.scale(workers)
            load.wait_for(20)
        assert load.failures == []
        orders += load.requests
        if step == "die":
            died += 1
            with RawClient(server.addresses[0]) as client:
                client.send(request(b"GET", b"/die"))
                heard.wait_for(WorkerDied, died)
        wait_until(lambda: all_serve(server, workers))  # noqa: B023  (none makes files now)
        check(server.url, orders, died)
    # What had died was in the middle of an order: whoever took its place has seen to that.
    assert figures(server.url)["shop_orders_open"] == 0
    # Two for each that may live at a time, the old one and the new.
    for kind in ("counter_*.db", "histogram_*.db", "*.lock"):
        assert 2 <= len(list(tmp_path.glob(kind))) <= 6


def test_nor_by_an_upgrade(tmp_path: Path) -> None:
    """The processes have their files in common, while both are there, too."""
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    options = ("--port", "0", "--workers", "2", "--no-access-log")
    with Service(APP, *options, cwd=ROOT, environment=environment) as service:
        url = service.url
        with Load(("127.0.0.1", int(url.rpartition(":")[2])), keep_alive=2, fresh=2) as load:
            for _ in range(2):
                load.wait_for(20)
                service.upgrade()
            load.wait_for(20)
        assert load.failures == []
        check(url, load.requests)
        service.stop()
    assert 2 <= len(list(tmp_path.glob("counter_*.db"))) <= 4
