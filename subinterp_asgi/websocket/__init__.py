"""WebSockets (RFC 6455, RFC 7692) without I/O, for servers: handshake, parser and writer.

They need neither this package's server nor one another::

    handshake = read_handshake(method, http_version, headers)   # HandshakeError: answer its status
    deflate = negotiate_deflate(handshake.extensions)           # None: no compression
    send(handshake.response(subprotocol=None, deflate=deflate))

    parser = MessageParser(inflater=deflate and deflate.inflater())
    writer = MessageWriter(deflate and deflate.deflater())
    parser.feed(request_parser.take_rest())                     # what came with the request
    try:
        while not parser.closed:
            while (event := parser.next_event()) is not None:
                match event:
                    case str() | bytes():
                        for part in writer.message(event):      # an echo
                            send(part)
                    case Ping(payload=payload):
                        send(writer.pong(payload))
                    case Close(code=code):
                        send(writer.close(code))                # b"" if ours went first
            if not parser.closed:
                parser.feed(receive())
    except ProtocolError as error:
        send(writer.close(error.code, str(error)))
    hang_up()                                                   # the server closes first
"""

from .errors import HandshakeError, ProtocolError
from .extensions import DeflateAgreement, DeflateOptions, negotiate_deflate
from .frames import Close, CloseCode, Event, Ping, Pong
from .handshake import Handshake, read_handshake
from .parser import MessageParser
from .writer import MessageWriter

__all__ = [
    "Close",
    "CloseCode",
    "DeflateAgreement",
    "DeflateOptions",
    "Event",
    "Handshake",
    "HandshakeError",
    "MessageParser",
    "MessageWriter",
    "Ping",
    "Pong",
    "ProtocolError",
    "negotiate_deflate",
    "read_handshake",
]
