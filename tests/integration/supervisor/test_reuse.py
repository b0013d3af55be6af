"""Interpreters that serve again: what is new there, what stays, and when a new one is taken."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.control import interpreters
from subinterp_asgi.errors import ReloadError
from subinterp_asgi.supervisor import kept
from subinterp_asgi.testing import faults
from subinterp_asgi.worker.interpreter import reuse
from tests.support import get, nothing_left, wait_until

from ..load import Load

ctypes.CFUNCTYPE(None)(lambda: None)  # libffi keeps a descriptor from its first closure on

LIBRARY = """
    import time

    loaded = time.monotonic_ns()  # it tells which interpreter this is
    registry = []
"""
APP = """
    import json
    import keeper

    def answer():
        return None

    {code}

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError
        body = json.dumps([{number}, keeper.loaded, answer()]).encode()
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        await send({{"type": "http.response.body", "body": body}})
"""


@dataclass
class Place:
    """A folder with an application, and one where a library is installed."""

    path: Path
    numbers: int = 0

    @property
    def installed(self) -> Path:
        return self.path / "site-packages"

    def install(self, name: str, source: str) -> None:
        path = self.installed / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))

    def write(self, code: str = "", name: str = "served_again.py") -> None:
        """Write the application anew; each time it has another number."""
        self.numbers += 1
        source = textwrap.dedent(APP).format(code=textwrap.dedent(code), number=self.numbers)
        path = self.path / name
        path.write_text(source)
        # (Bytecode is told from other bytecode by whole seconds and the size of the source.)
        os.utime(path, (self.numbers, self.numbers))

    def server(self, app: str = "served_again:app", **options: Any) -> Supervisor:
        defaults = {"port": 0, "access_log": False, "reuse_interpreters": True}
        return Supervisor(app, **defaults | options)


def ask(server: Supervisor) -> tuple[int, int, Any]:
    number, loaded, answer = json.loads(get(server.url).body)
    return number, loaded, answer


def interpreters_of(
    place: Place, server: Supervisor, generations: int, code: str = ""
) -> list[int]:
    """Reload until there were so many generations; say where each of them ran, from 0 on."""
    seen = []
    for generation in range(generations):
        if generation:
            place.write(code)
            server.reload()
        number, loaded, _ = ask(server)
        assert number == place.numbers
        seen.append(loaded)
    return [seen.index(loaded) for loaded in seen]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    place = Place(tmp_path)
    place.install("keeper.py", LIBRARY)
    monkeypatch.syspath_prepend(place.installed)
    monkeypatch.syspath_prepend(tmp_path)
    place.write()
    with nothing_left():
        yield place


# --- what is used again


def test_every_second_generation_has_the_same_interpreters(place: Place) -> None:
    with place.server() as server:
        others = interpreters.alive() - 1
        assert interpreters_of(place, server, 5) == [0, 1, 0, 1, 0]
        assert interpreters.alive() == others + 2
        wait_until(lambda: server.stats().requests == 5, "requests to be counted")


@pytest.mark.skipif(sys.platform != "linux", reason="private copies need Linux")
def test_modules_that_cffi_makes_are_a_librarys(place: Place) -> None:
    """They have no file, and neither a name nor a spec that tells whose they are."""
    pytest.importorskip("cryptography")
    code = """
        from cryptography.hazmat.primitives.hashes import MD5, Hash
        import sys

        def answer(): return "_openssl" in sys.modules and Hash(MD5()).finalize().hex()
    """
    place.write(code)
    with place.server(extensions="private") as server:
        assert ask(server)[2] == "d41d8cd98f00b204e9800998ecf8427e"
        assert interpreters_of(place, server, 4, code) == [0, 1, 0, 1]
        assert ask(server)[2] == "d41d8cd98f00b204e9800998ecf8427e"


def test_by_default_they_are_new(place: Place) -> None:
    with place.server(reuse_interpreters=False) as server:
        assert interpreters_of(place, server, 4) == [0, 1, 2, 3]
        place.write("def answer(): import sys; return [n for n in sys.modules if 'reuse' in n]")
        server.reload()
        assert ask(server)[2] == []  # nor does a worker load what it does not need


@pytest.mark.parametrize(
    "options", [{"workers": 2}, {"workers": 3, "reload_strategy": "rolling"}, {"spares": 1}]
)
def test_there_are_no_more_than_twice_the_workers(place: Place, options: dict[str, Any]) -> None:
    others = interpreters.alive()
    most = 2 * (options.get("workers", 1) + options.get("spares", 0))
    with place.server(**options) as server:
        for _ in range(4):
            server.reload()
            place.write()
            server.reload()
            assert ask(server)[0] == place.numbers
            wait_until(lambda: interpreters.alive() - others <= most, "interpreters to be closed")


def test_nothing_is_lost_under_load(place: Place) -> None:
    app = "tests.integration.apps.pool:App"
    with (
        place.server(app, factory=True, workers=2, timeout_linger=5.0) as server,
        Load(server.addresses[0], keep_alive=5, fresh=2) as load,
    ):
        load.wait_for(10)
        for _ in range(8):
            server.reload()
            load.wait_for(5)


def test_an_installed_application_is_imported_anew(place: Place) -> None:
    """Its files need not have changed: what it reads at import may have."""
    place.install("shop/__init__.py", "")
    place.write(
        "import time; now = time.monotonic_ns()\ndef answer(): return now",
        "site-packages/shop/web.py",
    )
    with place.server("shop.web:app") as server:
        answers = [ask(server)]
        for _ in range(3):
            server.reload()
            answers.append(ask(server))
    _, seen, imported = zip(*answers, strict=True)
    assert [seen.index(loaded) for loaded in seen] == [0, 1, 0, 1]
    assert len(set(imported)) == 4


def test_what_the_application_has_changed_is_put_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
        import atexit, asyncio, logging, os, socket, sys, threading, warnings, weakref
        from concurrent.futures import ThreadPoolExecutor

        pool = ThreadPoolExecutor(1)

        def answer():
            return [
                pool.submit(int).result(),
                len(warnings.filters),
                socket.getdefaulttimeout(),
                sys.getrecursionlimit(),
                "/nowhere" in sys.path,
                len(logging.getLogger().handlers),
                logging.getLogger().level,
                logging.getLogger("some.thing").level,
                logging.getLogger("subinterp_asgi").propagate,
                "OF_THE_FIRST" in os.environ,
                os.environ.get("OF_THE_HOST"),
            ]
    """
    change = """
        warnings.simplefilter("error")
        socket.setdefaulttimeout(3)
        sys.setrecursionlimit(777)
        sys.path.append("/nowhere")
        logging.basicConfig(level="DEBUG")
        logging.getLogger("some.thing").setLevel("DEBUG")
        os.environ._data[b"OF_THE_FIRST"] = b"1"
    """
    place.write(code + change)
    with place.server() as server:
        first = ask(server)
        monkeypatch.setenv("OF_THE_HOST", "1")
        answers = []
        for _ in range(2):
            place.write(code)
            server.reload()
            answers.append(ask(server))
        (_, _, new), (_, interpreter, old) = answers
        assert interpreter == first[1]
        assert old == new


