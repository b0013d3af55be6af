"""The codec with other people's clients, which know no I/O either: ``websockets`` and ``wsproto``.

Handshake, messages of all kinds and the closing handshake, with every negotiation that the clients
can ask for.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Protocol

import pytest
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.uri import parse_uri
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Message,
    TextMessage,
)
from wsproto.events import Ping as PingEvent
from wsproto.events import Pong as PongEvent
from wsproto.events import Request as RequestEvent
from wsproto.extensions import PerMessageDeflate

from subinterp_asgi.http1 import RequestParser
from subinterp_asgi.websocket import (
    Close,
    DeflateOptions,
    Event,
    MessageParser,
    MessageWriter,
    Ping,
    Pong,
    negotiate_deflate,
    read_handshake,
)


class Client(Protocol):
    """A client that yields octets to send, and what it has received."""

    received: list[Any]

    def open(self) -> bytes: ...
    def opened(self, response: bytes) -> str | None:
        """Take the response; return the subprotocol."""

    def send(self, event: Event) -> bytes: ...
    def receive(self, data: bytes) -> bytes:
        """Take frames; return what is answered to them."""


class Websockets:
    """``websockets``' client protocol."""

    def __init__(self, subprotocols: list[str], extensions: list[dict[str, Any]]) -> None:
        self.received: list[Any] = []
        self._fragments: list[bytes] = []
        self._text = False
        self._protocol = ClientProtocol(
            parse_uri("ws://localhost/"),
            subprotocols=subprotocols or None,  # type: ignore[arg-type]
            extensions=[ClientPerMessageDeflateFactory(**offer) for offer in extensions] or None,
            max_size=None,
        )

    def open(self) -> bytes:
        request: Request = self._protocol.connect()
        self._protocol.send_request(request)
        return b"".join(self._protocol.data_to_send())

    def opened(self, response: bytes) -> str | None:
        self._protocol.receive_data(response)
        (event,) = self._protocol.events_received()
        assert isinstance(event, Response)
        assert self._protocol.handshake_exc is None
        return self._protocol.subprotocol

    def send(self, event: Event) -> bytes:
        match event:
            case str():
                self._protocol.send_text(event.encode())
            case bytes():
                self._protocol.send_binary(event)
            case Ping(payload=payload):
                self._protocol.send_ping(payload)
            case Pong(payload=payload):
                self._protocol.send_pong(payload)
            case Close(code=code, reason=reason):
                self._protocol.send_close(None if code == 1005 else code, reason)
        return b"".join(self._protocol.data_to_send())

    def receive(self, data: bytes) -> bytes:
        self._protocol.receive_data(data)
        assert self._protocol.parser_exc is None
        for frame in self._protocol.events_received():
            assert isinstance(frame, Frame)
            self._take(frame)
        return b"".join(self._protocol.data_to_send())

    def _take(self, frame: Frame) -> None:
        payload = bytes(frame.data)
        match frame.opcode:
            case Opcode.PING:
                self.received.append(Ping(payload))
            case Opcode.PONG:
                self.received.append(Pong(payload))
            case Opcode.CLOSE:
                close = self._protocol.close_rcvd
                self.received.append(Close(close.code, close.reason) if close else Close())
            case _:
                self.received.append(payload.decode() if frame.opcode is Opcode.TEXT else payload)


