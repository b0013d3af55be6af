"""What presses a server: ``wrk`` for HTTP, a small client of our own for WebSockets.

Both run as processes, on the load's processor, and both must cost little enough that the server is
what is measured.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.process import Server, Unfit
from benchmarks.startup import ROOT

BROWSER_HEADERS = (
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("Accept-Language", "en-GB,en;q=0.7,de;q=0.3"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Referer", "http://127.0.0.1/articles/2026/11/the-price-of-an-answer?from=front-page"),
    ("Connection", "keep-alive"),
    ("Cookie", "session=8f3c1b7e5a9d4c02b6e1f7a3d5c8e9b0; theme=dark; consent=necessary"),
    ("Upgrade-Insecure-Requests", "1"),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Sec-Fetch-User", "?1"),
    ("Priority", "u=0, i"),
)
"""With ``Host``, which wrk and http.client add, the fourteen lines that Firefox sends."""

_TYPE, _JSON = "Content-Type", "application/json"


class WrkMissingError(Exception):
    """There is no wrk."""

    def __str__(self) -> str:
        return "wrk is not installed: apt-get install wrk"


@dataclass(frozen=True, slots=True)
class Pressed:
    """What the load saw: how many requests in how many seconds, and latencies in milliseconds."""

    requests: int
    seconds: float
    p50: float
    p99: float
    errors: int = 0


class Load(Protocol):
    """A way to press a server."""

    def check(self, server: Server) -> None:
        """Raise ``Unfit`` unless the server answers as it should."""

    def press(self, server: Server, seconds: int, folder: Path) -> Pressed:
        """Press for some seconds; raise ``Unfit`` if nothing came of it."""


@dataclass(frozen=True, slots=True)
class HTTPLoad:
    """Requests by wrk, all the same.

    Attributes:
        size: Octets of a response's body.
        connections: How many at once.
        body: Octets to post, all the same.
        json: Or what to post.
        pipelined: Requests sent together on a connection.
    """

    path: str = "/"
    size: int | None = 13
    connections: int = 32
    headers: tuple[tuple[str, str], ...] = ()
    body: int = 0
    json: str = ""
    pipelined: int = 1

    def check(self, server: Server) -> None:
        """Send one request; look at the response, and at the access log if there is to be one."""
        logged = server.log.stat().st_size
        try:
            with contextlib.closing(server.connect()) as connection:
                body = self.json.encode() or b"x" * self.body or None
                headers = {**dict(self.headers), **({_TYPE: _JSON} if self.json else {})}
                connection.request("POST" if body else "GET", self.path, body, headers)
                response = connection.getresponse()
                content = response.read()
        except (OSError, http.client.HTTPException) as exc:
            server.check_alive(within=1.0)  # it may be about to end, and knows better why
            secure = " over TLS" if server.setup.tls else ""
            raise Unfit(f"does not answer{secure}: {type(exc).__name__}") from None
        if response.status != 200:
            raise Unfit(f"answers {response.status}")
        if self.size is not None and len(content) != self.size:
            raise Unfit(f"answers {len(content)} octets, not {self.size}")
        if server.setup.access_log and not server.await_log(logged):
            raise Unfit("writes no access log")

    def press(self, server: Server, seconds: int, folder: Path) -> Pressed:
        """Run wrk."""
        pressed = _run(self.command(server, seconds, folder), seconds)
        if not pressed.requests:
            raise Unfit("answered nothing to wrk")
        return pressed

    def command(self, server: Server, seconds: int, folder: Path) -> list[str]:
        """Return wrk's command line; its script is written into a folder."""
        script = folder / "load.lua"
        script.write_text(self.script())
        scheme = "https" if server.setup.tls else "http"
        return [
            *(_wrk(), "--threads=1", f"--connections={self.connections}"),
            *(f"--duration={seconds}s", "--timeout=30s", f"--script={script}"),
            f"{scheme}://127.0.0.1:{server.port}{self.path}",
        ]

    def script(self) -> str:
        """Return what wrk is to send, and to print in the end, in Lua."""
        lines = [f"wrk.headers[{_lua(name)}] = {_lua(value)}" for name, value in self.headers]
        if self.body:
            lines += ['wrk.method = "POST"', f'wrk.body = string.rep("x", {self.body})']
        if self.json:
            lines += ['wrk.method = "POST"', f"wrk.body = {_lua(self.json)}"]
            lines.append(f"wrk.headers[{_lua(_TYPE)}] = {_lua(_JSON)}")
        if self.pipelined > 1:
            lines += [
                "local requests",
                f"function init() requests = string.rep(wrk.format(), {self.pipelined}) end",
                "function request() return requests end",
            ]
        return "\n".join([*lines, _REPORT])


_REPORT = """
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\\n{"requests": %d, "seconds": %.6f, "p50": %.4f, "p99": %.4f, "errors": %d}\\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class WebSocketLoad:
    """Messages that are echoed, by ``websocket_client``.

    Attributes:
        size: Octets of a message.
        binary: Binary messages, not text.
        connections: How many at once.
        in_flight: Messages of a connection that are on their way at once.
    """

    size: int
    binary: bool = False
    connections: int = 32
    in_flight: int = 1

    def check(self, server: Server) -> None:
        """Press for a moment: the client looks at the first echo of each connection."""
        self.press(server, 0, Path())

    def press(self, server: Server, seconds: int, folder: Path) -> Pressed:
        """Run the client."""
        command = [
            *(sys.executable, "-m", "benchmarks.websocket_client", f"--port={server.port}"),
            *(f"--size={self.size}", f"--seconds={seconds}"),
            *(f"--connections={self.connections}", f"--in-flight={self.in_flight}"),
            *(["--binary"] if self.binary else []),
        ]
        return _run(command, seconds)


@contextlib.contextmanager
def background(server: Server, load: HTTPLoad, folder: Path) -> Iterator[None]:
    """Press a server while the block runs."""
    command = load.command(server, 600, folder)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def _wrk() -> str:
    if path := shutil.which("wrk"):
        return path
    raise WrkMissingError


def wrk_version() -> str:
    """What wrk calls itself; raises ``WrkMissingError``."""
    # It has no option that prints the version and succeeds.
    output = subprocess.run([_wrk(), "--version"], capture_output=True, text=True, check=False)
    return " ".join((output.stdout + output.stderr).split()[:2])


def call_bare(app: str, load: HTTPLoad, loop: str, seconds: int) -> tuple[Pressed, float]:
    """Have ``app_floor`` call an application; also return microseconds of a call."""
    command = [
        *(sys.executable, "-m", "benchmarks.app_floor", app, f"--path={load.path}"),
        *(f"--json={load.json}", f"--calls={load.connections}"),
        *(f"--loop={loop.removeprefix('bare ')}", f"--seconds={seconds}"),
    ]
    found = _figures(command, seconds)
    return Pressed(int(found["requests"]), found["seconds"], 0.0, 0.0), found["cpu"]


def _run(command: list[str], seconds: int) -> Pressed:
    return Pressed(**_figures(command, seconds))


def _figures(command: list[str], seconds: int) -> dict[str, Any]:
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 60, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unfit("the load never came to its end") from None
    if done.returncode:
        lines = done.stderr.strip().split("\n")
        raise Unfit(lines[-1][:120] or f"the load exited with status {done.returncode}")
    figures: dict[str, Any] = json.loads(done.stdout.rstrip().rpartition("\n")[2])
    return figures


def _lua(text: str) -> str:
    return json.dumps(text)  # plain ASCII is written alike in both