def test_exit_callbacks_are_called_each_time(place: Place) -> None:
    path = place.path / "said"
    code = f"""
        import atexit, weakref

        class Thing: pass

        def say(what):
            with open({str(path)!r}, "a") as file:
                file.write(what)

        thing = Thing()
        atexit.register(say, "a")
        weakref.finalize(thing, say, "w")
    """
    place.write(code)
    with place.server() as server:
        assert interpreters_of(place, server, 5, code) == [0, 1, 0, 1, 0]
    assert sorted(path.read_text()) == ["a"] * 5 + ["w"] * 5


@pytest.mark.parametrize("forwarding", [True, False])
def test_it_logs_as_before(
    forwarding: bool,
    place: Place,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    options = {"log_forwarding": forwarding, "access_log": True, "lifespan": "off"}
    with caplog.at_level(logging.INFO), place.server(**options) as server:
        assert interpreters_of(place, server, 5) == [0, 1, 0, 1, 0]
    written = [line for line in capfd.readouterr().err.splitlines() if "GET / " in line]
    forwarded = [record for record in caplog.records if "GET / " in record.message]
    assert (len(written), len(forwarded)) == ((0, 5) if forwarding else (5, 0))


# --- when a new one is taken


def test_the_file_of_a_library_has_changed(place: Place) -> None:
    with place.server() as server:
        assert interpreters_of(place, server, 2) == [0, 1]
        place.install("keeper.py", LIBRARY + "\n    changed = True\n")
        place.write("def answer(): return keeper.changed")
        server.reload()
        assert ask(server)[2] is True


def test_it_has_changed_before_the_worker_retired(place: Place) -> None:
    """What was loaded counts, not what was there when the worker ended."""
    with place.server() as server:
        place.install("keeper.py", LIBRARY + "\n    changed = True\n")
        server.reload()
        place.write("def answer(): return keeper.changed")
        server.reload()
        assert ask(server)[2] is True


def test_another_release_was_switched_to_before_the_worker_retired(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are older than the workers."""
    current = place.path / "current"
    for release in ("1", "2"):
        place.install(f"../{release}/site-packages/x_switched.py", f"release = {release}")
    current.symlink_to("1")
    monkeypatch.syspath_prepend(current / "site-packages")
    code = "import x_switched\ndef answer(): return x_switched.release"
    place.write(code)
    time.sleep(reuse._CLOCK_STEP / 1e9)  # or else the files would count as changed meanwhile
    with place.server() as server:
        assert ask(server)[2] == 1
        current.unlink()
        current.symlink_to("2")
        for _ in range(3):
            server.reload()
            assert ask(server)[2] == 2


def test_the_import_fails_in_one_that_was_used(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    code = """
        if "name" in keeper.registry:
            raise ValueError("'name' is defined already")
        keeper.registry.append("name")
    """
    place.write(code)
    with place.server() as server:
        assert interpreters_of(place, server, 4, code) == [0, 1, 2, 3]
        assert [worker.generation for worker in server.workers] == [4]
    (said,) = {record.getMessage() for record in caplog.records if record.levelno > logging.INFO}
    assert "worker 0 takes a new interpreter" in said
    assert "'name' is defined already" in said


def test_the_import_fails_in_a_new_one_too(place: Place) -> None:
    with place.server() as server:
        assert interpreters_of(place, server, 3) == [0, 1, 0]
        _, first, _ = ask(server)
        place.write("raise ValueError('in any case')")
        with pytest.raises(ReloadError, match="in any case"):
            server.reload()
        assert ask(server)[1] == first
        place.write()
        server.reload()
        assert ask(server)[0] == place.numbers


KEPT = {
    "a function": "keeper.registry.append(answer)",
    "a class": "keeper.registry.append(type('Of', (), {'__module__': __name__}))",
    "an exit callback": "import with_exit",
    "tables": "import sqlalchemy.sql.schema as s; s.metadata.tables['hero'] = 1",
    "a library that is known": "import prometheus_client.core",
}


@pytest.mark.parametrize("what", KEPT)
def test_a_library_keeps_something(
    what: str, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.install("with_exit.py", "import atexit\natexit.register(print, end='')")
    for package in ("sqlalchemy", "sqlalchemy/sql", "prometheus_client"):
        place.install(f"{package}/__init__.py", "")
    place.install("sqlalchemy/sql/schema.py", "class MetaData: tables = {}\nmetadata = MetaData()")
    place.install("prometheus_client/core.py", "")
    code = KEPT[what]
    place.write(code)
    with place.server(workers=2) as server:
        assert interpreters_of(place, server, 3, code)[1:] != [0, 0]
        said = [record.getMessage() for record in caplog.records]
        assert len([text for text in said if "not used again" in text]) == 1, said
        seen = {ask(server)[1]}
        for _ in range(2):
            server.reload()
            loaded = ask(server)[1]
            assert loaded not in seen
            seen.add(loaded)


def test_a_thread_is_left(place: Place) -> None:
    end = place.path / "end"
    code = f"""
        import os, threading, time

        def run():
            while not os.path.exists({str(end)!r}):
                try:
                    time.sleep(0.01)
                except SystemExit:
                    pass

        threading.Thread(target=run, daemon=True).start()
    """
    place.write(code)
    # (It has to do for the server's own threads, which end, on a slow machine.)
    with place.server(shutdown_timeout=0.5) as server:
        assert interpreters_of(place, server, 3, code) == [0, 1, 2]
        end.touch()
        wait_until(lambda: not kept.any_left(), "interpreters to be closed")


def test_one_whose_worker_died_is_not_used_again(place: Place) -> None:
    with place.server(restart_delay=0.0) as server:
        died = ask(server)[1]
        faults.crash_worker(server)
        wait_until(lambda: server.workers and ask(server)[1] != died, "another worker")
        seen = set()
        for _ in range(3):
            server.reload()
            seen.add(ask(server)[1])
        assert died not in seen


def test_those_that_wait_are_not_used_after_a_reload_that_failed(place: Place) -> None:
    """What was wrong may be what they have kept; it is seen in the lifespan, for example."""

    def both() -> set[int]:
        seen: set[int] = set()
        wait_until(lambda: seen.add(ask(server)[1]) or len(seen) == 2, "both workers to answer")
        return seen

    with place.server(workers=2, reload_strategy="rolling") as server:
        before = both()
        server.reload(strategy="all")
        server.reload(strategy="all")
        assert both() == before
        server.reload(strategy="all")
        faults.fail_next_reload(server)
        with pytest.raises(ReloadError):
            server.reload()  # which needs only one of those that wait
        server.reload(strategy="all")
        assert not both() & before


def test_one_that_was_recycled_is_not_used_again(place: Place) -> None:
    with place.server(limit_max_requests=2, restart_delay=0.0) as server:
        before = {ask(server)[1], ask(server)[1]}
        wait_until(lambda: ask(server)[1] not in before, "the worker to be replaced")
        server.reload()
        server.reload()
        assert ask(server)[1] not in before
