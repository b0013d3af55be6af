"""``TLSConnection`` where only the state of the kernel's buffer makes a difference."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi.config import Config
from subinterp_asgi.control.counters import Counters
from subinterp_asgi.control.scoreboard import new_board
from subinterp_asgi.worker.net.loop import make_poller
from subinterp_asgi.worker.net.tls_socket import WRITE_SIZE, TLSConnection
from tests.integration.pki import Pki


class Session:
    """Keeps what a connection reports."""

    idle = True

    def __init__(self) -> None:
        self.lost = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        raise AssertionError(f"nothing was sent, but {data!r} came")

    def eof_received(self) -> None:
        raise AssertionError("the client did not close")

    def connection_lost(self) -> None:
        self.lost.set()

    def timed_out(self) -> None:
        raise AssertionError("there is no deadline")

    drain = break_off = timed_out


class Registry:
    """Where connections are kept: not at all."""

    def __init__(self) -> None:
        self.config = Config(timeout_write=30.0)
        self.counters = Counters(new_board(1), 1)
        self.poller = make_poller(asyncio.get_running_loop())
        self.answered = bool

    def discard(self, connection: Any) -> None: ...


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


class Pair:
    """Both ends of a connection; the server's with room for very little."""

    def __init__(self, pki: Pki) -> None:
        server, self.raw = socket.socketpair()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # (the kernel has a minimum)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki.server)
        wrapped = context.wrap_socket(server, server_side=True, do_handshake_on_connect=False)
        wrapped.setblocking(False)
        self.incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = pki.client().wrap_bio(self.incoming, outgoing, server_hostname="localhost")
        self.raw.setblocking(False)
        done = False
        while not done:
            try:
                self.client.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            self.raw.send(outgoing.read())
            try:
                wrapped.do_handshake()
            except ssl.SSLWantReadError:
                done = False
            self.take()
        self.session = Session()
        registry = Registry()
        self.poller = registry.poller
        self.connection = TLSConnection(wrapped, registry, None, None)
        self.connection.session = self.session

    def take(self) -> bool:
        """Let the client read what there is; return whether the server has closed."""
        try:
            while data := self.raw.recv(65536):
                self.incoming.write(data)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        self.connection.abort()
        self.poller.close()
        self.raw.close()

    def received(self) -> bytes:
        """All that the client was sent, which must end with a ``close_notify``."""
        assert self.take()
        self.incoming.write_eof()
        found = b""
        try:
            while data := self.client.read(65536):
                found += data
        except ssl.SSLZeroReturnError:
            return found  # (without a close_notify it would have been SSLEOFError)
        return found


def records_that_fit(pki: Pki) -> int:
    """How many small records a connection takes until it is full."""

    async def count() -> int:
        pair = Pair(pki)
        fit = 0
        while True:
            pair.connection.write(b"x")
            if pair.connection._out is not None:
                pair.close()
                return fit
            fit += 1

    return asyncio.run(count())


def test_close_notify_when_there_is_no_room_for_it(pki: Pki) -> None:
    """All is written, to the last octet that fits; then the connection is closed."""
    fit = records_that_fit(pki)
    assert fit > 0

    async def run() -> bytes:
        pair = Pair(pki)
        for _ in range(fit):
            pair.connection.write(b"x")
        assert pair.connection._out is None
        pair.connection.close()
        assert not pair.connection.closed  # it waits until there is
        assert pair.connection.closing
        while not pair.session.lost.is_set():
            pair.take()
            await asyncio.sleep(0)
        found = pair.received()
        pair.close()
        return found

    assert asyncio.run(asyncio.wait_for(run(), 20)) == b"x" * fit


@pytest.mark.parametrize("size", [WRITE_SIZE - 1, WRITE_SIZE, WRITE_SIZE + 1, 5 * WRITE_SIZE + 7])
def test_pieces_that_do_not_fit(pki: Pki, size: int) -> None:
    """What OpenSSL could not write must be given to it again as it was."""
    data = bytes(range(256)) * (size // 256 + 1)

    async def run() -> bytes:
        pair = Pair(pki)
        pair.connection.write(data[:size])
        assert pair.connection._out is not None
        pair.connection.write(b"and more")
        pair.connection.close()
        while not pair.session.lost.is_set():
            pair.take()
            await asyncio.sleep(0)
        found = pair.received()
        pair.close()
        return found

    assert asyncio.run(asyncio.wait_for(run(), 20)) == data[:size] + b"and more"


def test_a_client_that_takes_nothing_is_given_up(pki: Pki) -> None:
    """Also one that only leaves no room for the ``close_notify``."""
    fit = records_that_fit(pki)

    async def run() -> None:
        pair = Pair(pki)
        for _ in range(fit):
            pair.connection.write(b"x")
        pair.connection.close()
        now = time.monotonic()
        pair.connection.check_deadlines(now + 29)
        assert not pair.connection.closed
        pair.connection.check_deadlines(now + 31)
        assert pair.connection.closed
        pair.close()

    asyncio.run(run())
