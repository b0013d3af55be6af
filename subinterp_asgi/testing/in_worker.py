"""What a worker under test does before it imports the application; see ``handed_over``.

Imported in workers, and in the test process only for its debugger.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from typing import TYPE_CHECKING, Any

from ..errors import DatabaseRefusedError

if TYPE_CHECKING:
    from pdb import Pdb


terminal: tuple[int, int] | None = None
_raised: list[BaseException] = []


def prepare(given: dict[str, Any]) -> None:
    """Take what the test process has handed over."""
    if "terminal" in given:
        _debug_at(*given["terminal"])
    if "keep_errors" in given:
        keep_errors()
    if "django" in given:
        _configure_django(**given["django"])


def _debug_at(stdin: int, stdout: int) -> None:
    """Have ``breakpoint()`` speak with a terminal that pytest keeps from everybody."""
    global terminal
    terminal = stdin, stdout

    def breakpoint_hook(*args: Any, **kwargs: Any) -> Any:
        if os.environ.get("PYTHONBREAKPOINT", "pdb.set_trace") not in ("", "pdb.set_trace"):
            return sys.__breakpointhook__(*args, **kwargs)
        _debugger().set_trace(sys._getframe(1))
        return None

    sys.breakpointhook = breakpoint_hook


def _debugger() -> Pdb:
    from pdb import Pdb

    stdin, stdout = terminal or (0, 1)
    return Pdb(
        stdin=open(stdin, closefd=False),
        stdout=open(stdout, "w", closefd=False),
        nosigint=True,
    )


def keep_errors() -> None:
    """Keep what the application raises, for ``post_mortem()``."""
    from ..worker.recorder import Recorder

    Recorder.on_error = _raised.append


def forget() -> None:
    """Forget what was raised, for nobody will look at it. Called in the worker."""
    _raised.clear()


def post_mortem() -> None:
    """Look at what was raised, with a debugger. Called in the worker."""
    while _raised:
        error = _raised.pop(0)
        debugger = _debugger()
        debugger.message("".join(traceback.format_exception_only(error)).rstrip())
        debugger.reset()
        debugger.interaction(None, error)


def _configure_django(
    module: str | None, settings: dict[str, Any], databases: dict[str, dict[str, Any]]
) -> None:
    """Read the project's settings, and put those of the test process over them."""
    if module is None:
        raise DatabaseRefusedError(
            "the workers would use the real databases of Django's, which the application "
            "configures itself: no module of settings is named by DJANGO_SETTINGS_MODULE (or "
            '--ds, or in the ini file). Name one, or use isolation="thread"'
        )
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", module)
    from django.conf import settings as configured

    own = configured.DATABASES
    configured.DATABASES = {
        alias: {**own.get(alias, {}), **values} for alias, values in databases.items()
    }
    with warnings.catch_warnings(action="ignore"):  # some are on their way out
        for name, value in settings.items():
            setattr(configured, name, value)
