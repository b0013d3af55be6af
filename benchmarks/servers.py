"""The servers that are compared, and how each is started.

They get comparable options: as many workers, the same log level, an access log or none, keep-alive
timeouts longer than a run. Where a server can use uvloop, it does.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

OURS = "subinterp_asgi"
PLAIN_APP = "benchmarks.apps:app"
STARLETTE_APP = "benchmarks.starlette_endpoints:app"
FASTAPI_APP = "benchmarks.fastapi_endpoints:app"
DJANGO_APP = "benchmarks.django_app:app"
BEFORE = "before"
"""An earlier state of this project, in a folder of its own."""
BARE = {OURS: "bare asyncio", "uvicorn": "bare uvloop"}
"""What a server's application is called by without it: the loop that it uses, and nothing else."""

_KEEP_ALIVE = "600"
_BACKLOG = "4096"


@dataclass(frozen=True, slots=True)
class Setup:
    """What a workload asks of a server; servers are started anew for each different one."""

    app: str = PLAIN_APP
    workers: int = 1
    tls: bool = False
    access_log: bool = False
    pinned: bool = True
    """Servers on one processor, load on another; without, all use all."""
    idle_connections: int = 0
    """Connections that are opened, asked once, and then kept while others are busy."""
    isolation: str = "interpreter"
    """What our workers run in: applications may need extension modules that refuse to be there."""
    extensions: str = "pure"
    """What our workers do with such extension modules."""

    @property
    def log_level(self) -> str:
        """The level that shows an access log, or that shows only trouble."""
        return "info" if self.access_log else "warning"


@dataclass(frozen=True, slots=True)
class Files:
    """Where a server finds its certificate and may put a file of settings."""

    certificate: Path
    key: Path
    folder: Path


type Arguments = Callable[[Setup, int, Files], list[str]]


@dataclass(frozen=True, slots=True)
class Peer:
    """A server.

    Attributes:
        name: What ``--peers`` and the tables call it.
        module: What ``python -m`` runs.
        arguments: The rest of its command line.
        package: Its distribution, for the version; with what makes it fast.
        websocket_only: Differs from another peer only in its WebSocket implementation.
        hello_only: Serves no ASGI application, but an answer to whatever is asked, or to ``/``.
        folder: Where it is started, if not in this project's folder.
    """

    name: str
    module: str
    arguments: Arguments
    packages: tuple[str, ...] = ()
    websocket_only: bool = False
    hello_only: bool = False
    folder: Path | None = None

    def command(self, setup: Setup, port: int, files: Files) -> list[str]:
        """Return the command that serves a setup on a port."""
        return [sys.executable, "-m", self.module, *self.arguments(setup, port, files)]

    @property
    def missing(self) -> str | None:
        """Why it can't be started at all, if so."""
        module = self.name if self.module.startswith("benchmarks.") else self.module
        if module != "floor" and importlib.util.find_spec(module) is None:
            return "not installed"
        return None

    @property
    def version(self) -> str:
        """Its version, and those of the packages it works with."""
        versions = []
        for package in self.packages:
            try:
                versions.append(f"{package} {importlib.metadata.version(package)}")
            except importlib.metadata.PackageNotFoundError:
                versions.append(f"{package} missing")
        return ", ".join(versions)


def _ours(setup: Setup, port: int, files: Files) -> list[str]:
    return [
        setup.app,
        f"--port={port}",
        f"--workers={setup.workers}",
        f"--isolation={setup.isolation}",
        f"--extensions={setup.extensions}",
        f"--backlog={_BACKLOG}",
        f"--timeout-keep-alive={_KEEP_ALIVE}",
        f"--log-level={setup.log_level}",
        "--access-log" if setup.access_log else "--no-access-log",
        *_tls(setup, f"--ssl-certfile={files.certificate}", f"--ssl-keyfile={files.key}"),
    ]


def _uvicorn(loop: str, http: str, ws: str = "auto") -> Arguments:
    def arguments(setup: Setup, port: int, files: Files) -> list[str]:
        return [
            setup.app,
            f"--port={port}",
            f"--workers={setup.workers}",
            f"--backlog={_BACKLOG}",
            f"--timeout-keep-alive={_KEEP_ALIVE}",
            f"--log-level={setup.log_level}",
            "--access-log" if setup.access_log else "--no-access-log",
            f"--loop={loop}",
            f"--http={http}",
            f"--ws={ws}",
            *_tls(setup, f"--ssl-certfile={files.certificate}", f"--ssl-keyfile={files.key}"),
        ]

    return arguments


