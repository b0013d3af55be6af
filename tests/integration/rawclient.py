"""An HTTP/1.1 client as thin as a client can be: raw octets out, strictly parsed responses in.

Every wait has a deadline, so that what does not happen fails a test instead of hanging it.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field
from typing import Self

TIMEOUT = 20.0


@dataclass
class Response:
    """A response that was read to its end."""

    status: int
    reason: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)

    def get(self, name: bytes) -> bytes | None:
        """The value of a field that is there once at most."""
        values = self.all(name)
        assert len(values) <= 1, (name, values)
        return values[0] if values else None

    def all(self, name: bytes) -> list[bytes]:
        """All values of a field."""
        return [value for found, value in self.fields if found.lower() == name]

    @property
    def closes(self) -> bool:
        """Whether it announces that the connection will be closed."""
        return b"close" in (self.get(b"connection") or b"")


class RawClient:
    """A connection."""

    def __init__(self, address: tuple[str, int] | str, *, receive_buffer: int = 0) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        if not isinstance(address, str) and ":" in address[0]:
            family = socket.AF_INET6
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        if receive_buffer:  # takes effect only before the connection is made
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self.sock.connect(address)
        except BaseException:
            self.sock.close()
            raise
        if family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.sock.close()

    # --- out

    def send(self, *pieces: bytes) -> None:
        """Send octets, each piece by a call of its own."""
        for piece in pieces:
            self.sock.sendall(piece)

    def try_send(self, data: bytes) -> None:
        """Send to somebody who may have closed already, or while the test ends."""
        with contextlib.suppress(OSError):
            self.sock.sendall(data)

    def get(self, target: bytes = b"/", *lines: bytes, version: bytes = b"1.1") -> Response:
        """Send a GET and read the response."""
        self.send(request(b"GET", target, *lines, version=version))
        return self.response()

    def half_close(self) -> None:
        """Send no more; still read."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close as a client does that has read all."""
        self.sock.close()

    def reset(self) -> None:
        """Close so that the server gets a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    # --- in

    def receive(self) -> bytes:
        """What comes next; empty at the end."""
        if self.buffer:
            data, self.buffer = self.buffer, b""
            return data
        return self.sock.recv(65536)

    def read_until(self, mark: bytes) -> bytes:
        """Read to the mark, which is taken too."""
        while mark not in self.buffer:
            data = self.sock.recv(65536)
            assert data, f"closed before {mark!r}, after {self.buffer!r}"
            self.buffer += data
        found, _, self.buffer = self.buffer.partition(mark)
        return found + mark

    def read_exactly(self, size: int) -> bytes:
        """Read so many octets."""
        pieces, have = [self.buffer], len(self.buffer)
        while have < size:
            data = self.sock.recv(min(1 << 20, size - have))
            assert data, f"closed after {have} of {size} octets"
            pieces.append(data)
            have += len(data)
        data = b"".join(pieces)
        self.buffer = data[size:]
        return data[:size]

    def read_to_end(self) -> bytes:
        """Read until the server closes its sending half."""
        pieces = [self.buffer]
        self.buffer = b""
        while data := self.sock.recv(1 << 20):
            pieces.append(data)
        return b"".join(pieces)

    def head(self) -> Response:
        """Read a head, of an interim response too, and check what can be checked of its form."""
        head = self.read_until(b"\r\n\r\n")
        status_line, *lines = head[:-4].split(b"\r\n")
        version, code, reason = status_line.split(b" ", 2)
        assert version == b"HTTP/1.1", status_line
        assert len(code) == 3, status_line
        return Response(int(code), reason, list(map(_split, lines)))

    def response(self, method: bytes = b"GET") -> Response:
        """Read a final response to its end, which its framing tells."""
        response = self.head()
        length, coding = response.get(b"content-length"), response.get(b"transfer-encoding")
        if method == b"HEAD" or response.status in (204, 304) or response.status < 200:
            return response
        assert length is None or coding is None, response.fields
        if coding is not None:
            assert coding == b"chunked"
            self._read_chunks(response)
        elif length is not None:
            response.body = self.read_exactly(int(length))
        else:
            response.body = self.read_to_end()
        return response

    def _read_chunks(self, response: Response) -> None:
        while True:
            size = int(self.read_until(b"\r\n"), 16)
            if size == 0:
                break
            response.chunks.append(self.read_exactly(size))
            assert self.read_exactly(2) == b"\r\n"
        response.body = b"".join(response.chunks)
        while (line := self.read_until(b"\r\n")) != b"\r\n":
            response.trailers.append(_split(line[:-2]))

    def assert_closed(self) -> None:
        """Check that the server ends the connection cleanly and sends no more."""
        assert self.read_to_end() == b""

    def wait_for_end(self) -> None:
        """Read on until the connection ends, cleanly or not."""
        with contextlib.suppress(ConnectionError):
            self.read_to_end()

    def assert_open(self) -> None:
        """Check that the connection still serves."""
        assert self.get(b"/").status == 200


def request(method: bytes, target: bytes, *lines: bytes, version: bytes = b"1.1") -> bytes:
    """The head of a request; with a Host unless there is one among the lines."""
    fields = [line for line in lines if line]
    if not any(line.lower().startswith(b"host:") for line in fields):
        fields.insert(0, b"Host: test")
    start = b"%s %s HTTP/%s" % (method, target, version)
    return b"\r\n".join([start, *fields, b"", b""])


def post(target: bytes, body: bytes, *lines: bytes) -> bytes:
    """A POST with a body by length."""
    return request(b"POST", target, b"Content-Length: %d" % len(body), *lines) + body


def chunked(*pieces: bytes, last: bool = True) -> bytes:
    """Pieces in chunked coding."""
    coded = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return coded + b"0\r\n\r\n" if last else coded


def _split(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b": ")
    assert colon, line
    return name, value
