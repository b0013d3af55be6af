"""The negotiation of extensions (RFC 6455 section 9.1), of which permessage-deflate is known.

What RFC 7692 section 7.1 lets the two sides agree upon is here; the compression itself is in
``deflate``, which is imported once a connection has agreed upon it, and ``zlib`` with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..http1.grammar import TCHAR
from ..types import TYPE_CHECKING
from .errors import HandshakeError

if TYPE_CHECKING:
    from .deflate import Deflater, Inflater

PERMESSAGE_DEFLATE = b"permessage-deflate"

# RFC 6455 section 9.1: extension-list, whose parameters are tokens or quoted strings that would be
# tokens without their quotes. "#" lists may have empty elements (RFC 9110 section 5.6.1.2).
_OWS = rb"[ \t]*+"
_PARAMETER = (
    _OWS + rb";" + _OWS + rb"(" + TCHAR + rb"++)"
    rb"(?:" + _OWS + rb"=" + _OWS + rb"(?:(" + TCHAR + rb'++)|"((?:\\?+' + TCHAR + rb')++)"))?+'
)
_NAME = re.compile(_OWS + rb"(" + TCHAR + rb"++)")
_PARAMETER_PATTERN = re.compile(_PARAMETER)
_SEPARATOR = re.compile(_OWS + rb"(?:,[ \t,]*+|\Z)")
_LEADING = re.compile(rb"[ \t,]*+")

# RFC 7692 sections 7.1.2.1 and 7.1.2.2: a decimal number without leading zeros, from 8 to 15.
_WINDOW_BITS = {b"%d" % bits: bits for bits in range(8, 16)}

type Parameters = list[tuple[bytes, bytes | None]]
"""(lower-cased name, value) pairs in order; ``None`` where a parameter has no value."""
type Extension = tuple[bytes, Parameters]


def parse_extensions(value: bytes) -> list[Extension]:
    """Parse the value of ``Sec-WebSocket-Extensions``, in which each element is an offer.

    ``HandshakeError``: it does not conform to the grammar.
    """
    extensions: list[Extension] = []
    pos = _end(_LEADING, value, 0)
    while pos < len(value):
        name = _NAME.match(value, pos)
        if name is None:
            raise HandshakeError("malformed Sec-WebSocket-Extensions")
        pos = name.end()
        parameters: Parameters = []
        while parameter := _PARAMETER_PATTERN.match(value, pos):
            key, token, quoted = parameter.groups()
            if quoted is not None:
                token = quoted.replace(b"\\", b"")
            parameters.append((key.lower(), token))
            pos = parameter.end()
        pos = _end(_SEPARATOR, value, pos)
        extensions.append((name[1].lower(), parameters))
    return extensions


def _end(pattern: re.Pattern[bytes], value: bytes, pos: int) -> int:
    match = pattern.match(value, pos)
    if match is None:
        raise HandshakeError("malformed Sec-WebSocket-Extensions")
    return match.end()


class DeflateOptions:
    """What a server wants of permessage-deflate, where the client leaves it the choice.

    Args:
        server_max_window_bits: Largest window to compress with, 9 to 15. With ``memory_level`` it
            sets what a connection that compresses holds: 32 KiB with the defaults, 256 KiB with
            the 15 and 8 that ``zlib`` would choose.
        client_max_window_bits: Largest window to decompress with, 8 to 15, for clients that can be
            told; others use 15. The window is what an inflating connection holds.
        server_no_context_takeover: Compress each message by itself, and hold nothing in between.
        client_no_context_takeover: Have the client do so.
        memory_level: As that of ``zlib.compressobj()``.
        level: As well. The default is the fastest: beside it, 6 saves a fifth of what is sent, for
            a tenth more time with 100 octets of JSON, and 3.5 times the time with 8000.
        threshold: Octets below which messages are sent as they are. Without earlier messages to
            refer to, 16 octets of JSON become 18, 64 become 54, and 128 become 79; with such, 117
            become 30. Compressing takes at least 1 µs here, and as much again at the client.
    """

    def __init__(
        self,
        *,
        server_max_window_bits: int = 12,
        client_max_window_bits: int = 12,
        server_no_context_takeover: bool = False,
        client_no_context_takeover: bool = False,
        memory_level: int = 5,
        level: int = 1,
        threshold: int = 64,
    ) -> None:
        self.server_max_window_bits = server_max_window_bits
        self.client_max_window_bits = client_max_window_bits
        self.server_no_context_takeover = server_no_context_takeover
        self.client_no_context_takeover = client_no_context_takeover
        self.memory_level = memory_level
        self.level = level
        self.threshold = threshold


class DeflateAgreement:
    """The parameters of permessage-deflate that both sides keep to.

    Attributes:
        response: The extension's element of the response's ``Sec-WebSocket-Extensions``.
    """

    def __init__(
        self,
        options: DeflateOptions,
        *,
        server_no_context_takeover: bool,
        client_no_context_takeover: bool,
        server_max_window_bits: int | None,
        client_max_window_bits: int | None,
    ) -> None:
        """A limit on window bits that is ``None`` was not agreed upon."""
        self._options = options
        self.server_no_context_takeover = server_no_context_takeover
        self.client_no_context_takeover = client_no_context_takeover
        self.server_max_window_bits = server_max_window_bits or options.server_max_window_bits
        self.client_max_window_bits = client_max_window_bits or 15
        response = PERMESSAGE_DEFLATE
        if server_no_context_takeover:
            response += b"; server_no_context_takeover"
        if client_no_context_takeover:
            response += b"; client_no_context_takeover"
        if server_max_window_bits:
            response += b"; server_max_window_bits=%d" % server_max_window_bits
        if client_max_window_bits:
            response += b"; client_max_window_bits=%d" % client_max_window_bits
        self.response = response

    def inflater(self) -> Inflater:
        """What a server's parser needs."""
        from .deflate import Inflater

        return Inflater(
            window_bits=self.client_max_window_bits,
            context_takeover=not self.client_no_context_takeover,
        )

    def deflater(self) -> Deflater | None:
        """What a server's writer needs.

        ``None`` if the client asked for a window of 256 octets, which ``zlib`` can't compress with:
        such a client is sent its messages uncompressed, as any may be (RFC 7692 section 6).
        """
        from .deflate import Deflater

        if self.server_max_window_bits < 9:
            return None
        return Deflater(
            window_bits=self.server_max_window_bits,
            context_takeover=not self.server_no_context_takeover,
            memory_level=self._options.memory_level,
            level=self._options.level,
            threshold=self._options.threshold,
        )


