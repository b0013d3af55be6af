"""Interpreters used again, with FastAPI from private copies: memory, and the time of a reload."""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
import textwrap
from pathlib import Path

import pytest

from subinterp_asgi.worker.interpreter.reuse import KEEP_STATE
from tests.support import run_script

from . import reused

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="private copies need Linux")

COMMON = """
    import http.client, json, logging, sys, time
    from subinterp_asgi import Supervisor
    from subinterp_asgi.supervisor.policy.recycling import resident_memory

    logging.disable()

    def serve(reuse):
        return Supervisor(
            "tests.field.apps.fast:app",
            port=0, access_log=False, extensions="private", reuse_interpreters=reuse,
        )

    def use(server):
        connection = http.client.HTTPConnection(*server.addresses[0], timeout=60)
        for body, status in (({"name": "a", "price": 1.5}, 200), ({"name": [], "price": 0}, 422)):
            headers = {"content-type": "application/json"}
            connection.request("POST", "/items", json.dumps(body), headers)
            response = connection.getresponse()
            response.read()
            assert response.status == status
        connection.request("GET", "/")
        started = json.loads(connection.getresponse().read())["started"]
        connection.close()
        return started
"""
SLOPE = """
    seen = set()
    with serve(True) as server:
        for _ in range(30):
            server.reload()
            started = use(server)
            assert started not in seen, "it was not imported anew"
            seen.add(started)
            print(resident_memory())
"""
TIMES = """
    with serve(False) as new, serve(True) as used:
        for server in (new, used, used):  # of both the first reload makes new interpreters
            server.reload()
            use(server)
        for _ in range(10):
            for server in (new, used):
                began = time.perf_counter()
                server.reload()
                print(time.perf_counter() - began)
                use(server)
"""
MOST = 1.0
"""MiB by which the process may grow with each reload of a worker, from the 5th to the 30th."""
LONGEST = 0.4
"""Share of the time that a reload takes with new interpreters."""


@pytest.mark.timeout(300)
def test_memory_is_flat(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    done = run_script(tmp_path, COMMON + SLOPE, timeout=280)
    assert done.returncode == 0, done.stderr
    mebibytes = [int(line) / 1024 / 1024 for line in done.stdout.split()][4:]
    slope = statistics.linear_regression(range(len(mebibytes)), mebibytes).slope
    print(f"{slope:.2f} MiB for each reload, {mebibytes[0]:.0f} to {mebibytes[-1]:.0f}")
    assert slope <= MOST, [round(x) for x in mebibytes]


@pytest.mark.timeout(300)
def test_a_reload_takes_less_time(tmp_path: Path) -> None:
    """Both in one process, in turn, so that what else the machine does concerns both."""
    pytest.importorskip("fastapi")
    done = run_script(tmp_path, COMMON + TIMES, timeout=280)
    assert done.returncode == 0, done.stderr
    seconds = [float(line) for line in done.stdout.split()]
    new, used = statistics.median(seconds[::2]), statistics.median(seconds[1::2])
    print(f"{used:.2f} s instead of {new:.2f} s, {used / new:.2f} of it")
    assert used <= LONGEST * new


COMPARED = """
    import json, logging, os, sys
    from subinterp_asgi import Supervisor
    from tests.support import get

    logging.disable()

    def write(number):
        with open("served.py", "w") as file:
            file.write(f"N = {number}\\n" + open("source.py").read())
        os.utime("served.py", (number, number))

    options = {"port": 0, "access_log": False, "extensions": "private", "lifespan": "off"}
    for reuse in (False, True):
        write(1)
        with Supervisor("served:app", reuse_interpreters=reuse, **options) as server:
            answers = [json.loads(get(server.url).text)]
            for number in range(2, 6):
                write(number)
                server.reload()
                answers.append(json.loads(get(server.url).text))
        print(json.dumps(answers))
"""
ALWAYS_NEW = {*KEEP_STATE, "flask"}
"""Of Flask only if the application listens to signals, as this one does."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("library", reused.APPS)
def test_a_library_keeps_nothing_of_the_generations_before(library: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(library.partition(".")[0]) is None:
        pytest.skip(f"{library} is not installed")
    source = reused.HEAD + textwrap.dedent(reused.APPS[library]) + reused.TAIL
    done = run_script(tmp_path, COMPARED, files={"source.py": source}, timeout=280)
    assert done.returncode == 0, done.stderr
    new, used = [json.loads(line) for line in done.stdout.splitlines()[-2:]]
    assert [answer for _, answer in used] == [answer for _, answer in new]
    assert [times for times, _ in new] == [1] * 5
    assert [times for times, _ in used] == ([1] * 5 if library in ALWAYS_NEW else [1, 1, 2, 2, 3])
