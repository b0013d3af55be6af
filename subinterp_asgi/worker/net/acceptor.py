"""From listening sockets to connections that are served: accepting, and what comes before HTTP.

An accepted socket goes through the stages that the options ask for, a PROXY protocol header, then a
TLS handshake, and becomes a ``Connection`` with a session.
"""

from __future__ import annotations

import errno
import logging
import socket
import sys
from functools import partial

from ...config.trust import unix_path
from ...control import handoff
from ...control.wakeup import LACKING
from ...types import TYPE_CHECKING
from .connection import Connection
from .poller import READ

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from ssl import SSLSocket
    from typing import Any, Protocol

    from ...config.trust import TrustedProxies
    from ...types import Address
    from .connection import Session
    from .connections import Connections
    from .handshake import Handshake
    from .tls import TLSContext

    class FirstSession(Session, Protocol):
        """What is spoken on a connection that has just been accepted."""

        def turn_away(self) -> None:
            """There are too many connections: say so and close."""


logger = logging.getLogger("subinterp_asgi.error")

_PAUSE = 0.5  # seconds to leave the listeners alone when descriptors have run out
_AF_UNIX = getattr(socket, "AF_UNIX", None)
# Linux hands the option down from the listener, which saves a system call for each connection.
_INHERITS_NODELAY = sys.platform == "linux"


