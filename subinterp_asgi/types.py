"""The vocabulary of ASGI as types. Imported by all modules, imports none."""

from __future__ import annotations

TYPE_CHECKING = False
"""As that of ``typing``, which nothing here needs when it runs: importing it would cost each
interpreter half a megabyte. So the names below stand for its own, also for who asks for type hints,
and protocols are declared where only type checkers see them."""

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from typing import Any as Any
    from typing import Literal as Literal
    from typing import Self as Self
else:
    Any = Self = object

    class Literal:
        def __class_getitem__(cls, values):
            return values  # for who wants those of an alias, its ``__value__``


type Message = MutableMapping[str, Any]
type Scope = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]
type ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

type Field = tuple[bytes, bytes]
"""A field line as (name, value)."""
type Fields = list[Field]
"""Field lines, their names lower-cased, in the order in which they came."""

type Address = tuple[str, int | None]
"""ASGI's form of an address: host and port, or a Unix socket's path and ``None``."""
