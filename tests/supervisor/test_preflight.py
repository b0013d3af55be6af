"""What is said before anything is started."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Config, Supervisor, Worker
from subinterp_asgi.errors import ConfigError
from tests.support import run_script

START = """
    import sys, tracemalloc, warnings
    from subinterp_asgi import Supervisor

    warnings.simplefilter("error")  # so that no interpreter is made
    isolation, start = sys.argv[1:]
    server = Supervisor("missing:app", port=0, isolation=isolation)
    if start == "call":
        tracemalloc.start()
    try:
        server.start()
    except Exception as exc:
        print(type(exc).__name__, exc)
"""


@pytest.mark.parametrize("how", ["flag", "environment", "call", "not at all"])
@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
def test_tracemalloc_is_warned_of_where_it_crashes(
    isolation: str, how: str, tmp_path: Path
) -> None:
    crashes = sys.version_info < (3, 15) and isolation == "interpreter" and how != "not at all"
    done = run_script(
        tmp_path,
        START,
        isolation,
        how,
        flags=("-X", "tracemalloc") if how == "flag" else (),
        environment={"PYTHONTRACEMALLOC": "1"} if how == "environment" else {},
    )
    assert done.returncode == 0, done.stderr
    if crashes:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        assert done.stdout.startswith(
            f"RuntimeWarning tracemalloc is on: CPython {version} crashes"
        ), done.stdout
        assert "PYTHONTRACEMALLOC" in done.stdout
    else:
        assert done.stdout.startswith("StartupError"), done.stdout


# --- arguments that can't be meant


async def hear(event: object) -> None: ...


class Hearing:
    async def __call__(self, event: object) -> None: ...


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"state": [("a", 1)]}, r"state: must be a dict, not \[\('a', 1\)\]"),
        ({"state": "a"}, "state: must be a dict, not 'a'"),
        ({"on_event": "print"}, "on_event: must be a function, not 'print'"),
        ({"on_event": hear}, "on_event: must be a function that is not async, not <function hear"),
        ({"on_event": Hearing()}, "on_event: must be a function that is not async"),
        ({"watch": 7}, "watch: must be True, a folder or a list of folders, not 7"),
        ({"watch": [7]}, r"watch: must be True, a folder or a list of folders, not \[7\]"),
        ({"inherited": "x"}, "inherited: must be what hand_over_listeners.. has told, not 'x'"),
        ({"sockets": [3]}, r"sockets: must be a list of bound sockets, not \[3\]"),
        ({"sockets": 3}, r"sockets: must be a list of bound sockets, not 3"),
        ({"sockets": "127.0.0.1:80"}, "sockets: must be a list of bound sockets"),
    ],
)
def test_arguments_of_a_supervisor(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Supervisor("pkg.mod:app", **arguments)


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        yield sock


def test_sockets_of_a_supervisor(sock: socket.socket) -> None:
    with pytest.raises(ConfigError, match="sockets: must be a list of bound sockets, not <socket"):
        Supervisor("pkg.mod:app", sockets=sock)  # type: ignore[arg-type]
    with (
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as datagrams,
        pytest.raises(ConfigError, match="must be stream sockets that are open"),
    ):
        Supervisor("pkg.mod:app", sockets=[datagrams])
    sock.close()
    with pytest.raises(ConfigError, match="must be stream sockets that are open"):
        Supervisor("pkg.mod:app", sockets=[sock])


@pytest.mark.parametrize("method", ["stop", "wait", "reload", "hand_over", "dump"])
@pytest.mark.parametrize("timeout", ["5", True, float("nan")])
def test_times_that_are_none(method: str, timeout: object) -> None:
    """Nothing has begun then that could not be ended."""
    server = Supervisor("pkg.mod:app")
    with pytest.raises(ConfigError, match="timeout: must be a number of seconds or None"):
        getattr(server, method)(timeout=timeout)
    server.stop(-1)  # as what is left of a time may be


@pytest.mark.parametrize("sock", [3, [3], ["127.0.0.1:80"]])
def test_sockets_of_a_worker(sock: Any) -> None:
    async def app(scope: object, receive: object, send: object) -> None: ...

    with pytest.raises(ConfigError, match="sock: must be a listening socket, or several, not "):
        Worker(app, Config(), sock)
