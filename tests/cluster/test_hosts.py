"""Deploys one host after the other, and the loss of a host, with the real proxies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.load import Load

from .hosts import Namespaces, cluster

LONG = bool(os.environ.get("CLUSTER"))
CLIENTS = {"keep_alive": 4, "fresh": 2, "upload": 2, "slow": 1, "stream": 1}
programs = pytest.mark.parametrize("program", ["haproxy", "nginx"])
pytestmark = [pytest.mark.once, pytest.mark.timeout(900 if LONG else 240)]


def load(namespaces: Namespaces) -> Load:
    return Load("", namespaces.connect, pause=0.02, **CLIENTS)


def report(what: str, load: Load) -> None:
    print(
        f"{what}: {load.requests} requests, {len(load.failures)} lost", *load.failures, sep="\n  "
    )


@programs
def test_deploys_lose_nothing(program: str, tmp_path: Path) -> None:
    deploys = 5 if LONG else 1
    with cluster(program, tmp_path) as (namespaces, hosts), load(namespaces) as clients:
        for _ in range(deploys):
            for host in hosts:
                clients.wait_for(50)
                host.deploy()
        clients.wait_for(50)
    report(f"{program}, {deploys} deploys of three hosts", clients)
    assert clients.failures == []


@programs
def test_a_host_is_lost(program: str, tmp_path: Path) -> None:
    """No more than what it had in flight, which is one request for each client."""
    with cluster(program, tmp_path) as (namespaces, hosts), load(namespaces) as clients:
        clients.wait_for(200)
        hosts[1].lose()
        clients.wait_for(1000)
        lost = len(clients.failures)
        hosts[1].start()
        clients.wait_for(200)
    report(f"{program}, a host is lost", clients)
    assert lost <= sum(CLIENTS.values())
    assert len(clients.failures) == lost  # that it comes back costs nothing


@pytest.mark.skipif(not LONG, reason="takes half a minute: make cluster")
@programs
def test_a_link_is_cut(program: str, tmp_path: Path) -> None:
    """The same, though nobody says so: who waits does so until the proxy gives up."""
    with cluster(program, tmp_path) as (namespaces, hosts), load(namespaces) as clients:
        clients.wait_for(200)
        namespaces.cut(2, "down")
        clients.wait_for(2000)
        before = hosts[0].requests
        namespaces.cut(2, "up")
        clients.wait_for(2000)
        assert hosts[0].requests > before
    report(f"{program}, a link is cut", clients)
    assert len(clients.failures) <= sum(CLIENTS.values())
