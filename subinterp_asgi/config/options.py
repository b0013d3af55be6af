"""Every option, in one frozen dataclass: name, default, unit, meaning and check.

Names and defaults follow uvicorn where it has the option, hypercorn and granian otherwise. The
command line and the page of options in ``docs/`` are made from the same declarations. A ``Config``
crosses into an interpreter as JSON.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, field, fields, replace
from functools import cache

from ..errors import ConfigError
from ..types import Any, Literal, Self
from .checks import (
    BY_DEFAULT,
    Check,
    addresses,
    bindable,
    choice,
    field_name,
    import_path,
    integer,
    log_format,
    module_names,
    mount_path,
    number,
    paths,
    text,
    trusted_peers,
    url_path,
    url_paths,
)
from .records import dataclass

type Isolation = Literal["interpreter", "thread", "auto"]
type LifespanMode = Literal["auto", "on", "off"]
type Extensions = Literal["pure", "private", "refuse"]
type LazyImports = Literal["normal", "all"]
type DaemonThreads = Literal["demote", "refuse"]
type ReloadStrategy = Literal["all", "rolling", "process"]
type ForwardedHeader = Literal["x-forwarded", "forwarded"]
type LogLevel = Literal["critical", "error", "warning", "info", "debug"]


DEFAULT_METRICS_PATH = "/metrics"
"""Where metrics are on ``metrics_bind`` if ``metrics_path`` does not say."""


def option[T](default: T, doc: str, check: Check | None = None, *, secret: bool = False) -> T:
    """Declare an option with its default, its line of documentation and its check.

    Without a check it is a flag or a time, as its default is. ``None`` is allowed where its
    annotation says so. What is secret is not shown by ``repr()``.
    """
    metadata = {"doc": doc, "check": check or BY_DEFAULT[type(default)]}
    declared: T = field(default=default, metadata=metadata, repr=not secret)
    return declared


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The options of a server. Times are in seconds, sizes in bytes; 0 or ``None`` as documented.

    Raises:
        ConfigError: A value is of the wrong type or out of range; the error names the option.
    """

    # --- where to listen
    host: str = option(
        "127.0.0.1",
        "Address to listen on, or a name: all its addresses; localhost is 127.0.0.1 and ::1.",
        text("a string"),
    )
    port: int = option(
        8000, "TCP port; 0 lets the kernel choose one, the same for all workers.", integer(0, 65535)
    )
    bind: tuple[str, ...] = option(
        (),
        "Addresses instead of host and port: 'HOST:PORT', '[IPV6]:PORT', 'unix:PATH', "
        "'unix:@NAME', 'fd://N'.",
        addresses,
    )
    uds: str | None = option(
        None,
        "Path of a Unix socket to listen on instead of host and port; '@NAME': an abstract one.",
        text("a path"),
    )
    uds_permissions: int = option(
        0o660, "Mode of Unix sockets, set before they listen.", integer(0, 0o777)
    )
    fd: int | None = option(
        None, "Listening socket to inherit, by file descriptor number.", integer(0)
    )
    backlog: int = option(
        2048, "Length of the kernel's queue of connections not yet accepted.", integer(1, 2**31 - 1)
    )

    # --- workers
    workers: int = option(
        1,
        "Number of workers; 'auto': one for each CPU that the affinity mask and the bandwidth of "
        "control groups allow.",
        integer(1, 1024, or_else="'auto'"),
    )
    isolation: Isolation = option(
        "interpreter",
        "What a worker runs in: 'interpreter', 'thread' (of the main interpreter), or 'auto': "
        "an interpreter for an import path, a thread for an application object.",
        choice("interpreter", "thread", "auto"),
    )
    daemon_threads: DaemonThreads = option(
        "demote",
        "Daemon threads that an application starts in an interpreter, where CPython refuses them: "
        "'demote' makes them ordinary threads, 'refuse' leaves the RuntimeError.",
        choice("demote", "refuse"),
    )
    extensions: Extensions = option(
        "pure",
        "Extension modules that refuse subinterpreters: 'pure' takes the Python source beside them "
        "where there is one, 'private' (experimental) further loads a copy for each worker, "
        "'refuse' neither. 'private' rests on private parts of CPython, no author of such modules "
        "supports it, and one crash takes all workers.",
        choice("pure", "private", "refuse"),
    )
    hide_modules: tuple[str, ...] = option(
        (),
        "Modules that workers are to take for not installed, such as optional ones that refuse.",
        module_names,
    )
    lazy_imports: LazyImports | None = option(
        None,
        "What workers load only when it is used first, on CPython 3.15: 'all' that is imported at "
        "the top of modules, or what they mark as lazy ('normal'). None: as Python was started.",
        choice("normal", "all"),
    )
    lazy_imports_except: tuple[str, ...] = option(
        (),
        "Modules and packages that are loaded at once all the same, and what they import.",
        module_names,
    )
    reuse_interpreters: bool = option(
        False,
        "A reload uses the interpreters of workers that have retired again: it imports the "
        "application's own modules anew, and keeps all libraries as they are, which may keep what "
        "the application has set in them. Where that is known to happen it takes new ones.",
    )
    factory: bool = option(False, "The import path names a callable that returns the application.")

    # --- life cycle
    lifespan: LifespanMode = option(
        "auto",
        "Run the application's lifespan in each worker: 'auto', 'on' (it must), 'off'.",
        choice("auto", "on", "off"),
    )
    lifespan_restart: bool = option(
        False, "Replace a worker whose lifespan raises while it serves; that is logged in any case."
    )
    worker_hooks: bool = option(
        False,
        "Call the application with scope types subinterp_asgi.worker.startup and .shutdown.",
    )
    limit_max_requests: int | None = option(
        None, "Requests after which a worker is replaced; None: no bound.", integer(1)
    )
    limit_max_requests_jitter: int = option(
        0,
        "Most requests that are added to limit_max_requests at random, for each worker.",
        integer(0),
    )
    workers_lifetime: float | None = option(
        None, "How long a worker serves before it is replaced; None: no bound.", number(0.001)
    )
    workers_max_rss: int | None = option(
        None,
        "Memory, in MiB, by which the process may grow for each worker of a generation before its "
        "workers are replaced, one by one; None: no bound.",
        integer(1),
    )
    spares: int = option(
        0,
        "Workers that have imported the application and wait to take the place of one that died, "
        "or of a new one.",
        integer(0, 64),
    )
    restart_limit: int = option(
        5,
        "How many workers that died may be replaced within restart_window; with the next one the "
        "supervisor fails. As many that are stuck may be besides. 0: none.",
        integer(0),
    )
    restart_window: float = option(60.0, "The time in which they are counted.")
    restart_delay: float = option(
        0.1,
        "How long until a slot's first worker that died is replaced; it doubles with each of the "
        "slot's, up to 30 s. One that had served for ten times the option is replaced at once.",
    )
    timeout_worker_healthcheck: float = option(
        30.0,
        "How long a worker's loop may be held up before the worker counts as stuck and is "
        "replaced; 0: for ever.",
    )
    worker_interrupt: bool = option(
        True, "Interrupt a stuck worker that runs Python code; the request that holds it up fails."
    )
    reload: bool = option(
        False,
        "For developing: reload when a file has changed that the application has imported, "
        "installed packages aside. Requests of old workers are broken off after a second.",
    )
    reload_dir: tuple[str, ...] = option(
        (), "Folders whose Python files are watched too, imported or not.", paths
    )
    reload_include: tuple[str, ...] = option(
        (),
        "Patterns of other files to watch there, such as '*.html'; without folders, below the "
        "current one.",
        paths,
    )
    reload_exclude: tuple[str, ...] = option(
        (), "Patterns of names of files and folders, or paths, that are not watched.", paths
    )
    reload_strategy: ReloadStrategy = option(
        "all",
        "How a reload replaces the workers: 'all' at once, or 'rolling', one by one; 'process': "
        "as 'all', but SIGHUP has the command start a new process in its place, as SIGUSR2.",
        choice("all", "rolling", "process"),
    )
    reload_canary: float = option(
        0.0,
        "How long one new worker serves beside the old ones before a reload goes on; errors or lag "
        "beyond theirs roll it back. 0: not at all.",
    )
    startup_timeout: float = option(60.0, "Bound on a worker's start, lifespan included.")
    shutdown_timeout: float = option(
        5.0,
        "Bound on what follows the last request at a worker's end: its lifespan, tasks, threads "
        "and exit callbacks together.",
    )
    timeout_graceful_shutdown: float = option(
        20.0, "How long requests in flight may take to end once a stop was asked for."
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
    root_path: str = option("", "Prefix under which a proxy mounts the application.", mount_path)
    server_header: bool = option(True, "Send a Server field.")
    date_header: bool = option(True, "Send a Date field.")
    timeout_keep_alive: float = option(5.0, "How long an idle connection is kept.")
    timeout_header: float = option(10.0, "How long a request head may take to arrive; 0: no bound.")
    timeout_body: float = option(
        30.0, "How long a body may pause while the application waits for it; 0: no bound."
    )
    timeout_write: float = option(
        30.0,
        "How long a client may take nothing of what it is sent; any rate will do; 0: no bound.",
    )
    limit_request_line: int = option(8190, "Longest request line; beyond it: 414.", integer(1))
    limit_request_fields: int = option(
        100, "Most header fields of a request; beyond it: 431.", integer(1)
    )
    limit_request_field_size: int = option(
        8190, "Longest header field line; beyond it: 431.", integer(1)
    )
    limit_header_size: int = option(
        65536, "Largest request head in all; beyond it: 431.", integer(1)
    )
    limit_body_size: int | None = option(
        None, "Largest request body; beyond it: 413. None: no bound.", integer(0)
    )

    limit_connections: int | None = option(
        None,
        "Most open connections of a worker; beyond it: 503 and close. None: no bound.",
        integer(1),
    )
    limit_connections_total: int | None = option(
        None,
        "Most open connections that all workers together have; beyond it: as limit_connections. "
        "May be exceeded by one for each worker. None: no bound.",
        integer(1),
    )
    limit_concurrency: int | None = option(
        None,
        "Most requests a worker has in flight; beyond it: 503 and close. None: no bound.",
        integer(1),
    )
    limit_concurrency_total: int | None = option(
        None,
        "Most requests that all workers together have in flight; beyond it: as limit_concurrency. "
        "May be exceeded by one for each worker. None: no bound.",
        integer(1),
    )
    timeout_disconnect_grace: float | None = option(
        5.0,
        "How long the call of an application that has not received `http.disconnect` may go on "
        "without a client; then it is cancelled. None: as long as it likes.",
        number(0),
    )
    early_hints: bool = option(
        False,
        "Let applications send early hints (103): only if every proxy in front passes them on, as "
        "HAProxy and Caddy do; nginx and Varnish take them for the response.",
    )
    lifespan_context: bool = option(
        False, "Requests see the context variables that the lifespan has set."
    )

    # --- WebSockets
    ws_max_size: int | None = option(
        16 * 1024 * 1024,
        "Largest WebSocket message, decompressed; beyond it: close code 1009. None: no bound.",
        integer(1),
    )
    ws_max_queue: int = option(
        32,
        "Most messages of a WebSocket that wait for the application; then reading is paused.",
        integer(1),
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
        trusted_peers,
    )
    forwarded_header: ForwardedHeader = option(
        "x-forwarded",
        "Fields that they use: 'x-forwarded' (X-Forwarded-For and -Proto) or 'forwarded' (RFC "
        "7239). The other is ignored.",
        choice("x-forwarded", "forwarded"),
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
    ssl_certfile: str | None = option(
        None, "Certificate chain, PEM; this turns TLS on.", text("a path")
    )
    ssl_keyfile: str | None = option(
        None, "Private key, PEM; None: it is in the file of the certificate.", text("a path")
    )
    ssl_keyfile_password: str | None = option(
        None, "Password of the private key.", text("a string"), secret=True
    )
    ssl_ca_certs: str | None = option(
        None, "CA certificates to verify clients by, PEM.", text("a path")
    )
    ssl_cert_reqs: int = option(
        0,
        "Client certificates: 0 not asked for, 1 verified if there is one, 2 required.",
        integer(0, 2),
    )
    ssl_ciphers: str | None = option(
        None, "Cipher list for TLS 1.2, in OpenSSL's format.", text("a string")
    )
    ssl_context_factory: str | None = option(
        None,
        "Import path of a callable which the workers call with a function that makes the default "
        "context, and which returns the SSLContext to use; this turns TLS on.",
        import_path,
    )
    ssl_reload: bool = option(
        False,
        "Use TLS files for new connections once they have changed and fit together, without "
        "replacing workers. They are looked at every second.",
    )
    timeout_tls_handshake: float = option(
        10.0, "How long a TLS handshake (or a PROXY protocol header) may take; 0: no bound."
    )

    # --- health and metrics
    health_path: str | None = option(
        None,
        "Path that workers answer themselves: 200, or 503 once they drain (not to be replaced). "
        "Neither counted nor logged nor subject to limit_concurrency; without root_path; other "
        "methods than GET, HEAD and OPTIONS: 405.",
        url_path,
    )
    metrics_path: str | None = option(
        None,
        "Path where they answer with metrics of all workers, as text for Prometheus; as for "
        "health_path.",
        url_path,
    )
    metrics_bind: str | None = option(
        None,
        "Address to listen on for metrics (at metrics_path, or else /metrics, which are then not "
        "served elsewhere) and for health_path: 'HOST:PORT', '[IPV6]:PORT', 'unix:PATH', 'fd://N'. "
        "Without TLS or limits. If no worker answers for a second, the supervisor does: health is "
        "503.",
        bindable,
    )
    status_page: bool = option(
        False,
        "On metrics_bind, show workers, events and the last minutes at '/', and for scripts at "
        "'/status.json', to anybody who can connect there.",
    )

    # --- logs
    access_log: bool = option(True, "Log a line for each request.")
    access_log_format: str | None = option(
        None,
        "Form of that line: 'json', or a format of gunicorn's atoms, such as '%(h)s %(r)s %(s)s "
        "%(L)s %({user-agent}i)s'. %(id)s is the request's id. None: as uvicorn's, and its time.",
        log_format,
    )
    access_log_exclude: tuple[str, ...] = option(
        (), "Paths that are not logged; '/static/*' is all below.", url_paths
    )
    access_log_filter: str | None = option(
        None,
        "Import path of a function that is given what 'json' logs of a request, as a dict, and "
        "says whether to log it.",
        import_path,
    )
    request_id_header: str | None = option(
        None,
        "Field with a request's id, such as 'x-request-id': taken from peers in "
        "forwarded_allow_ips, else made. It is in the scope's headers, in "
        "scope['state']['request_id'], and an attribute of log records. None: no ids.",
        field_name,
    )
    log_level: LogLevel = option(
        "info",
        "Least severe records that workers log.",
        choice("critical", "error", "warning", "info", "debug"),
    )
    log_config: str | None = option(
        None,
        "File that configures logging, which each worker in an interpreter (and the command) loads "
        "first: .json or .yaml for dictConfig(), or else for fileConfig(). In a host's process, "
        "workers in threads leave logging to the host.",
        text("a path"),
    )
    log_forwarding: bool = option(
        False,
        "Hand what workers log in interpreters, the access log too, to the logging of the main "
        "interpreter instead of writing it to standard error; in threads, where it gets there "
        "anyway, mark the application's records with worker_id and generation.",
    )

    def __post_init__(self) -> None:
        if str(self.workers) == "auto":
            from .cpus import available_cpus

            object.__setattr__(self, "workers", available_cpus())
        for declared in fields(self):
            name, value = declared.name, getattr(self, declared.name)
            if isinstance(declared.default, tuple):
                value = (value,) if isinstance(value, str) or _is_path(value) else value
                value = tuple(map(_as_text, value)) if isinstance(value, tuple | list) else value
                object.__setattr__(self, name, value)
            elif _is_path(value):
                value = _as_text(value)
                object.__setattr__(self, name, value)
            optional = str(declared.type).endswith("None")
            wanted = None if optional and value is None else declared.metadata["check"](value)
            if wanted is not None:
                or_none = " or None" if optional else ""
                raise ConfigError(name, f"must be {wanted}{or_none}, not {value!r}")
        if sum((bool(self.bind), self.uds is not None, self.fd is not None)) > 1:
            raise ConfigError("bind", "give only one of bind, uds and fd")
        for name in ("limit_connections", "limit_concurrency"):
            each, total = getattr(self, name), getattr(self, f"{name}_total")
            if None not in (each, total) and total < each:
                text = f"must be at least {name}, which is for each worker: {total} < {each}"
                raise ConfigError(f"{name}_total", text)
        if self.status_page and self.metrics_bind is None:
            raise ConfigError("status_page", "needs metrics_bind, where it is to be")
        if self.lazy_imports == "all" and sys.version_info < (3, 15):
            running = f"{sys.version_info[0]}.{sys.version_info[1]}"
            raise ConfigError("lazy_imports", f"'all' needs CPython 3.15 or later, not {running}")
        metrics_path = self.metrics_path or (self.metrics_bind and DEFAULT_METRICS_PATH)
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
                from .suggestion import suggestion

                raise ConfigError(name, f"no such option{suggestion(name, option_names())}")
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


def _is_path(value: object) -> bool:
    return hasattr(type(value), "__fspath__")


def _as_text(value: Any) -> Any:
    """A path as text; what is none as it is."""
    return value.__fspath__() if _is_path(value) else value


def as_config(config: object) -> Config:
    """What was given for a config, or the defaults; ``ConfigError``: it is something else."""
    if config is None:
        return Config()
    if not isinstance(config, Config):
        given = type(config).__name__
        raise ConfigError("config", f"must be a Config, not {given}; Config(**options) makes one")
    return config


@cache
def option_names() -> frozenset[str]:
    """The names of all options."""
    return frozenset(f.name for f in fields(Config))
