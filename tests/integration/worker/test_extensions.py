"""What becomes of extension modules that refuse subinterpreters."""

from __future__ import annotations

import ctypes  # noqa: F401  (from its first use on, libffi keeps a descriptor)
import importlib.machinery
import importlib.util
import json
import logging
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.errors import StartupError

from ...support import get, nothing_left

SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]
STDLIB = Path(os.__file__).parent / "lib-dynload"
SINGLE = "_testsinglephase"  # CPython's own, for its tests: it counts how often it was initialised
MULTI = ("_test_non_isolated", "_test_shared_gil_only")  # which lie in one file

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not (STDLIB / f"{SINGLE}{SUFFIX}").exists(),
    reason="needs the extension modules of CPython's own tests, on Linux",
)

APP = """
    import json

    async def app(scope, receive, send):
        assert scope["type"] == "http", scope["type"]
        body = json.dumps(answer(scope)).encode()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": body})
"""

type Serve = Callable[..., Supervisor]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path, with modules that refuse: one of each kind of initialisation."""
    monkeypatch.syspath_prepend(tmp_path)
    shutil.copy(STDLIB / f"{SINGLE}{SUFFIX}", tmp_path)
    for name in MULTI:
        shutil.copy(STDLIB / f"_testmultiphase{SUFFIX}", tmp_path / f"{name}{SUFFIX}")
    return tmp_path


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    with nothing_left():
        servers: list[Supervisor] = []

        def start(source: str, **options: Any) -> Supervisor:
            text = textwrap.dedent(source) + textwrap.dedent(APP)
            (folder / f"shop_{len(servers)}.py").write_text(text)
            options = {"port": 0, "access_log": False, "lifespan": "off", **options}
            server = Supervisor(f"shop_{len(servers)}:app", **options)
            servers.append(server)
            server.start()
            return server

        yield start
        for server in servers:
            server.stop()


def ask(server: Supervisor) -> Any:
    return json.loads(get(server.url).text)


def mapped(path: Path) -> bool:
    """Whether the process has loaded a file itself: its variables are what can be written."""
    return any("w" in rights for rights in mappings(path))


def mappings(path: Path) -> list[str]:
    """With what rights parts of a file are mapped."""
    lines = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines()]
    return [line[1] for line in lines if line[5:] == [str(path)]]


@pytest.mark.parametrize("mode", ["pure", "refuse"])
def test_a_module_that_refuses_is_never_run_in_the_main_interpreter(
    serve: Serve, folder: Path, mode: str
) -> None:
    with pytest.raises(StartupError) as caught:
        serve(f"import {SINGLE}", extensions=mode)
    line = str(caught.value).splitlines()[0]
    assert f"'{SINGLE}'" in line
    assert "initialised in a single phase" in line
    assert f"imported by shop_0 → {SINGLE};" in line
    assert "extensions='private'" in line
    assert not mapped(folder / f"{SINGLE}{SUFFIX}")
    assert SINGLE not in sys.modules


def test_the_chain_of_imports_is_told(serve: Serve, folder: Path) -> None:
    package = folder / "wares"
    package.mkdir()
    (package / "__init__.py").write_text("from . import bread")
    (package / "bread.py").write_text(f"import {SINGLE}")
    with pytest.raises(StartupError, match=f"imported by shop_0 → wares → {SINGLE};"):
        serve("import wares")


def test_source_beside_the_module_is_taken(
    serve: Serve, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / f"{SINGLE}.py").write_text("is_source = True")
    source = f"""
        import {SINGLE} as module
        def answer(scope):
            return [module.is_source, module.__file__, module.__spec__.origin,
                    type(module.__loader__).__mro__[1].__name__]
    """
    with caplog.at_level(logging.INFO):
        server = serve(source, workers=2, log_forwarding=True)
        path = str(folder / f"{SINGLE}.py")
        assert ask(server) == [True, path, path, "SourceFileLoader"]
        server.stop()
    said = [record.message for record in caplog.records if SINGLE in record.message]
    assert said == [f"Python source taken instead of extension modules: {SINGLE}"]


def test_source_is_not_taken_if_that_is_not_wanted(serve: Serve, folder: Path) -> None:
    (folder / f"{SINGLE}.py").write_text("is_source = True")
    with pytest.raises(StartupError, match=f"'{SINGLE}'"):
        serve(f"import {SINGLE}", extensions="refuse")


ONLY_TO_BE_COMPILED = """
    raise ImportError("it has not been compiled")
