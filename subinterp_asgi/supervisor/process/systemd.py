"""A service manager: the sockets that it has opened, and what it is told (sd_notify(3)).

The protocols are plain: variables in the environment, and datagrams of ``NAME=value`` lines. A
variable is taken out once it was read: no process of the application's is to believe it is meant.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping, MutableMapping
from time import monotonic_ns

from ...errors import ConfigError
from ...types import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

FIRST_FD = 3
"""Number of the first socket that is passed (``SD_LISTEN_FDS_START``)."""


def passed_sockets(environment: MutableMapping[str, str]) -> dict[int, str]:
    """Return the sockets that this process was passed: descriptor to name.

    Raises:
        ConfigError: The variables are not as sd_listen_fds(3) has them.
    """
    values = [environment.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES")]
    pid, count, names = values
    if not count or pid != str(os.getpid()):  # (they may have been meant for a parent)
        return {}
    if not count.isdecimal():
        raise ConfigError("bind", f"LISTEN_FDS must be a number, not {count!r}")
    given = names.split(":") if names else []
    numbers = range(FIRST_FD, FIRST_FD + int(count))
    for number in numbers:
        try:
            os.set_inheritable(number, False)
        except OSError:
            problem = f"LISTEN_FDS={count} says that descriptor {number} was passed: it is not open"
            raise ConfigError("bind", problem) from None
    return {
        number: given[index] if index < len(given) else "unknown"
        for index, number in enumerate(numbers)
    }


def listen_options(
    passed: Mapping[int, str], options: Mapping[str, Any]
) -> dict[str, str | tuple[str, ...]]:
    """Say by options that the passed sockets are listened on.

    That called ``metrics`` is for metrics, all others for the application, unless the options say
    where that listens. There ``fd://NAME`` is the socket of that name.

    Raises:
        ConfigError: There is no socket of a name.
    """
    found: dict[str, str | tuple[str, ...]] = {}
    numbers = {name: f"fd://{number}" for number, name in passed.items()}

    def resolve(option: str, entry: str) -> str:
        name = entry.removeprefix("fd://")
        if name == entry or name.isdecimal():
            return entry
        if name not in numbers:
            known = f"; there are {', '.join(numbers)}" if numbers else ""
            raise ConfigError(option, f"no socket called {name!r} was passed{known}")
        return numbers[name]

    if bind := options.get("bind"):
        entries = (bind,) if isinstance(bind, str) else bind
        found["bind"] = tuple(resolve("bind", entry) for entry in entries)
    elif not {"host", "port", "uds", "fd"} & options.keys():
        found["bind"] = tuple(f"fd://{n}" for n, name in passed.items() if name != "metrics")
    if metrics := options.get("metrics_bind"):
        found["metrics_bind"] = resolve("metrics_bind", metrics)
    elif "metrics" in numbers:
        found["metrics_bind"] = numbers["metrics"]
    return {name: value for name, value in found.items() if value}


class Notifier:
    """Tells the service manager how it goes; without one, nothing.

    Attributes:
        watchdog_interval: Seconds between signs of life, or ``None``: none are wanted.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        self._address = environment.pop("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        if self._address and hasattr(socket, "AF_UNIX"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)  # a manager that does not read is not waited for
        self.watchdog_interval = self._interval(environment)

    def _interval(self, environment: MutableMapping[str, str]) -> float | None:
        microseconds = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", str(os.getpid()))
        meant = self._socket is not None and pid == str(os.getpid())
        if not (meant and microseconds.isdecimal() and int(microseconds)):
            return None
        return int(microseconds) / 1e6 / 3  # twice within the time, even if one comes late

    def for_successor(self) -> dict[str, str]:
        """What the environment of a process that takes over has to say."""
        found = {"NOTIFY_SOCKET": self._address} if self._address else {}
        if self.watchdog_interval is not None:
            found["WATCHDOG_USEC"] = str(round(self.watchdog_interval * 3e6))
        return found

    def ready(self, status: str) -> None:
        """It serves: after the start, and after each reload."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """A reload begins. Its time tells it apart from earlier ones."""
        # (On Linux, where such managers are, that is the clock they mean, CLOCK_MONOTONIC.)
        self._tell("RELOADING=1", f"MONOTONIC_USEC={monotonic_ns() // 1000}", "STATUS=reloading")

    def stopping(self) -> None:
        """It ends."""
        self._tell("STOPPING=1", "STATUS=stopping")

    def status(self, text: str) -> None:
        """What it does, for those who ask the manager."""
        self._tell(f"STATUS={text}")

    def alive(self) -> None:
        """A sign of life, for the watchdog."""
        self._tell("WATCHDOG=1")

    def replaced_by(self, pid: int) -> None:
        """Another process is the main one of the service from now on."""
        self._tell(f"MAINPID={pid}")

    def _tell(self, *lines: str) -> None:
        if self._socket is None:
            return
        text = "\n".join(line.replace("\n", " ") for line in lines)
        address = self._address
        name = f"\0{address[1:]}" if address.startswith("@") else address
        with contextlib.suppress(OSError):  # nobody reads it, which is nobody's fault here
            self._socket.sendto(text.encode("utf-8", "replace"), name)

    def close(self) -> None:
        """Release the socket."""
        if self._socket is not None:
            self._socket.close()
