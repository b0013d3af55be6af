"""Responses as bytes: status line, fields, framing (RFC 9112 sections 4 and 6). No I/O.

A ``ResponseWriter`` is told what an application sends and returns what to put on the wire. It keeps
responses well-formed whatever the application does: one that would split a response, or not keep to
its own Content-Length, gets an ``ASGIProtocolError``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from http import HTTPStatus

from ..errors import ASGIProtocolError
from .fields import split_list
from .grammar import FIELD_NAME, TOKEN

SERVER = b"subinterp-asgi"

STATUS_LINES: dict[int, bytes] = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode("ascii"))
    for status in HTTPStatus
    if status >= 200
}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_NO_CONTENT = frozenset((204, 205, 304))
_ANY_LENGTH = -1  # _remaining of a response without Content-Length

# What a field that an application sends means to the writer.
_PLAIN, _CONTENT_LENGTH, _TRANSFER_ENCODING, _CONNECTION, _DATE, _SERVER = range(6)
_SPECIAL = {
    b"content-length": _CONTENT_LENGTH,
    b"transfer-encoding": _TRANSFER_ENCODING,
    b"connection": _CONNECTION,
    b"keep-alive": _TRANSFER_ENCODING,
    b"date": _DATE,
    b"server": _SERVER,
}


class DefaultFields:
    """The Server and Date fields, rendered once a second.

    Args:
        server: Send ``Server``.
        date: Send ``Date`` (RFC 9110 section 6.6.1).
    """

    __slots__ = ("_rendered", "_second", "_server_line", "_with_date")

    def __init__(self, *, server: bool = True, date: bool = True) -> None:
        self._server_line = b"server: %s\r\n" % SERVER if server else b""
        self._with_date = date
        self._second = -1
        self._rendered = self._server_line

    def render(self) -> bytes:
        """Both field lines, those that are on."""
        if self._with_date and (second := int(time.time())) != self._second:
            self._second = second
            self._rendered = self._server_line + b"date: %s\r\n" % http_date(second)
        return self._rendered

    def render_missing(self, *, has_date: bool, has_server: bool) -> bytes:
        """The lines of those that the application did not send itself."""
        server_line = b"" if has_server else self._server_line
        if has_date or not self._with_date:
            return server_line
        return server_line + b"date: %s\r\n" % http_date(int(time.time()))


_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


def http_date(second: int) -> bytes:
    """Format a POSIX time as IMF-fixdate (RFC 9110 section 5.6.7), whatever the locale is."""
    t = time.gmtime(second)
    return b"%s, %02d %s %04d %02d:%02d:%02d GMT" % (
        _DAYS[t.tm_wday],
        t.tm_mday,
        _MONTHS[t.tm_mon - 1],
        t.tm_year,
        t.tm_hour,
        t.tm_min,
        t.tm_sec,
    )


class ResponseWriter:
    """Writes one response.

    Args:
        defaults: Source of the Server and Date fields.
        head_request: The request's method was HEAD.
        http10: The client speaks HTTP/1.0.
        keep_alive: The connection may live on after this response, as far as the client goes.
        trailers_ok: The client takes trailer fields (``TE: trailers``).

    Attributes:
        status: The status code, or 0 before ``start()``.
        keep_alive: Whether the connection may live on; final once ``complete`` is set.
        head_sent: Bytes of this response were returned, so that no other can replace it.
        bodiless: Whatever body there is must not be sent.
        body_complete: The last piece of the body was sent; trailers may follow.
        complete: The application has sent all it will.
        truncated: It sent less than its Content-Length promised; the connection must be dropped.
    """

    __slots__ = (
        "_block",
        "_chunked",
        "_connection",
        "_defaults",
        "_head_request",
        "_http10",
        "_remaining",
        "_seen_date",
        "_seen_server",
        "_trailers_due",
        "_trailers_ok",
        "bodiless",
        "body_complete",
        "complete",
        "head_sent",
        "keep_alive",
        "status",
        "truncated",
    )

    def __init__(
        self,
        defaults: DefaultFields,
        *,
        head_request: bool = False,
        http10: bool = False,
        keep_alive: bool = True,
        trailers_ok: bool = False,
    ) -> None:
        self._trailers_ok = trailers_ok
        self._defaults = defaults
        self._head_request = head_request
        self._http10 = http10
        self.keep_alive = keep_alive
        self.status = 0
        self.head_sent = False
        self.body_complete = False
        self.complete = False
        self.truncated = False

    def start(
        self, status: int, fields: Iterable[tuple[bytes, bytes]], *, trailers: bool = False
    ) -> None:
        """Take status and fields of a response; nothing is rendered before the body begins.

        Args:
            status: The status code.
            fields: (name, value) pairs.
            trailers: ``send_trailers()`` will be called after the body.

        Raises:
            ASGIProtocolError: The status is no final status code, or a field could not be sent as
                it is: a name that is no token, CR, LF or NUL in a value, something that is not
                bytes, a Content-Length that is no number.
        """
        status_line = STATUS_LINES.get(status)
        if status_line is None:
            status_line = _unusual_status_line(status)
        parts = [status_line]
        count = 1
        self._remaining = _ANY_LENGTH
        self._seen_date = self._seen_server = False
        self._connection: list[bytes] = []
        try:
            for name, value in fields:
                kind = _kinds.get(name)
                if kind is None:
                    kind = _classify(name)
                if kind is not _PLAIN and self._take_special(kind, value, status):
                    continue
                parts += (name, b": ", value, b"\r\n")
                count += 1
            block = b"".join(parts)
        except (TypeError, ValueError, AttributeError):
            raise ASGIProtocolError(
                "response headers must be an iterable of (name, value) pairs of bytes"
            ) from None
        _check_block(block, count)
        self._block = block
        self._trailers_due = trailers
        self.bodiless = self._head_request or status in _NO_CONTENT
        self.status = status

    def _take_special(self, kind: int, value: bytes, status: int) -> bool:
        """Note a field that the writer acts on; ``True`` if it must not be sent as it is."""
        if kind == _CONTENT_LENGTH:
            if not value.isdigit():
                raise ASGIProtocolError(f"invalid Content-Length in the response: {value!r}")
            if self._remaining not in (_ANY_LENGTH, int(value)):
                raise ASGIProtocolError("the response has two values of Content-Length")
            repeated = self._remaining != _ANY_LENGTH
            self._remaining = int(value)
            # RFC 9110 section 8.6: never with 204; 205 has no content (section 15.3.6).
            return repeated or status in (204, 205)
        if kind == _CONNECTION:
            options = split_list(value)
            if not all(map(TOKEN.fullmatch, options)):
                raise ASGIProtocolError(f"invalid Connection in the response: {value!r}")
            self._connection += options
            return True
        if kind == _DATE:
            self._seen_date = True
        elif kind == _SERVER:
            self._seen_server = True
        # Framing and persistence are the server's (RFC 9110 section 7.6.1): the application's
        # Transfer-Encoding and Keep-Alive are dropped.
        return kind == _TRANSFER_ENCODING

    @property
    def close_delimited(self) -> bool:
        """Whether a body was begun whose end only the end of the connection will tell."""
        return (
            self.head_sent
            and self._remaining == _ANY_LENGTH
            and not (self._chunked or self.bodiless)
        )

    def send(self, body: bytes, *, more: bool) -> bytes:
        """Return the bytes for a piece of the body, with the head before the first.

        Args:
            body: The piece; it may be empty.
            more: Whether further pieces follow.

        Raises:
            ASGIProtocolError: The body is longer than its Content-Length.
        """
        before, after = self.frame(len(body), more=more)
        if self.bodiless:
            return before
        if after:
            return b"%b%b%b" % (before, body, after)
        return before + body if before else body

    def frame(self, size: int, *, more: bool) -> tuple[bytes, bytes]:
        """Return what goes before and after a piece of ``size`` octets that is sent otherwise.

        A piece of a ``bodiless`` response is not sent at all. Arguments and errors as ``send()``.
        """
        if self._remaining != _ANY_LENGTH and not self.bodiless:
            if size > self._remaining:
                raise ASGIProtocolError("the response body is longer than its Content-Length")
            self._remaining -= size
            if self._remaining and not more:
                # The client can tell only by the connection closing early (RFC 9112 section 8).
                self.truncated = True
                self.keep_alive = False
        head = b""
        if not self.head_sent:
            head = self._head(size, more)
            self.head_sent = True
        if not more:
            self.body_complete = True
            self.complete = not self._trailers_due
        if not self._chunked:
            return head, b""
        if size:
            head = b"%b%x\r\n" % (head, size)
        if more:
            return head, b"\r\n" if size else b""
        end = b"0\r\n" if self._trailers_due else b"0\r\n\r\n"
        return head, b"\r\n" + end if size else end

    def send_trailers(self, fields: Iterable[tuple[bytes, bytes]], *, more: bool) -> bytes:
        """Return the bytes for trailer fields (RFC 9110 section 6.5), if the client wants them.

        Raises:
            ASGIProtocolError: A field could not be sent as it is, or does not belong there.
        """
        lines: list[bytes] = []
        count = 0
        try:
            for name, value in fields:
                if name not in _kinds:
                    _classify(name)
                if name.lower() in _NEVER_TRAILERS:
                    raise ASGIProtocolError(f"{name!r} can't be a trailer field")
                lines += (name, b": ", value, b"\r\n")
                count += 1
            block = b"".join(lines)
        except (TypeError, ValueError, AttributeError):
            raise ASGIProtocolError(
                "trailers must be an iterable of (name, value) pairs of bytes"
            ) from None
        _check_block(block, count)
        self.complete = not more
        if not self._chunked:
            return b""
        if not self._trailers_ok:
            block = b""
        return block if more else block + b"\r\n"

    def _head(self, size: int, more: bool) -> bytes:
        """Render the head, now that it is known whether the first piece of the body is all."""
        framing = b""
        self._chunked = False
        if self._remaining == _ANY_LENGTH and not self.bodiless:
            if not more and not (self._trailers_due and self._trailers_ok):
                self._remaining = size
                framing = b"content-length: %d\r\n" % size
            elif self._http10:
                self.keep_alive = False  # the end of the connection is the end of the body
            else:
                self._chunked = True
                framing = b"transfer-encoding: chunked\r\n"
        elif self.status == 205:
            framing = b"content-length: 0\r\n"
        elif (
            self._head_request
            and self._remaining == _ANY_LENGTH
            and not more
            and size
            and self.status not in _NO_CONTENT
        ):
            framing = b"content-length: %d\r\n" % size
        if self._connection or self._http10 or not self.keep_alive:
            framing += self._connection_line()
        if self._seen_date or self._seen_server:
            defaults = self._defaults.render_missing(
                has_date=self._seen_date, has_server=self._seen_server
            )
        else:
            defaults = self._defaults.render()
        return b"%s%s%s\r\n" % (self._block, framing, defaults)

    def _connection_line(self) -> bytes:
        if b"close" in self._connection:
            self.keep_alive = False
        options = [o for o in self._connection if o not in (b"close", b"keep-alive")]
        if not self.keep_alive:
            options.append(b"close")
        elif self._http10:
            options.append(b"keep-alive")
        return b"connection: %s\r\n" % b", ".join(options) if options else b""


def render_early_hints(links: Iterable[bytes]) -> bytes:
    """Render a 103 response with Link fields (RFC 8297).

    Raises:
        ASGIProtocolError: A link is not bytes, or has CR, LF or NUL in it.
    """
    try:
        lines = [b"link: %b\r\n" % link for link in links]
    except TypeError:
        raise ASGIProtocolError("the links of an early hint must be bytes") from None
    block = b"".join(lines)
    _check_block(block, len(lines))
    return b"HTTP/1.1 103 Early Hints\r\n%b\r\n" % block


def simple_response(
    status: int,
    defaults: DefaultFields,
    *,
    keep_alive: bool,
    head_request: bool = False,
    fields: Iterable[tuple[bytes, bytes]] = (),
) -> bytes:
    """A whole response of the server's own, with the status' phrase as its body."""
    text = HTTPStatus(status).phrase.encode("ascii") + b"\n"
    writer = ResponseWriter(defaults, head_request=head_request, keep_alive=keep_alive)
    writer.start(status, [(b"content-type", b"text/plain; charset=utf-8"), *fields])
    return writer.send(text, more=False)


# RFC 9110 section 6.5.1: fields for framing, routing, authentication and for handling the content
# must be known before it.
_NEVER_TRAILERS = frozenset(
    b"content-length transfer-encoding connection keep-alive te trailer upgrade host "
    b"authorization proxy-authenticate set-cookie www-authenticate "
    b"content-encoding content-range content-type".split()
)


def _check_block(block: bytes, lines: int) -> None:
    """Check that rendered lines are as many as were meant."""
    if block.count(b"\n") != lines or block.count(b"\r") != lines or b"\0" in block:
        raise ASGIProtocolError("a response header value contains CR, LF or NUL")


# Names that applications have sent, each checked once. Bounded, since an application may make
# names up from data; beyond the bound they are checked every time.
_kinds: dict[bytes, int] = dict(_SPECIAL)
_MAX_KINDS = 1024


def _classify(name: bytes) -> int:
    if FIELD_NAME.fullmatch(name) is None:
        raise ASGIProtocolError(f"invalid response header name: {name!r}")
    kind = _SPECIAL.get(bytes(name).lower(), _PLAIN)
    if len(_kinds) < _MAX_KINDS:
        _kinds[bytes(name)] = kind
    return kind


def _unusual_status_line(status: object) -> bytes:
    if not isinstance(status, int) or not 200 <= status <= 999:
        raise ASGIProtocolError(f"not a final status code: {status!r}")
    return b"HTTP/1.1 %d \r\n" % status