"""


def test_source_that_does_not_work_uncompiled_is_told(serve: Serve, folder: Path) -> None:
    (folder / f"{SINGLE}.py").write_text(textwrap.dedent(ONLY_TO_BE_COMPILED))
    with pytest.raises(StartupError) as caught:
        serve(f"import {SINGLE}")
    line = str(caught.value).splitlines()[0]
    assert f"the extension module '{SINGLE}' does not support subinterpreters" in line
    assert "nor does the source beside it do: it has not been compiled;" in line
    assert f"imported by shop_0 → {SINGLE};" in line


def test_a_copy_is_taken_where_the_source_does_not_work(serve: Serve, folder: Path) -> None:
    (folder / f"{SINGLE}.py").write_text(textwrap.dedent(ONLY_TO_BE_COMPILED))
    source = f"""
        import sys
        import {SINGLE} as module
        assert sys.modules[{SINGLE!r}] is module
        def answer(scope):
            return [module.initialized_count(), module.sum(40, 2), module.__file__]
    """
    server = serve(source, workers=2, extensions="private")
    for _ in range(2):
        assert ask(server) == [1, 42, str(folder / f"{SINGLE}{SUFFIX}")]
        server.reload()


def test_each_worker_has_a_copy_of_its_own(serve: Serve, folder: Path) -> None:
    source = f"""
        import {SINGLE} as module
        def answer(scope):
            return [module.initialized_count(), module.sum(40, 2), module.__name__, module.__file__]
    """
    server = serve(source, workers=3, extensions="private")
    path = folder / f"{SINGLE}{SUFFIX}"
    for _ in range(2):
        answers = [ask(server) for _ in range(12)]
        assert answers == [[1, 42, SINGLE, str(path)]] * 12
        server.reload()
    assert SINGLE not in sys.modules
    assert not mapped(path)


COUNT = f"""
    import {SINGLE} as module
    def answer(scope):
        return module.initialized_count()
