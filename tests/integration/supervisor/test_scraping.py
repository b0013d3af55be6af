"""What is seen of metrics over reloads, deaths and other numbers of workers; by Prometheus, too."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.supervisor.events import WorkerChanged, WorkerDied
from subinterp_asgi.supervisor.states import WorkerState
from tests.control.test_prometheus import Samples, grows, labelled, parse
from tests.support import ROOT, free_port, get, wait_until

from ..load import Load
from ..supervising import Heard, Servers
from .killing import SOON, kill

EXAMPLES = ROOT / "examples" / "deploy" / "prometheus"
WORKERS = {"0", "1", "2"}
"""The numbers of all workers that there ever are."""


def start(servers: Servers, heard: Heard) -> tuple[Supervisor, str]:
    """Start a server; return it, and where its metrics are."""
    server = servers.start(
        isolation="interpreter",
        workers=2,
        limit_concurrency=50,
        metrics_bind="127.0.0.1:0",
        on_event=heard,
        **SOON,
    )
    host, port = server._listeners[1].addresses[0]
    return server, f"{host}:{port}"


def turmoil(server: Supervisor, heard: Heard, between: Callable[[], None]) -> None:
    """Do with the workers whatever makes others of them; beforehand and in between wait."""
    for step, argument in enumerate((None, 3, "die", 1, None, "die", 2, None)):
        between()
        match argument:
            case None:
                server.reload()
            case int(workers):
                server.scale(workers)
            case _:
                serving, dead = len(heard.of(WorkerChanged)), len(heard.of(WorkerDied))
                kill(server)
                heard.wait_for(WorkerDied, dead + 1)
                wait_until(
                    lambda: any(
                        event.state is WorkerState.SERVING
                        for event in heard.of(WorkerChanged)[serving:]  # noqa: B023
                    ),
                    f"a worker in the place of the dead one, step {step}",
                )
    between()


def test_no_sum_ever_falls_and_series_are_those_of_the_workers(servers: Servers) -> None:
    heard = Heard()
    server, address = start(servers, heard)
    pages: list[Samples] = []
    ending = threading.Event()

    def scrape() -> None:
        while not ending.is_set():
            pages.append(parse(get(f"http://{address}", "/metrics").body))

    def once_more() -> None:
        load.wait_for(20)
        seen = len(pages)
        wait_until(lambda: len(pages) > seen, "another scrape")

    scraper = threading.Thread(target=scrape, name="test-scraper", daemon=True)
    with Load(server.addresses[0], fresh=2, slow=2) as load:
        scraper.start()
        try:
            turmoil(server, heard, once_more)
        finally:
            ending.set()
            scraper.join(30)
    assert not scraper.is_alive()
    before: Samples = {}
    for page in pages:
        sums = {key: value for key, value in page.items() if grows(key[0])}
        assert before.keys() <= sums.keys()
        fallen = {key: (old, sums[key]) for key, old in before.items() if sums[key] < old}
        assert not fallen
        before = sums
        for name in ("worker_busy_seconds", "worker_loop_lag_seconds"):
            labels = labelled(page, name)
            assert {dict(label).get("worker") for label in labels} <= WORKERS
            assert all(set(dict(label)) == {"worker"} for label in labels)
    assert len(pages[-1]) <= len(pages[0])
    stats = server.stats()
    last = parse(get(f"http://{address}", "/metrics").body)
    assert last["requests_total", ()] == stats.requests >= load.requests
    assert last["requests_in_flight_limit", ()] == 100
    assert last["generation", ()] == 4
    # Each turn in which a request was answered is among them.
    assert last["loop_lag_seconds_count", ()] > 0
    assert last["loop_lag_seconds_sum", ()] > 0


# --- by Prometheus itself


class Prometheus:
    """One that runs, with the files of ``examples/deploy/``."""

    def __init__(self, address: str) -> None:
        self.url = f"http://{address}"

    def ask(self, what: str) -> Any:
        answer = json.loads(get(self.url, f"/api/v1/{what}").body)
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, text: str) -> list[float]:
        """The values of an instant vector."""
        return [float(r["value"][1]) for r in self.ask(f"query?query={quote(text)}")["result"]]

    def names(self) -> list[str]:
        """All metrics that there are."""
        return list(self.ask("label/__name__/values"))


@contextlib.contextmanager
def prometheus(target: str, folder: Path) -> Iterator[Prometheus]:
    """Have it scrape the target."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed")
    shutil.copy(EXAMPLES / "rules.yml", folder)
    text = (EXAMPLES / "prometheus.yml").read_text("utf-8")
    config = folder / "prometheus.yml"
    config.write_text(text.replace("127.0.0.1:9100", target).replace("15s", "200ms"), "utf-8")
    address = f"127.0.0.1:{free_port()}"
    command = [program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [*command, f"--web.listen-address={address}"],
            stdout=output,
            stderr=output,
            env=os.environ | {"HOME": str(folder)},
        )

    def ready() -> bool:
        assert process.poll() is None, (folder / "output").read_text()
        with contextlib.suppress(OSError):
            return get(f"http://{address}", "/-/ready").status == 200
        return False

    try:
        wait_until(ready, "Prometheus is ready", timeout=60)
        yield Prometheus(address)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.mark.once
def test_prometheus_sees_no_reset_and_the_documented_rules_have_values(
    servers: Servers, tmp_path: Path
) -> None:
    heard = Heard()
    server, address = start(servers, heard)
    with (
        prometheus(address, tmp_path) as its,
        Load(server.addresses[0], fresh=1, slow=1) as load,
    ):

        def scraped() -> float:
            return sum(its.query("count_over_time(subinterp_asgi_requests_total[1h])"))

        def once_more() -> None:
            load.wait_for(10)
            get(server.url, "/fail")
            seen = scraped()
            wait_until(lambda: scraped() > seen, "another scrape", timeout=60)

        turmoil(server, heard, once_more)
        for record in re.findall(r"record: (\S+)", (EXAMPLES / "rules.yml").read_text("utf-8")):

            def valued(record: str = record) -> bool:
                values = its.query(record)
                return bool(values) and all(map(math.isfinite, values))

            wait_until(valued, record, timeout=60)
        (errors,) = its.query("job:subinterp_asgi_errors:ratio5m")
        assert 0 < errors < 1
        assert its.query("http_server_request_duration_seconds_bucket{le='0.075'}")
        names = [name for name in its.names() if name.startswith("subinterp_asgi_")]
        sums = [name for name in names if grows(name)]
        assert len(sums) > 10
        for name in sums:
            assert set(its.query(f"resets({name}[1h])")) == {0.0}, name
        for name in ("worker_busy_seconds", "worker_loop_lag_seconds"):
            (count,) = its.query(f"count(count_over_time(subinterp_asgi_{name}[1h]))")
            assert count <= len(WORKERS), name


@pytest.mark.once
def test_promtool_accepts_the_documented_files() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    done = subprocess.run(
        [promtool, "check", "config", "--lint-fatal", str(EXAMPLES / "prometheus.yml")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
