"""What is found out before anything is started: what can't work, and what is better known first."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping

from ..config import Config
from ..errors import ConfigError
from ..types import Any
from . import host_log

_ASYNC = 0x280
"""Flags of code that makes a coroutine, or an asynchronous generator, when it is called."""

_warned_of_memory = False


def choose_isolation(app: object, config: Config) -> bool:
    """Whether workers run in threads of this interpreter.

    ``ConfigError``: the application can't be served with this isolation.
    """
    if not isinstance(app, str) and not callable(app):
        raise ConfigError("app", f"must be an import path or an ASGI application, not {app!r}")
    in_threads = config.isolation == "thread"
    if config.isolation == "auto":
        in_threads = not isinstance(app, str)
    if in_threads and (config.lazy_imports or config.lazy_imports_except):
        raise ConfigError(
            "lazy_imports",
            "is for workers in interpreters; threads import as their process does: start Python "
            "with -X lazy_imports=all, or PYTHON_LAZY_IMPORTS=all",
        )
    if config.isolation == "interpreter" and not isinstance(app, str):
        raise ConfigError(
            "app",
            "an application object can't be passed to another interpreter; pass its import path "
            "'module:attribute', or isolation='thread' to serve it from threads",
        )
    return in_threads


def check_tls(config: Config) -> None:
    """Refuse what would leave a server less protected than its options seem to say."""
    for name in ("keyfile", "keyfile_password", "ca_certs", "cert_reqs", "ciphers", "reload"):
        if not config.tls and getattr(config, f"ssl_{name}"):
            raise ConfigError(f"ssl_{name}", "has no effect: TLS is off without ssl_certfile")
    if config.ssl_cert_reqs and not (config.ssl_ca_certs or config.ssl_context_factory):
        raise ConfigError("ssl_cert_reqs", "needs ssl_ca_certs to verify clients by")
    if config.ssl_reload and not tls_files(config):
        raise ConfigError(
            "ssl_reload",
            "knows no file to look at: name it by ssl_certfile, or call reload_tls() yourself",
        )


def tls_files(config: Config) -> tuple[str, ...]:
    """The files that options name for TLS."""
    named = (config.ssl_certfile, config.ssl_keyfile, config.ssl_ca_certs)
    return tuple(file for file in named if file is not None)


def check_reload(config: Config, *, in_threads: bool) -> None:
    """Refuse to watch what could not be reloaded, or is not there."""
    if not config.reload:
        for name in ("reload_dir", "reload_include", "reload_exclude"):
            if getattr(config, name):
                raise ConfigError(name, "has no effect without reload")
    elif in_threads:
        raise ConfigError(
            "reload",
            "can't import changed code anew in workers that are threads; it takes "
            "isolation='interpreter'",
        )
    for folder in config.reload_dir:
        if not os.path.isdir(folder):
            raise ConfigError("reload_dir", f"{folder!r} is no folder")


def encode_state(state: Mapping[str, Any]) -> str:
    """Encode the lifespan state; ``ConfigError``: JSON can't carry a value unchanged."""
    if not isinstance(state, Mapping):
        raise ConfigError("state", f"must be a dict, not {state!r}")
    for name, value in state.items():
        try:
            unchanged = json.loads(json.dumps(value)) == value
        except (TypeError, ValueError):
            unchanged = False
        if not unchanged or not isinstance(name, str):
            raise ConfigError("state", f"{name!r} can't be carried by JSON unchanged: {value!r}")
    return json.dumps(dict(state))


def check_sockets(sockets: Any) -> tuple[socket.socket, ...]:
    """``ConfigError``: they are no sockets that can be listened on."""
    found = tuple(sockets) if hasattr(sockets, "__iter__") else (None,)
    for each in found:
        if not isinstance(each, socket.socket):
            raise ConfigError("sockets", f"must be a list of bound sockets, not {sockets!r}")
        if each.fileno() == -1 or each.type != socket.SOCK_STREAM:
            raise ConfigError("sockets", f"must be stream sockets that are open, not {each!r}")
    return found


def check_on_event(on_event: Any) -> None:
    """``ConfigError``: it can't be called with events."""
    if on_event is None:
        return
    called: Any = (
        on_event if hasattr(on_event, "__code__") else vars(type(on_event)).get("__call__")
    )
    if not callable(on_event):
        raise ConfigError("on_event", f"must be a function, not {on_event!r}")
    if getattr(getattr(called, "__code__", None), "co_flags", 0) & _ASYNC:
        raise ConfigError("on_event", f"must be a function that is not async, not {on_event!r}")


def check_timeout(timeout: object) -> None:
    """``ConfigError``: it is no number of seconds, nor ``None``."""
    number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if timeout is not None and (not number or timeout != timeout):
        raise ConfigError("timeout", f"must be a number of seconds or None, not {timeout!r}")


def warn_if_untested() -> None:
    """Say what is known of interpreters on free-threaded builds: nothing."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        import warnings

        warnings.warn(
            "subinterpreters are untested on free-threaded builds; isolation='thread' runs the "
            "workers in parallel there",
            RuntimeWarning,
            stacklevel=3,
        )


def warn_if_tracing() -> None:
    """Say that CPython does not survive tracemalloc beside interpreters; 3.15 does."""
    import _tracemalloc  # which is built in, and what ``tracemalloc`` asks

    if sys.version_info < (3, 15) and _tracemalloc.is_tracing():
        import warnings

        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        warnings.warn(
            f"tracemalloc is on: CPython {version} crashes with it once there are interpreters. "
            "Start without PYTHONTRACEMALLOC and -X tracemalloc, trace with isolation='thread', or "
            "use CPython 3.15",
            RuntimeWarning,
            stacklevel=3,
        )


def warn_of_shared_modules(config: Config) -> None:
    """Say what a reload of workers in threads does not do."""
    text = "workers in threads share the modules of this interpreter: a reload does not import "
    again = ", but calls the application's factory anew" if config.factory else ""
    host_log.log("warning", f"{text}changed code{again}")


def warn_of_memory(config: Config) -> None:
    """Say, once in a process, what reloading costs on CPython 3.13, or with private copies."""
    global _warned_of_memory
    if _warned_of_memory or config.reuse_interpreters:  # (which says it if that is not possible)
        return
    if config.extensions == "private":
        why = (
            "extensions='private': copies of extension modules keep the memory of an interpreter "
            "that is closed, so that each reload costs 20 to 50 MB for each worker. Restart the "
            "process instead, or use reuse_interpreters"
        )
    elif sys.version_info < (3, 14):
        why = (
            "CPython 3.13 does not give back the memory of an interpreter that is closed: each "
            "reload costs 6 to 20 MB for each worker, by what the application imports. Restart the "
            "process instead, or use reuse_interpreters, or CPython 3.14"
        )
    else:
        return
    _warned_of_memory = True
    host_log.log("warning", why)
