"""The access log where more is asked for than its default line: a format, JSON, a choice, ids.

Loaded only then. Atoms of formats are those of gunicorn.
"""

from __future__ import annotations

import binascii
import json
import logging
import os
import re
from time import gmtime, strftime, time

from ..config import Config
from ..control.log_records import REQUEST_ID
from ..types import TYPE_CHECKING
from . import access_log
from .asgi.notes import Notes
from .interpreter.importer import import_function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from .asgi.state import AccessLog, DetailedLog, Served

logger = logging.getLogger("subinterp_asgi.error")

_NOTHING = Notes()


class _Entry:
    """A request that has ended, and what the atoms of a format say of it."""

    def __init__(self, served: Served, status: int, seconds: float) -> None:
        self.served = served
        self.request = served.request
        self.notes = getattr(served, "notes", _NOTHING)
        self.status = status
        self.seconds = seconds

    @property
    def path(self) -> str:
        return self.request.raw_path.decode("ascii", "replace")

    @property
    def query(self) -> str:
        return self.request.query.decode("ascii", "replace")

    @property
    def protocol(self) -> str:
        return f"HTTP/{self.request.http_version}"

    @property
    def client(self) -> str:
        return "-" if self.served.client is None else access_log.octets_of(self.served.client)

    @property
    def size(self) -> int:
        if self.request.method == "HEAD":
            return 0
        if not self.notes.size:  # a file, perhaps
            length = self.sent("content-length")
            return int(length) if length.isdecimal() else 0
        return self.notes.size

    def received(self, name: str) -> str:
        """A field of the request."""
        return _field(self.request.items, name)

    def sent(self, name: str) -> str:
        """A field of the response."""
        return _field(self.notes.fields, name)

    @property
    def user(self) -> str:
        kind, _, text = self.received("authorization").partition(" ")
        if kind.lower() != "basic":
            return "-"
        try:
            return binascii.a2b_base64(text).partition(b":")[0].decode("latin-1") or "-"
        except ValueError:
            return "-"

    def as_dict(self) -> dict[str, Any]:
        """What JSON lines and the predicate of ``access_log_filter`` say of it."""
        now = time()
        entry: dict[str, Any] = {
            "time": strftime("%Y-%m-%dT%H:%M:%S", gmtime(now)) + f".{int(now % 1 * 1000):03d}Z",
            "client": None if self.served.client is None else self.served.client[0],
            "method": self.request.method,
            "path": self.path,
            "query": self.query,
            "protocol": self.protocol,
            "status": self.status,
            "size": self.size,
            "duration": round(self.seconds, 6),
        }
        for name in ("referer", "user-agent"):
            value = self.received(name)
            entry[name.replace("-", "_")] = None if value == "-" else value
        if self.notes.request_id != "-":
            entry["request_id"] = self.notes.request_id
        return entry


def _field(fields: Iterable[Any], name: str) -> str:
    wanted = name.lower().encode("latin-1", "replace")
    try:
        found = next((value for key, value in fields if key.lower() == wanted), b"-")
        return str(found, "latin-1")
    except (AttributeError, TypeError, ValueError):
        return "-"  # they are malformed, and the response was refused


_ATOMS: dict[str, Callable[[_Entry], object]] = {
    "h": lambda entry: entry.client,
    "l": lambda entry: "-",
    "u": lambda entry: entry.user,
    "t": lambda entry: strftime("[%d/%b/%Y:%H:%M:%S %z]"),
    "r": lambda entry: (
        f"{entry.request.method} {entry.request.target.decode('ascii', 'replace')} {entry.protocol}"
    ),
    "m": lambda entry: entry.request.method,
    "U": lambda entry: entry.path,
    "q": lambda entry: entry.query,
    "H": lambda entry: entry.protocol,
    "s": lambda entry: entry.status,
    "B": lambda entry: entry.size,
    "b": lambda entry: entry.size or "-",
    "f": lambda entry: entry.received("referer"),
    "a": lambda entry: entry.received("user-agent"),
    "T": lambda entry: int(entry.seconds),
    "M": lambda entry: int(entry.seconds * 1e3),
    "D": lambda entry: int(entry.seconds * 1e6),
    "L": lambda entry: f"{entry.seconds:.6f}",
    "p": lambda entry: f"<{os.getpid()}>",
    "id": lambda entry: entry.notes.request_id,
}


def _formatter(form: str) -> Callable[[_Entry], str]:
    if form == "json":
        return lambda entry: json.dumps(entry.as_dict()).replace("\x7f", "\\u007f")
    readers: list[Callable[[_Entry], object]] = []

    def place(found: re.Match[str]) -> str:
        name = found[1]
        if name.startswith("{"):
            header, kind = name[1:-2], name[-1]
            readers.append(
                lambda entry: entry.received(header) if kind == "i" else entry.sent(header)
            )
        else:
            readers.append(_ATOMS[name])
        return "%s"

    template = re.sub(r"%\(([^)]*)\)s", place, form)
    return lambda entry: template % tuple(access_log.escaped(str(read(entry))) for read in readers)


def _predicate(path: str) -> Callable[[dict[str, Any]], object]:
    found = import_function("access_log_filter", path)

    def wanted(entry: dict[str, Any]) -> object:
        try:
            return found(entry)
        except Exception:
            logger.exception("access_log_filter: %s failed; the request is logged", path)
            return True

    return wanted


def make_detailed_log(config: Config, simple_log: AccessLog) -> DetailedLog:
    """Make what logs requests as the options say; ``simple_log`` is how their line is logged."""
    exact = {path for path in config.access_log_exclude if not path.endswith("*")}
    below = tuple(path[:-1] for path in config.access_log_exclude if path.endswith("*"))
    wanted = None if config.access_log_filter is None else _predicate(config.access_log_filter)
    form = None if config.access_log_format is None else _formatter(config.access_log_format)
    directly = simple_log is access_log.log_access_directly
    identified = config.request_id_header is not None

    def log(served: Served, status: int, seconds: float) -> None:
        request = served.request
        if request.path in exact or request.path.startswith(below):
            return
        entry = _Entry(served, status, seconds)
        if wanted is not None and not wanted(entry.as_dict()):
            return
        line = "" if form is None else form(entry)
        target = request.target.decode("ascii")
        what = (served.client, request.method, target, request.http_version, status, seconds)
        if directly and form is not None:
            access_log.write_line(line)
        elif directly:
            mark = f"[{entry.notes.request_id}] " if identified else ""
            text = access_log.ACCESS_MESSAGE % access_log.access_arguments(*what)
            access_log.write_line(f"INFO: {mark}{text}")
        else:
            token = REQUEST_ID.set(entry.notes.request_id)  # (the context may be any)
            try:
                if form is None:
                    simple_log(*what)
                else:
                    access_log.access_logger.info("%s", line)
            finally:
                REQUEST_ID.reset(token)

    return log
