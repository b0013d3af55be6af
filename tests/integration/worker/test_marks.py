"""The marks by which the watchdog knows where this package calls the application.

An application that looks who calls it, in all its roles, finds a marked function each time.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.worker import recorder
from subinterp_asgi.worker.interpreter.marks import STANDS_FOR_APPLICATION, TAKES_INTERRUPTS
from subinterp_asgi.worker.net.lean_loop import LEAN
from tests.support import ROOT, get, run_script

from ..serving import respond
from ..wsclient import WSClient

callers: dict[str, CodeType] = {}
"""The innermost frame of the package below the application, by what that was called for."""

MODULE = """\
from tests.integration.worker import test_marks

test_marks.note("import")

def create():
    test_marks.note("factory")
    return test_marks.app
"""


def note(role: str) -> None:
    frame = sys._getframe(1)
    while not frame.f_globals["__name__"].startswith("subinterp_asgi."):
        assert frame.f_back is not None
        frame = frame.f_back
    callers[role] = frame.f_code


def app(scope: Any, receive: Any, send: Any) -> Any:
    note(f"{scope['type']}, called")
    return serve(scope, receive, send)


async def serve(scope: Any, receive: Any, send: Any) -> None:
    kind = scope["type"]
    note(kind)
    if kind == "http":
        if LEAN:
            asyncio.get_running_loop().call_soon(note, "callback")
            await asyncio.sleep(0)  # (a turn of the loop)
        await respond(send)
    elif kind == "websocket":
        await send({"type": "websocket.accept"})
    elif kind == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})


def identified(scope: Any, receive: Any, send: Any) -> Any:
    note(f"{scope['type']}, called with an id")
    return serve(scope, receive, send)


def create() -> Any:
    note("factory given as such")
    return app


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CodeType]:
    """Run an application in all its roles, and return what called it in each."""
    directory = tmp_path_factory.mktemp("app")
    (directory / "marked_app.py").write_text(MODULE)
    sys.path.insert(0, str(directory))
    options: dict[str, Any] = {"isolation": "thread", "port": 0, "worker_hooks": True}
    try:
        for target in (create, "marked_app:create"):
            with Supervisor(target, factory=True, **options) as server:
                assert get(server.url).status == 200
                with WSClient(server.addresses[0]) as client:
                    client.open()
        with Supervisor(identified, request_id_header="x-request-id", **options) as server:
            assert get(server.url).status == 200
    finally:
        sys.path.remove(str(directory))
        sys.modules.pop("marked_app", None)
    return dict(callers)


ROLES = {
    "import": "_import_module",
    "factory": "call_factory",
    "factory given as such": "call_factory",
    "lifespan": "Lifespan._call_app",
    "subinterp_asgi.worker.startup, called": "_hooks.<locals>.call",
    "subinterp_asgi.worker.startup": "Worker._run_startup",
    "http": "HTTPExchange._call_app",
    "http, called": "HTTPExchange._call_app",
    "http, called with an id": "noting.<locals>.noted",
    "websocket": "WebSocketSession._call_app",
    "subinterp_asgi.worker.shutdown": "Worker._run_shutdown",
    **({"callback": "LeanLoop._run_ready"} if LEAN else {}),
}


@pytest.mark.parametrize("role", ROLES)
def test_what_calls_the_application_is_marked(seen: dict[str, CodeType], role: str) -> None:
    assert seen[role].co_qualname == ROLES[role]
    assert seen[role] in TAKES_INTERRUPTS, f"{ROLES[role]} has lost its mark"


def test_nothing_else_is_marked(seen: dict[str, CodeType]) -> None:
    # Beside them those that only servers in tests have.
    recorded = {recorder.Recorder.__call__.__code__, recorder.Recorder._run.__code__}
    called_with_an_id = {role for role in seen if role.endswith(" with an id")} - ROLES.keys()
    named = {seen[role] for role in seen.keys() - called_with_an_id}
    assert named | recorded == TAKES_INTERRUPTS


def test_injected_faults_stand_for_the_application() -> None:
    from subinterp_asgi.control.launch import Runtime
    from subinterp_asgi.worker import faults

    hook: Any = faults.before_serving(Runtime(), None)
    marked = {faults._freeze.__code__, faults._freeze_in_c.__code__, hook.__code__}
    assert marked == STANDS_FOR_APPLICATION


def test_a_copy_inside_another_package_knows_its_own_code(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host/__init__.py").touch()
    shutil.copytree(ROOT / "subinterp_asgi", tmp_path / "host/vendored")
    done = run_script(
        tmp_path,
        """
        import sys
        from host.vendored.worker.interpreter.watchdog import _is_ours

        def frame_of(module):
            names = {"__name__": module, "sys": sys}
            exec("frame = sys._getframe()", names)
            return names["frame"]

        assert _is_ours(frame_of("host.vendored.worker.net.connection"))
        assert not _is_ours(frame_of("host.app"))
        assert not any(name.split(".")[0] == "subinterp_asgi" for name in sys.modules)
        """,
    )
    assert done.returncode == 0, done.stderr
