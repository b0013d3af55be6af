"""Step 5: tests of an application against the real server, by httpx as by any client.

python -m pytest examples/test_shop.py
"""

import httpx
import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.events import WorkerDied
from subinterp_asgi.testing import faults


@pytest.fixture(scope="module")
def server():
    state = {"currency": "EUR"}
    with Supervisor("examples.shop:app", workers=2, port=0, state=state) as server:
        yield server


@pytest.fixture
def client(server):
    with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client:
        yield client


def test_prices(client):
    assert client.get("/prices").json() == {"apple": 3, "pear": 4, "currency": "EUR"}


def test_what_is_not_there(client):
    assert client.get("/plum").status_code == 404
    assert client.post("/prices").status_code == 405


def test_a_reload_ends_streams_and_loses_nothing(client, server):
    with client.stream("GET", "/ticker") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "still open"
        generation = server.generation
        server.reload(wait=False)
        assert set(lines) <= {"still open"}  # it ends, although the application never ends it
    assert server.generation == generation + 1
    assert client.get("/").text == "Fruit.\n"


def test_a_worker_that_crashes_is_replaced(client, server):
    with server.events() as events:
        faults.crash_worker(server, worker_id=0)
        died = next(event for event in events if isinstance(event, WorkerDied))
    assert died.restart_in is not None
    assert client.get("/").text == "Fruit.\n"  # the other one serves meanwhile
