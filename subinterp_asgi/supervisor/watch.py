"""Looks at files, and has something done when some have changed: the application's, or TLS files.

Of the application those are watched that the workers have imported, told by ``worker.sources``, and
those below the folders that were asked for. A file has changed if its times, size or inode are
others. ``watchfiles``, where that is installed, says when to look; else it is done every 0.1 s.
"""

from __future__ import annotations

import contextlib
import os
import queue
import stat
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from fnmatch import fnmatch
from importlib.util import cache_from_source
from time import monotonic, thread_time, time_ns

from ..config import Config
from ..types import Any
from . import host_log

type Stamp = tuple[int, ...] | None
type Watch = Callable[..., Generator[Any]]

_INTERVAL = 0.1
"""Seconds between looks, at least."""
_FILES_INTERVAL = 1.0
"""Seconds between looks at a few files that rarely change."""
_LONGEST_BURST = 2.0
_TICK = 10_000_000
"""Nanoseconds by which times of files may be behind the clock."""
_CHANGED: Stamp = ()
"""What no file is like, so that it has changed."""
_SHARE = 20
"""Looking takes at most one part in so many of a core's time."""
_SOURCES = ("*.py",)
_IGNORED = ("__pycache__", "node_modules", ".*")


class FilesWatcher:
    """Knows what some files were like, and waits until they are different. Links are followed."""

    rest = 0.5
    """Seconds without a change after which a burst of them is over."""

    def __init__(self, files: Iterable[str]) -> None:
        self._stamps = {file: _stamp(file) for file in files}

    def wait(self, closing: threading.Event) -> tuple[str, ...]:
        """Wait until files have changed, and come to rest; nothing if ``closing`` was set."""
        while not closing.is_set():
            changed = self._look()
            if changed:
                burst_ends = monotonic() + _LONGEST_BURST
                while not closing.wait(self.rest) and monotonic() < burst_ends:
                    more = self._look()
                    if not more:
                        break
                    changed |= more
                return tuple(sorted(changed))
            self._sleep(closing)
        return ()

    def _sleep(self, closing: threading.Event) -> None:
        closing.wait(_FILES_INTERVAL)

    def _look(self) -> set[str]:
        """Return the files that have changed since the last look."""
        return self._compare(self._stamps)

    def _compare(self, files: Iterable[str]) -> set[str]:
        changed = set()
        for file in tuple(files):
            stamp = _stamp(file)
            if stamp != self._stamps.get(file):
                self._stamps[file] = stamp
                changed.add(file)
        return changed


