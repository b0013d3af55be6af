"""What a supervisor tells a new worker beyond the options."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import wraps

from ..config import Config
from ..config.records import dataclass
from ..errors import ConfigError
from ..types import Any, Self

_OLD_NAMES = {"command_bell": "command_wakeup", "status_bell": "status_wakeup"}


def _rename(values: dict[str, Any]) -> dict[str, Any]:
    """Give fields that go by names of earlier versions the names of today."""
    for old in _OLD_NAMES.keys() & values:
        import warnings

        new = _OLD_NAMES[old]
        warnings.warn(f"Runtime.{old} is now called {new}", DeprecationWarning, stacklevel=3)
        values[new] = values.pop(old)
    return values


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """What a supervisor tells a worker beyond the options: numbers of descriptors, mostly.

    Attributes:
        listeners: (descriptor, address family) of listeners beyond the first. The worker owns them.
        command_wakeup: Wakeup of the control queue, borrowed, or ``None``.
        status_wakeup: Wakeup of the status queue, borrowed, or ``None``.
        metrics_listeners: As ``listeners``, for metrics and health only.
        inbox: Descriptor to read what other workers hand over (see ``handoff``), borrowed.
        request_limit: Number of requests from which on the worker says that it is exhausted.
        spare: Import the application and wait for the command to serve.
        watchdog: Numbers of a ``WatchdogLine``, borrowed, or ``None`` to have no watchdog.
        missing: Names of standard streams that the process was started without.
        log_fd: Pipe to which log records are forwarded (see ``log_receiver``), borrowed.
        start_delay: Seconds to wait before it serves; for tests (see ``testing.faults``).
        start_failure: What to fail with instead of serving, or ``None``; for tests.
        reusable: The interpreter may have to serve again after this worker.
        reused: It has served before.
        recording: Record what the application is given and raises, and answer; for tests.
        prelude: Path of a function to call before the application is imported, and its argument.
        environment: To be its environment variables, or ``None`` for those of the process.
        coverage: What coverage measures in the host, to be measured in the worker too, or ``None``.
        tell_loaded: Say when the application is imported.
        said: What another worker has logged of the application's extension modules; nobody needs
            to say it once more.
        brief: Leave unsaid what another worker has said of the application itself.
    """

    listeners: tuple[tuple[int, int], ...] = ()
    command_wakeup: tuple[int, int] | None = None
    status_wakeup: tuple[int, int] | None = None
    metrics_listeners: tuple[tuple[int, int], ...] = ()
    inbox: int | None = None
    request_limit: int | None = None
    spare: bool = False
    watchdog: tuple[int, int] | None = None
    missing: tuple[str, ...] = ()
    log_fd: int | None = None
    start_delay: float = 0.0
    start_failure: str | None = None
    reusable: bool = False
    reused: bool = False
    recording: bool = False
    prelude: tuple[str, Any] | None = None
    environment: dict[str, str] | None = None
    coverage: dict[str, Any] | None = None
    tell_loaded: bool = False
    brief: bool = False
    said: str = ""

    def join(self, config: Config) -> str:
        """Make the ``config_json`` that ``bootstrap`` is given."""
        return json.dumps({**json.loads(config.to_json()), "runtime": asdict(self)})

    @classmethod
    def split(cls, config_json: str) -> tuple[str, Self]:
        """Take ``config_json`` apart: the config's JSON, and the runtime if there was one."""
        try:
            values = json.loads(config_json)
        except ValueError as exc:
            raise ConfigError("config_json", f"not JSON: {exc}") from None
        runtime = values.pop("runtime", None) if isinstance(values, dict) else None
        if runtime is None:
            return config_json, cls()
        _rename(runtime)
        for name in ("listeners", "metrics_listeners"):
            runtime[name] = tuple((fd, family) for fd, family in runtime[name])
        runtime["missing"] = tuple(runtime.get("missing", ()))
        for name in ("command_wakeup", "status_wakeup", "watchdog"):
            runtime[name] = runtime[name] and tuple(runtime[name])
        return json.dumps(values), cls(**runtime)


_init = Runtime.__init__


@wraps(_init)
def _init_by_any_name(self: Runtime, **values: Any) -> None:
    _init(self, **_rename(values))


Runtime.__init__ = _init_by_any_name  # type: ignore[method-assign]
