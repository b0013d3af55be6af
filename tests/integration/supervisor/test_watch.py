"""Reloading on change: an edit is served soon, a mistake keeps what serves, and nothing spins."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Config, Supervisor
from subinterp_asgi.errors import ConfigError, StartupError
from subinterp_asgi.supervisor import watch
from subinterp_asgi.supervisor.events import Event, FilesChanged, ReloadFailed
from subinterp_asgi.supervisor.watch import Watcher
from tests.support import connect, get, nothing_left, open_descriptors, wait_until

from ..supervising import Background, Heard, Servers

APP = """
import helper

async def app(scope, receive, send):
    start = {"type": "http.response.start", "status": 200, "headers": []}
    if scope["path"] == "/later":
        import later
        helper.TEXT = later.TEXT
    await send(start)
    more = scope["path"] == "/stream"
    await send({"type": "http.response.body", "body": helper.TEXT.encode(), "more_body": more})
    while more:
        more = (await receive())["type"] != "http.disconnect"
"""


class Project:
    """An application of some files in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("watched.py", APP)
        self.say("first")

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def say(self, text: str) -> None:
        self.write("helper.py", f"TEXT = {text!r}\n")


@pytest.fixture(params=["polled", "watchfiles"])
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Project:
    """A project that can be imported; its files are watched in both ways."""
    monkeypatch.syspath_prepend(str(tmp_path))
    if request.param == "polled":
        monkeypatch.setitem(sys.modules, "watchfiles", None)
    else:
        pytest.importorskip("watchfiles")
    return Project(tmp_path)


@pytest.fixture
def servers() -> Iterator[Servers]:
    """As everywhere, but with time for a reload that has just begun, whose workers are starting.

    (And ``watchfiles`` closes what it has in a thread of its own, later.)
    """
    with nothing_left():
        before = open_descriptors().keys()
        servers = Servers()
        yield servers
        for server, _ in servers._made:
            server.stop()
        servers.close()
        wait_until(lambda: open_descriptors().keys() <= before, "watchfiles closes its watches")


@pytest.fixture
def start(servers: Servers) -> Callable[..., Supervisor]:
    """Starts a supervisor of the project's."""

    def start(**options: Any) -> Supervisor:
        defaults = {"watch": True, "factory": False, "lifespan": "off"}
        return servers.start("watched:app", "interpreter", **defaults | options)

    return start


def wait_for(server: Supervisor, text: str) -> None:
    wait_until(lambda: get(server.url).text == text, f"{text!r} is served")


def changes(heard: Heard) -> list[FilesChanged]:
    return heard.of(FilesChanged)


def test_edits_are_served(project: Project, start: Callable[..., Supervisor]) -> None:
    """Those of equal length within a second, which CPython takes for the same, too."""
    server = start(workers=2)
    for number in range(5):
        project.say(f"edit {number}")
        wait_for(server, f"edit {number}")


def test_what_is_imported_later(project: Project, start: Callable[..., Supervisor]) -> None:
    heard = Heard()
    server = start(on_event=heard)
    project.write("later.py", "TEXT = 'later'\n")
    assert get(server.url, "/later").text == "later"
    wait_until(lambda: str(project.folder / "later.py") in server.watcher._stamps)  # type: ignore[union-attr]
    project.write("later.py", "TEXT = 'changed'\n")
    assert heard.wait_for(FilesChanged)[0].files == (str(project.folder / "later.py"),)


