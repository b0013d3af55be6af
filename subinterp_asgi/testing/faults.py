"""Faults on request, so that tests can see how an application and its host live through them.

A running ``Supervisor`` is told to have them, whatever its workers run in::

    with Supervisor("package.module:app", workers=2, port=0) as server:
        events = server.events()
        crash_worker(server)
        # ... and what clients see meanwhile

What happens then is what happens when an application does the same. The functions return at once
and may be called from any thread; what comes of it, and when, ``server.events()`` tells. They raise
``StateError`` if the supervisor does not serve, or the worker does not that they are to hit.

``crash_worker()`` and ``freeze_worker()`` send a command (``control.CMD_FAULT``); the others leave
a note in the pool for the workers that it starts (``control.Runtime``). What workers do then is in
``worker.faults``.
"""

from __future__ import annotations

from ..control.messages import CMD_FAULT, FAULT_CRASH, FAULT_FREEZE, FAULT_FREEZE_IN_C
from ..errors import StateError
from ..supervisor.pool.handle import WorkerInfo
from ..supervisor.states import WorkerState
from ..supervisor.supervisor import Supervisor
from ..worker.faults import InjectedFault as InjectedFault

CRASH = FAULT_CRASH
FREEZE = FAULT_FREEZE
FREEZE_IN_C = FAULT_FREEZE_IN_C


def crash_worker(server: Supervisor, worker_id: int | None = None) -> WorkerInfo:
    """Have a worker die, as of a ``sys.exit()`` in a callback of the application's.

    What it has in flight is broken off, and it is replaced as ``restart_limit`` and
    ``restart_delay`` say.

    By default it is the first that serves. Returns the worker as it was; ``WorkerDied`` says when
    it has died.
    """
    return _send(server, worker_id, CRASH, 0)


def freeze_worker(
    server: Supervisor,
    seconds: float,
    worker_id: int | None = None,
    *,
    interruptible: bool = True,
) -> WorkerInfo:
    """Hold up a worker's loop, in a callback on it; return the worker as it was.

    From ``timeout_worker_healthcheck`` on the worker is stuck: it is replaced, and interrupted if
    that can be done. Nothing is broken off otherwise; what it has in flight goes on afterwards.

    Args:
        seconds: For how long, unless it is interrupted.
        worker_id: Number of the worker; by default the first that serves.
        interruptible: In Python code. Otherwise in C code, in ``time.sleep()``, which can't be
            interrupted.
    """
    kind = FREEZE if interruptible else FREEZE_IN_C
    return _send(server, worker_id, kind, round(seconds * 1e6))


def delay_start(server: Supervisor, seconds: float) -> None:
    """Have each worker that is started from now on wait before it serves.

    That follows its lifespan's startup. Spares wait once they are to serve; those that are there
    already do not. 0 seconds: no more waiting.
    """
    with server._changed:
        server._serving_pool("delay a start").start_delay = seconds


def fail_next_reload(server: Supervisor, reason: str = "as a test wants it") -> None:
    """Have the workers of the next generation fail to start, so that ``reload()`` raises.

    They fail after their lifespan's startup. The reload after that is not concerned. The reason is
    a part of what ``ReloadError`` says.
    """
    with server._changed:
        pool = server._serving_pool("have a reload fail")
        # (The number of one that is on its way is given already.)
        pool.start_failure = (server._generations.last + 1, reason)


def _send(server: Supervisor, worker_id: int | None, kind: str, argument: int) -> WorkerInfo:
    with server._changed:
        for handle in server._serving_pool("inject a fault").handles:
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