"""


def test_copies_have_in_common_what_never_changes(serve: Serve, folder: Path) -> None:
    path = folder / f"{SINGLE}{SUFFIX}"
    server = serve(COUNT, workers=3, extensions="private")
    assert [ask(server) for _ in range(6)] == [1] * 6
    assert mappings(path).count("r-xp") == 3
    assert not mapped(path)


def test_copies_of_files_that_can_not_be_shared_work(serve: Serve, folder: Path) -> None:
    """Since variables lie in the same page."""
    parts = [(0, 0, 4096, 5, False), (100, 4096, 4096, 3, True)]
    source = f"""
        from subinterp_asgi.worker.interpreter import private_copies
        private_copies.Elf.parts = lambda self: {parts}
        import {SINGLE} as module
        def answer(scope):
            return module.initialized_count()
    """
    path = folder / f"{SINGLE}{SUFFIX}"
    server = serve(source, workers=2, extensions="private")
    assert [ask(server) for _ in range(6)] == [1] * 6
    assert mappings(path) == []


@pytest.mark.parametrize("name", MULTI)
def test_modules_of_several_phases_are_copied_too(serve: Serve, folder: Path, name: str) -> None:
    with pytest.raises(StartupError, match=f"'{name}'"):
        serve(f"import {name}")
    source = f"""
        import {name} as module
        def answer(scope):
            return [module.__file__, module.__spec__.origin]
    """
    path = str(folder / f"{name}{SUFFIX}")
    assert ask(serve(source, workers=2, extensions="private")) == [path, path]


def test_a_copy_of_cythons_knows_its_file(serve: Serve) -> None:
    spec = importlib.util.find_spec("yarl._quoting_c")
    if spec is None:
        pytest.skip("needs the extension module of yarl")
    source = """
        import yarl._quoting_c as module
        def answer(scope):
            return [module.__file__, module.__spec__.origin]
    """
    assert ask(serve(source, extensions="private")) == [spec.origin] * 2


def test_the_applications_own_are_not_loaded_twice_by_an_interpreter(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    source = f"""
        import {SINGLE}, sys
        sys.used = getattr(sys, "used", 0) + 1
        def answer(scope):
            return sys.used
    """
    server = serve(source, extensions="private", reuse_interpreters=True)
    for _ in range(3):
        server.reload()
        assert ask(server) == 1
    (said,) = [record.message for record in caplog.records if "not used again" in record.message]
    assert f"{SINGLE} is an extension module of the application's own" in said


def test_nothing_of_a_copy_stays(serve: Serve, folder: Path) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    source = f"""
        import {SINGLE}, os
        def answer(scope):
            return [os.readlink(f"/proc/self/fd/{{fd}}") for fd in os.listdir("/proc/self/fd")
                    if os.path.islink(f"/proc/self/fd/{{fd}}")]
    """
    server = serve(source, extensions="private")
    assert not [name for name in ask(server) if SINGLE in name]
    server.stop()
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_refusal_that_is_handled_is_told_once(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    source = f"""
        for _ in range(3):
            try:
                import {SINGLE}
            except ImportError as exc:
                said = type(exc).__name__
        def answer(scope):
            return said
    """
    with caplog.at_level(logging.WARNING):
        server = serve(source, workers=2, log_forwarding=True)
        assert ask(server) == "ExtensionRefusedError"
        server.stop()
    (said,) = [record.message for record in caplog.records if SINGLE in record.message]
    assert "without which the application goes on" in said
    assert "extensions='private'" in said


def test_a_refusal_that_is_handled_is_told_once_for_all_generations(
    serve: Serve, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Unless there is something else to say."""
    source = """
        names = {names}
        for name in names:
            try:
                __import__(name)
            except ImportError:
                pass
        def answer(scope):
            return names
    """

    def told() -> int:
        return caplog.text.count("without which the application goes on")

    with caplog.at_level(logging.WARNING):
        server = serve(source.format(names=[SINGLE]), workers=2, log_forwarding=True)
        for _ in range(2):
            server.reload()
        assert ask(server) == [SINGLE]
        assert told() == 1
        (path,) = folder.glob("*.py")
        path.write_text(path.read_text().replace(f"['{SINGLE}']", f"['{SINGLE}', '{MULTI[0]}']"))
        server.reload()
        assert ask(server) == [SINGLE, MULTI[0]]
        server.stop()
    assert told() == 2


