"""Every option, in one frozen dataclass: name, default, unit, meaning and validation.

Names and defaults follow uvicorn where it has the option, hypercorn and granian otherwise. The
command line and the option table of the README are made from the same declarations. A ``Config``
crosses into an interpreter as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache

from ..errors import ConfigError
from ..types import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Literal, Self


type Isolation = Literal["interpreter", "thread", "auto"]
type LifespanMode = Literal["auto", "on", "off"]
type DaemonThreads = Literal["demote", "refuse"]
type ReloadStrategy = Literal["all", "rolling"]
type ForwardedHeader = Literal["x-forwarded", "forwarded"]
type LogLevel = Literal["critical", "error", "warning", "info", "debug"]


def option[T](default: T, doc: str) -> T:
    """Declare an option with its default and its line of documentation."""
    declared: T = field(default=default, metadata={"doc": doc})
    return declared


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The options of a server. Times are in seconds, sizes in bytes; 0 or ``None`` as documented.

    Raises:
        ConfigError: A value is of the wrong type or out of range; the error names the option.
    """

    # --- where to listen
    host: str = option("127.0.0.1", "Address to listen on.")
    port: int = option(8000, "TCP port; 0 lets the kernel choose one, the same for all workers.")
    bind: tuple[str, ...] = option(
        (),
        "Addresses instead of host and port: 'HOST:PORT', '[IPV6]:PORT', 'unix:PATH', 'fd://N'.",
    )
    uds: str | None = option(None, "Path of a Unix socket to listen on instead of host and port.")
    uds_permissions: int = option(0o660, "Mode of Unix sockets, set before they listen.")
    fd: int | None = option(None, "Listening socket to inherit, by file descriptor number.")
    backlog: int = option(2048, "Length of the kernel's queue of connections not yet accepted.")

    # --- workers
    workers: int = option(1, "Number of workers.")
    isolation: Isolation = option(
        "interpreter",
        "What a worker runs in: 'interpreter', 'thread' (of the main interpreter), or 'auto': "
        "an interpreter for an import path, a thread for an application object.",
    )
    daemon_threads: DaemonThreads = option(
        "demote",
        "Daemon threads that an application starts in an interpreter, where CPython refuses them: "
        "'demote' makes them ordinary threads, 'refuse' leaves the RuntimeError.",
    )
    factory: bool = option(False, "The import path names a callable that returns the application.")

    # --- life cycle
    lifespan: LifespanMode = option(
        "auto", "Run the application's lifespan in each worker: 'auto', 'on' (it must), 'off'."
    )
    worker_hooks: bool = option(
        False,
        "Call the application with scope types subinterp_asgi.worker.startup and .shutdown.",
    )
    limit_max_requests: int | None = option(
        None, "Requests after which a worker is replaced; None: no bound."
    )
    limit_max_requests_jitter: int = option(
        0, "Most requests that are added to limit_max_requests at random, for each worker."
    )
    workers_lifetime: float | None = option(
        None, "How long a worker serves before it is replaced; None: no bound."
    )
    workers_max_rss: int | None = option(
        None,
        "Memory, in MiB, by which the process may grow for each worker of a generation before its "
        "workers are replaced, one by one; None: no bound.",
    )
    spares: int = option(
        0,
        "Workers that have imported the application and wait to take the place of one that died, "
        "or of a new one.",
    )
    restart_limit: int = option(
        5,
        "How many workers that died may be replaced within restart_window; with the next one the "
        "supervisor fails. 0: none.",
    )
    restart_window: float = option(60.0, "The time in which they are counted.")
    restart_delay: float = option(
        0.1, "How long until the first is replaced; it doubles with each, up to 30 s."
    )
    timeout_worker_healthcheck: float = option(
        30.0,
        "How long a worker's loop may be held up before the worker counts as stuck and is "
        "replaced; 0: for ever.",
    )
    worker_interrupt: bool = option(
        True, "Interrupt a stuck worker that runs Python code; the request that holds it up fails."
    )
    reload_strategy: ReloadStrategy = option(
        "all",
        "How a reload replaces the workers: 'all' at once, or 'rolling', one by one.",
    )
    reload_canary: float = option(
        0.0,
        "How long one new worker serves beside the old ones before a reload goes on; errors or lag "
        "beyond theirs roll it back. 0: not at all.",
    )
    startup_timeout: float = option(60.0, "Bound on a worker's start, lifespan included.")
    shutdown_timeout: float = option(
        60.0,
        "Bound on each step of a worker's end: the lifespan's, the tasks', the threads'.",
    )
    timeout_graceful_shutdown: float = option(
        30.0, "How long requests in flight may take to end once a stop was asked for."
    )
    drain_delay: float = option(
        0.0,
        "How long connections are still accepted once a stop was asked for and health_path fails, "
        "so that load balancers find out.",
    )
    timeout_linger: float = option(
        0.2,
        "How long a draining worker gives idle connections to send one more request, which is "
        "answered with 'connection: close', before it closes them.",
    )

    # --- HTTP
    root_path: str = option("", "Prefix under which a proxy mounts the application.")
    server_header: bool = option(True, "Send a Server field.")
    date_header: bool = option(True, "Send a Date field.")
    timeout_keep_alive: float = option(5.0, "How long an idle connection is kept.")
    timeout_header: float = option(10.0, "How long a request head may take to arrive; 0: no bound.")
    timeout_body: float = option(
        30.0, "How long a body may pause while the application waits for it; 0: no bound."
    )
    timeout_write: float = option(
        30.0, "How long a client may leave data it was sent unread; 0: no bound."
    )
    limit_request_line: int = option(8190, "Longest request line; beyond it: 414.")
    limit_request_fields: int = option(100, "Most header fields of a request; beyond it: 431.")
    limit_request_field_size: int = option(8190, "Longest header field line; beyond it: 431.")
    limit_header_size: int = option(65536, "Largest request head in all; beyond it: 431.")
    limit_body_size: int | None = option(
        None, "Largest request body; beyond it: 413. None: no bound."
    )

    limit_connections: int | None = option(
        None, "Most open connections of a worker; beyond it: 503 and close. None: no bound."
    )
    limit_concurrency: int | None = option(
        None, "Most requests a worker has in flight; beyond it: 503 and close. None: no bound."
    )
    timeout_disconnect_grace: float | None = option(
        None,
        "How long an application may go on once its client is gone, or has closed its sending "
        "half; then its task is cancelled. None: as long as it likes.",
    )
    lifespan_context: bool = option(
        False, "Requests see the context variables that the lifespan has set."
    )

    # --- WebSockets
    ws_max_size: int | None = option(
        16 * 1024 * 1024,
        "Largest WebSocket message, decompressed; beyond it: close code 1009. None: no bound.",
    )
    ws_max_queue: int = option(
        32, "Most messages of a WebSocket that wait for the application; then reading is paused."
    )
    ws_ping_interval: float | None = option(
        20.0, "How long until a WebSocket's peer is sent another ping; None or 0: never."
    )
    ws_ping_timeout: float | None = option(
        20.0,
        "How long a peer may stay silent after a ping; then: close code 1011. None or 0: no bound.",
    )
    ws_per_message_deflate: bool = option(
        True, "Compress WebSocket messages for clients that offer it (RFC 7692)."
    )

    # --- proxies
    proxy_headers: bool = option(
        True, "Believe trusted proxies on client and scheme (see forwarded_allow_ips)."
    )
    forwarded_allow_ips: tuple[str, ...] = option(
        ("127.0.0.1", "::1"),
        "Trusted proxies: addresses, networks such as 10.0.0.0/8, 'unix' for peers on Unix "
        "sockets, '*' for everybody.",
    )
    forwarded_header: ForwardedHeader = option(
        "x-forwarded",
        "Fields that they use: 'x-forwarded' (X-Forwarded-For and -Proto) or 'forwarded' (RFC "
        "7239). The other is ignored.",
    )
    forwarded_host: bool = option(
        False,
        "Believe them on host and port too (X-Forwarded-Host and -Port; host=): only if every "
        "proxy sets or removes these.",
    )
    proxy_protocol: bool = option(
        False,
        "Every connection begins with a PROXY protocol header, version 1 or 2, from a peer in "
        "forwarded_allow_ips; others are closed.",
    )

    # --- TLS
    ssl_certfile: str | None = option(None, "Certificate chain, PEM; this turns TLS on.")
    ssl_keyfile: str | None = option(
        None, "Private key, PEM; None: it is in the file of the certificate."
    )
    ssl_keyfile_password: str | None = option(None, "Password of the private key.")
    ssl_ca_certs: str | None = option(None, "CA certificates to verify clients by, PEM.")
    ssl_cert_reqs: int = option(
        0, "Client certificates: 0 not asked for, 1 verified if there is one, 2 required."
    )
    ssl_ciphers: str | None = option(None, "Cipher list for TLS 1.2, in OpenSSL's format.")
    ssl_context_factory: str | None = option(
        None,
        "Import path of a callable which the workers call with a function that makes the default "
        "context, and which returns the SSLContext to use; this turns TLS on.",
    )
    timeout_tls_handshake: float = option(
        10.0, "How long a TLS handshake (or a PROXY protocol header) may take; 0: no bound."
    )

    # --- health and metrics
    health_path: str | None = option(
        None,
        "Path that workers answer themselves: 200, or 503 once they drain (not to be replaced). "
        "Neither counted nor logged nor subject to limit_concurrency; without root_path; other "
        "methods than GET and HEAD: 405.",
    )
    metrics_path: str | None = option(
        None,
        "Path where they answer with metrics of all workers, as text for Prometheus; as for "
        "health_path.",
    )
    metrics_bind: str | None = option(
        None,
        "Address to listen on for metrics (at metrics_path, or else /metrics, which are then not "
        "served elsewhere) and for health_path: 'HOST:PORT', '[IPV6]:PORT', 'unix:PATH'. Without "
        "TLS or limits.",
    )

    # --- logs
    access_log: bool = option(True, "Log a line for each request.")
    log_level: LogLevel = option("info", "Least severe records that workers log.")
    log_forwarding: bool = option(
        False,
        "Hand what workers log in interpreters, the access log too, to the logging of the main "
        "interpreter instead of writing it to standard error.",
    )

    def __post_init__(self) -> None:
        for name in ("bind", "forwarded_allow_ips"):
            given: Any = getattr(self, name)
            if isinstance(given, str | list):
                object.__setattr__(self, name, (given,) if isinstance(given, str) else tuple(given))
        for name, check in _CHECKS.items():
            problem = check(getattr(self, name))
            if problem is not None:
                raise ConfigError(name, f"{problem}, not {getattr(self, name)!r}")
        if sum((bool(self.bind), self.uds is not None, self.fd is not None)) > 1:
            raise ConfigError("bind", "give only one of bind, uds and fd")
        metrics_path = self.metrics_path or (self.metrics_bind and "/metrics")
        if self.health_path is not None and self.health_path == metrics_path:
            raise ConfigError("metrics_path", f"is health_path too: {metrics_path!r}")

    @property
    def tls(self) -> bool:
        """Whether connections are served with TLS."""
        return self.ssl_certfile is not None or self.ssl_context_factory is not None

    def with_options(self, **options: Any) -> Self:
        """Return a copy with some options changed.

        Raises:
            ConfigError: An option does not exist (close matches are named) or its value is bad.
        """
        for name in options:
            if name not in option_names():
                raise ConfigError(name, f"no such option{_suggestion(name)}")
        return replace(self, **options)

    def to_json(self) -> str:
        """Serialize; ``Config.from_json(c.to_json()) == c`` for every config."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Rebuild a config from ``to_json()``; options left out keep their defaults.

        Raises:
            ConfigError: The text is not a JSON object of valid options.
        """
        try:
            values = json.loads(text)
        except ValueError as exc:
            raise ConfigError("config_json", f"not JSON: {exc}") from None
        if not isinstance(values, dict):
            raise ConfigError("config_json", "must be a JSON object")
        return cls().with_options(**values)