class Acceptor:
    """Accepts from listening sockets, which it makes non-blocking and leaves open.

    It may adopt those of other workers, which are closed when they are given up, and takes over
    what they put into its ``inbox``.

    ``ConfigError``: TLS is on, and its context can't be made.
    """

    def __init__(
        self,
        listeners: list[socket.socket],
        connections: Connections,
        open_session: Callable[[Connection], FirstSession],
        trusted: TrustedProxies,
        inbox: int | None = None,
    ) -> None:
        self._listeners = list(listeners)
        self._adopted: dict[int, list[socket.socket]] = {}
        self._inbox = inbox
        self._connections = connections
        self._config = connections.config
        self._counters = connections.counters
        self._poller = connections.poller
        self._open_session = open_session
        self._trusted = trusted
        self._told: set[str] = set()
        self._accepting = False
        self._draining = False
        self._pausing: asyncio.TimerHandle | None = None
        self._tls = self._make_tls()
        if self._config.proxy_protocol:
            from . import proxy_handshake  # noqa: F401  (now, as with TLS)
        self._addresses: dict[int, Address | None] = {}
        for listener in listeners:
            self._prepare(listener)
        if inbox is not None:
            self._poller.add(inbox, READ, self._on_inbox)

    def _prepare(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        if _INHERITS_NODELAY and listener.family != _AF_UNIX:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        address = _own_address(listener)
        # (Who listens on all addresses is connected to by one of them.)
        everywhere = address[0] in ("0.0.0.0", "::")
        self._addresses[listener.fileno()] = None if everywhere else address

    def start(self) -> None:
        """Begin to accept."""
        if not self._accepting:
            self._accepting = True
            self._counters.accepting(True)
            for listener in self._all():
                self._watch(listener)

    def stop(self) -> None:
        """Cease to accept."""
        if self._pausing is not None:
            self._pausing.cancel()
        if self._accepting:
            self._accepting = False
            self._counters.accepting(False)
            for listener in self._all():
                self._poller.remove(listener.fileno())

    def close(self) -> None:
        """Cease for good, and give up what others handed over or left."""
        self.stop()
        for slot in tuple(self._adopted):
            self.disown(slot)
        self.leave_inbox()

    def leave_inbox(self) -> None:
        """Leave what others hand over to the worker that takes this one's place."""
        if self._inbox is not None:
            self._poller.remove(self._inbox)

    def drain(self) -> None:
        """Accept what has connected already, then cease."""
        self._draining = True
        if self._accepting:
            for listener in self._all():
                for _ in range(self._config.backlog):
                    if not self._accept_one(listener):
                        break
        self.stop()

    def adopt(self, slot: int, listeners: list[socket.socket]) -> None:
        """Accept for another worker, which can't, as long as this one accepts at all.

        The sockets are closed when they are given up.
        """
        self.disown(slot)
        self._adopted[slot] = listeners
        for listener in listeners:
            self._prepare(listener)
            if self._accepting:
                self._watch(listener)

    def disown(self, slot: int) -> None:
        """Undo ``adopt()``."""
        for listener in self._adopted.pop(slot, ()):
            self._poller.remove(listener.fileno())
            del self._addresses[listener.fileno()]
            listener.close()

    def _all(self) -> list[socket.socket]:
        return sum(self._adopted.values(), self._listeners)

    def _watch(self, listener: socket.socket) -> None:
        # One connection for each wake-up: what another worker could serve as well is left to it,
        # where accepting until the queue is empty gives nearly all to the first.
        self._poller.add(listener.fileno(), READ, partial(self._on_acceptable, listener))

    def reload_tls(self) -> None:
        """Read the certificates again, for connections from now on; old ones go on as they are.

        An exception, perhaps of the application's factory, leaves all as it was.
        """
        self._tls = self._make_tls()

    def _make_tls(self) -> TLSContext | None:
        if not self._config.tls:
            return None
        # ssl is imported only where it is needed; but now, for descriptors may run out later, and
        # an import needs some.
        from . import tls_socket  # noqa: F401
        from .tls import TLSContext

        return TLSContext(self._config)

    # --- accepting

    def _on_acceptable(self, listener: socket.socket, events: int) -> None:
        self._accept_one(listener)

    def _accept_one(self, listener: socket.socket) -> bool:
        """Accept a connection if one waits; return whether it is worth trying again."""
        try:
            sock, address = listener.accept()
        except (BlockingIOError, InterruptedError):
            return False  # another worker was faster
        except ConnectionError:
            return True  # it was gone before it could be accepted
        except OSError as exc:
            if exc.errno == errno.EINVAL:  # its owner has shut it down, and will tell us to end
                self._poller.remove(listener.fileno())
                return False
            if exc.errno not in LACKING:
                raise
            logger.error("can't accept connections: %s; trying again soon", exc.strerror)
            self._connections.leave_answered()  # their descriptors are needed
            self.stop()
            self._pausing = self._connections.loop.call_later(_PAUSE, self.start)
            return False
        if self._inbox is not None and handoff.pass_on(self._counters, sock.fileno()):
            sock.detach()
            return True
        self._counters.accepted += 1
        self._begin(sock, address, self._addresses[listener.fileno()])
        return True

    def _on_inbox(self, events: int) -> None:
        """Take over what other workers have accepted."""
        assert self._inbox is not None
        for number in handoff.receive(self._inbox):
            is_new = number >= 0
            self._counters.accepted += is_new
            sock = socket.socket(fileno=handoff.descriptor(number))
            self._begin(sock, None, None, is_new=is_new)

    def _begin(
        self, sock: socket.socket, peer: Any, server: Address | None, *, is_new: bool = True
    ) -> None:
        """Begin the first stage; ``peer`` and ``server`` are its addresses, as far as known."""
        try:
            sock.setblocking(False)
            client: Address | None = None
            if sock.family != _AF_UNIX:
                client = (peer or sock.getpeername())[:2]
                if not _INHERITS_NODELAY:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server = server or _own_address(sock)
        except OSError:
            sock.close()  # reset meanwhile
            return
        if not is_new:
            self._serve(Connection, sock, client, server, is_new=False)
        elif self._config.proxy_protocol:
            self._read_proxy_header(sock, client, server)
        else:
            self._secure(sock, client, server)

    # --- stages

    def _read_proxy_header(
        self, sock: socket.socket, client: Address | None, server: Address
    ) -> None:
        """First stage, by option: who the client is, said by the proxy that connected."""
        from .proxy_handshake import ProxyHandshake

        peer = "a peer on a Unix socket" if client is None else client[0]
        if not self._trusted.trusts(None if client is None else client[0]):
            self._tell_of_proxy(
                "connections from %s are closed, for it may send no PROXY protocol header: if it "
                "is a proxy of yours, add it (or 'unix') to forwarded_allow_ips",
                peer,
            )
            sock.close()
            return
        self._open(
            lambda: ProxyHandshake(
                sock,
                self._connections,
                client,
                server,
                self._secure,
                lambda exc: self._tell_of_proxy(
                    "a connection from %s is closed, for it sent no PROXY protocol header (%s): "
                    "have that proxy send one, or turn proxy_protocol off",
                    peer,
                    exc,
                ),
            ),
            sock,
        )

    def _tell_of_proxy(self, text: str, *details: object) -> None:
        """Log why a proxy is not served: each kind once aloud, for its clients hear nothing."""
        logger.log(logging.DEBUG if text in self._told else logging.WARNING, text, *details)
        self._told.add(text)

    def _secure(self, sock: socket.socket, client: Address | None, server: Address | None) -> None:
        """Second stage: TLS, if it is on."""
        tls = self._tls
        if tls is None:
            self._serve(Connection, sock, client, server)
            return
        from .tls_socket import TLSConnection, TLSHandshake

        def on_open(wrapped: SSLSocket) -> None:
            description = tls.describe(wrapped)  # while it is surely open
            self._serve(TLSConnection, wrapped, client, server).tls = description

        self._open(lambda: TLSHandshake(sock, self._connections, tls.context, on_open), sock)

    def _open(self, make: Callable[[], Handshake], sock: socket.socket) -> None:
        try:
            handshake = make()
        except OSError:
            sock.close()  # reset before it could begin
            return
        self._connections.add(handshake)
        if self._draining:
            handshake.drain()

    def _serve(
        self,
        kind: type[Connection],
        sock: socket.socket,
        client: Address | None,
        server: Address | None,
        *,
        is_new: bool = True,
    ) -> Connection:
        """Last: the socket is ready for requests."""
        crowded = is_new and self._connections.crowded  # who was let in is not turned away later
        connection = kind(sock, self._connections, client, server)
        connection.session = session = self._open_session(connection)
        self._connections.add(connection)
        if crowded:
            session.turn_away()
        return connection


def _own_address(sock: socket.socket) -> Address:
    """The address of a socket, as ASGI has it."""
    name = sock.getsockname()
    return (unix_path(name), None) if sock.family == _AF_UNIX else (name[0], name[1])
