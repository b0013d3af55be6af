"""Responses as bytes: status line, fields, framing (RFC 9112 sections 4 and 6). No I/O.

A ``ResponseWriter`` is told what an application sends and returns what to put on the wire. It keeps
responses well-formed whatever the application does: one that would split a response, or not keep to
its own Content-Length, gets an ``ASGIProtocolError``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from http import HTTPStatus

from ..errors import ASGIProtocolError
from ..types import Field
from .response_head import ANY_LENGTH, check_block, classify, read_start

SERVER = b"subinterp-asgi"

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_NO_CONTENT = frozenset((204, 205, 304))


class DefaultFields:
    """The Server and Date fields (RFC 9110 section 6.6.1), those that are on, once a second."""

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
        *(_DAYS[t.tm_wday], t.tm_mday, _MONTHS[t.tm_mon - 1], t.tm_year),
        *t[3:6],
    )


class ResponseWriter:
    """Writes one response.

    Args:
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
        trailers_due: ``send_trailers()`` will be called after the body.
        truncated: It sent less than its Content-Length promised; the connection must be dropped.
    """

    __slots__ = (
        "_chunked",
        "_defaults",
        "_head_request",
        "_http10",
        "_remaining",
        "_start",
        "_trailers_ok",
        "bodiless",
        "body_complete",
        "complete",
        "head_sent",
        "keep_alive",
        "status",
        "trailers_due",
        "truncated",
    )

    def __init__(
        self,
        defaults: DefaultFields,
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

    def start(self, status: int, fields: Iterable[Field], *, trailers: bool = False) -> None:
        """Take status and fields of a response; nothing is rendered before the body begins.

        With ``trailers``, ``send_trailers()`` will be called after the body.

        Raises:
            ASGIProtocolError: The status is no final status code, or a field could not be sent as
                it is: a name that is no token, CR, LF or NUL in a value, something that is not
                bytes, a Content-Length that is no number.
        """
        self._start = start = read_start(status, fields)
        self._remaining = start.length
        self.trailers_due = trailers
        self.bodiless = self._head_request or status in _NO_CONTENT
        self.status = status

    @property
    def close_delimited(self) -> bool:
        """Whether a body was begun whose end only the end of the connection will tell."""
        return (
            self.head_sent
            and self._remaining == ANY_LENGTH
            and not (self._chunked or self.bodiless)
        )

    def send(self, body: bytes, *, more: bool) -> bytes:
        """Return the bytes for a piece of the body, perhaps empty, with the head before the first.

        Raises:
            ASGIProtocolError: The body is longer than its Content-Length.
        """
        if (
            not (more or self.head_sent or self.bodiless or self._http10 or self.trailers_due)
            and self._remaining == len(body)
            and self.keep_alive
            and self._start.plain
        ):
            # Most responses: all at once, and nothing out of the ordinary. What follows does the
            # same and takes twice as long.
            self.head_sent = self.body_complete = self.complete = True
            self._chunked = False
            self._remaining = 0
            return b"%s%s\r\n%s" % (self._start.block, self._defaults.render(), body)
        before, after = self.frame(len(body), more=more)
        if self.bodiless:
            return before
        if after:
            return b"%b%b%b" % (before, body, after)
        return before + body if before else body

    def frame(self, size: int, *, more: bool) -> tuple[bytes, bytes]:
        """Return what goes before and after a piece of ``size`` octets that is sent otherwise.

        A piece of a ``bodiless`` response is not sent at all. Errors as ``send()``.
        """
        if self._remaining != ANY_LENGTH and not self.bodiless:
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
            self.complete = not self.trailers_due
        if not self._chunked:
            return head, b""
        if size:
            head = b"%b%x\r\n" % (head, size)
        if more:
            return head, b"\r\n" if size else b""
        end = b"0\r\n" if self.trailers_due else b"0\r\n\r\n"
        return head, b"\r\n" + end if size else end

    def probe(self) -> bytes:
        """Octets that mean nothing, to see whether somebody reads; none if there are no such.

        Before the head that is ``100 Continue``, which clients must be able to take without having
        asked (RFC 9110 section 15.2), and in a chunked body a zero before the next chunk's size.
        """
        if not self.head_sent:
            return b"" if self._http10 else CONTINUE
        return b"0" if self._chunked and not (self.bodiless or self.body_complete) else b""

    def send_trailers(self, fields: Iterable[Field], *, more: bool) -> bytes:
        """Return the bytes for trailer fields (RFC 9110 section 6.5), if the client wants them.

        Raises:
            ASGIProtocolError: A field could not be sent as it is, or does not belong there.
        """
        lines: list[bytes] = []
        count = 0
        try:
            for name, value in fields:
                classify(name)
                if name.lower() in _NEVER_TRAILERS:
                    raise ASGIProtocolError(f"{name!r} can't be a trailer field")
                lines += (name, b": ", value, b"\r\n")
                count += 1
            block = b"".join(lines)
        except (TypeError, ValueError, AttributeError):
            raise ASGIProtocolError(
                "trailers must be an iterable of (name, value) pairs of bytes"
            ) from None
        check_block(block, count)
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
        if self._remaining == ANY_LENGTH and not self.bodiless:
            if not more and not (self.trailers_due and self._trailers_ok):
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
            and self._remaining == ANY_LENGTH
            and not more
            and size
            and self.status not in _NO_CONTENT
        ):
            framing = b"content-length: %d\r\n" % size
        start = self._start
        if start.connection or self._http10 or not self.keep_alive:
            framing += self._connection_line(start.connection)
            if self._http10 and _is_buffered_stream(start.block):
                framing += b"x-accel-buffering: no\r\n"
        if start.has_date or start.has_server:
            defaults = self._defaults.render_missing(
                has_date=start.has_date, has_server=start.has_server
            )
        else:
            defaults = self._defaults.render()
        return b"%s%s%s\r\n" % (start.block, framing, defaults)

    def _connection_line(self, named: Sequence[bytes]) -> bytes:
        if b"close" in named:
            self.keep_alive = False
        options = [o for o in named if o not in (b"close", b"keep-alive")]
        if not self.keep_alive:
            options.append(b"close")
        elif self._http10:
            options.append(b"keep-alive")
        return b"connection: %s\r\n" % b", ".join(options) if options else b""


def _is_buffered_stream(block: bytes) -> bool:
    """Whether a response is a stream of events that nginx, which asks in HTTP/1.0, would hold."""
    block = block.lower()
    return b"\ncontent-type: text/event-stream" in block and b"\nx-accel-buffering: " not in block


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
    check_block(block, len(lines))
    return b"HTTP/1.1 103 Early Hints\r\n%b\r\n" % block


def simple_response(
    status: int,
    defaults: DefaultFields,
    *,
    keep_alive: bool,
    head_request: bool = False,
    fields: Iterable[Field] = (),
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
