"""What ``examples/deploy/kubernetes/`` says, as far as it can be had without a cluster."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from subinterp_asgi import Config
from subinterp_asgi.config import flags

from ...support import ROOT, free_port, get, require_namespaces, wait_until
from ..command import Command
from ..rawclient import RawClient, request

SHOP = list(yaml.safe_load_all((ROOT / "examples/deploy/kubernetes/shop.yaml").read_text()))
POD: dict[str, Any] = SHOP[0]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
COMMAND, APP, *FLAGS = CONTAINER["command"]


NAMESPACE = ("--pid", "--fork", "--kill-child", "--mount-proc")


def config() -> Config:
    parser = flags.Parser(prog=COMMAND)
    parser.add_options()
    return Config().with_options(**parser.parse(FLAGS))


def longest(probe: str) -> float:
    """Seconds after which a probe has failed for good."""
    settings = CONTAINER[probe]
    interval: float = settings["periodSeconds"] * settings["failureThreshold"]
    return interval + settings.get("timeoutSeconds", 1)


def shortest(probe: str) -> float:
    """Seconds after which that may be so at the earliest: the first time may be at once."""
    settings = CONTAINER[probe]
    seconds: float = settings["periodSeconds"] * (settings["failureThreshold"] - 1)
    return seconds


def test_times_fit() -> None:
    options = config()
    grace = POD["terminationGracePeriodSeconds"]
    end = options.drain_delay + options.timeout_graceful_shutdown + options.shutdown_timeout
    assert end < grace < shortest("livenessProbe")
    assert longest("readinessProbe") < options.drain_delay
    assert shortest("startupProbe") > options.startup_timeout


def test_ports_and_paths_fit() -> None:
    options = config()
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert ports["http"] == options.port
    assert options.metrics_bind == f"0.0.0.0:{ports['metrics']}"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = CONTAINER[probe]["httpGet"]
        assert asked["path"] == options.health_path
        assert asked["port"] in ports
    labels = SHOP[0]["spec"]["template"]["metadata"]["labels"]
    assert SHOP[1]["spec"]["selector"] == labels == SHOP[0]["spec"]["selector"]["matchLabels"]
    assert SHOP[1]["spec"]["ports"][0]["targetPort"] in ports


@pytest.mark.skipif(sys.platform != "linux", reason="has no PID namespaces")
def test_the_end_of_a_pod() -> None:
    """As process 1: it is not ready at once, serves on for a while, and ends well."""
    require_namespaces(*NAMESPACE, "true")
    port, other = free_port(), free_port()
    changes = f"--host=127.0.0.1 --port={port} --workers=2 --drain-delay=3s"
    with Command(
        "tests.integration.apps.pool:App",
        "--factory",
        *FLAGS,
        *changes.split(),
        f"--metrics-bind=127.0.0.1:{other}",
        cwd=ROOT,
        prefix=("unshare", *NAMESPACE),
    ) as command:
        url = command.url
        first = int(Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text())
        assert "NSpid:" in (status := Path(f"/proc/{first}/status").read_text())
        assert status.partition("NSpid:")[2].split("\n")[0].split()[-1] == "1"
        assert get(url, "/health").status == 200
        assert get(f"http://127.0.0.1:{other}", "/health").status == 200
        kept = RawClient(("127.0.0.1", port))
        kept.send(request(b"GET", b"/slow"))
        os.kill(first, signal.SIGTERM)
        wait_until(lambda: get(url, "/health").status == 503)
        assert get(url).status == 200  # a connection of somebody who has not heard of it
        assert kept.response().status == 200
        kept.close()
        assert command.wait() == 0
