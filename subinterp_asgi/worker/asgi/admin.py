"""The listeners of ``metrics_bind``: beside those of the application, and for endpoints only.

They have connections and counters of their own, which are on no scoreboard: what happens here is
neither counted nor limited with what the application serves.
"""

from __future__ import annotations

from ...control.counters import Counters
from ...control.scoreboard import new_board
from ...types import TYPE_CHECKING
from ..net.acceptor import Acceptor
from ..net.connections import Connections
from .endpoints import endpoints_alone
from .http import HTTPSession
from .state import ServerState

if TYPE_CHECKING:
    import contextvars
    import socket
    from collections.abc import Callable

    from ..net.poller import Poller


class Admin:
    """Answers for a worker on listeners of their own, in plain HTTP.

    Args:
        listeners: The sockets; closing them is left to the caller.
        on_progress: Called when a connection is closed or has been given its last answer.
        context: Context variables for sessions; nothing here uses any.
    """

    def __init__(
        self,
        listeners: list[socket.socket],
        server_state: ServerState,
        poller: Poller,
        *,
        on_progress: Callable[[], None],
        context: contextvars.Context,
    ) -> None:
        config = server_state.config.with_options(
            ssl_certfile=None,
            ssl_context_factory=None,
            proxy_protocol=False,
            limit_connections=None,
            limit_concurrency=None,
        )
        counters = Counters(new_board(1), 1)
        self._server_state = own_state = ServerState(
            server_state.app,  # which is never called
            config,
            server_state.loop,
            state={},
            counters=counters,
            access_log=None,
            on_task_end=on_progress,
            context=context,
        )
        own_state.endpoints = endpoints_alone(
            server_state.config, server_state.counters, lambda: server_state.leaving
        )
        self._connections = Connections(server_state.loop, config, counters, on_progress)
        self._acceptor = Acceptor(
            listeners,
            poller,
            self._connections,
            server_state.loop,
            config,
            lambda connection: HTTPSession(connection, own_state),
        )

    def start(self) -> None:
        """Begin to accept."""
        self._acceptor.start()

    def stop_accepting(self) -> None:
        """Cease to accept, at once."""
        self._acceptor.stop()

    def drain(self) -> None:
        """Accept what has connected already, then cease; close connections as they become idle."""
        self._server_state.draining = True
        self._acceptor.drain()
        self._connections.drain()

    def close_idle(self) -> None:
        """Close connections that are idle, and from now on those that become so."""
        self._connections.close_idle()

    def break_off(self) -> None:
        """Wait no longer for requests that are half received."""
        self._connections.break_off()

    def close(self) -> None:
        """Close all connections."""
        self._acceptor.stop()
        self._connections.abort()

    @property
    def all_idle(self) -> bool:
        """Whether no request is half received."""
        return self._connections.all_idle

    @property
    def all_answered(self) -> bool:
        """Whether nobody waits for an answer, nor may still ask for one."""
        return self._connections.all_answered
