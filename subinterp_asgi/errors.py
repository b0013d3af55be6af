"""Every exception this package raises, in one place.

Each class also derives from the built-in exception that a caller would expect for that kind of
mistake (``ValueError`` for a bad option, ``OSError`` for a port that is taken, ...), so that code
which knows nothing of this package still handles them; save ``WorkerInterrupted``, which is no
error to be handled. Imported by all modules, imports none.
"""

from __future__ import annotations


class SubinterpASGIError(Exception):
    """Base class of every error raised by this package."""


# --- configuration and listeners -----------------------------------------------------------------


class ConfigError(SubinterpASGIError, ValueError):
    """An option is unknown, or its value is not usable.

    Attributes:
        option: Its name.
        problem: What is wrong with it.
    """

    def __init__(self, option: str, message: str) -> None:
        super().__init__(f"{option}: {message}")
        self.option = option
        self.problem = message


class BindError(SubinterpASGIError, OSError):
    """An address could not be bound, or a socket handed in can't be served.

    ``errno`` and ``strerror`` are those of the operating system's error, if there was one.

    Attributes:
        address: The address as it was asked for, for example ``"127.0.0.1:8000"``.
    """

    def __init__(self, address: str, message: str, errno: int | None = None) -> None:
        super().__init__(errno, message)
        self.address = address

    def __str__(self) -> str:
        return f"cannot listen on {self.address}: {self.strerror}"


# --- finding the application ---------------------------------------------------------------------


class AppImportError(SubinterpASGIError):
    """The application could not be imported; the subclasses tell why."""


class AppPathError(AppImportError, ValueError):
    """The import path is not of the form ``"package.module:attribute"``."""


class AppModuleNotFoundError(AppImportError, ModuleNotFoundError):
    """The module named in the import path does not exist."""


class AppModuleFailedError(AppImportError, ImportError):
    """The module exists, but an exception left it while it was being imported."""


class AppAttributeError(AppImportError, AttributeError):
    """The module has no such attribute."""


class AppFactoryError(AppImportError, RuntimeError):
    """The application factory raised; the cause is chained."""


class AppTypeError(AppImportError, TypeError):
    """What the import path leads to is not an ASGI application."""


# --- extension modules ---------------------------------------------------------------------------


