"""What an interpreter has begun with in the standard library, and is given back."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import sys
import threading
import warnings
import weakref

from ...types import Any

_SYS = ("argv", "excepthook", "unraisablehook", "displayhook", "stdin", "stdout", "stderr")

_values: dict[str, Any] = {}


def note() -> None:
    """Note the values of now."""
    _values.update(
        sys={name: getattr(sys, name) for name in _SYS},
        argv=sys.argv[:],
        recursion=sys.getrecursionlimit(),
        switch=sys.getswitchinterval(),
        gc=gc.get_threshold(),
        filters=warnings.filters[:],
    )


def put_back() -> None:
    """Give them back, and let what was told that the interpreter ends begin again."""
    for name, value in _values["sys"].items():
        setattr(sys, name, value)
    sys.argv[:] = _values["argv"]
    sys.setrecursionlimit(_values["recursion"])
    sys.setswitchinterval(_values["switch"])
    gc.enable()
    gc.set_threshold(*_values["gc"])
    gc.callbacks.clear()
    threading.excepthook = threading.__excepthook__
    threading.settrace(None)
    threading.setprofile(None)
    _put_back_logging()
    warnings.resetwarnings()
    warnings.filters[:] = _values["filters"]  # type: ignore[index]
    modules: dict[str, Any] = dict(sys.modules)
    if socket := modules.get("socket"):
        socket.setdefaulttimeout(None)
    if asyncio_events := modules.get("asyncio.events"):
        asyncio_events._event_loop_policy = None
    if random := modules.get("random"):
        random.seed()
    _begin_again(modules)


def _put_back_logging() -> None:
    logging.captureWarnings(False)
    logging.disable(logging.NOTSET)
    logging.setLoggerClass(logging.Logger)
    logging.setLogRecordFactory(logging.LogRecord)
    root = logging.getLogger()
    for logger in (root, *root.manager.loggerDict.values()):
        if isinstance(logger, logging.PlaceHolder):
            continue
        logger.disabled = False
        logger.propagate = True
        logger.filters.clear()
        # (Libraries have one of those, which they would not make again.)
        for handler in [each for each in logger.handlers if type(each) is not logging.NullHandler]:
            logger.removeHandler(handler)
        logger.setLevel(logging.WARNING if logger is root else logging.NOTSET)


def _begin_again(modules: dict[str, Any]) -> None:
    """Undo what exit callbacks of the standard library have done, and register them again."""
    atexit.register(logging.shutdown)
    finalize: Any = weakref.finalize
    finalize._shutdown = finalize._registered_with_atexit = False
    if futures := modules.get("concurrent.futures.thread"):
        futures._shutdown = False
        threading._register_atexit(futures._python_exit)  # type: ignore[attr-defined]
    if futures := modules.get("concurrent.futures.process"):
        futures._global_shutdown = False
        threading._register_atexit(futures._python_exit)  # type: ignore[attr-defined]
    if multiprocessing := modules.get("multiprocessing.util"):
        multiprocessing._exiting = False
        atexit.register(multiprocessing._exit_function)


def refresh_environment() -> None:
    """Take the environment of the process, as a new interpreter does."""
    if sys.version_info >= (3, 14):
        os.reload_environ()
    elif os.name == "posix":
        from importlib.machinery import BuiltinImporter
        from importlib.util import module_from_spec

        spec = BuiltinImporter.find_spec("posix")
        assert spec is not None
        assert spec.loader is not None
        posix: Any = module_from_spec(spec)  # which reads the environment when it is made
        spec.loader.exec_module(posix)
        data: Any = os.environ._data  # type: ignore[attr-defined]  # os.environ would set all
        data.clear()
        data.update(posix.environ)


def use_environment(values: dict[str, str]) -> None:
    """Let ``os.environ`` have these values, for this interpreter only.

    That of the process, which programs that are started inherit, stays: it is everybody's.
    """
    environ: Any = os.environ
    environ._data.clear()
    for name, value in values.items():
        environ._data[environ.encodekey(name)] = environ.encodevalue(value)
