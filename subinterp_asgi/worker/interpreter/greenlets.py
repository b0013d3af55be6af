"""Stands in for greenlet, which no worker can load: threads that hand over to each other.

Asynchronous SQLAlchemy runs synchronous code in a greenlet, which it leaves to await something and
enters again with the result. Here each greenlet has a thread. Of a family, which are the greenlets
of one ordinary thread, only one goes on: who switches wakes another and sleeps until its turn.
``native`` puts this in the place of the extension module ``greenlet._greenlet``.

From thread to thread goes what code sees of its thread: the context (the very same object, not a
copy), the running loop, its current task and the hooks of asynchronous generators. What knows
threads by their identity sees several: ``threading.local``, ``threading.RLock``, and connections
that may be used in one thread only.

A greenlet that is suspended when it is collected, when its family's thread ends or when the worker
ends is killed: ``GreenletExit`` is raised in it, and again wherever it would switch.

Garbage is collected between two instructions of Python, also of those here, and may kill a greenlet
from there. So a turn is given (``_give``) without any call before the other thread is woken.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import threading
import weakref
from _thread import allocate_lock, get_ident
from asyncio import events
from contextvars import Context, ContextVar
from ctypes import c_int, py_object, pythonapi
from types import TracebackType

from ...types import TYPE_CHECKING
from .marks import passes_interrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Self

    type Loop = asyncio.AbstractEventLoop
    type Tasks = Iterable[asyncio.Task[Any]]
    type Ambience = tuple[Loop, asyncio.Task[Any] | None, Any, Tasks] | None

OFFERED = (
    "_C_API",
    "CLOCKS_PER_SEC",
    "GREENLET_USE_CONTEXT_VARS",
    "GREENLET_USE_GC",
    "GREENLET_USE_TRACING",
    "GreenletExit",
    "enable_optional_cleanup",
    "error",
    "get_clocks_used_doing_optional_cleanup",
    "getcurrent",
    "greenlet",
    "gettrace",
    "settrace",
)
"""What is imported from ``greenlet._greenlet``."""
_NOTHING = object()
MOST_THREADS = 1000
"""How many greenlets of an interpreter can be in the middle of something."""
_IDLE_TIME = 10.0  # seconds after which a thread ends that has nothing to do
_VANISHED = "Killing the greenlet because all references have vanished."
_NOT_FOR = {"gevent", "eventlet"}

_C_API = None
GREENLET_USE_CONTEXT_VARS = True
GREENLET_USE_GC = GREENLET_USE_TRACING = False
CLOCKS_PER_SEC = 1_000_000


class GreenletExit(BaseException):
    """Ends a greenlet quietly: its parent gets it as the result."""


class error(Exception):
    """Greenlets were used in a way in which they can't be."""


GreenletExit.__module__ = error.__module__ = "greenlet"

_swap_current_task = asyncio.tasks._swap_current_task  # type: ignore[attr-defined]
_register_task, _unregister_task = asyncio.tasks._register_task, asyncio.tasks._unregister_task
_THREADS_KNOW_TASKS = sys.version_info >= (3, 14)
"""The current task and the tasks that were made are each thread's, and not only each loop's."""

_probe: ContextVar[None] = ContextVar("subinterp_asgi.greenlets")
_enter = pythonapi["PyContext_Enter"]
_exit = pythonapi["PyContext_Exit"]
_enter.argtypes = _exit.argtypes = [py_object]
_enter.restype = _exit.restype = c_int


def _current_context() -> Context:
    """Return the current context itself, of which ``contextvars`` only makes copies."""
    token = _probe.set(None)
    context: Context = gc.get_referents(token)[0]
    _probe.reset(token)
    return context


class _Here(threading.local):
    family: _Family | None = None
    """Whose turn it is to go on in this thread."""
    guard: _Guard | None = None


_here = _Here()
_families: dict[int, _Family] = {}  # by the identity of the ordinary thread
_runners: set[_Runner] = set()
_idle: list[_Runner] = []
_names = itertools.count()
_ending = False


