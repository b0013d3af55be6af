"""What measures or traces an interpreter has to see the thread that a worker runs in, too.

``threading`` takes care of the threads that it starts; this one came from outside. And coverage
that runs in the host measures nothing in other interpreters, unless it is begun there.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from importlib import import_module

from ...types import Any

logger = logging.getLogger("subinterp_asgi.error")

_WARNINGS = ["module-not-imported", "module-not-measured", "no-ctracer", "no-data-collected"]
"""What coverage need not say in each interpreter: others may have imported what this one has not,
and its tracer in C can't be loaded, in whose place it takes the one in Python."""


def adopt() -> None:
    """Have what traces or profiles the threads of this interpreter see this one as well."""
    if (trace := threading.gettrace()) is not None:
        sys.settrace(trace)
    if (profile := threading.getprofile()) is not None:
        sys.setprofile(profile)


def begin_coverage(settings: dict[str, Any]) -> Callable[[], None]:
    """Measure this interpreter as the host does; return what ends that, and saves the data.

    Nothing to be done if a ``.pth`` file of coverage's has begun it: then it saves them at exit.
    """
    try:
        coverage = _import_coverage()
        if coverage.Coverage.current() is not None:
            return lambda: None
        measured = coverage.Coverage(config_file=settings["config"], data_suffix=True)
        for name, value in settings["options"].items():
            measured.set_option(name, value)
        ignored = measured.get_option("run:disable_warnings") or []
        measured.set_option("run:disable_warnings", [*ignored, *_WARNINGS])
        measured.start()
    except Exception:
        logger.warning("coverage can't be measured in this interpreter", exc_info=True)
        return lambda: None

    def end() -> None:
        try:
            measured.stop()
            measured.save()
        except Exception:
            logger.warning("what coverage has measured is lost", exc_info=True)

    return end


def _import_coverage() -> Any:
    # If the environment asks for the tracer in C, coverage ends the process where it can't have it.
    # (Not by pop(), which would change the environment of the process.)
    environ: Any = os.environ
    environ._data.pop(environ.encodekey("COVERAGE_CORE"), None)
    return import_module("coverage")