def test_a_refusal_that_comes_late_is_told(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    source = f"""
        def answer(scope):
            import {SINGLE}
    """
    with caplog.at_level(logging.WARNING):
        server = serve(source, log_forwarding=True)
        assert get(server.url).status == 500
        assert get(server.url).status == 500
        server.stop()
    begins = f"the extension module '{SINGLE}'"
    told = [record for record in caplog.records if record.message.startswith(begins)]
    assert [record.levelname for record in told] == ["WARNING"]
    assert f"imported by shop_0 → {SINGLE};" in told[0].message


LINKED = """
    import _zoneinfo
    from pathlib import Path
    def answer(scope):
        maps = Path("/proc/self/maps").read_text()
        return [_zoneinfo.__file__, [line.split()[5] for line in maps.splitlines() if NAME in line]]
""".replace("NAME", repr(f"_zoneinfo{SUFFIX}"))


def test_a_reload_after_a_link_was_changed_takes_the_new_file(serve: Serve, folder: Path) -> None:
    for release in ("1", "2"):
        (folder / release).mkdir()
        shutil.copy(STDLIB / f"_zoneinfo{SUFFIX}", folder / release)
    link = folder / "current"
    link.symlink_to("1")
    sys.path.insert(0, str(link))
    server = serve(LINKED)
    link.unlink()
    link.symlink_to("2")
    server.reload()
    file, loaded = ask(server)
    assert file == str(link / f"_zoneinfo{SUFFIX}")
    assert str(folder / "2" / f"_zoneinfo{SUFFIX}") in loaded


def test_an_upgrade_in_place_is_told_behind_a_link_too(
    serve: Serve, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "1").mkdir()
    file = Path(shutil.copy(STDLIB / f"_zoneinfo{SUFFIX}", folder / "1"))
    (folder / "current").symlink_to("1")
    sys.path.insert(0, str(folder / "current"))
    server = serve(LINKED, log_forwarding=True)
    shutil.copy(file, folder / "new")
    os.replace(folder / "new", file)
    server.reload()
    server.stop()
    (told,) = [record.message for record in caplog.records if "upgraded" in record.message]
    assert "_zoneinfo" in told


def test_modules_are_judged_while_another_thread_imports_typing(serve: Serve) -> None:
    source = f"""
        import sys, threading
        from importlib.machinery import PathFinder
        tried, begun = threading.Event(), threading.Event()
        sys.modules.pop("typing", None)

        class HoldUp:
            def find_spec(name, path, target=None):
                if name == "typing":
                    spec = PathFinder.find_spec(name, path)
                    execute = spec.loader.exec_module
                    def exec_module(module):
                        begun.set()
                        tried.wait(0.5)
                        execute(module)
                    spec.loader.exec_module = exec_module
                    return spec

        sys.meta_path.insert(0, HoldUp)
        thread = threading.Thread(target=__import__, args=("typing",))
        thread.start()
        begun.wait()
        try:
            import {SINGLE}
        except Exception as exc:
            said = type(exc).__name__
        tried.set()
        thread.join()
        def answer(scope):
            return said
    """
    assert ask(serve(source)) == "ExtensionRefusedError"


def test_modules_can_be_hidden(serve: Serve) -> None:
    source = """
        try:
            import shelve.nothing
        except ImportError:
            pass
        try:
            import shelve
        except ImportError as exc:
            said = str(exc)
        def answer(scope):
            return said
    """
    server = serve(source, hide_modules=("shelve",))
    assert "shelve" in ask(server)


def test_the_reader_is_loaded_only_if_it_is_needed(serve: Serve) -> None:
    source = """
        import decimal, sys
        def answer(scope):
            return [name for name in sys.modules if "native" in name or "reader" in name]
    """
    assert ask(serve(source, extensions="private")) == []


@pytest.mark.parametrize("mode", ["pure", "private", "refuse"])
def test_a_file_that_is_no_module_is_left_to_cpython(serve: Serve, folder: Path, mode: str) -> None:
    (folder / f"hollow{SUFFIX}").write_bytes(b"\x7fELF")
    with pytest.raises(StartupError, match="hollow"):
        serve("import hollow", extensions=mode)


def test_copies_need_no_executable_memory(serve: Serve) -> None:
    source = f"""
        import os
        def memfd_create(name, flags):  # as a kernel with vm.memfd_noexec=2
            raise PermissionError(13, "Permission denied")
        os.memfd_create = memfd_create
        import {SINGLE} as module
        def answer(scope):
            return module.initialized_count()
    """
    assert ask(serve(source, workers=2, extensions="private")) == 1


@pytest.mark.parametrize("mode", ["pure", "private"])
def test_an_upgrade_in_place_is_noticed(
    serve: Serve, folder: Path, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    path = folder / f"_testmultiphase{SUFFIX}"
    shutil.copy(STDLIB / path.name, path)
    source = """
        import _testmultiphase
        def answer(scope):
            return _testmultiphase.__doc__
    """
    server = serve(source, workers=2, extensions=mode, log_forwarding=True)
    old = ask(server)
    octets = path.read_bytes()
    new = old.replace("Test", "Best")
    path.unlink()
    path.write_bytes(octets.replace(old.encode(), new.encode()))
    with caplog.at_level(logging.WARNING):
        server.reload()
        answers = {ask(server) for _ in range(8)}
        server.stop()
    told = [record.message for record in caplog.records if "_testmultiphase" in record.message]
    if mode == "private":
        assert (answers, told) == ({new}, [])
    else:
        assert answers == {old}
        assert len(told) == 1
        assert "start a new process, or use extensions='private'" in told[0]