class _Turn:
    """Where a thread sleeps while it is not its turn, and what it needs to go on."""

    def __init__(self) -> None:
        self.ident = get_ident()
        self.sleeping = False
        self.contexts: list[Context] = []  # that it has left, the innermost first
        self.bottom: Context | None = None  # the thread's own, which is not left
        self.given: Any = None
        self.lock = allocate_lock()
        self.lock.acquire()

    def leave(self) -> tuple[list[Context], Ambience]:
        """Leave all contexts, which another thread may be about to enter.

        Return them, and what the other thread takes over besides.
        """
        loop = events._get_running_loop()
        ambience: Ambience = None
        if loop is not None:
            ambience = loop, asyncio.current_task(loop), sys.get_asyncgen_hooks(), ()
        contexts = []
        while (context := _current_context()) is not self.bottom:
            try:
                _exit(context)
            except RuntimeError:
                self.bottom = context
                break
            contexts.append(context)
        return contexts, ambience

    @passes_interrupts
    def sleep(self) -> Any:
        self.lock.acquire()
        given, self.given = self.given, None
        return given

    def enter(self, ambience: Ambience) -> None:
        for context in reversed(self.contexts):
            try:
                _enter(context)
            except RuntimeError:  # another thread is in it, as when a greenlet is killed
                _enter(context.copy())
        if ambience:
            for made in ambience[3]:
                _register_task(made)
            if ambience[0].get_debug():  # the loop checks which thread calls it
                ambience[0]._thread_id = get_ident()  # type: ignore[attr-defined]


class _Runner(_Turn):
    """A thread that runs one greenlet after another."""

    runs: Callable[[], greenlet | None] = staticmethod(lambda: None)
    """Returns the greenlet that it runs."""
    outermost = 0
    """The ``id()`` of its outermost frame."""

    def __init__(self) -> None:
        if len(_runners) >= MOST_THREADS:
            raise error(
                f"{MOST_THREADS} greenlets are in the middle of something, each in a thread of its "
                "own: let fewer requests use the database at one time (limit_concurrency)"
            )
        super().__init__()
        name = f"asgi-greenlet-{next(_names)}"
        thread = threading.Thread(target=self._run, name=name, daemon=False)
        _runners.add(self)
        try:
            thread.start()
        except RuntimeError as exc:
            _runners.discard(self)
            raise error(f"a greenlet needs a thread of its own: {exc}") from exc

    def leave(self) -> tuple[list[Context], Ambience]:
        contexts, ambience = super().leave()
        if ambience:
            loop, task, hooks, tasks = ambience
            if _THREADS_KNOW_TASKS:
                tasks = asyncio.all_tasks(loop)  # that were made in this thread
                for made in tasks:
                    _unregister_task(made)
                _swap_current_task(loop, None)
                ambience = loop, task, hooks, tasks
            events._set_running_loop(None)
            sys.set_asyncgen_hooks(None, None)
        return contexts, ambience

    def enter(self, ambience: Ambience) -> None:
        if ambience:
            loop, task, hooks, _ = ambience
            events._set_running_loop(loop)
            if _THREADS_KNOW_TASKS:
                _swap_current_task(loop, task)
            sys.set_asyncgen_hooks(*hooks)
        super().enter(ambience)

    @passes_interrupts
    def _run(self) -> None:
        self.ident = get_ident()
        self.outermost = id(sys._getframe())
        self.bottom = _current_context()
        while (given := self._next()) and self._perform(*given):
            del given
        _runners.discard(self)

    def _next(self) -> Any:
        """Return what is to be run; nothing if this thread is to end."""
        if not self.lock.acquire(timeout=_IDLE_TIME):
            try:
                _idle.remove(self)
            except ValueError:
                return self.sleep()  # it has just been chosen
            return None
        given, self.given = self.given, None
        return given

    @passes_interrupts
    def _perform(
        self,
        family: _Family,
        ref: Callable[[], greenlet | None],
        run: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        ambience: Ambience,
    ) -> bool:
        """Run a greenlet and give the turn to its parent; return whether more may be run.

        Nothing here keeps the greenlet, so that it can be collected while it is suspended.
        """
        self.runs = ref
        _here.family = family
        exc: BaseException | None = None
        try:
            self.enter(ambience)
            value = run(*args, **kwargs)
            _take_interrupt()
        except GreenletExit as exit:
            value = exit
        except BaseException as raised:
            value, exc = None, raised
        del run, args, kwargs
        ended = _current_family().current  # (being collected, it is referred to by no ref)
        contexts, ambience = self.leave()
        _here.family = None
        del self.runs
        if goes_on := not _ending:
            _idle.append(self)  # before others go on, who then can have this thread
        ended._dead = True
        ended._context = (contexts[0] if contexts else None) or None
        parent, waits = ended._parent, ended._family is family
        del ended
        if waits:  # else it was killed while another one goes on
            family.current = parent  # so that it can be collected now
            family.finish(parent, value, exc, ambience)
        return goes_on


