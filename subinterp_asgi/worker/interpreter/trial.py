"""Imports an application as a worker does, and writes down what becomes of extension modules.

For ``extensions.rehearsal``, in a process of its own: what is imported there may crash.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from importlib.machinery import ExtensionFileLoader, SourceFileLoader

from ...control.interpreters import Interpreter
from ...errors import AppImportError, ExtensionRefusedError
from ...types import TYPE_CHECKING
from . import daemon_threads, lazy_imports
from .importer import (
    STDLIB,
    import_app,
    import_object,
    judge_extensions,
    line_of,
    message_of,
)

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_IN_INTERPRETER = f"from {__name__} import import_watched\nimport_watched(given, journal)"


def main(given: str) -> None:
    """Import in a new interpreter, and end the process, whatever threads there are.

    Args:
        given: JSON object: ``app``, ``extensions`` and ``hide_modules``.

    Standard output becomes the journal; what is printed goes to standard error, for it is none of
    the report's.
    """
    journal = os.dup(1)
    os.dup2(2, 1)

    def run() -> None:
        try:
            interpreter = Interpreter()  # here, as a worker's: this thread is its main one
            interpreter.adopt_path(tuple(sys.path))
            interpreter.prepare({"given": given, "journal": journal})
            interpreter.execute(_IN_INTERPRETER)
            os._exit(0)  # closing it would wait for threads
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)

    threading.Thread(target=run).start()


def import_watched(text: str, journal: int) -> None:
    """Import, and write lines of JSON to the journal; the last one says how it has ended.

    A line has the event, the module, its file, and a reason where there is one.
    """
    given = json.loads(text)
    app = given["app"]

    def note(*event: str) -> None:
        os.write(journal, json.dumps(event).encode() + b"\n")

    daemon_threads.demote()
    lazy_imports.make_all_eager()  # so that what would fail when it is used fails here
    judge_extensions(given["extensions"], tuple(given["hide_modules"]))
    create = ExtensionFileLoader.create_module

    def create_module(self: ExtensionFileLoader, spec: ModuleSpec) -> ModuleType | None:
        path = spec.origin or ""
        if path.startswith(STDLIB):
            return create(self, spec)
        note("loading", spec.name, path)
        try:
            module = create(self, spec)
        except ImportError as exc:
            if isinstance(exc, ExtensionRefusedError):
                note("refused", spec.name, path, exc.reason)
            else:
                note("broken", spec.name, path, message_of(exc))
            raise
        if isinstance(spec.loader, SourceFileLoader):
            note("pure twin", spec.name, path)
        else:
            note("native" if spec.loader is self else "private copy", spec.name, path)
        return module

    ExtensionFileLoader.create_module = create_module  # type: ignore[assignment, method-assign]
    try:
        if ":" in app:
            import_app(app)
        else:
            import_object(f"{app}:__name__")
    except AppImportError as exc:
        note("failed", app, "", str(exc).partition("; run `")[0])
    except BaseException as exc:
        note("failed", app, "", line_of(exc))
    else:
        note("imported", app)
