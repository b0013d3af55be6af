"""What runs inside a new interpreter: from plain values to a worker that serves.

A supervisor injects the arguments of ``bootstrap()`` into the interpreter and calls it there. A
framework may do the same with queues and an interpreter of its own; ``control`` documents what is
said on the queues. Nothing here refers to the supervisor.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from functools import partial
from importlib import import_module
from types import ModuleType

from .config import Config
from .control import output, scoreboard
from .control.counters import Counters
from .control.launch import Runtime
from .control.messages import STATUS_SAID, sendable
from .control.wakeup import Channel, Wakeup
from .types import TYPE_CHECKING, Any
from .worker import access_log, commands
from .worker.interpreter import daemon_threads, lazy_imports, tracing
from .worker.interpreter.importer import import_app, judge_extensions, report_extensions
from .worker.run import WorkerRun, noop_receive, noop_send, report_error

if TYPE_CHECKING:
    from inspect import Signature

    from .worker.log_forwarder import LogForwarder

# These are documented beside bootstrap(), for frameworks that put a worker together themselves.
_run_worker_with_iic = commands.run_with_bridge
_iic_bridge = commands.bridge
_try_get = commands.try_get
_noop_receive = noop_receive
_noop_send = noop_send


def bootstrap(
    ctrl_queue: Any,
    status_queue: Any,
    config_json: str,
    lifespan_state_json: str,
    app_import_path: str,
    sock_fd: int,
    sock_family: int,
    worker_id: int,
    parent_sys_path: tuple[str, ...],
) -> None:
    """Bootstrap a Worker inside a subinterpreter, and return when it has ended.

    All arguments are of types that can cross interpreters; a supervisor injects them with
    ``prepare_main()``. No exception leaves: CPython 3.13 to 3.15 may crash when one crosses
    interpreters. What happened is told on ``status_queue``. (Half of its length is this text.)

    Args:
        ctrl_queue: Where commands come from; see ``control``.
        status_queue: Where statuses go.
        config_json: ``Config.to_json()``, perhaps with a ``control.Runtime`` joined to it.
        lifespan_state_json: JSON object from which ``scope["state"]`` starts.
        app_import_path: ``"package.module:attribute"``, or ``"package.module:factory()"``.
        sock_fd: Descriptor of a listening socket. It is owned from entry on and closed on every
            path. A spare is given another one later.
        sock_family: Address family of that socket, as an int, so that the rebuilt socket matches.
        worker_id: Number of this worker.
        parent_sys_path: Becomes ``sys.path``.
    """
    listeners = [(sock_fd, sock_family)]
    metrics_listeners: list[tuple[int, int]] = []
    log_forwarder: LogForwarder | None = None
    reusable = False
    end_coverage = None
    try:
        sys.path[:] = parent_sys_path
        config_text, runtime = Runtime.split(config_json)
        if runtime.spare:
            listeners.clear()  # it is given them later
        listeners.extend(runtime.listeners)
        metrics_listeners.extend(runtime.metrics_listeners)
        ctrl_queue = _with_wakeup(ctrl_queue, runtime.command_wakeup)
        status_queue = _with_wakeup(status_queue, runtime.status_wakeup)
        output.go_without(runtime.missing)
        output.unblock_stderr()
        config = Config.from_json(config_text)
        if config.request_id_header is not None:
            from .control import log_records

            log_records.identify_records()
        if runtime.coverage is not None:
            end_coverage = tracing.begin_coverage(runtime.coverage)
        tracing.adopt()
        if runtime.reusable:
            from .worker.interpreter import reuse  # not before it is needed

            reuse.prepare(app_import_path)
            reusable = True
        if runtime.environment is not None:
            from .worker.interpreter import starting_values

            starting_values.use_environment(runtime.environment)
        counters = output.stderr.counters = Counters(*scoreboard.attached())
        log_forwarder = _forward_logs(runtime.log_fd, config, counters)
        _ignore_fork_callbacks()
        if sys.version_info < (3, 13, 1):
            daemon_threads.note_refusals()
        if config.daemon_threads == "demote":
            daemon_threads.demote()
        judge_extensions(config.extensions, config.hide_modules)
        lazy_imports.set_mode(config.lazy_imports, config.lazy_imports_except)
        WorkerRun(
            load_app=partial(
                _load_app,
                app_import_path,
                config,
                log_forwarder,
                worker_id,
                runtime,
                status_queue,
            ),
            config=config,
            listeners=listeners,
            ctrl_queue=ctrl_queue,
            status_queue=status_queue,
            worker_id=worker_id,
            state=json.loads(lifespan_state_json),
            counters=counters,
            own_interpreter=True,
            runtime=runtime,
            metrics_listeners=metrics_listeners,
            log_forwarder=log_forwarder,
        ).run()
    except BaseException as exc:
        report_error(status_queue, exc)
    finally:
        if end_coverage is not None:
            end_coverage()
        _close_all(listeners, metrics_listeners)
        if log_forwarder is not None:
            log_forwarder.end()
        output.end_streams()
        if not reusable:  # else it is decided later whether the interpreter is closed
            with contextlib.suppress(ImportError, OSError):  # only its memory is given back by it
                from .worker.interpreter import closing  # not before it is needed

                closing.let_go()


def _ignore_fork_callbacks() -> None:
    """Have ``os.register_at_fork()`` do nothing: an interpreter can't fork.

    What is registered is kept for as long as the process lives, and all that it refers to.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork = lambda **callbacks: None  # type: ignore[attr-defined, unused-ignore]


def _with_wakeup(queue: Any, numbers: tuple[int, int] | None) -> Any:
    return queue if numbers is None else Channel(queue, Wakeup(numbers))


def _forward_logs(fd: int | None, config: Config, counters: Counters) -> LogForwarder | None:
    if fd is None:
        return None
    from .worker.log_forwarder import LogForwarder

    forwarder = LogForwarder(fd, config.log_level, counters)
    forwarder.attach()
    return forwarder


def _load_app(
    path: str,
    config: Config,
    log_forwarder: LogForwarder | None,
    worker_id: int,
    runtime: Runtime,
    status_queue: Any,
) -> Any:
    if config.log_config is not None:
        from .config import log_file

        log_file.apply(config.log_config)
    if runtime.prelude is not None:
        function, argument = runtime.prelude
        module, _, name = function.partition(":")
        getattr(import_module(module), name)(argument)
    app = import_app(path, factory=True) if config.factory else _import_app(path)
    if log_forwarder is not None:
        log_forwarder.attach()  # which the application may have taken off
    access_log.configure_interpreter(config)
    said = report_extensions(worker_id, config.extensions, runtime.said)
    if runtime.tell_loaded and said != runtime.said:
        status_queue.put((STATUS_SAID, sendable(said)))
    if runtime.reusable:
        from .worker.interpreter import reuse

        reuse.note_files()
    return app


def _import_app(app_path: str) -> Any:
    """Import ``'myapp.main:app'``, or call the factory of ``'myapp.main:create_app()'``.

    The subclasses of ``AppImportError`` tell apart what can go wrong; see ``importer``.
    """
    return import_app(app_path)


def _close_all(*kinds: list[tuple[int, int]]) -> None:
    for listeners in kinds:
        for listener in listeners:
            with contextlib.suppress(Exception):  # it was no descriptor, which has been reported
                os.close(listener[0])
        listeners.clear()


class _CallableModule(ModuleType):
    """The package exports a function under the name of this very module: let it be both."""

    @property
    def __signature__(self) -> Signature:
        from inspect import signature  # which takes more than all of this module

        return signature(bootstrap)

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        bootstrap(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
