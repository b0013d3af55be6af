"""The command line, ``subinterp-asgi`` or ``python -m subinterp_asgi``: the one place that owns a
process, with its signals, logging and exit status.

Options are those of ``Config``, by the same names with dashes.
"""

from __future__ import annotations

# (``signal`` makes enumerations of this, which take their time.)
import _signal  # type: ignore[import-not-found, unused-ignore]
import atexit
import os
import sys

EXIT_OK = 0
EXIT_DIED = 1
EXIT_USAGE = 2
EXIT_STARTUP = 3
EXIT_INTERRUPTED = 130
"""Of Ctrl+C before it serves: what shells say of it."""

_IS_COMMAND = __name__ == "__main__" or os.path.basename(sys.argv[0]).startswith("subinterp-asgi")
if _IS_COMMAND:
    # From here on, since Python's own way with Ctrl+C is a traceback.
    _signal.signal(_signal.SIGINT, lambda number, frame: os._exit(EXIT_INTERRUPTED))
    if hasattr(_signal, "SIGUSR1"):
        _signal.signal(_signal.SIGUSR1, _signal.SIG_IGN)  # no log is open yet
    for _number in (_signal.SIGINT, _signal.SIGTERM):  # the last thing: the status stands by then
        atexit.register(_signal.signal, _number, _signal.SIG_IGN)

    from .worker.interpreter import lazy_imports

    lazy_imports.make_rare_lazy(("inspect", "pickle"))  # which what follows imports

from .supervisor.pool import ahead

if _IS_COMMAND:
    ahead.begin(sys.argv[1:])  # not later than this: what follows is to be imported meanwhile

import contextlib
import queue
import re
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from errno import EADDRINUSE
from functools import partial
from time import monotonic, perf_counter

from . import __version__
from .config import Config, flags, option_names
from .control import output
from .errors import (
    BindError,
    ConfigError,
    ShutdownIncompleteError,
    StartupError,
    SubinterpASGIError,
    UpgradeError,
)
from .supervisor import events, host_log, kept
from .supervisor.process import exit_guard, limits, systemd, upgrade
from .supervisor.states import GenerationState
from .supervisor.supervisor import Supervisor
from .types import Any, Self

_START_MARGIN = 10.0
"""Seconds that a new process may need beyond ``startup_timeout``."""
_CALLER_TIME = 0.1
"""Seconds for a thread that has nothing left to do to be gone; some may still wait."""
_SAME_SIGNAL = 0.3
"""Seconds in which a second signal is taken for the first one's echo: a process group and the
process that leads it may both be sent one."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or one of the constants of this module."""
    given = sys.argv[1:] if argv is None else argv
    if given[:1] == ["doctor"]:
        from .extensions import report

        return report.main(given[1:], _in_flags)
    _open_missing()
    output.unblock_stderr()
    try:
        return _run(argv)
    finally:
        output.end_streams()