class Wsproto:
    """``wsproto``'s client."""

    def __init__(self, subprotocols: list[str], extensions: list[dict[str, Any]]) -> None:
        self.received: list[Any] = []
        self._parts: list[Any] = []
        self._subprotocols = subprotocols
        self._extensions = [PerMessageDeflate(**offer) for offer in extensions]
        self._connection = WSConnection(ConnectionType.CLIENT)

    def open(self) -> bytes:
        return self._connection.send(
            RequestEvent(
                host="localhost",
                target="/",
                subprotocols=self._subprotocols,
                extensions=list(self._extensions),
            )
        )

    def opened(self, response: bytes) -> str | None:
        self._connection.receive_data(response)
        (event,) = self._connection.events()
        assert isinstance(event, AcceptConnection)
        return event.subprotocol

    def send(self, event: Event) -> bytes:
        match event:
            case str():
                return self._connection.send(TextMessage(data=event))
            case bytes():
                return self._connection.send(BytesMessage(data=event))
            case Ping(payload=payload):
                return self._connection.send(PingEvent(payload=payload))
            case Pong(payload=payload):
                return self._connection.send(PongEvent(payload=payload))
            case Close(code=code, reason=reason):
                return self._connection.send(CloseConnection(code=code, reason=reason or None))

    def receive(self, data: bytes) -> bytes:
        self._connection.receive_data(data)
        answer = b""
        for event in self._connection.events():
            match event:
                case Message():
                    self._parts.append(event.data)
                    if event.message_finished:
                        whole = self._parts[0][:0].join(self._parts)
                        self.received.append(whole if isinstance(whole, str) else bytes(whole))
                        self._parts.clear()
                case PingEvent():
                    self.received.append(Ping(bytes(event.payload)))
                    answer += self._connection.send(event.response())
                case PongEvent():
                    self.received.append(Pong(bytes(event.payload)))
                case CloseConnection():
                    self.received.append(Close(event.code, event.reason or ""))
                    if self._connection.state.name == "REMOTE_CLOSING":
                        answer += self._connection.send(event.response())
        return answer


class Server:
    """Our side, as a session would be: it echoes messages."""

    def __init__(self, client: Client, options: DeflateOptions | None, **accept: Any) -> None:
        self.received: list[Event] = []
        http = RequestParser()
        http.feed(client.open())
        request = http.next_request()
        assert request is not None
        handshake = read_handshake(request.method, request.http_version, request.headers)
        self.deflate = options and negotiate_deflate(handshake.extensions, options)
        self._parser = MessageParser(inflater=self.deflate and self.deflate.inflater())
        self.writer = MessageWriter(self.deflate and self.deflate.deflater())
        self.subprotocol = client.opened(handshake.response(deflate=self.deflate, **accept))
        self._parser.feed(http.take_rest())

    def receive(self, data: bytes) -> bytes:
        self._parser.feed(data)
        answer = b""
        while (event := self._parser.next_event()) is not None:
            self.received.append(event)
            match event:
                case Ping(payload=payload):
                    answer += self.writer.pong(payload)
                case Close(code=code, reason=reason):
                    answer += self.writer.close(code, reason)
                case str() | bytes():
                    answer += b"".join(self.writer.message(event))
        return answer


CLIENTS: dict[str, Callable[[list[str], list[dict[str, Any]]], Client]] = {
    "websockets": Websockets,
    "wsproto": Wsproto,
}

WORDS = ["the", "quick", "brown", "fox", "jumps", "över", "the", "lazy", "dog", "世界", "😀"]
SOURCE = random.Random(1)
MESSAGES: list[str | bytes] = [
    "",
    b"",
    "a",
    "hello, world",
    b"\0\xff" * 50,
    " ".join(SOURCE.choices(WORDS, k=60)),
    " ".join(SOURCE.choices(WORDS, k=60)),
    SOURCE.randbytes(1000),
    " ".join(SOURCE.choices(WORDS, k=5000)),
    SOURCE.randbytes(70000),
    bytes(70000),
    "a" * 125,
    "é" * 63,
]

