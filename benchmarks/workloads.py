"""What is asked of the servers.

A workload is one table of the report. It has one case, or some that are to be compared with one
another, which therefore take turns: more connections, more workers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.load import BROWSER_HEADERS, HTTPLoad, Load, WebSocketLoad
from benchmarks.servers import DJANGO_APP, FASTAPI_APP, OURS, STARLETTE_APP, Peer, Setup

FAST = (OURS, "uvicorn", "granian")
ALL_HTTP = (*FAST, "uvicorn-h11", "hypercorn", "gunicorn", "pounce")
WEBSOCKETS = (OURS, "uvicorn-websockets", "uvicorn-websockets-sansio", "uvicorn-wsproto")
IDLE = 2000 - 32
ITEM = '{"name": "bicycle", "price": 129.5, "tags": ["used", "red"]}'


@dataclass(frozen=True, slots=True)
class Case:
    """One way to ask: of a server with this setup, this load."""

    label: str
    setup: Setup
    load: Load


@dataclass(frozen=True, slots=True)
class Workload:
    """A table of the report.

    Attributes:
        name: What ``--workloads`` calls it.
        title: What the report calls it.
        cases: The ways to ask; all others are also compared with the first.
        peers: Who is asked unless ``--peers`` says otherwise.
        bare: Whether the application is also called without a server, for what servers add to it.
    """

    name: str
    title: str
    cases: tuple[Case, ...]
    peers: tuple[str, ...] = FAST
    bare: bool = False

    @property
    def setups(self) -> frozenset[Setup]:
        """The servers it needs of each peer."""
        return frozenset(case.setup for case in self.cases)

    def unsuitable(self, peer: Peer) -> str | None:
        """Why a peer can't do this by its nature, if so."""
        websockets = any(isinstance(case.load, WebSocketLoad) for case in self.cases)
        if peer.websocket_only and not websockets:
            return "is here for WebSockets only"
        if peer.hello_only and self.name not in _HELLO:
            return "serves no ASGI application"
        return None


_HELLO = {"hello", "browser", "connections", "workers"}


def _one(
    name: str,
    title: str,
    load: Load,
    setup: Setup | None = None,
    peers: tuple[str, ...] = FAST,
) -> Workload:
    return Workload(name, title, (Case("", setup or Setup(), load),), peers)


def frameworks() -> tuple[Workload, ...]:
    """What people run. FastAPI has extension modules that refuse interpreters."""
    starlette = Setup(app=STARLETTE_APP)
    fastapi = Setup(app=FASTAPI_APP, isolation="thread")
    private = replace(fastapi, isolation="interpreter", extensions="private")
    django = Setup(app=DJANGO_APP)
    read, read_def = HTTPLoad(size=None), HTTPLoad("/def", None)
    post = HTTPLoad("/items", None, json=ITEM)

    def of(
        name: str, title: str, load: HTTPLoad, setup: Setup, peers: tuple[str, ...] = FAST
    ) -> Workload:
        return Workload(name, title, (Case("", setup, load),), peers, bare=True)

    return (
        of("fastapi", "FastAPI, an `async def` endpoint", read, fastapi),
        of("fastapi-post", "FastAPI, a model posted, a sync dependency", post, fastapi),
        of("fastapi-def", "FastAPI, a `def` endpoint", read_def, fastapi),
        Workload(
            "fastapi-private",
            "FastAPI, in a thread and from private copies of its extension modules",
            (Case("thread", fastapi, read), Case("private", private, read)),
            (OURS,),
        ),
        of("starlette", "Starlette, JSON", read, starlette, ALL_HTTP),
        of("starlette-def", "Starlette, a `def` endpoint", read_def, starlette),
        of(
            "django", "Django, an async view, the usual middleware", HTTPLoad("/json", None), django
        ),
        of("django-def", "Django, a sync view, the usual middleware", read_def, django),
    )


def workloads(workers: int = 2) -> dict[str, Workload]:
    """All workloads by name, in the order of the report.

    Args:
        workers: How many "several workers" are.
    """
    plain, everywhere = Setup(), Setup(pinned=False)
    few, many = "1 worker", f"{workers} workers"
    hello = HTTPLoad()
    burn = HTTPLoad("/cpu", None)
    return {
        workload.name: workload
        for workload in (
            *frameworks(),
            _one("hello", "Hello, 32 connections", hello, peers=(*ALL_HTTP, "floor")),
            _one(
                "browser", "Hello, a browser's 14 header lines", HTTPLoad(headers=BROWSER_HEADERS)
            ),
            _one("post-1k", "POST of 1 KiB, echoed", HTTPLoad("/echo", 1024, body=1024)),
            _one("post-64k", "POST of 64 KiB, echoed", HTTPLoad("/echo", 65536, body=65536)),
            _one("body-100k", "Response of 100 KiB", HTTPLoad("/100k", 102400)),
            _one(
                "body-10m",
                "Response of 10 MiB, 4 connections",
                HTTPLoad("/10m", 10485760, connections=4),
            ),
            _one("stream", "Response streamed in 100 pieces of 1 KiB", HTTPLoad("/stream", 102400)),
            _one("pipelined", "Hello, 16 requests pipelined", HTTPLoad(pipelined=16)),
            _one(
                "close",
                "A connection for each request",
                HTTPLoad(headers=(("Connection", "close"),)),
            ),
            Workload(
                "connections",
                "Hello, by the number of connections",
                (
                    Case("32", plain, hello),
                    Case("1", plain, HTTPLoad(connections=1)),
                    Case("256", plain, HTTPLoad(connections=256)),
                    Case("32 + 1968 idle", Setup(idle_connections=IDLE), hello),
                ),
                (*FAST, "floor"),
            ),
            _one("tls", "Hello over TLS", hello, Setup(tls=True), (*FAST, "pounce")),
            _one(
                "access-log",
                "Hello, with the access log on",
                hello,
                Setup(access_log=True),
                (*FAST, "pounce"),
            ),
            Workload(
                "workers",
                f"Hello, 1 and {workers} workers on one processor",
                (Case(few, plain, hello), Case(many, replace(plain, workers=workers), hello)),
                (*FAST, "pyronova"),
            ),
            Workload(
                "cpu",
                f"A millisecond of Python, 1 and {workers} workers, on all processors",
                (
                    Case(few, everywhere, burn),
                    Case(many, replace(everywhere, workers=workers), burn),
                ),
            ),
            _one("ws-text", "WebSocket: texts of 32 octets", WebSocketLoad(32), peers=WEBSOCKETS),
            _one(
                "ws-pipelined",
                "WebSocket: the same, 8 connections with 16 under way on each",
                WebSocketLoad(32, connections=8, in_flight=16),
                peers=WEBSOCKETS,
            ),
            _one(
                "ws-64k",
                "WebSocket: binary messages of 64 KiB, 8 connections",
                WebSocketLoad(65536, binary=True, connections=8),
                peers=WEBSOCKETS,
            ),
        )
    }


QUICK = ("hello", "post-1k", "starlette", "ws-text")
"""What ``--quick`` runs, with the fast servers and the floor: it only shows that all works."""
QUICK_PEERS = (*FAST, "uvicorn-websockets", "floor")


def select(names: list[str] | None, choice: dict[str, Workload]) -> list[Workload]:
    """Return the workloads of these names.

    Raises:
        ValueError: There is no such workload.
    """
    for name in names or ():
        if name not in choice:
            raise ValueError(f"no workload {name!r}: there are {', '.join(choice)}")
    return [w for w in choice.values() if names is None or w.name in names]