class _Family:
    """The greenlets of one ordinary thread, of which one goes on."""

    def __init__(self) -> None:
        self.current = main = object.__new__(greenlet)
        main._family, main._turn = self, _Turn()

    def end(self) -> None:
        """Kill what is suspended, since nobody can switch to it any more."""
        for runner in tuple(_runners):
            suspended = runner.runs()
            if suspended is not None and suspended._family is self:
                suspended._kill()

    def finish(
        self, parent: greenlet, value: Any, exc: BaseException | None, ambience: Ambience
    ) -> None:
        """Give the turn of one that has ended to its parent, or to the next that takes it."""
        args: tuple[Any, ...] = (value,)
        kwargs: dict[str, Any] = {}
        while True:
            try:
                parent, run, args, kwargs, exc = _next_of(parent, None, args, kwargs, exc)
                woken = self.prepare(parent, run, args, kwargs, exc, ambience)
            except BaseException as raised:
                exc, parent = raised, parent._parent
            else:
                return self.give(parent, *woken)

    def prepare(
        self,
        target: greenlet,
        run: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        exc: BaseException | None,
        ambience: Ambience,
    ) -> tuple[_Turn, tuple[Any, ...]]:
        """Return whom to wake, and what to give to that one, to have a greenlet go on."""
        if run is _NOTHING:
            return target._turn, (target, _result(args, kwargs), exc, ambience)
        try:
            turn = _idle.pop()
        except IndexError:
            turn = _Runner()
        context, target._context = target._context, None
        turn.contexts = [Context() if context is None else context]
        target._turn = turn
        return turn, (self, weakref.ref(target), run, args, kwargs, ambience)

    def give(
        self,
        target: greenlet,
        turn: _Turn,
        given: tuple[Any, ...],
        own: _Turn | None = None,
        contexts: list[Context] | None = None,
    ) -> None:
        """Give the turn away; nothing is called before that is done (see above)."""
        if own is not None:
            own.contexts = contexts  # type: ignore[assignment]
            own.sleeping = True
        self.current = target
        turn.given = given
        turn.sleeping = False
        turn.lock.release()


class _Guard:
    """Goes with the ordinary thread."""

    def __init__(self, family: _Family) -> None:
        self.family = family
        self.ident = get_ident()
        _families[self.ident] = family

    def __del__(self) -> None:
        del _families[self.ident]
        self.family.end()


def _current_family() -> _Family:
    family = _here.family
    if family is None:
        family = _here.family = _Family()
        _here.guard = _Guard(family)
    return family


def _next_of(
    target: greenlet,
    me: greenlet | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    exc: BaseException | None,
) -> tuple[greenlet, Any, tuple[Any, ...], dict[str, Any], BaseException | None]:
    """Find who goes on if a greenlet is switched to: itself, or a parent if it has ended.

    Return also what that one is to run, if it has not started, and what it gets.
    """
    while target is not me:
        if target._turn is None and not target._dead:
            run = target.run
            if exc is None:
                return target, run, args, kwargs, None
            target._dead = True  # it ends by that where it would have started
            if isinstance(exc, GreenletExit):
                args, kwargs, exc = (exc,), {}, None
        if not target._dead:
            break
        target = target._parent
    return target, _NOTHING, args, kwargs, exc


