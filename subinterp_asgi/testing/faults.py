"""Faults on request, so that tests can see how an application and its host live through them.

A running ``LiveServer``, or ``Supervisor``, is told to have them, whatever its workers run in::

    with LiveServer("package.module:app", workers=2) as server:
        died = crash_worker(server, wait=True)
        # ... and what clients see meanwhile

What happens then is what happens when an application does the same. The functions may be called
from any thread, and return at once unless they are told to ``wait``; what comes of it, and when,
``events()`` of the supervisor tells. They raise ``StateError`` if that does not serve, or the
worker does not that they are to hit, and ``TimeoutError`` if what they wait for does not come.

``crash_worker()`` and ``freeze_worker()`` send a command (``control.CMD_FAULT``); the others leave
a note in the pool for the workers that it starts (``control.Runtime``). What workers do then is in
``worker.faults``.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Literal, overload

from ..control.messages import CMD_FAULT, FAULT_CRASH, FAULT_FREEZE, FAULT_FREEZE_IN_C
from ..errors import StateError
from ..supervisor.events import EventStream, WorkerDied, WorkerStuck
from ..supervisor.pool.handle import WorkerInfo
from ..supervisor.states import WorkerState
from ..supervisor.supervisor import Supervisor
from ..worker.faults import InjectedFault as InjectedFault

if TYPE_CHECKING:
    from .server import LiveServer

    type Server = Supervisor | LiveServer

CRASH = FAULT_CRASH
FREEZE = FAULT_FREEZE
FREEZE_IN_C = FAULT_FREEZE_IN_C

_TIMEOUT = 10.0  # seconds for what is waited for


@overload
def crash_worker(
    server: Server, worker_id: int | None = None, *, wait: Literal[False] = False
) -> WorkerInfo: ...
@overload
def crash_worker(
    server: Server, worker_id: int | None = None, *, wait: Literal[True]
) -> WorkerDied: ...
def crash_worker(
    server: Server, worker_id: int | None = None, *, wait: bool = False
) -> WorkerInfo | WorkerDied:
    """Have a worker die, as of a ``sys.exit()`` in a callback of the application's.

    What it has in flight is broken off, and it is replaced as ``restart_limit`` and
    ``restart_delay`` say.

    By default it is the first that serves. Returns the worker as it was; with ``wait``, the event
    that tells of its death.
    """
    with _supervisor(server).events() as events:
        info = _send(server, worker_id, CRASH, 0)
        return _await(events, WorkerDied, info.id, _TIMEOUT) if wait else info


@overload
def freeze_worker(
    server: Server,
    seconds: float,
    worker_id: int | None = None,
    *,
    interruptible: bool = True,
    wait: Literal[False] = False,
) -> WorkerInfo: ...
@overload
def freeze_worker(
    server: Server,
    seconds: float,
    worker_id: int | None = None,
    *,
    interruptible: bool = True,
    wait: Literal[True],
) -> WorkerStuck: ...
def freeze_worker(
    server: Server,
    seconds: float,
    worker_id: int | None = None,
    *,
    interruptible: bool = True,
    wait: bool = False,
) -> WorkerInfo | WorkerStuck:
    """Hold up a worker's loop, in a callback on it; return the worker as it was.

    From ``timeout_worker_healthcheck`` on the worker is stuck: it is replaced, and interrupted if
    that can be done. Nothing is broken off otherwise; what it has in flight goes on afterwards.

    Args:
        seconds: For how long, unless it is interrupted.
        worker_id: Number of the worker; by default the first that serves.
        interruptible: In Python code. Otherwise in C code, in ``time.sleep()``, which can't be
            interrupted.
        wait: Return the event that tells that it is stuck, once that is so.
    """
    kind = FREEZE if interruptible else FREEZE_IN_C
    with _supervisor(server).events() as events:
        info = _send(server, worker_id, kind, round(seconds * 1e6))
        timeout = _supervisor(server).config.timeout_worker_healthcheck + _TIMEOUT
        return _await(events, WorkerStuck, info.id, timeout) if wait else info


def delay_start(server: Server, seconds: float) -> None:
    """Have each worker that is started from now on wait before it serves.

    That follows its lifespan's startup. Spares wait once they are to serve; those that are there
    already do not. 0 seconds: no more waiting.
    """
    supervisor = _supervisor(server)
    with supervisor._changed:
        supervisor._serving_pool("delay a start").start_delay = seconds


def fail_next_reload(server: Server, reason: str = "as a test wants it") -> None:
    """Have the workers of the next generation fail to start, so that ``reload()`` raises.

    They fail after their lifespan's startup. The reload after that is not concerned. The reason is
    a part of what ``ReloadError`` says.
    """
    supervisor = _supervisor(server)
    with supervisor._changed:
        pool = supervisor._serving_pool("have a reload fail")
        # (The number of one that is on its way is given already.)
        pool.start_failure = (supervisor._generations.last + 1, reason)


def _supervisor(server: Server) -> Supervisor:
    return server if isinstance(server, Supervisor) else server.supervisor


def _await[E: WorkerDied | WorkerStuck](
    events: EventStream, kind: type[E], worker_id: int, timeout: float
) -> E:
    deadline = monotonic() + timeout
    while (event := events.get(max(0.0, deadline - monotonic()))) is not None:
        if isinstance(event, kind) and event.worker_id == worker_id:
            return event
    raise StateError("the server has ended meanwhile")


def _send(server: Server, worker_id: int | None, kind: str, argument: int) -> WorkerInfo:
    supervisor = _supervisor(server)
    with supervisor._changed:
        for handle in supervisor._serving_pool("inject a fault").handles:
            handle.collect()
            if (
                handle.state is WorkerState.SERVING
                and not handle.retiring
                and worker_id in (None, handle.worker_id)
            ):
                info = handle.info()
                handle.command(CMD_FAULT, kind, argument)
                return info
    raise StateError(
        f"no {'worker' if worker_id is None else f'worker {worker_id}'} serves at the moment"
    )
