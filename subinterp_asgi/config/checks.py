"""What values the options may have.

A check takes a value and returns what it should have been, to be put after "must be", or ``None``
if it is fine. ``None`` itself is not its business: that is allowed where the option's annotation
says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ..types import Any, Self

type Check = Callable[[Any], str | None]


def integer(low: int, high: int | None = None, or_else: str = "") -> Check:
    """An integer within bounds; ``or_else``: what stands for one, and has become one by now."""
    return _bounded(int, "an integer", low, high, f" or {or_else}" if or_else else "")


def number(low: float, high: float | None = None) -> Check:
    """An integer or a float within bounds."""
    return _bounded((int, float), "a number", low, high)


def _bounded(kind: Any, noun: str, low: float, high: float | None, more: str = "") -> Check:
    def check(value: Any) -> str | None:
        if (
            isinstance(value, kind)
            and not isinstance(value, bool)
            and value >= low
            and (high is None or value <= high)
        ):
            return None
        bounds = f"of at least {low:g}" if high is None else f"from {low:g} to {high:g}"
        return f"{noun} {bounds}{more}"

    return check


class choice(tuple[str, ...]):
    """One of these. (A check, and the values themselves, which the command's help shows.)"""

    def __new__(cls, *values: str) -> Self:
        return super().__new__(cls, values)

    def __call__(self, value: Any) -> str | None:
        return None if value in self else f"one of {', '.join(self)}"


def text(noun: str) -> Check:
    """A string that stands for something."""
    return lambda value: None if isinstance(value, str) else noun


def import_path(value: object) -> str | None:
    """Where something is that workers import; whether it is there they find out."""
    if isinstance(value, str):
        module, colon, attribute = value.partition(":")
        if colon and all(map(str.isidentifier, f"{module}.{attribute}".split("."))):
            return None
    return "an import path such as 'package.module:function'"


def flag(value: object) -> str | None:
    """A truth value, and nothing that only passes for one."""
    return None if isinstance(value, bool) else "True or False"


BY_DEFAULT: dict[type, Check] = {bool: flag, float: number(0)}
"""Checks of options that say nothing else, by the type of their default."""


def addresses(value: object) -> str | None:
    """Addresses to listen on, in any form; what they mean is found out when they are bound."""
    if not isinstance(value, tuple) or not all(isinstance(item, str) and item for item in value):
        return "a list of addresses"
    for item in value:
        if item.isdecimal():
            return f"an address with its host: '127.0.0.1:{item}', or ':{item}' for all interfaces"
        if item.startswith(("@", "/", "./")):
            return f"an address: 'unix:{item}' for a Unix socket"
    return None


def paths(value: object) -> str | None:
    """Paths, or patterns of them."""
    if isinstance(value, tuple) and all(isinstance(item, str) and item for item in value):
        return None
    return "a list of paths"


def trusted_peers(value: object) -> str | None:
    """A trust list."""
    if value == ("127.0.0.1", "::1"):
        return None  # so that the default costs no import
    if not isinstance(value, tuple):
        return "a list of addresses"
    from .trust import TrustedProxies

    TrustedProxies(value)  # which says itself what is wrong
    return None


def url_path(value: object) -> str | None:
    """The path of a request."""
    if isinstance(value, str) and value.startswith("/") and not set(value) & set("?# "):
        return None
    return "a path that starts with a slash, without query,"


def url_paths(value: object) -> str | None:
    """Paths of requests, or with a star at the end what they begin with."""
    if isinstance(value, tuple) and all(
        isinstance(item, str) and item[:1] == "/" for item in value
    ):
        return None
    return "a list of paths that start with a slash"


def field_name(value: object) -> str | None:
    """The name of a header field."""
    if isinstance(value, str) and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", value):
        return None
    return "the name of a header field"


def log_format(value: object) -> str | None:
    """A format of the access log."""
    if value == "json":
        return None
    if isinstance(value, str) and "%" not in _ATOM.sub("", value):
        return None
    return "'json' or a format of the atoms %(h)s %(l)s %(u)s %(t)s %(r)s %(m)s %(U)s %(q)s " + (
        "%(H)s %(s)s %(B)s %(b)s %(f)s %(a)s %(T)s %(M)s %(D)s %(L)s %(p)s %(id)s %({field}i)s "
        "%({field}o)s"
    )


_ATOM = re.compile(r"%%|%\((?:[hlutrmUqHsBbfaTMDLp]|id|\{[^}]+\}[io])\)s")


def module_names(value: object) -> str | None:
    """Names of modules."""
    if isinstance(value, tuple) and all(
        isinstance(item, str) and all(map(str.isidentifier, item.split("."))) for item in value
    ):
        return None
    return "a list of names of modules"


def bindable(value: object) -> str | None:
    """One address to listen on."""
    if isinstance(value, str):
        if value.startswith("unix:") and value != "unix:":
            return None
        if value.startswith("fd://") and value.removeprefix("fd://").isdecimal():
            return None
        host, colon, port = value.rpartition(":")
        if colon and port.isdecimal() and int(port) <= 65535 and host != "unix":
            return None
    return "'HOST:PORT', '[IPV6]:PORT', 'unix:PATH', 'fd://N'"


def mount_path(value: object) -> str | None:
    """A prefix of paths."""
    if isinstance(value, str) and (not value or value.startswith("/")) and not value.endswith("/"):
        return None
    return "empty, or start with a slash and not end with one"
