"""The options of a server: their names, defaults, documentation and checks."""

from .options import (
    Config,
    DaemonThreads,
    Extensions,
    ForwardedHeader,
    Isolation,
    LifespanMode,
    LogLevel,
    ReloadStrategy,
    option_names,
)

__all__ = [
    "Config",
    "DaemonThreads",
    "Extensions",
    "ForwardedHeader",
    "Isolation",
    "LifespanMode",
    "LogLevel",
    "ReloadStrategy",
    "option_names",
]