def negotiate_deflate(
    offers: Iterable[Extension], options: DeflateOptions | None = None
) -> DeflateAgreement | None:
    """Accept the first offer of permessage-deflate that can be accepted (RFC 7692 section 5).

    The client's preferences come first. ``None``: the extension was not offered, or never with
    parameters that are valid.
    """
    options = options or DeflateOptions()
    for name, parameters in offers:
        if name == PERMESSAGE_DEFLATE:
            agreement = _accept(parameters, options)
            if agreement is not None:
                return agreement
    return None


def _accept(parameters: Parameters, options: DeflateOptions) -> DeflateAgreement | None:
    """Accept an offer, or decline it for a parameter that RFC 7692 section 7.1 does not define: one
    that is unknown, given twice, or has a value that it can't have."""
    given = dict(parameters)
    if len(given) != len(parameters):
        return None
    server_bits = client_bits = None
    for name, value in parameters:
        match name:
            case b"server_no_context_takeover" | b"client_no_context_takeover":
                if value is not None:
                    return None
            case b"server_max_window_bits":
                server_bits = _WINDOW_BITS.get(value or b"")
                if server_bits is None:
                    return None
                server_bits = min(server_bits, options.server_max_window_bits)
            case b"client_max_window_bits":
                # Without a value it says that the client can be told (section 7.1.2.2).
                client_bits = 15 if value is None else _WINDOW_BITS.get(value)
                if client_bits is None:
                    return None
                client_bits = min(client_bits, options.client_max_window_bits)
            case _:
                return None
    return DeflateAgreement(
        options,
        server_no_context_takeover=(
            b"server_no_context_takeover" in given or options.server_no_context_takeover
        ),
        client_no_context_takeover=(
            b"client_no_context_takeover" in given or options.client_no_context_takeover
        ),
        server_max_window_bits=server_bits,
        client_max_window_bits=client_bits,
    )