def _run(argv: Sequence[str] | None) -> int:
    parser = flags.Parser(
        prog="subinterp-asgi",
        description="Serve an ASGI application from subinterpreters: one process, N workers.",
        epilog="Each option may come from the environment instead, as SUBINTERP_ASGI_WORKERS. "
        "Times: 500ms, 5s, 2m. Sizes: 10MB, 512KiB. What has no bound by default is none. "
        "docs/reference/options.md says more of each. "
        "subinterp-asgi doctor APP says what of it CPython would refuse in interpreters.",
    )
    parser.positional.add_argument(
        "app", metavar="APP", help="import path: package.module:attribute"
    )
    parser.general.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.general.add_argument(
        "--app-dir", metavar="DIR", help="directory put first on the import path [.]"
    )
    parser.add_options()
    given = parser.parse(argv)
    app, app_dir = given.pop("app"), given.pop("app_dir", None)
    notifier = systemd.Notifier(os.environ)
    try:
        # (These two take out variables that are none of an option's.)
        predecessor = upgrade.Predecessor(os.environ)
        environment, warnings = flags.from_environment(os.environ)
    except ValueError as exc:
        parser.error(str(exc))
    options = {**environment, **given}
    app_dir = app_dir or os.environ.get(f"{flags.PREFIX}APP_DIR") or "."
    if not os.path.isdir(app_dir):
        parser.error(f"--app-dir: {app_dir!r} is no folder")
    sys.path.insert(0, os.path.abspath(app_dir))
    for way in ("bind", "uds", "fd"):
        beside = [name for name in ("host", "port") if way in given and name in given]
        warnings += [
            f"{flags.flag(name)} has no effect beside {flags.flag(way)}" for name in beside
        ]
    sources = {name: flags.PREFIX + name.upper() for name in environment}
    sources |= {name: flags.flag(name) for name in given}
    try:
        if workers := os.environ.get("WEB_CONCURRENCY"):
            auto = workers == "auto"
            if not auto and (not workers.isdecimal() or int(workers) < 1):
                problem = f"must be a number from 1 or 'auto', not {workers!r}"
                raise ConfigError("WEB_CONCURRENCY", problem)
            options.setdefault("workers", workers if auto else int(workers))
        if trusted := os.environ.get("FORWARDED_ALLOW_IPS"):
            options.setdefault("forwarded_allow_ips", trusted)
            sources.setdefault("forwarded_allow_ips", "FORWARDED_ALLOW_IPS")
        options |= systemd.listen_options(systemd.passed_sockets(os.environ), options)
        config = Config().with_options(**options)
        changes = _Changes() if config.reload or config.ssl_reload else None
        server = Supervisor(app, config, on_event=changes, inherited=predecessor.inherited)
        if server.config.log_config is not None:
            from .config import log_file

            log_file.apply(server.config.log_config)
    except ConfigError as exc:
        parser.error(f"{sources.get(exc.option, exc.option)}: {exc.problem}")
    for text in warnings:
        _say(f"Warning: {text}")
    if server.in_threads:
        # Workers in threads log through this interpreter's logging.
        from .worker import access_log

        access_log.configure_interpreter(server.config)
    with _Inbox() as inbox:
        make_server = partial(Supervisor, app, config, on_event=changes)
        return _Command(server, inbox, make_server, notifier, predecessor).run()