def _granian(setup: Setup, port: int, files: Files) -> list[str]:
    return [
        setup.app,
        "--interface=asgi",
        f"--port={port}",
        f"--workers={setup.workers}",
        f"--backlog={_BACKLOG}",
        f"--backpressure={_BACKLOG}",  # else idle connections are counted as busy ones
        "--http1-header-read-timeout=60000",  # the most it allows
        f"--log-level={setup.log_level}",
        "--access-log" if setup.access_log else "--no-access-log",
        "--loop=uvloop",
        "--http=1",
        *_tls(setup, f"--ssl-certificate={files.certificate}", f"--ssl-keyfile={files.key}"),
    ]


def _hypercorn(setup: Setup, port: int, files: Files) -> list[str]:
    settings = files.folder / "hypercorn.toml"
    settings.write_text("keep_alive_max_requests = 1000000000\n")  # it has no option for that
    return [
        setup.app,
        f"--config={settings}",
        f"--bind=127.0.0.1:{port}",
        f"--workers={setup.workers}",
        f"--backlog={_BACKLOG}",
        f"--keep-alive={_KEEP_ALIVE}",
        f"--log-level={setup.log_level}",
        *(["--access-logfile=-"] if setup.access_log else []),
        "--worker-class=uvloop",
        *_tls(setup, f"--certfile={files.certificate}", f"--keyfile={files.key}"),
    ]


def _gunicorn(setup: Setup, port: int, files: Files) -> list[str]:
    return [
        setup.app,
        "--worker-class=asgi",
        f"--bind=127.0.0.1:{port}",
        f"--workers={setup.workers}",
        f"--worker-connections={_BACKLOG}",
        f"--backlog={_BACKLOG}",
        f"--keep-alive={_KEEP_ALIVE}",
        f"--log-level={setup.log_level}",
        *(["--access-logfile=-"] if setup.access_log else []),
        "--asgi-loop=uvloop",
        "--no-control-socket",
        *_tls(setup, f"--certfile={files.certificate}", f"--keyfile={files.key}"),
    ]


def _pounce(setup: Setup, port: int, files: Files) -> list[str]:
    return [
        "serve",
        f"--app={setup.app}",
        "--worker-mode=subinterpreter",
        f"--port={port}",
        f"--workers={setup.workers}",
        f"--keep-alive-timeout={_KEEP_ALIVE}",
        f"--log-level={setup.log_level}",
        *([] if setup.access_log else ["--no-access-log"]),
        "--no-compression",
        "--signage=off",
        *_tls(setup, f"--ssl-certfile={files.certificate}", f"--ssl-keyfile={files.key}"),
    ]


def _floor(setup: Setup, port: int, files: Files) -> list[str]:
    return [f"--port={port}"]


def _pyronova(setup: Setup, port: int, files: Files) -> list[str]:
    return [f"--port={port}", f"--workers={setup.workers}"]


def earlier(checkout: Path, files: Files) -> Peer:
    """Another checkout of this project, which serves the applications of this one."""
    folder = files.folder / BEFORE
    folder.mkdir(exist_ok=True)
    if not (package := folder / OURS).exists():
        package.symlink_to((checkout / OURS).resolve(), target_is_directory=True)
    return Peer(BEFORE, OURS, _ours, folder=folder)


def _tls(setup: Setup, *options: str) -> tuple[str, ...]:
    return options if setup.tls else ()


PEERS = {
    peer.name: peer
    for peer in (
        Peer(OURS, "subinterp_asgi", _ours, ("subinterp-asgi",)),
        Peer(
            "uvicorn",
            "uvicorn",
            _uvicorn("uvloop", "httptools"),
            ("uvicorn", "uvloop", "httptools"),
        ),
        Peer("granian", "granian", _granian, ("granian", "uvloop")),
        Peer("uvicorn-h11", "uvicorn", _uvicorn("asyncio", "h11"), ("uvicorn", "h11")),
        Peer("hypercorn", "hypercorn", _hypercorn, ("hypercorn", "uvloop")),
        Peer("gunicorn", "gunicorn", _gunicorn, ("gunicorn", "uvloop")),
        Peer("pounce", "pounce", _pounce, ("bengal-pounce",)),
        Peer("floor", "benchmarks.floor", _floor, hello_only=True),
        Peer("pyronova", "benchmarks.pyronova_app", _pyronova, ("pyronova",), hello_only=True),
        *(
            Peer(
                f"uvicorn-{ws}",
                "uvicorn",
                _uvicorn("uvloop", "httptools", ws),
                ("uvicorn", "uvloop", "wsproto" if ws == "wsproto" else "websockets"),
                websocket_only=True,
            )
            for ws in ("websockets", "websockets-sansio", "wsproto")
        ),
    )
}