@cache
def option_names() -> frozenset[str]:
    """The names of all options."""
    return frozenset(f.name for f in fields(Config))


def _suggestion(name: str) -> str:
    from difflib import get_close_matches  # needed for a mistake only

    close = get_close_matches(name, option_names(), n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""


# Each check takes the value and returns what it should have been, or None if it is fine.


class _Number:
    def __init__(self, kind: type, low: float, high: float | None = None, *, none: bool = False):
        self.kind, self.low, self.high, self.none = kind, low, high, none

    def __call__(self, value: object) -> str | None:
        if value is None and self.none:
            return None
        accepted = (int, float) if self.kind is float else int
        if (
            isinstance(value, accepted)
            and not isinstance(value, bool)
            and value >= self.low
            and (self.high is None or value <= self.high)
        ):
            return None
        noun = "a number" if self.kind is float else "an integer"
        bounds = (
            f"of at least {self.low:g}"
            if self.high is None
            else (f"from {self.low:g} to {self.high:g}")
        )
        return f"must be {noun} {bounds}{' or None' if self.none else ''}"


class _Choice:
    def __init__(self, *values: str):
        self.values = values

    def __call__(self, value: object) -> str | None:
        return None if value in self.values else f"must be one of {', '.join(self.values)}"


class _Type:
    def __init__(self, kind: type, noun: str, *, none: bool = False):
        self.kind, self.noun, self.none = kind, noun, none

    def __call__(self, value: object) -> str | None:
        if isinstance(value, self.kind) or (value is None and self.none):
            return None
        return f"must be {self.noun}{' or None' if self.none else ''}"


def _check_bind(value: object) -> str | None:
    if isinstance(value, tuple) and all(isinstance(item, str) and item for item in value):
        return None
    return "must be a list of addresses"


def _check_allow_ips(value: object) -> str | None:
    if value == ("127.0.0.1", "::1"):
        return None  # so that the default costs no import
    if not isinstance(value, tuple):
        return "must be a list of addresses"
    from ..worker.proxies.headers import TrustedProxies

    TrustedProxies(value)  # which says itself what is wrong
    return None


def _check_path(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and value.startswith("/") and not set(value) & set("?# "):
        return None
    return "must be a path that starts with a slash, without query, or None"


def _check_metrics_bind(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        if value.startswith("unix:") and value != "unix:":
            return None
        host, colon, port = value.rpartition(":")
        if colon and port.isdecimal() and int(port) <= 65535 and host != "unix":
            return None
    return "must be 'HOST:PORT', '[IPV6]:PORT', 'unix:PATH' or None"


def _check_root_path(value: object) -> str | None:
    if isinstance(value, str) and (not value or value.startswith("/")) and not value.endswith("/"):
        return None
    return "must be empty, or start with a slash and not end with one"


_flag = _Type(bool, "True or False")
_timeout = _Number(float, 0)
_size = _Number(int, 1)

_CHECKS: dict[str, Callable[[object], str | None]] = {
    "host": _Type(str, "a string"),
    "port": _Number(int, 0, 65535),
    "bind": _check_bind,
    "uds": _Type(str, "a path", none=True),
    "uds_permissions": _Number(int, 0, 0o777),
    "fd": _Number(int, 0, none=True),
    "backlog": _Number(int, 1, 2**31 - 1),
    "workers": _Number(int, 1, 1024),
    "isolation": _Choice("interpreter", "thread", "auto"),
    "daemon_threads": _Choice("demote", "refuse"),
    "factory": _flag,
    "lifespan": _Choice("auto", "on", "off"),
    "worker_hooks": _flag,
    "limit_max_requests": _Number(int, 1, none=True),
    "limit_max_requests_jitter": _Number(int, 0),
    "workers_lifetime": _Number(float, 0.001, none=True),
    "workers_max_rss": _Number(int, 1, none=True),
    "spares": _Number(int, 0, 64),
    "restart_limit": _Number(int, 0),
    "restart_window": _timeout,
    "restart_delay": _timeout,
    "timeout_worker_healthcheck": _timeout,
    "worker_interrupt": _flag,
    "reload_strategy": _Choice("all", "rolling"),
    "reload_canary": _timeout,
    "startup_timeout": _timeout,
    "shutdown_timeout": _timeout,
    "timeout_graceful_shutdown": _timeout,
    "drain_delay": _timeout,
    "timeout_linger": _timeout,
    "root_path": _check_root_path,
    "server_header": _flag,
    "date_header": _flag,
    "timeout_keep_alive": _timeout,
    "timeout_header": _timeout,
    "timeout_body": _timeout,
    "timeout_write": _timeout,
    "limit_request_line": _size,
    "limit_request_fields": _size,
    "limit_request_field_size": _size,
    "limit_header_size": _size,
    "limit_body_size": _Number(int, 0, none=True),
    "limit_connections": _Number(int, 1, none=True),
    "limit_concurrency": _Number(int, 1, none=True),
    "timeout_disconnect_grace": _Number(float, 0, none=True),
    "lifespan_context": _flag,
    "ws_max_size": _Number(int, 1, none=True),
    "ws_max_queue": _size,
    "ws_ping_interval": _Number(float, 0, none=True),
    "ws_ping_timeout": _Number(float, 0, none=True),
    "ws_per_message_deflate": _flag,
    "proxy_headers": _flag,
    "forwarded_allow_ips": _check_allow_ips,
    "forwarded_header": _Choice("x-forwarded", "forwarded"),
    "forwarded_host": _flag,
    "proxy_protocol": _flag,
    "ssl_certfile": _Type(str, "a path", none=True),
    "ssl_keyfile": _Type(str, "a path", none=True),
    "ssl_keyfile_password": _Type(str, "a string", none=True),
    "ssl_ca_certs": _Type(str, "a path", none=True),
    "ssl_cert_reqs": _Number(int, 0, 2),
    "ssl_ciphers": _Type(str, "a string", none=True),
    "ssl_context_factory": _Type(str, "an import path", none=True),
    "timeout_tls_handshake": _timeout,
    "health_path": _check_path,
    "metrics_path": _check_path,
    "metrics_bind": _check_metrics_bind,
    "access_log": _flag,
    "log_level": _Choice("critical", "error", "warning", "info", "debug"),
    "log_forwarding": _flag,
}