def _open_missing() -> None:
    """Open on nothing what this process was started without, lest a socket get its number."""
    for fd in range(len(output.STANDARD)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
            os.set_inheritable(fd, True)


class _NoThread(SubinterpASGIError, RuntimeError):
    """There is no thread to be had."""


class _Inbox:
    """What happens, for the main thread to take in turn, signals included.

    The system may deliver a signal to any thread. If that is not the main one, and the main one
    waits for a lock, as in ``queue.get()``, its handler does not run before something else wakes
    it. So it waits for a socket that the interpreter's own handler, in C, writes to.
    """

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._waiting, self._waking = socket.socketpair()
        self._waking.setblocking(False)
        self._previous = signal.set_wakeup_fd(self._waking.fileno(), warn_on_full_buffer=False)

    def put(self, event: str, outcome: Any) -> None:
        """Add an event; from any thread, and from handlers of signals."""
        self._events.put((event, outcome))
        with contextlib.suppress(OSError):  # full, which wakes as well, or closed at the end
            self._waking.send(b"\0")

    def get(self, timeout: float | None = None) -> tuple[str, Any]:
        """Wait for the next event, which is ``tick`` if none comes in time."""
        self._waiting.settimeout(timeout)
        while True:
            try:
                return self._events.get_nowait()
            except queue.Empty:
                pass
            try:
                self._waiting.recv(4096)
            except TimeoutError:
                return "tick", None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        signal.set_wakeup_fd(self._previous)
        self._waiting.close()
        self._waking.close()


class _Command:
    """Runs a supervisor until a signal comes. All that happens arrives in one inbox."""

    def __init__(
        self,
        server: Supervisor,
        inbox: _Inbox,
        make_server: Callable[[], Supervisor],
        notifier: systemd.Notifier,
        predecessor: upgrade.Predecessor,
    ) -> None:
        self._server = server
        self._make_server = make_server
        self._notifier = notifier
        self._predecessor = predecessor
        self._successor: upgrade.Successor | None = None
        self._inbox = inbox
        self._workers = server.config.workers
        self._began = perf_counter()
        self._serves = False
        self._stopping_since: float | None = None
        self._changing = True  # a thread starts, reloads or scales
        self._changes: list[str] = []  # what is to be done after that
        self._calls: queue.SimpleQueue[tuple[str, Callable[[], object]] | None] = (
            queue.SimpleQueue()
        )
        self._callers: list[threading.Thread] = []
        self._ending = threading.Event()
        self._given_up: int | None = None  # the status, if it was told to end before it served

    def run(self) -> int:
        names = ("INT", "TERM", "HUP", "QUIT", "TTIN", "TTOU", "USR1", "USR2")
        numbers = [getattr(signal, f"SIG{name}") for name in names if hasattr(signal, f"SIG{name}")]
        previous = {number: signal.signal(number, self._take_signal) for number in numbers}
        try:
            status = self._serve()
            if _IS_COMMAND:  # nothing is left to be broken off but what Python does at its end
                for number in (signal.SIGINT, signal.SIGTERM):
                    previous[number] = lambda number, frame: os._exit(status)
                if self._server.in_threads:
                    exit_guard.end_within(self._server.config.shutdown_timeout, status)
            return status
        finally:
            output.end_streams()  # here, since who presses Ctrl+C still means what goes on
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _take_signal(self, number: int, frame: object) -> None:
        self._inbox.put("signal", signal.Signals(number).name)

    def _call(self, event: str, function: Callable[[], object]) -> None:
        """Call in a thread, so that this one stays free for signals; its outcome is an event."""
        self._calls.put((event, function))

    def _add_caller(self) -> None:
        thread = threading.Thread(target=self._run_calls, name="asgi-call", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError) as exc:
            raise _NoThread(limits.with_cure(exc)) from None
        self._callers.append(thread)

    def _run_calls(self) -> None:
        while (call := self._calls.get()) is not None:
            event, function = call
            try:
                function()
            except BaseException as exc:
                self._inbox.put(event, exc)
            else:
                self._inbox.put(event, None)

    def _serve(self) -> int:
        """Do what is to be done on each event, until one of them ends the process."""
        try:
            # One waits for the end, one changes something, and one stops. Beforehand, for when a
            # signal comes there may be none to be had.
            for _ in range(3):
                self._add_caller()
            self._call("started", self._server.start)
            status: int | None = None
            while status is None:
                event, outcome = self._inbox.get(self._notifier.watchdog_interval)
                status = getattr(self, f"_on_{event}")(outcome)
            return status
        except _NoThread as exc:
            _say_error(exc)
            return EXIT_STARTUP
        finally:
            for _ in self._callers:
                self._calls.put(None)
            # CPython 3.13 ends daemons that are left by what needs a descriptor to be loaded.
            for thread in self._callers:
                thread.join(_CALLER_TIME)

    # What follows on an event. Its outcome is a signal's name, or the exception that a call raised;
    # a status that is returned is the process'.

    def _on_signal(self, name: str) -> None:
        if name == "SIGQUIT":
            self._dump()
        elif name == "SIGUSR1":
            self._reopen_logs()
        elif name not in self._CHANGES:
            self._stop(name)
        elif self._stopping_since is None:
            self._change(name)

    def _on_started(self, failure: BaseException | None) -> int | None:
        ahead.end()
        if self._stopping_since is not None:
            return None
        if failure is None:
            self._serves = True
            with contextlib.suppress(OSError):  # the other one has ended by itself
                self._predecessor.tell()
            self._server.take_over()
            self._tell_ready()
            self._announce(perf_counter() - self._began)
            self._on_changed(None)
            self._call("ended", self._server.wait)
        else:
            _say_error(failure)
            if self._server.watcher is not None and isinstance(failure, StartupError):
                _say("Waiting for a file to change")
                self._call("mended", partial(self._server.watcher.wait, self._ending))
                return None
            return self._exit(EXIT_USAGE if isinstance(failure, ConfigError) else EXIT_STARTUP)
        return None

    def _on_mended(self, failure: BaseException | None) -> None:
        """Try to start again; a supervisor starts once."""
        if self._stopping_since is None:
            self._server = self._make_server()
            self._began = perf_counter()
            self._call("started", self._server.start)

    def _on_changed(self, failure: BaseException | None) -> None:
        """Do what else was asked for meanwhile."""
        if failure is not None and self._stopping_since is None:
            _say_error(failure)
        self._changing = False
        if self._changes:
            self._change(self._changes.pop(0))

    def _on_ended(self, failure: BaseException | None) -> int | None:
        if failure is None or self._stopping_since is not None:
            return None
        _say_error(failure)
        return self._exit(EXIT_DIED)

    def _on_stopped(self, failure: BaseException | None) -> int:
        if self._given_up is not None:
            return self._exit(self._given_up)  # (an import may go on, which nothing can interrupt)
        if isinstance(failure, ShutdownIncompleteError):
            _say_error(failure)
            exit_guard.end_process(exit_guard.EXIT_STATUS)
        if failure is None:
            _say("Stopped")
        return self._exit(EXIT_OK if failure is None else EXIT_DIED)  # (it was logged)

    def _on_forced(self, failure: BaseException | None) -> None:
        """The first call of ``stop()`` returns too, and tells."""

    def _on_dumped(self, failure: BaseException | None) -> None:
        """It was said, or is not."""
        if failure is not None:
            _say_error(failure)

    def _dump(self) -> None:
        """Say what all workers are doing; in a thread of its own, whatever else goes on."""
        server = self._server

        def dump() -> None:
            _say(server.dump() or "No worker runs")

        thread = threading.Thread(target=dump, name="asgi-dump", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError):
            self._call("dumped", dump)  # by one of those that there are, once it is free

    def _reopen_logs(self) -> None:
        _say("SIGUSR1: reopening log files")
        try:
            from .config import log_rotation

            log_rotation.reopen()
        except (ImportError, OSError, MemoryError) as exc:  # an import takes a descriptor, too
            _say(f"Error: the log files of this interpreter are not reopened: {exc}")
        self._server.reopen_logs()

    def _stop(self, name: str) -> None:
        if self._stopping_since is None:
            self._stopping_since = monotonic()
            self._ending.set()
            self._notifier.stopping()
            if self._successor is not None:
                self._successor.end()
            if self._serves:
                _say(f"{name}: stopping; once more to break off what is in flight")
            else:
                self._given_up = EXIT_INTERRUPTED if name == "SIGINT" else EXIT_OK
                _say(f"{name}: stopping")
            self._call("stopped", self._server.stop)
        elif monotonic() - self._stopping_since > _SAME_SIGNAL:
            if self._given_up is not None:
                exit_guard.end_process(self._given_up)
            _say(f"{name}: breaking off what is in flight")
            with contextlib.suppress(_NoThread):  # or else once one of the others is free
                self._add_caller()
            self._call("forced", lambda: self._server.stop(0))

    def _exit(self, status: int) -> int:
        """Return the status, or end with it at once if something is left that does not end."""
        if self._server.has_running_workers or kept.any_left() or host_log.held_up():
            exit_guard.end_process(status)
        return status

    _CHANGES = ("SIGHUP", "SIGTTIN", "SIGTTOU", "SIGUSR2")

    def _change(self, name: str) -> None:
        """Reload, or serve with one worker more or less; one thing after the other."""
        if self._changing:
            if not (name == "SIGHUP" and name in self._changes):
                self._changes.append(name)
            return
        self._changing = True
        replace = self._server.config.reload_strategy == "process"
        if name == "SIGUSR2" or (name == "SIGHUP" and replace):
            self._call("changed", lambda: self._upgrade(name))
        elif name == "SIGHUP":
            self._call("changed", self._reload)
        else:
            self._call("changed", lambda: self._scale(name))

    def _reload(self) -> None:
        _say("SIGHUP: reloading")
        began = perf_counter()
        self._notifier.reloading()
        try:
            generation = self._server.reload()
        finally:
            self._tell_ready()
        _say(f"Generation {generation} serves; that took {(perf_counter() - began) * 1000:.0f} ms")

    def _scale(self, name: str) -> None:
        before = self._workers
        after = before + 1 if name == "SIGTTIN" else max(1, before - 1)
        _say(f"{name}: {after} worker{'s' * (after > 1)} instead of {before}")
        self._server.scale(after)
        self._workers = after
        self._tell_ready()

    def _upgrade(self, name: str) -> None:
        """Start a new process in place of this one, and wait until it serves."""
        server = self._server
        _say(f"{name}: starting a new process")
        inherited, descriptors = server.hand_over_listeners()
        environment = self._notifier.for_successor()
        self._successor = upgrade.Successor(
            inherited, descriptors, environment, self._predecessor.directory
        )
        try:
            self._successor.wait(server.config.startup_timeout + _START_MARGIN)
        except UpgradeError:
            self._successor = None
            raise
        self._inbox.put("replaced", self._successor.pid)

    def _on_replaced(self, pid: int) -> None:
        """Leave what is listened on to the new process, and end."""
        self._successor = None
        if self._stopping_since is None:
            self._stopping_since = monotonic()
            self._notifier.replaced_by(pid)
            _say(f"Process {pid} serves; this one ends")
            for name in self._changes:  # what this one has not come to do
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.Signals[name])
            self._call("stopped", self._server.hand_over)

    def _on_tick(self, nothing: object) -> None:
        """Give a sign of life, if there is one: while it starts or ends, none is asked for."""
        interval = self._notifier.watchdog_interval
        if interval is not None and self._server.held_up < interval:
            self._notifier.alive()

    def _tell_ready(self) -> None:
        count = len(self._server.workers)
        generation = self._server.generation
        self._notifier.ready(f"{count} worker{'s' * (count > 1)} of generation {generation} serve")

    def _announce(self, seconds: float) -> None:
        server = self._server
        for host, port in server.addresses:
            if port is None:
                _say(f"Listening on unix:{host}")
            else:
                scheme = "https" if server.config.tls else "http"
                _say(f"Listening on {scheme}://{f'[{host}]' if ':' in host else host}:{port}")
        count = server.config.workers
        kind = "thread" if server.in_threads else "interpreter"
        _say(
            f"{count} worker{'s' * (count > 1)} ({kind}{'s' * (count > 1)}) "
            f"in {seconds * 1000:.0f} ms; Ctrl+C stops"
        )