class Watcher(FilesWatcher):
    """Watches the files of an application.

    ``add()`` may be called from any thread, all else from one at a time.
    """

    rest = 0.05

    def __init__(self, config: Config) -> None:
        folders = config.reload_dir or ((".",) if config.reload_include else ())
        self._folders = tuple(map(os.path.abspath, folders))
        self._include = _SOURCES + config.reload_include
        self._exclude = config.reload_exclude
        super().__init__(())
        self._reported: queue.SimpleQueue[dict[str, Stamp]] = queue.SimpleQueue()
        self._look_takes = 0.0
        self._watch: Watch | None = _watchfiles()
        self._watched: dict[str, int] = {}
        self._changes: Generator[Any] | None = None
        self._look()  # what there is at first has not changed

    def add(self, files: str, since: int) -> None:
        """Watch files that a worker has imported, one in each line.

        That was ``since`` a time (``time.time_ns()``): what has changed from then on it may have
        read before that.
        """
        stamps = {file: _stamp(file) for file in files.split("\n")}
        until = time_ns() + _TICK  # beyond it is another clock's
        for file, stamp in stamps.items():
            if stamp is not None and any(since - _TICK <= at <= until for at in stamp[1:2]):
                stamps[file] = _CHANGED
        self._reported.put(stamps)

    def tell_again(self, files: Iterable[str]) -> None:
        """Have ``wait()`` return these once more, since nobody could act on it."""
        self._stamps.update(dict.fromkeys(files, _CHANGED))

    def wait(self, closing: threading.Event) -> tuple[str, ...]:
        """As that of any files; bytecode of what has changed is removed."""
        changed = super().wait(closing)
        for file in changed:
            _remove_bytecode(file)
        if closing.is_set():
            self._unwatch()
        return changed

    def _sleep(self, closing: threading.Event) -> None:
        if self._watch is not None:
            names = {os.path.dirname(file) for file in self._stamps} | set(self._walk_folders())
            # (One that is made again is another one.)
            folders = {name: stamp[-1] for name in names if (stamp := _stamp(name))}
            try:
                if folders != self._watched or self._changes is None:
                    _expect_thread()
                    self._unwatch()
                    self._watched = folders
                    self._changes = self._watch(
                        *folders,
                        watch_filter=None,
                        debounce=50,
                        step=20,
                        stop_event=closing,
                        rust_timeout=1000,
                        yield_on_timeout=True,
                        recursive=False,
                    )
                next(self._changes, None)
            except (OSError, RuntimeError) as exc:  # no more watches to be had, for one
                host_log.log("warning", f"watchfiles fails, so files are polled: {exc}")
                self._watch = None
            return
        closing.wait(max(_INTERVAL, _SHARE * self._look_takes))

    def _unwatch(self) -> None:
        if self._changes is not None:
            self._changes.close()
            self._changes = None
        self._watched = {}

    def _look(self) -> set[str]:
        began = thread_time()
        while not self._reported.empty():
            for file, stamp in self._reported.get().items():
                if not self._is_excluded(file):
                    self._stamps.setdefault(file, stamp)
        changed = self._compare({*self._walk(), *self._stamps})
        self._look_takes = thread_time() - began
        return changed

    def _walk_folders(self) -> Iterator[str]:
        for top in self._folders:
            linked: set[str] = set()
            for folder, names, _ in os.walk(top, followlinks=True):
                names[:] = [
                    name
                    for name in names
                    if not any(fnmatch(name, pattern) for pattern in _IGNORED)
                    and not self._is_excluded(os.path.join(folder, name))
                    and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
                    and not _leads_back(folder, name, linked)
                ]
                yield folder

    def _walk(self) -> Iterator[str]:
        """The files below the folders that match the patterns."""
        for folder in self._walk_folders():
            try:
                entries = os.listdir(folder)
            except OSError:  # it was removed meanwhile
                continue
            for name in entries:
                file = os.path.join(folder, name)
                if self._matches(file, self._include) and not self._is_excluded(file):
                    yield file

    def _is_excluded(self, path: str) -> bool:
        return self._matches(path, self._exclude)

    def _matches(self, path: str, patterns: tuple[str, ...]) -> bool:
        """Whether a pattern fits the name, or (with a slash) the end of the path or a folder."""
        name = os.path.basename(path)
        return any(
            fnmatch(path, f"*/{pattern.rstrip('/').removeprefix('./')}")
            or os.path.abspath(pattern) == path
            if "/" in pattern
            else fnmatch(name, pattern)
            for pattern in patterns
        )


class WatchThread:
    """Calls ``on_change`` with the files, each time that some have changed."""

    def __init__(self, watcher: FilesWatcher, on_change: Callable[[tuple[str, ...]], None]) -> None:
        self._watcher = watcher
        self._on_change = on_change
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="asgi-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, and wait for that, unless this is it."""
        self._closing.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while files := self._watcher.wait(self._closing):
            try:
                self._on_change(files)
            except Exception as exc:  # it must not be the last change that is seen
                host_log.log("error", f"{', '.join(files)}: nothing was done", exc)


def _expect_thread() -> None:
    """Start a thread, as watchfiles does, which ends the process if there is none.

    ``RuntimeError``: there is none.
    """
    thread = threading.Thread(target=int, name="asgi-watch-probe", daemon=True)
    thread.start()
    thread.join()


def _stamp(file: str) -> Stamp:
    try:
        status = os.stat(file)
    except OSError:
        return None  # it is not there, which may change
    if stat.S_ISDIR(status.st_mode):
        return (status.st_ino,)  # what is in it is not meant
    # (The time of its change says more than that of its content: it may be readable by now.)
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _leads_back(folder: str, name: str, linked: set[str]) -> bool:
    """Whether a folder is a link to where one has been, or is; others are noted in ``linked``."""
    path = os.path.join(folder, name)
    if not os.path.islink(path):
        return False
    real = os.path.join(os.path.realpath(path), "")
    if real in linked or os.path.join(os.path.realpath(folder), "").startswith(real):
        return True
    linked.add(real)
    return False


def _remove_bytecode(file: str) -> None:
    """Remove what CPython has kept of a source file.

    It takes that for current if the source has the same size and was written in the same second.
    """
    if file.endswith(".py"):
        with contextlib.suppress(OSError):
            os.unlink(cache_from_source(file))


def _watchfiles() -> Watch | None:
    try:
        from watchfiles import watch  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return None
    watch_files: Watch = watch
    return watch_files