class ExtensionFileError(SubinterpASGIError, ValueError):
    """The file of an extension module can't be read, or is not what it says it is.

    Attributes:
        path: The file.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


class UnsupportedFileError(ExtensionFileError):
    """It is sound as far as is known, but of a kind that is not read here."""


class ExtensionRefusedError(SubinterpASGIError, ImportError):
    """An extension module can't be loaded in a worker's interpreter.

    Attributes:
        name: Full name of the module.
        path: Its file.
        distribution: Name and version of what it was installed with, or ``None``.
        reason: Why it is refused.
        chain: Modules from the application on, each imported by the one before; the last is it.
        cures: What would do.
    """

    def __init__(
        self,
        name: str,
        path: str,
        *,
        distribution: str | None,
        reason: str,
        chain: tuple[str, ...],
        cures: tuple[str, ...],
    ) -> None:
        of = f" of {distribution}" if distribution else ""
        super().__init__(
            f"the extension module {name!r}{of} does not support subinterpreters: {reason}; "
            f"imported by {' → '.join(chain)}; {'; or '.join(cures)}",
            name=name,
            path=path,
        )
        self.distribution = distribution
        self.reason = reason
        self.chain = chain
        self.cures = cures


# --- life cycle ----------------------------------------------------------------------------------


class StartupError(SubinterpASGIError, RuntimeError):
    """A worker could not start; the message ends with a traceback of the application's own frames.

    Attributes:
        worker_id: The worker that failed first, or ``None`` if no single one did.
        kind: ``"not_found"`` (the application), ``"not_asgi"`` (it is something else),
            ``"import"`` (an exception left its module or factory), ``"refused_module"`` (an
            extension module does not support interpreters), ``"lifespan"``, ``"config"``,
            ``"timeout"``, ``"stopped"`` (by ``stop()``), ``"canary"``, ``"resources"`` (the system
            had no descriptor, memory or thread to give), or ``"other"``.
        cause: The exception behind it in one line, such as ``"KeyError: 'DATABASE_URL'"``, or
            ``None`` if there was none.
    """

    def __init__(
        self,
        message: str,
        worker_id: int | None = None,
        *,
        kind: str = "other",
        cause: str | None = None,
    ) -> None:
        super().__init__(message)
        self.worker_id = worker_id
        self.kind = kind
        self.cause = cause


class ReloadError(SubinterpASGIError, RuntimeError):
    """A reload was given up, and the workers that were there go on.

    Attributes:
        generation: Number of the generation that did not come to serve.
        kind: As of ``StartupError``.
        cause: As of ``StartupError``.
    """

    def __init__(
        self, message: str, generation: int, *, kind: str = "other", cause: str | None = None
    ) -> None:
        super().__init__(message)
        self.generation = generation
        self.kind = kind
        self.cause = cause


class UpgradeError(SubinterpASGIError, RuntimeError):
    """A new process could not take the place of this one, which goes on."""


class WorkerDiedError(SubinterpASGIError, RuntimeError):
    """Workers ended although nobody had asked them to, more often than they may be replaced.

    Or they can't be replaced, nor even be told to end, since the application has closed the
    server's descriptors; see ``DescriptorsClosedError``.
    """


class DescriptorsClosedError(SubinterpASGIError, RuntimeError):
    """The application has closed descriptors of the server's, as ``os.closerange()`` does.

    All interpreters of a process share its descriptors: none may close what it has not opened.
    """

    def __init__(self) -> None:
        super().__init__(
            "the application has closed descriptors that it had not opened, as os.closerange() "
            "does, and with them the server's: all that runs in a process shares them"
        )


class ShutdownIncompleteError(SubinterpASGIError, TimeoutError):
    """``stop()`` ran out of time: some workers still run and can't be closed safely.

    Their threads and interpreters are left alone until the threads end by themselves, since closing
    an interpreter under a running thread aborts the process. What else to do is the host's choice;
    if it does nothing and the process ends first, the process is ended without finalization.

    Attributes:
        workers: The thread names of the workers that still run.
    """

    def __init__(self, message: str, workers: tuple[str, ...]) -> None:
        super().__init__(message)
        self.workers = workers


class ShutdownFailedError(SubinterpASGIError, RuntimeError):
    """All has ended, but not all of it well: a lifespan's shutdown failed, say.

    The message ends with the traceback of the first worker that said so.

    Attributes:
        workers: The thread names of those workers.
    """

    def __init__(self, message: str, workers: tuple[str, ...]) -> None:
        super().__init__(message)
        self.workers = workers


class WorkerInterrupted(BaseException):
    """Raised in the application's own code where that keeps a worker from serving anyone else.

    Like ``KeyboardInterrupt`` it is no ``Exception``, so that an application that goes on after any
    ``except Exception`` is interrupted too. It ends the one request, as a failure of the
    application's; the worker goes on.
    """

    def __init__(self, message: str = "the worker's loop was held up for too long here") -> None:
        super().__init__(message)


class StateError(SubinterpASGIError, RuntimeError):
    """A call does not fit the state of the object, such as starting a supervisor twice."""


class LifespanError(SubinterpASGIError, RuntimeError):
    """The application's lifespan failed or ran out of time."""


class LifespanTimeoutError(LifespanError, TimeoutError):
    """It ran out of time."""


# --- ASGI ----------------------------------------------------------------------------------------


class ASGIProtocolError(SubinterpASGIError, RuntimeError):
    """The application sent a message that the ASGI specification does not allow at that point."""


class ClientDisconnected(SubinterpASGIError, OSError):
    """Raised by ``send()`` once the client is gone (ASGI HTTP specification 2.4)."""


# --- testing -------------------------------------------------------------------------------------


class AppRaisedError(SubinterpASGIError, AssertionError):
    """The application under test has raised what no test expected; the message has tracebacks.

    Attributes:
        errors: What it was, each a ``testing.AppError``.
    """

    def __init__(self, message: str, errors: tuple[object, ...]) -> None:
        super().__init__(message)
        self.errors = errors


class CallFailedError(SubinterpASGIError, RuntimeError):
    """A function that a test has called in a worker has raised, or could not be called.

    Attributes:
        type: Name of the exception's class.
        traceback: As the worker has formatted it.
        worker_id: The worker.
    """

    def __init__(self, message: str, type: str, traceback: str, worker_id: int) -> None:
        super().__init__(f"worker {worker_id}: {message}\n{traceback}".rstrip())
        self.type = type
        self.traceback = traceback
        self.worker_id = worker_id


class NoAnswerError(SubinterpASGIError, TimeoutError):
    """Workers have not answered a test in time: they hang, or have ended meanwhile.

    Attributes:
        workers: Their numbers.
    """

    def __init__(self, message: str, workers: tuple[int, ...]) -> None:
        super().__init__(message)
        self.workers = workers


class ForkRefusedError(SubinterpASGIError, RuntimeError):
    """``os.fork()`` was called in a test while workers ran in interpreters: the child would die."""


class DatabaseRefusedError(SubinterpASGIError, RuntimeError):
    """Workers of a test would have used a database of Django's that is no test database."""


class MissingLibraryError(SubinterpASGIError, ImportError):
    """What was asked for needs a library that is not installed."""
