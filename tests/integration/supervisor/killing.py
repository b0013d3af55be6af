"""How workers of tests die."""

from __future__ import annotations

from typing import Any

from ..rawclient import RawClient

SOON: dict[str, Any] = {"restart_delay": 0.01}
CAUSES = {
    "exit": "SystemExit: told to die",
    "interrupt": "KeyboardInterrupt: told to die",
    "stop": "RuntimeError: Event loop stopped before Future completed",
    "lifespan": "SystemExit: the lifespan had enough",
}


def kill(server: Any, how: str = "exit") -> str:
    """Have a worker die; return its name."""
    with RawClient(server.addresses[0]) as client:
        name = client.get(b"/who").body.decode()
        client.get(b"/die/" + how.encode())
        return name


def kill_another(server: Any, name: str) -> str | None:
    """Have a worker die, but not this one."""
    with RawClient(server.addresses[0]) as client:
        found: str = client.get(b"/who").body.decode()
        if found == name:
            return None
        client.get(b"/die")
        return found


def heard_now() -> float:
    from time import monotonic

    return monotonic()