class _Changes:
    """Says what becomes of changed files."""

    def __init__(self) -> None:
        self._since: float | None = None

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.FilesChanged):
            names = ", ".join(map(os.path.relpath, event.files[:3]))
            more = len(event.files) - 3
            _say(f"{names}{f' and {more} more' if more > 0 else ''}: reloading")
            self._since = event.at
        elif isinstance(event, events.TLSReloaded):
            _say(f"New connections use what is in {', '.join(event.files)} now")
        elif self._since is not None and isinstance(event, events.ReloadFailed):
            self._since = None
        elif (
            self._since is not None
            and isinstance(event, events.GenerationChanged)
            and event.state is GenerationState.SERVING
        ):
            took = (event.at - self._since) * 1000
            _say(f"Generation {event.generation} serves; that took {took:.0f} ms")
            self._since = None


def _say(line: str) -> None:
    # In one piece, even if not buffered, so that it does not mix with what workers write.
    output.say(f"{line}\n")


def _say_error(exc: BaseException) -> None:
    kind = "" if isinstance(exc, SubinterpASGIError) else f"{type(exc).__name__}: "
    text = _in_flags(str(exc))
    if isinstance(exc, ConfigError) and exc.option in option_names():
        text = f"{flags.flag(exc.option)}: {exc.problem}"
    taken = (
        isinstance(exc, BindError)
        and exc.errno == EADDRINUSE
        and not exc.address.startswith("unix:")
    )
    hint = "; --port chooses another" if taken else ""
    _say(f"Error: {kind}{text}{hint}")


def _in_flags(text: str) -> str:
    """Speak of options as they are given here: ``isolation='thread'`` as ``--isolation thread``."""
    return re.sub(
        r"\b([a-z_]+)='([\w.]+)'",
        lambda found: (
            f"--{found[1].replace('_', '-')} {found[2]}" if found[1] in option_names() else found[0]
        ),
        text,
    )


if __name__ == "__main__":
    sys.exit(main())
