"""Reload after reload: what each generation held must be given back.

Memory is compared with that after some reloads, by when what is kept for reuse has come to its
size; descriptors and threads are the same in number after each. CPython 3.13 can't give back the
memory of an interpreter, so that it is not looked at there.
"""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from subinterp_asgi import Supervisor
from subinterp_asgi.control import interpreters
from subinterp_asgi.supervisor.policy.recycling import resident_memory
from tests.support import get, open_descriptors, wait_until

WARM_UP = 20
"""Reloads after which memory is taken for what it will always be."""
GROWTH = 0.10
"""The part of it by which it may grow from there on."""

DEADLINE = 30.0
"""Seconds that what a generation held may take to be given back."""

_DATABASE = "db.sqlite3"
_BARE = "tests.integration.apps.lifecycle:app"
_DJANGO = "tests.frameworks.apps.django_site.asgi:application"


@contextmanager
def _environment(app: str, directory: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Prepare for an application; return its import path and what to request of it."""
    if app == "bare":
        yield _BARE, ("/",)
        return
    os.environ |= {
        "TZ": "America/Chicago",
        "DJANGO_SETTINGS_MODULE": "tests.frameworks.apps.django_site.settings",
        "TEST_DATABASE": str(directory / _DATABASE),
        "TEST_JOURNAL": str(directory / "journal"),
    }
    (directory / "journal").touch()
    subprocess.run(
        [sys.executable, "-m", "django", "migrate", "--run-syncdb", "--verbosity=0"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=True,
        timeout=120,
    )
    yield _DJANGO, ("/json", "/sync", "/notes")


def run(
    app: str,
    count: int,
    report: Callable[[str], None],
    *,
    warm_up: int = WARM_UP,
    workers: int = 2,
) -> bool:
    """Reload so often; return whether nothing has grown.

    Args:
        app: ``"django"`` or ``"bare"``.
        count: Reloads, beyond those of the warm-up.
        report: Takes lines.
        warm_up: Reloads before memory is looked at for the first time.
        workers: Number of workers.
    """
    with tempfile.TemporaryDirectory() as name, _environment(app, Path(name)) as (path, targets):
        server = Supervisor(
            path, workers=workers, port=0, access_log=False, state={"given": None}, lifespan="off"
        )
        with server:
            return _reload(server, targets, count, report, warm_up)


def _reload(
    server: Supervisor,
    targets: tuple[str, ...],
    count: int,
    report: Callable[[str], None],
    warm_up: int,
) -> bool:
    baseline, held = 0, None
    began = time.monotonic()
    problems = []
    for number in range(1, warm_up + count + 1):
        server.reload()
        for target in targets:
            status = get(server.url, target).status
            if status != 200:
                problems.append(f"{target} was answered with {status} after {number} reloads")
        if held is None:
            wait_until(lambda: server.stats().connections == 0, "the connections to be closed")
            held = _held()
        deadline = time.monotonic() + DEADLINE  # a connection, or an interpreter, may have to end
        while _held() != held and time.monotonic() < deadline:
            time.sleep(0.01)
        databases = _databases()
        if _held() != held or databases > len(server.workers):
            problems.append(
                f"after {number} reloads: {_held()}, databases: {databases}, before: {held}"
            )
            break
        if number == warm_up:
            baseline = _memory()
        if number % 20 == 0:
            report(
                f"{number} reloads in {time.monotonic() - began:.0f} s: {_memory() / 1e6:.1f} MB, "
                f"{sum(held[0].values())} descriptors, {held[1]} threads"
            )
    growth = _memory() / baseline - 1 if baseline else 0.0
    report(
        f"memory has changed by {growth:+.1%} since {warm_up} reloads, to {_memory() / 1e6:.1f} MB"
    )
    if growth > GROWTH and sys.version_info >= (3, 14):
        problems.append(f"more than {GROWTH:.0%}")
    for problem in problems:
        report(f"  {problem}")
    return not problems


def _held() -> tuple[Counter[str], int, int]:
    """Descriptors by kind, threads, and interpreters.

    Without databases: those workers have one open that were asked for what needs it.
    """
    names = (name for name in open_descriptors().values() if _DATABASE not in name)
    kinds = Counter(name.partition(":")[0] for name in names)
    return kinds, threading.active_count(), interpreters.alive()


def _databases() -> int:
    return sum(_DATABASE in name for name in open_descriptors().values())


def _memory() -> int:
    """Resident memory without what the C library keeps of what it was given back."""
    gc.collect()
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
    return resident_memory() or 0


_libc = ctypes.CDLL(None)
