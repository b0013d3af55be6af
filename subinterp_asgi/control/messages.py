"""The words that supervisor and worker say to each other; what each means stands in ``control``.

A message is a tuple whose first item is one of these.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..types import Any

CMD_DRAIN = "drain"
CMD_SHUTDOWN = "shutdown"
CMD_RELOAD_TLS = "reload_tls"
CMD_REOPEN_LOGS = "reopen_logs"
CMD_ADOPT = "adopt"
CMD_DISOWN = "disown"
CMD_SERVE = "serve"
CMD_FAULT = "fault"
CMD_ASK = "ask"
DRAIN_RESTART = "restart"
DRAIN_HAND_OVER = "hand_over"
DRAIN_LATER = "later"
SHUTDOWN_NOW = "now"

COMMANDS = {
    CMD_DRAIN: None,
    CMD_SHUTDOWN: None,
    CMD_RELOAD_TLS: None,
    CMD_REOPEN_LOGS: None,
    CMD_ADOPT: 2,
    CMD_DISOWN: None,
    CMD_SERVE: 3,
    CMD_FAULT: None,
    CMD_ASK: None,
}
"""All commands, each with the place where its listeners begin, if it carries any. They are the
receiver's to close; of a command that nobody has read the supervisor closes them."""

FAULT_CRASH = "crash"
FAULT_FREEZE = "freeze"
FAULT_FREEZE_IN_C = "freeze_in_c"

STATUS_STARTED = "started"
STATUS_SAID = "said"
STATUS_LOADED = "loaded"
STATUS_SPARE = "spare"
STATUS_SERVING = "serving"
STATUS_EXHAUSTED = "exhausted"
STATUS_DRAINING = "draining"
STATUS_IDLE = "idle"
STATUS_LEFT = "left"
STATUS_FILES = "files"
STATUS_LIFESPAN_FAILED = "lifespan_failed"
STATUS_SHUTDOWN_FAILED = "shutdown_failed"
STATUS_STOPPED = "stopped"
STATUS_REUSABLE = "reusable"
STATUS_REJECTED = "rejected"
STATUS_FAILURE = "failure"
STATUS_ERROR = "error"
STATUS_STUCK = "stuck"
STATUS_ANSWER = "answer"
STATUS_DEBUGGED = "debugged"
STATUS_DUMP = "dump"

QUEUE_SIZE = 64
"""Bound of the queues between interpreters. Items are freed through a list of 300 places that
belongs to the producer's interpreter; beyond it they leak."""

type Command = tuple[str | int, ...]
type Listener = tuple[int, int]
"""Descriptor and address family."""


def command(name: str, *arguments: str | int, listeners: Iterable[Listener] = ()) -> Command:
    """Make a command. One that is not known, or has its listeners elsewhere, is refused."""
    start = COMMANDS[name]
    if start is None:
        if listeners:
            raise ValueError(f"the command {name!r} carries no listeners")
    elif start != 1 + len(arguments):
        raise ValueError(f"the listeners of {name!r} begin at {start}, not {1 + len(arguments)}")
    return (name, *arguments, *(number for listener in listeners for number in listener))


def sendable(text: str) -> str:
    """Escape what a ``str`` may hold but what can't be sent everywhere: surrogates and NULs."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def listeners_of(command: tuple[Any, ...]) -> list[Listener]:
    """The listeners that a command carries; none if it is not known."""
    start = COMMANDS.get(command[0])
    if start is None:
        return []
    return list(zip(command[start::2], command[start + 1 :: 2], strict=True))
