"""What needs a process of its own: imports, forks, the end, suites of unittest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import run_script

_ENV = {"PYTHONWARNINGS": "error"}
_APP = {
    "served.py": """
        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                raise NotImplementedError
            if scope["path"] == "/raise":
                raise LookupError("for a test")
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"fine"})
    """
}


def test_servers_that_are_not_under_test_load_nothing_of_it(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        """
        import sys
        from subinterp_asgi import Supervisor
        import urllib.request

        with Supervisor("served:app", port=0) as server:
            loaded = urllib.request.urlopen(server.url).read().decode().split()
        print([name for name in (*loaded, *sys.modules) if "testing" in name or "recorder" in name])
        """,
        files={
            "served.py": """
            import sys

            async def app(scope, receive, send):
                if scope["type"] == "http":
                    body = " ".join(sys.modules).encode()
                    await send({"type": "http.response.start", "status": 200, "headers": []})
                    await send({"type": "http.response.body", "body": body})
            """
        },
    )
    assert done.stdout == "[]\n", done.stderr


def test_importing_the_package_loads_nothing_before_it_is_used(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        """
        import sys
        import subinterp_asgi.testing
        print([name for name in sys.modules if name.startswith("subinterp_asgi.")])
        assert "LiveServer" in dir(subinterp_asgi.testing)
        from subinterp_asgi.testing import LiveServer
        """,
    )
    assert done.stdout == "['subinterp_asgi.types', 'subinterp_asgi.testing']\n", done.stderr


def test_the_process_ends_quietly_with_interpreters_that_wait(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        """
        from subinterp_asgi.testing import serve
        for _ in range(3):
            with serve("served:app") as server:
                assert server.get("/").text == "fine"
        """,
        files=_APP,
        environment=_ENV,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_it_ends_quietly_with_a_server_that_nobody_has_stopped(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        """
        from subinterp_asgi.testing import serve
        for _ in range(3):
            server = serve("served:app").start()
            assert server.get("/").text == "fine"
        """,
        files=_APP,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork()")
def test_a_process_may_fork_once_its_servers_have_ended(tmp_path: Path) -> None:
    """With any interpreter left the child would crash; those that wait are closed before."""
    done = run_script(
        tmp_path,
        """
        import os
        from subinterp_asgi.testing import serve
        for fresh in ("interpreter", "modules") * 2:
            with serve("served:app", fresh=fresh) as server:
                assert server.get("/").text == "fine"
        pid = os.fork()
        if not pid:
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        with serve("served:app") as server:
            print(server.get("/").text)
        """,
        files=_APP,
    )
    assert done.stdout == "7\nfine\n", done.stderr


def test_the_case_for_unittest(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        """
        import unittest
        from urllib.request import urlopen
        from subinterp_asgi.testing import LiveServerTestCase

        class Tests(LiveServerTestCase):
            app = "served:app"
            server_options = {"workers": 2}

            def test_1_is_served(self):
                self.assertEqual(urlopen(self.live_server_url).read(), b"fine")
                self.assertEqual(len(self.live_server.received()), 1)

            def test_2_begins_with_nothing_recorded(self):
                self.assertEqual(self.live_server.received(), [])

            def test_3_expects_it(self):
                self.allow_errors = LookupError
                self.live_server.get("/raise")

            def test_4_fails(self):
                self.assertEqual(self.live_server.get("/raise").status, 500)

        unittest.main(verbosity=2)
        """,
        files=_APP,
    )
    assert "FAILED (failures=1)" in done.stderr, done.stderr
    assert "FAIL: test_4_fails" in done.stderr
    assert "LookupError: for a test (GET /raise, worker" in done.stderr


def test_threads_of_tests_may_all_have_servers(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        """
        from concurrent.futures import ThreadPoolExecutor
        from subinterp_asgi.testing import serve

        def use(number):
            with serve("served:app", fresh=("interpreter", "modules")[number % 2]) as server:
                return server.get("/").text

        with ThreadPoolExecutor(4) as pool:
            print(set(pool.map(use, range(12))))
        """,
        files=_APP,
        environment=_ENV,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{'fine'}\n", "")
