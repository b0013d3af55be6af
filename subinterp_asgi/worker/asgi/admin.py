"""What is served on the listeners of ``metrics_bind``: endpoints only, beside the application's.

They have connections and counters of their own, which are on no scoreboard: what happens here is
neither counted nor limited with what the application serves.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable

from ...control.counters import Counters
from ...control.scoreboard import new_board
from .endpoints import endpoints_alone, health_of, metrics_of
from .state import ServerState


def admin_state(
    served: ServerState, *, on_task_end: Callable[[], None], context: contextvars.Context
) -> ServerState:
    """Make what the sessions there share, in plain HTTP, of what the worker serves elsewhere.

    Nothing there uses the application, or a context variable.
    """
    config = served.config.with_options(
        ssl_certfile=None,
        ssl_context_factory=None,
        proxy_protocol=False,
        limit_connections=None,
        limit_connections_total=None,
        limit_concurrency=None,
        limit_concurrency_total=None,
    )
    own = ServerState(
        served.app,
        config,
        served.loop,
        state={},
        counters=Counters(new_board(1), 1),
        access_log=None,
        on_task_end=on_task_end,
        context=context,
    )
    own.endpoints = endpoints_alone(
        served.config,
        health_of(lambda: served.leaving),
        metrics_of(served.counters, served.config),
    )
    return own
