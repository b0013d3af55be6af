"""The vocabulary of ASGI as types. Imported by all modules, imports none."""

from __future__ import annotations

TYPE_CHECKING = False
"""As that of ``typing``, which nothing here needs when it runs: importing it would cost each
interpreter half a megabyte. For the same reason protocols are declared where only type checkers
see them."""

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from typing import Any

type Message = MutableMapping[str, Any]
type Scope = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]
type ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

type Fields = list[tuple[bytes, bytes]]
"""Field lines as (lower-cased name, value), in the order in which they came."""

type Address = tuple[str, int | None]
"""ASGI's form of an address: host and port, or a Unix socket's path and ``None``."""
