"""Real proxies before a port of this computer.

They are as they come, but for what a test asks for, or (``DOCUMENTED``) as the files in
``examples/deploy/`` have them, which the pages on operating show.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.support import ROOT, wait_until

from ..rawclient import TIMEOUT

PATHS = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/sbin:/bin"


@dataclass(frozen=True)
class Proxy:
    """A program that can stand before a server.

    Attributes:
        program: Its name, perhaps one of several.
        arguments: What it is called with.
        config: The file ``config`` in its folder. ``{more}`` is what a test adds.
    """

    program: str
    arguments: tuple[str, ...]
    config: str


NGINX = Proxy(
    "nginx",
    ("-p", "{folder}", "-c", "{folder}/config"),
    """
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
            location / {{ proxy_pass http://{target}; {more} }}
        }}
    }}
    """,
)

HAPROXY = Proxy(
    "haproxy",
    ("-q", "-db", "-f", "{folder}/config"),
    """
    global
        stats socket {folder}/stats
    defaults
        mode http
        timeout connect 5s
        timeout client 50s
        timeout server 50s
    listen proxy
        bind 127.0.0.1:{port}
        {more}
        server server {target} check inter 50ms
    """,
)

APACHE = Proxy(
    "apache2",
    ("-DFOREGROUND", "-f", "{folder}/config"),
    """
    ServerRoot {folder}
    ServerName localhost
    DefaultRuntimeDir {folder}
    PidFile {folder}/pid
    ErrorLog {folder}/errors
    User daemon
    Group daemon
    LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
    LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
    LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
    LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
    Listen 127.0.0.1:{port}
    ProxyPass / http://{target}/ upgrade=websocket
    {more}
    """,
)

VARNISH = Proxy(
    "varnishd",
    ("-F", "-j", "none", "-n", "{folder}/state", "-a", "127.0.0.1:{port}", "-b", "{target}"),
    "{more}",
)


def documented(name: str, around: str, *changes: tuple[str, str]) -> str:
    """Return the text around a file of ``examples/deploy/``, with other addresses in the file."""
    text = (ROOT / "examples" / "deploy" / name).read_text("utf-8")
    text = text.replace("{", "{{").replace("}", "}}")
    for shown, template in changes:
        assert shown in text, f"{name} has no {shown}"
        text = text.replace(shown, template)
    return textwrap.dedent(around).replace("DOCUMENTED", text)


_TARGET = ("127.0.0.1:8000", "{target}")

_DOCUMENTED = [
    replace(
        NGINX,
        config=documented(
            "nginx.conf",
            NGINX.config.partition("server {{")[0] + "DOCUMENTED }}",
            ("listen 80;", "listen 127.0.0.1:{port};"),
            _TARGET,
        ),
    ),
    replace(
        HAPROXY,
        config=documented(
            "haproxy.cfg",
            """
            global
                stats socket {folder}/stats
            DOCUMENTED
            """,
            ("bind :80", "bind 127.0.0.1:{port}"),
            _TARGET,
        ),
    ),
    replace(
        APACHE,
        config=documented(
            "apache.conf",
            APACHE.config.partition("ProxyPass")[0]
            + """LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
            DOCUMENTED
            """,
            ("*:80", "127.0.0.1:{port}"),
            _TARGET,
        ),
    ),
    Proxy(
        "varnishd",
        (*VARNISH.arguments[:-2], "-f", "{folder}/config"),
        documented(
            "varnish.vcl",
            "DOCUMENTED",
            ('"127.0.0.1"', '"{host}"'),
            ('"8000"', '"{number}"'),
        ),
    ),
    Proxy(
        "caddy",
        ("run", "--config", "{folder}/config", "--adapter", "caddyfile"),
        documented("Caddyfile", "DOCUMENTED", ("http://:80", "http://:{port}"), _TARGET),
    ),
    Proxy(
        "lighttpd",
        ("-D", "-f", "{folder}/config"),
        documented(
            "lighttpd.conf",
            "DOCUMENTED",
            ("server.port = 80", 'server.port = {port}\nserver.bind = "127.0.0.1"'),
            ('"127.0.0.1"', '"{host}"'),
            ("8000", "{number}"),
        ),
    ),
    Proxy(
        "squid",
        ("-N", "-f", "{folder}/config"),
        documented(
            "squid.conf",
            """
            pid_filename none
            cache_log /dev/null
            access_log none
            netdb_filename none
            shutdown_lifetime 0 seconds
            DOCUMENTED
            """,
            ("http_port 80", "http_port 127.0.0.1:{port}"),
            ("127.0.0.1 parent 8000", "{host} parent {number}"),
        ),
    ),
]
DOCUMENTED = {proxy.program: proxy for proxy in _DOCUMENTED}


@contextlib.contextmanager
def behind(proxy: Proxy, folder: Path, target: int | str, more: str = "") -> Iterator[int]:
    """Run a proxy before a port of this computer, or what else it can connect to; yield its own.

    Where it is not installed the test is skipped. (``.ci/run`` installs it, or fails.)
    """
    found = shutil.which(proxy.program, path=PATHS)
    if found is None:
        pytest.skip(f"{proxy.program} is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    if isinstance(target, int):
        target = f"127.0.0.1:{target}"
    host, _, number = target.rpartition(":")
    values = {"folder": folder, "port": port, "target": target, "more": more}
    values |= {"host": host, "number": number}
    (folder / "config").write_text(textwrap.dedent(proxy.config).format(**values))
    command = [found, *(argument.format(**values) for argument in proxy.arguments)]
    with (folder / "output").open("wb") as output:
        environment = os.environ | {"HOME": str(folder)}  # where they keep what they like
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)

    def listens() -> bool:
        assert process.poll() is None, (folder / "output").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    try:
        wait_until(listens, f"{proxy.program} listens")
        yield port
    finally:
        process.terminate()  # not killed at once: it has processes of its own to end
        try:
            process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def haproxy_statistics(folder: Path) -> str:
    """Return what HAProxy says of itself and of the server, as CSV; nothing before it listens."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(folder / "stats"))
        except (FileNotFoundError, ConnectionRefusedError):
            return ""
        client.sendall(b"show stat\n")
        with client.makefile("r") as answer:
            return answer.read().removeprefix("# ")