def test_mistakes_keep_what_serves(
    project: Project, start: Callable[..., Supervisor], caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()
    server = start(on_event=heard, workers=2)
    project.write("helper.py", "TEXT = 'no end\n")
    reason = heard.wait_for(ReloadFailed)[0].reason
    assert "SyntaxError: unterminated string literal" in reason
    assert "    TEXT = 'no end\n           ^" in reason
    assert get(server.url).text == "first"
    project.say("mended")
    wait_for(server, "mended")
    server.stop()
    assert caplog.text.count("    TEXT = 'no end") == len(heard.of(ReloadFailed))


def test_a_module_that_is_missing(project: Project, start: Callable[..., Supervisor]) -> None:
    heard = Heard()
    server = start(on_event=heard)
    project.write("helper.py", "from new.part import TEXT\n")
    assert "'new'" in heard.wait_for(ReloadFailed)[0].reason
    project.write("new/part.py", "TEXT = 'new'\n")
    project.write("new/__init__.py", "")
    wait_for(server, "new")


@pytest.mark.parametrize(
    ("source", "made"),
    [
        ("from new.part import TEXT", {"new/part.py": "TEXT = 'new'\n"}),
        ("from old import new\nTEXT = new.TEXT", {"old/new.py": "TEXT = 'new'\n"}),
        ("from old import new\nTEXT = new.TEXT", {"old/__init__.py": "class new: TEXT = 'new'\n"}),
        ("TEXT = open(HERE + '/text').read()", {"text": "new"}),
        ("import os\nTEXT = os.listdir(HERE + '/new')[0]", {"new/new": ""}),
    ],
    ids=["namespace", "submodule", "name", "file", "folder"],
)
def test_what_is_missing(
    project: Project, start: Callable[..., Supervisor], source: str, made: dict[str, str]
) -> None:
    heard = Heard()
    project.write("old/__init__.py", "")
    server = start(on_event=heard)
    project.write("helper.py", f"HERE = {str(project.folder)!r}\n{source}\n")
    heard.wait_for(ReloadFailed)
    for name, text in made.items():
        project.write(name, text)
    wait_for(server, "new")


def test_a_folder_that_is_made_again(project: Project, start: Callable[..., Supervisor]) -> None:
    heard = Heard()
    project.write("part/__init__.py", "TEXT = 'one'\n")
    project.write("helper.py", "from part import TEXT\n")
    server = start(on_event=heard)
    shutil.rmtree(project.folder / "part")
    heard.wait_for(ReloadFailed)
    project.write("part/__init__.py", "TEXT = 'two'\n")
    wait_for(server, "two")
    project.write("part/__init__.py", "TEXT = 'six'\n")
    wait_for(server, "six")


def test_a_link_that_leads_elsewhere(project: Project, start: Callable[..., Supervisor]) -> None:
    """As the current one of several releases does."""
    link = project.folder / "current"
    for name in ("one", "two"):
        project.write(f"{name}/__init__.py", f"TEXT = {name!r}\n")
    link.symlink_to("one")
    project.write("helper.py", "from current import TEXT\n")
    server = start()
    assert get(server.url).text == "one"
    (project.folder / "next").symlink_to("two")
    (project.folder / "next").rename(link)
    wait_for(server, "two")
    project.write("two/__init__.py", "TEXT = 'six'\n")
    wait_for(server, "six")


def test_linked_folders(
    project: Project, start: Callable[..., Supervisor], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also such as lead back to where they are."""
    heard, elsewhere = Heard(), tmp_path_factory.mktemp("elsewhere")
    project.write("site/page.py", "")
    (project.folder / "site/linked").symlink_to(elsewhere)
    (project.folder / "site/back").symlink_to("..")
    (elsewhere / "again").symlink_to(elsewhere)
    start(on_event=heard, watch=[str(project.folder / "site")])
    (elsewhere / "fresh.py").write_text("")
    (event,) = heard.wait_for(FilesChanged)
    assert event.files == (str(project.folder / "site/linked/fresh.py"),)


GATED = """
import helper, os, time
open({here!r} + "/imported", "w").close()
while not os.path.exists({here!r} + "/open"):
    time.sleep(0.005)
"""


def test_an_edit_while_the_application_is_imported(
    project: Project, start: Callable[..., Supervisor]
) -> None:
    """Nobody knows of the file by then."""
    project.write("watched.py", GATED.format(here=str(project.folder)) + APP)
    starting = Background(start)
    wait_until((project.folder / "imported").exists)
    project.say("second")
    (project.folder / "open").touch()
    server = starting.outcome()
    assert isinstance(server, Supervisor)
    wait_for(server, "second")


def test_what_fails_unexpectedly_is_not_the_last_reload(
    project: Project,
    start: Callable[..., Supervisor],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = start()
    tried = threading.Event()

    def fail(**options: object) -> None:
        tried.set()
        raise OSError("no descriptor is left")

    with monkeypatch.context() as patch:
        patch.setattr(server, "reload", fail)
        project.say("second")
        wait_until(tried.is_set)
    project.say("third")
    wait_for(server, "third")
    assert "helper.py: nothing was done" in caplog.text


def test_editors_that_rename(project: Project, start: Callable[..., Supervisor]) -> None:
    server = start()
    (project.folder / "helper.py").rename(project.folder / "helper.py~")
    project.write("helper.py.tmp", "TEXT = 'renamed'\n")
    (project.folder / "helper.py.tmp").rename(project.folder / "helper.py")
    wait_for(server, "renamed")


def test_open_streams(project: Project, start: Callable[..., Supervisor]) -> None:
    """They don't delay it, and end soon afterwards."""
    server = start()
    with contextlib.closing(connect(server.url)) as stream:
        stream.request("GET", "/stream")
        assert stream.getresponse().read1() == b"first"
        project.say("second")
        wait_for(server, "second")
        wait_until(lambda: {worker.generation for worker in server.workers} == {2})


def test_folders_and_patterns(project: Project, start: Callable[..., Supervisor]) -> None:
    heard = Heard()
    project.write("site/page.html", "old")
    server = start(
        on_event=heard,
        watch=[str(project.folder / "site")],
        reload_include=["*.html"],
        reload_exclude=["skipped/", "test_*"],
    )
    seen = set[str]()

    def is_seen(name: str) -> bool:
        seen.update(file for event in changes(heard) for file in event.files)
        return str(project.folder / name) in seen

    for name in ("skipped/a.py", "test_a.py", ".cache/a.py", "a.txt", "a.py~", "page.html"):
        project.write(f"site/{name}", "new")
    wait_until(lambda: is_seen("site/page.html"))
    project.write("site/fresh.py", "new")  # never imported
    wait_until(lambda: is_seen("site/fresh.py"))
    (project.folder / "site/fresh.py").unlink()
    wait_until(lambda: server.generation >= 4)
    assert {Path(file).name for file in seen} == {"page.html", "fresh.py"}


def test_bursts(tmp_path: Path) -> None:
    """Files that are written one after the other are one change."""
    watcher = Watcher(Config(reload=True, reload_dir=(str(tmp_path),)))
    looks = iter(range(100))

    class Closing:
        """Sees that something is written during each wait, five times."""

        def is_set(self) -> bool:
            return False

        def wait(self, seconds: float) -> bool:
            if (number := next(looks)) < 5:
                (tmp_path / f"{number}.py").write_text("")
            return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watcher, "_watch", None)
        changed = watcher.wait(Closing())  # type: ignore[arg-type]
    assert [Path(file).name for file in changed] == [f"{number}.py" for number in range(5)]


def assert_polled(
    project: Project, server: Supervisor, caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    """Check that changes are seen without watchfiles, and that why was said once."""
    project.say("polled")
    wait_for(server, "polled")
    assert caplog.text.count(f"so files are polled: {reason}") == 1


def test_watchfiles_that_fails(
    project: Project,
    start: Callable[..., Supervisor],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Linux gives each user a number of watches only."""

    def refuse(*folders: str, **options: object) -> Iterator[object]:
        raise OSError("OS file watch limit reached")
        yield

    monkeypatch.setattr(watch, "_watchfiles", lambda: refuse)
    assert_polled(project, start(), caplog, "OS file watch limit reached")


def test_no_thread_for_watchfiles(
    project: Project,
    start: Callable[..., Supervisor],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It would panic, and the second time end the process."""

    def refuse(*folders: str, **options: object) -> Iterator[object]:
        pytest.fail("it was called")
        yield

    def begin(thread: threading.Thread) -> None:
        if thread.name == "asgi-watch-probe":
            raise RuntimeError("can't start new thread")
        original(thread)

    original = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", begin)
    monkeypatch.setattr(watch, "_watchfiles", lambda: refuse)
    assert_polled(project, start(), caplog, "can't start new thread")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reload": True, "isolation": "thread"}, "isolation='interpreter'"),
        ({"reload_dir": ("here",)}, "has no effect without reload"),
        ({"watch": ["no/such/folder"]}, "'no/such/folder' is no folder"),
        ({"watch": [""]}, "a list of paths"),
    ],
)
def test_what_can_not_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Supervisor("watched:app", **options)


def test_changes_at_the_end(project: Project, start: Callable[..., Supervisor]) -> None:
    """A reload that the end cuts short is no error, and leaves no thread."""
    events: list[Event] = []
    server = start(on_event=events.append)
    project.say("too late")
    server.stop()
    assert not any(isinstance(event, ReloadFailed) for event in events)


def test_a_change_during_a_start_that_fails(
    project: Project, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not waited for, as who waits for the start's end would wait for itself; nor lost."""
    seen = project.folder / "seen"
    waits = f"import os, time\nwhile not os.path.exists({str(seen)!r}):\n    time.sleep(0.005)\n"
    project.write("watched.py", f"{waits}raise LookupError('no app today')\n")
    server = servers.make("watched:app", "interpreter", watch=True, factory=False)
    changed = iter([("helper.py",)])

    def wait(closing: object) -> tuple[str, ...]:
        seen.touch()
        return next(changed, ())

    assert server.watcher is not None
    with monkeypatch.context() as patch:
        patch.setattr(server.watcher, "wait", wait)
        failure = Background(server.start).outcome()
    assert isinstance(failure, StartupError)
    assert "no app today" in str(failure)
    assert "helper.py" in server.watcher.wait(threading.Event())
