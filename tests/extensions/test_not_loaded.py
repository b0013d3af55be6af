"""No start of a server imports the reader, nor what is only there for former paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import run_script

APP = """
import sys

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    rooms = ("subinterp_asgi.extensions", "subinterp_asgi.events", "subinterp_asgi.states")
    text = str([name for name in sys.modules if name.startswith(rooms)]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text})
"""


@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
def test_a_start_imports_none_of_it(tmp_path: Path, isolation: str) -> None:
    done = run_script(
        tmp_path,
        """
        import sys
        import subinterp_asgi.__main__
        from subinterp_asgi import Supervisor
        from tests.support import get

        isolation = sys.argv[1]
        with Supervisor("app:app", port=0, access_log=False, isolation=isolation) as server:
            print(get(server.url).text)
            if isolation == "interpreter":
                server.reload()
                print(get(server.url).text)
        print([name for name in sys.modules if name.startswith("subinterp_asgi.extensions")])
        """,
        isolation,
        files={"app.py": APP},
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split("\n")) == {"[]", ""}


def test_former_paths(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        """
        import subinterp_asgi.states
        from subinterp_asgi.events import WorkerChanged
        from subinterp_asgi import events
        from subinterp_asgi.supervisor import events as new_events, states as new_states

        assert events.WorkerChanged is WorkerChanged is new_events.WorkerChanged
        assert subinterp_asgi.states.WorkerState is new_states.WorkerState
        """,
    )
    assert done.returncode == 0, done.stderr