# Offers in the words of each client, for the same five negotiations.
OFFERS: dict[str, dict[str, list[dict[str, Any]]]] = {
    "websockets": {
        "no compression": [],
        "plain": [{}],
        "no context takeover": [
            {"server_no_context_takeover": True, "client_no_context_takeover": True}
        ],
        "small windows": [{"server_max_window_bits": 9, "client_max_window_bits": 9}],
        "any client window": [{"client_max_window_bits": True}],
    },
    "wsproto": {
        "no compression": [],
        "plain": [{}],
        "no context takeover": [
            {"server_no_context_takeover": True, "client_no_context_takeover": True}
        ],
        "small windows": [{"server_max_window_bits": 9, "client_max_window_bits": 9}],
        "any client window": [{"client_max_window_bits": 15}],
    },
}
OPTIONS = {
    "default": DeflateOptions(),
    "largest": DeflateOptions(
        server_max_window_bits=15, client_max_window_bits=15, memory_level=9, level=9, threshold=0
    ),
    "no context": DeflateOptions(
        server_no_context_takeover=True, client_no_context_takeover=True, threshold=0
    ),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("offer", OFFERS["websockets"])
@pytest.mark.parametrize("name", CLIENTS)
def test_messages(name: str, offer: str, options: DeflateOptions) -> None:
    client = CLIENTS[name]([], OFFERS[name][offer])
    server = Server(client, options)
    assert (server.deflate is None) == (offer == "no compression")
    for message in MESSAGES:
        client.receive(server.receive(client.send(message)))
    assert server.received == MESSAGES
    assert client.received == MESSAGES


@pytest.mark.parametrize("name", CLIENTS)
def test_a_server_that_does_not_compress(name: str) -> None:
    client = CLIENTS[name]([], OFFERS[name]["plain"])
    server = Server(client, None)
    for message in MESSAGES:
        client.receive(server.receive(client.send(message)))
    assert server.received == client.received == MESSAGES


@pytest.mark.parametrize("name", CLIENTS)
def test_many_in_one_read_and_one_in_many_reads(name: str) -> None:
    client = CLIENTS[name]([], OFFERS[name]["plain"])
    server = Server(client, DeflateOptions())
    client.receive(server.receive(b"".join(map(client.send, MESSAGES))))
    sent = b"".join(map(client.send, MESSAGES))
    for at in range(0, len(sent), 1000):
        answer = server.receive(sent[at : at + 1000])
        for start in range(0, len(answer), 1000):
            client.receive(answer[start : start + 1000])
    assert server.received == client.received == MESSAGES * 2


@pytest.mark.parametrize("name", CLIENTS)
def test_subprotocols_and_headers(name: str) -> None:
    client = CLIENTS[name](["first", "second"], [])
    server = Server(client, None, subprotocol="second", headers=[(b"x-a", b"b")])
    assert server.subprotocol == "second"


@pytest.mark.parametrize("name", CLIENTS)
def test_pings(name: str) -> None:
    client = CLIENTS[name]([], OFFERS[name]["plain"])
    server = Server(client, DeflateOptions())
    client.receive(server.receive(client.send(Ping(b"from the client"))))
    server.receive(client.receive(server.writer.ping(b"from the server")))
    assert server.received == [Ping(b"from the client"), Pong(b"from the server")]
    assert client.received == [Pong(b"from the client"), Ping(b"from the server")]


@pytest.mark.parametrize("close", [Close(1000, "done"), Close(4321, "grüße"), Close(1001)])
@pytest.mark.parametrize("name", CLIENTS)
def test_the_client_closes(name: str, close: Close) -> None:
    client = CLIENTS[name]([], [])
    server = Server(client, None)
    client.receive(server.receive(client.send(close)))
    assert server.received == [close]
    assert client.received == [close]
    assert server.writer.close_sent


@pytest.mark.parametrize("close", [Close(1000, "done"), Close(4321, "grüße"), Close(1012)])
@pytest.mark.parametrize("name", CLIENTS)
def test_the_server_closes(name: str, close: Close) -> None:
    client = CLIENTS[name]([], [])
    server = Server(client, None)
    answer = server.receive(client.receive(server.writer.close(close.code, close.reason)))
    assert client.received == [close]
    (echo,) = server.received
    assert isinstance(echo, Close)
    assert echo.code == close.code
    assert answer == b""


def test_a_close_frame_without_a_code() -> None:
    client = Websockets([], [])
    server = Server(client, None)
    client.receive(server.receive(client.send(Close(1005))))
    assert server.received == client.received == [Close(1005)]