def _result(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what a call of ``switch()`` returns that is switched to with these arguments."""
    if not kwargs:
        return args[0] if len(args) == 1 else args
    return (args, kwargs) if args else kwargs


def _take_interrupt() -> None:
    """Let an exception come that was raised in this thread from outside."""


class greenlet:
    """A function that can be left in the middle, and gone on with later."""

    _family: _Family
    _parent: Any = None
    _turn: Any = None
    _run: Any = _NOTHING
    _context: Context | None = None
    _dead = False
    _killed = False

    error = error
    GreenletExit = GreenletExit

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls)
        self._family = _current_family()
        self._parent = self._family.current
        return self

    def __init__(self, run: Any = _NOTHING, parent: greenlet | None = None) -> None:
        if run is not _NOTHING:
            self.run = run
        if parent is not None:
            self.parent = parent

    def __init_subclass__(cls, **kwargs: Any) -> None:
        library = cls.__module__.partition(".")[0]
        if library in _NOT_FOR:
            raise error(
                f"{library} needs the real greenlet, which does not support subinterpreters; "
                "isolation='thread' serves from threads"
            )
        super().__init_subclass__(**kwargs)

    @property
    def run(self) -> Any:
        if self._parent is None:
            raise AttributeError("Main greenlets do not have a run attribute.")
        if self._run is _NOTHING or self._turn is not None or self._dead:
            raise AttributeError("run")
        return self._run

    @run.setter
    def run(self, run: Any) -> None:
        if self._turn is not None or self._dead:
            raise AttributeError("run cannot be set after the start of the greenlet")
        self._run = run

    @property
    def parent(self) -> greenlet | None:
        parent: greenlet | None = self._parent
        return parent

    @parent.setter
    def parent(self, parent: greenlet) -> None:
        if not isinstance(parent, greenlet):
            raise TypeError(
                f"GreenletChecker: Expected any type of greenlet, not {type(parent).__name__}"
            )
        if self._parent is None:
            raise AttributeError("cannot set the parent of a main greenlet")
        above: greenlet | None = parent
        while above is not None:
            if above is self:
                raise ValueError("cyclic parent chain")
            above = above._parent
        if self._turn is None:
            self._family = parent._family
        elif self._family is not parent._family:
            raise ValueError("parent cannot be on a different thread")
        self._parent = parent

    @property
    def dead(self) -> bool:
        return self._dead

    def __bool__(self) -> bool:
        return self._turn is not None and not self._dead

    @property
    def gr_context(self) -> Context | None:
        """The context that is its current one, itself."""
        turn = self._turn
        if turn is None or self._dead:
            return self._context
        if self._family.current is not self:
            contexts: list[Context] = turn.contexts
            return contexts[0] if contexts else turn.bottom
        if turn.ident != get_ident():
            raise ValueError(
                "cannot get context of a greenlet that is running in a different thread"
            )
        context = _current_context()
        return context if context or context is not turn.bottom else None

    @gr_context.setter
    def gr_context(self, context: Context | None) -> None:
        if not isinstance(context, Context | None):
            raise TypeError("greenlet context must be a contextvars.Context or None")
        turn = self._turn
        if turn is None or self._dead:
            self._context = context
            return
        context = Context() if context is None else context
        if self._family.current is not self:
            turn.contexts[:1] = [context]
            return
        if turn.ident != get_ident():
            raise ValueError(
                "cannot set context of a greenlet that is running in a different thread"
            )
        current = _current_context()
        if current is not context:
            if current is not turn.bottom:
                _exit(current)
            _enter(context)

    @passes_interrupts
    def switch(self, /, *args: Any, **kwargs: Any) -> Any:
        """Let this greenlet go on, and sleep until someone switches back."""
        return self._switch(args, kwargs, None)

    @passes_interrupts
    def throw(self, typ: Any = GreenletExit, val: Any = None, tb: Any = None, /) -> Any:
        """Let this greenlet go on with an exception."""
        exc = _exception(typ, val, tb)
        if self._dead and isinstance(exc, GreenletExit):
            return self._switch((exc,), {}, None)
        return self._switch((), {}, exc)

    @passes_interrupts
    def _switch(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], exc: BaseException | None
    ) -> Any:
        family = _current_family()
        if family.current._killed:
            raise GreenletExit
        if family is not self._family:
            raise error("Cannot switch to a different thread")
        target, run, args, kwargs, exc = _next_of(self, family.current, args, kwargs, exc)
        if target is family.current:
            value = _result(args, kwargs)
        else:
            turn = family.current._turn
            contexts, ambience = turn.leave()
            try:
                woken = family.prepare(target, run, args, kwargs, exc, ambience)
            except BaseException:
                turn.contexts = contexts
                turn.enter(ambience)
                raise
            family.give(target, *woken, turn, contexts)
            del target, run, args, kwargs, exc, woken  # nothing here keeps what sleeps
            me, value, exc, ambience = turn.sleep()
            if me is not family.current:  # it is killed while another one goes on
                _here.family = me._family = _Family()
                me._family.current = me
            turn.enter(ambience)
            del me
        if exc is None:
            return value
        context = exc.__context__
        try:
            raise exc
        finally:
            exc.__context__ = context  # which is what it was where it came from
            del exc, context

    def _kill(self) -> None:
        """Let it end, if it is suspended, without waiting for that."""
        self._killed = True
        turn = self._turn
        if turn is not None and turn.sleeping:
            turn.given = (self, (), GreenletExit(_VANISHED), None)
            turn.sleeping = False
            turn.lock.release()

    def __del__(self) -> None:
        turn = self._turn
        if turn is None or self._dead or not turn.sleeping:
            return
        current = self._family.current
        if (
            _here.family is self._family
            and current._turn.ident == get_ident()
            and not current._killed
        ):
            self._killed, self._parent = True, current
            self._switch((), {}, GreenletExit(_VANISHED))
        else:  # that thread is about to give its turn to another, or is none of the family's
            self._kill()


def _exception(typ: Any, val: Any, tb: Any) -> BaseException:
    """Make the exception that ``raise`` would raise, of what ``throw()`` is given."""
    if tb is not None and not isinstance(tb, TracebackType):
        raise TypeError("throw() third argument must be a traceback object")
    if isinstance(typ, BaseException):
        if val is not None:
            raise TypeError("instance exception may not have a separate value")
        exc = typ
    elif isinstance(typ, type) and issubclass(typ, BaseException):
        if isinstance(val, typ):
            exc = val
        else:
            exc = typ(*(() if val is None else val if isinstance(val, tuple) else (val,)))
    else:
        raise TypeError(f"exceptions must be classes, or instances, not {type(typ).__name__}")
    return exc.with_traceback(tb)


def getcurrent() -> greenlet:
    """Return the greenlet that calls this."""
    return _current_family().current


def gettrace() -> None:
    """Return ``None``: nothing is traced."""


def settrace(callback: object) -> None:
    """Refuse to trace switches."""
    raise error("switches of greenlets can't be traced in a subinterpreter")


def enable_optional_cleanup(enabled: bool) -> None:
    """Do nothing."""


def get_clocks_used_doing_optional_cleanup() -> None:
    """Return ``None``: there is no optional cleaning up."""


greenlet.__module__ = "greenlet"
greenlet.getcurrent = staticmethod(getcurrent)  # type: ignore[attr-defined]


def runners_for(ident: int) -> list[tuple[int, int]]:
    """Return the threads that go on in the place of another one, the innermost greenlet's first.

    That is for each its identity and the ``id()`` of its outermost frame.
    """
    family = _families.get(ident)
    current: Any = family and family.current
    found = []
    while current is not None and current._parent is not None:
        if current:
            found.append((current._turn.ident, current._turn.outermost))
        current = current._parent
    return found


def _end() -> None:
    """End the threads, each as soon as nothing is left for it to do."""
    global _ending
    _ending = True
    _here.guard = None
    while _idle:
        runner = _idle.pop()
        runner.lock.release()


threading._register_atexit(_end)  # type: ignore[attr-defined]  # called before threads are waited for
