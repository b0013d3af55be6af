"""What code can do with greenlets; run with the real ones and with threads.

Each scenario returns what it saw. Nothing may depend on which of the two it was: ``test_greenlets``
compares. Called as a program, with the name of the module to use, this prints all of it as JSON.
"""

from __future__ import annotations

import contextvars
import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

SCENARIOS: dict[str, Callable[[Any], Any]] = {}
var: contextvars.ContextVar[Any] = contextvars.ContextVar("var", default="unset")


def scenario(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    SCENARIOS[function.__name__] = function
    return function


def outcome(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    try:
        return repr(function(*args, **kwargs))
    except BaseException as exc:
        return f"{type(exc).__module__}.{type(exc).__name__}: {str(exc).splitlines()[:1]}"


def run_all(name: str) -> None:
    """Run all scenarios with a module, and print what they saw."""
    module = importlib.import_module(name)
    found = {}
    for scenario, function in SCENARIOS.items():
        found[scenario] = contextvars.Context().run(function, module)
    sys.stdout.write(json.dumps(found, default=repr))
