"""Uploads that are refused early, through proxies as they come, which are still sending them."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
import subprocess
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import wait_until

from ..rawclient import TIMEOUT
from ..serving import read_body, respond, serving

UPLOADS = 25
PATHS = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/sbin:/bin"

NGINX = """
    daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;
    events {{}}
    http {{
        access_log off;
        client_max_body_size 64m;
        client_body_temp_path {folder}/body;
        proxy_temp_path {folder}/proxy;
        fastcgi_temp_path {folder}/fastcgi;
        uwsgi_temp_path {folder}/uwsgi;
        scgi_temp_path {folder}/scgi;
        server {{
            listen 127.0.0.1:{port};
            location / {{ proxy_pass http://127.0.0.1:{target}; }}
        }}
    }}
"""

HAPROXY = """
    defaults
        mode http
        timeout connect 5s
        timeout client 50s
        timeout server 50s
    listen proxy
        bind 127.0.0.1:{port}
        server server 127.0.0.1:{target}
"""


def nginx(folder: Path, config: Path) -> list[str]:
    return ["nginx", "-p", str(folder), "-c", str(config)]


def haproxy(folder: Path, config: Path) -> list[str]:
    return ["haproxy", "-q", "-db", "-f", str(config)]


@contextlib.contextmanager
def proxy(command: Callable[[Path, Path], list[str]], folder: Path, target: int) -> Iterator[int]:
    """Run a proxy before a port of this computer and yield its own."""
    program, *arguments = command(folder, folder / "config")
    found = shutil.which(program, path=PATHS)
    if found is None:
        pytest.skip(f"{program} is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    template = NGINX if command is nginx else HAPROXY
    config = textwrap.dedent(template.format(folder=folder, port=port, target=target))
    (folder / "config").write_text(config)
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen([found, *arguments], stdout=output, stderr=output)

    def listens() -> bool:
        assert process.poll() is None, (folder / "output").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    try:
        wait_until(listens, f"{program} listens")
        yield port
    finally:
        process.kill()
        process.wait()


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    """Refuse with the status in the path, or read all where there is none."""
    if scope["path"] == "/":
        await respond(send, b"%d" % len(await read_body(receive)))
    else:
        await respond(send, b"no", int(scope["path"][1:]))


def upload(port: int, path: str, body: bytes) -> int:
    """Upload as many clients do: send all, then read; return the status of the response."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    with contextlib.closing(client):
        client.request("POST", path, body)
        with client.getresponse() as response:
            response.read()
            return response.status


@pytest.mark.parametrize(
    ("path", "limit", "status"), [("/401", 0, 401), ("/", 1000, 413), ("/503", 0, 503)]
)
@pytest.mark.parametrize("command", [nginx, haproxy])
@pytest.mark.parametrize("megabytes", [8, 32])
def test_early_refusals_reach_clients_behind_a_proxy(
    command: Callable[[Path, Path], list[str]],
    path: str,
    limit: int,
    status: int,
    megabytes: int,
    tmp_path: Path,
) -> None:
    options = {"limit_body_size": limit} if limit else {}
    with serving(refuse, **options) as served, proxy(command, tmp_path, served.address[1]) as port:
        assert upload(port, "/", b"small") == 200
        body = bytes(megabytes << 20)
        statuses = Counter(upload(port, path, body) for _ in range(UPLOADS))
    assert statuses == {status: UPLOADS}
