"""A WebSocket client that costs next to nothing: it presses a server with messages to echo.

Its frames are masked once, before the clock runs, and of what comes back it counts the octets, once
the first echo of each connection was found to be right. ``python -m benchmarks.websocket_client
--port 8000`` prints a line of JSON.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import select
import socket
import statistics
import struct
import sys
import time

TEXT, BINARY = 0x1, 0x2
_FIN, _MASKED = 0x80, 0x80
_MASK = b"\x37\xfa\x21\x3d"
_TIMEOUT = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--size", type=int, default=32, help="octets of a message")
    parser.add_argument("--binary", action="store_true")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--in-flight", type=int, default=1, help="messages under way at once")
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    opcode = BINARY if arguments.binary else TEXT
    try:
        result = press(
            arguments.port,
            opcode,
            b"m" * arguments.size,
            arguments.connections,
            arguments.in_flight,
            arguments.seconds,
        )
    except (OSError, ValueError) as exc:
        print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


def press(
    port: int, opcode: int, message: bytes, connections: int, in_flight: int, seconds: float
) -> dict[str, float]:
    """Send and count echoes for a while.

    Raises:
        OSError: The connection failed.
        ValueError: What came was no handshake, or no echo.
    """
    sent, echo = frame(opcode, message, _MASK), frame(opcode, message)
    turn, answer = sent * in_flight, len(echo) * in_flight
    latencies: list[float] = []
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(open_websocket(port)) for _ in range(connections)]
        epoll = stack.enter_context(select.epoll())
        for sock in socks:
            _check_echo(sock, sent, echo)
            sock.setblocking(False)
            epoll.register(sock, select.EPOLLIN)
        clients = {sock.fileno(): _Client(sock, turn, answer) for sock in socks}
        began = time.perf_counter()
        for client in clients.values():
            client.send(began)
        while True:
            events = epoll.poll(1.0)
            now = time.perf_counter()
            if now >= began + seconds:
                break
            for number, _ in events:
                client = clients[number]
                if client.receive():
                    latencies.append(now - client.since)
                    client.send(now)
                if client.writes != (client.unsent is not None):
                    client.writes = not client.writes
                    wanted = select.EPOLLIN | (select.EPOLLOUT if client.writes else 0)
                    epoll.modify(number, wanted)
    if seconds and not latencies:
        raise ValueError("no echo came")
    percentiles = statistics.quantiles(latencies, n=100) if len(latencies) > 1 else [0.0] * 99
    return {
        "requests": len(latencies) * in_flight,
        "seconds": now - began,
        "p50": percentiles[49] * 1000,
        "p99": percentiles[98] * 1000,
    }


class _Client:
    """A connection: so many octets out, so many back, and again."""

    def __init__(self, sock: socket.socket, message: bytes, expected: int) -> None:
        self.sock = sock
        self.since = 0.0
        self.unsent: memoryview | None = None
        self.writes = False
        self._message = message
        self._missing = self._expected = expected
        self._buffer = bytearray(262144)

    def send(self, now: float) -> None:
        """Begin a turn."""
        self.since = now
        self.unsent = memoryview(self._message)
        self._flush()

    def _flush(self) -> None:
        if self.unsent is not None:
            try:
                self.unsent = self.unsent[self.sock.send(self.unsent) :] or None
            except BlockingIOError:
                pass

    def receive(self) -> bool:
        """Take in what has come, go on sending; return whether all echoes of a turn are here."""
        self._flush()
        try:
            count = self.sock.recv_into(self._buffer)
        except BlockingIOError:
            return False
        if not count:
            raise ValueError("the server closed the connection")
        self._missing -= count
        if self._missing > 0:
            return False
        if self._missing:
            raise ValueError("more came back than was sent")
        self._missing = self._expected
        return True


def open_websocket(port: int) -> socket.socket:
    """Connect and shake hands; compression is not offered."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = base64.b64encode(os.urandom(16))
    sock.sendall(
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n" % key
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        octet = sock.recv(1)  # one at a time: what follows is not the head's
        if not octet:
            raise ValueError("the server closed the connection instead of upgrading it")
        head += octet
    if b" 101 " not in head.partition(b"\r\n")[0] + b" ":
        raise ValueError(f"the server refused: {head.partition(bytes((13,)))[0].decode()}")
    if accept_key(key) not in head:
        raise ValueError("the server answers the handshake with a wrong key")
    return sock


def accept_key(key: bytes) -> bytes:
    """What a server answers to a key (RFC 6455, 4.2.2)."""
    from hashlib import sha1

    return base64.b64encode(sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


def frame(opcode: int, payload: bytes, mask: bytes = b"") -> bytes:
    """Return a message as one frame, of a client if there is a mask."""
    size = len(payload)
    masked = _MASKED if mask else 0
    if size < 126:
        head = bytes((_FIN | opcode, masked | size))
    elif size < 65536:
        head = struct.pack("!BBH", _FIN | opcode, masked | 126, size)
    else:
        head = struct.pack("!BBQ", _FIN | opcode, masked | 127, size)
    if mask:
        payload = bytes(octet ^ mask[index & 3] for index, octet in enumerate(payload))
    return head + mask + payload


def _check_echo(sock: socket.socket, message: bytes, echo: bytes) -> None:
    sock.sendall(message)
    answer = b""
    while len(answer) < len(echo):
        piece = sock.recv(len(echo) - len(answer))
        if not piece:
            raise ValueError("the server closed the connection instead of echoing")
        answer += piece
    if answer != echo:
        raise ValueError("what came back is not what was sent")


if __name__ == "__main__":
    sys.exit(main())
