"""The plugin's fixtures, mark and options, in suites of their users."""

from __future__ import annotations

from pathlib import Path

import pytest

from .suites import Suite

pytestmark = pytest.mark.timeout(300)  # for several runs of pytest, on a loaded machine

INI = """
[pytest]
asgi_app = app:app
"""
APP = """
import asyncio, os

served = 0
tasks = set()

async def fail():
    raise LookupError("in a task")

async def app(scope, receive, send):
    global served
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    served += 1
    path = scope["path"]
    if path == "/raise":
        raise ValueError("what the application says")
    if path == "/task":
        tasks.add(task := asyncio.create_task(fail()))
        task.add_done_callback(tasks.discard)
    if path == "/hang":
        await asyncio.sleep(1000)
    body = {"/count": str(served), "/env": os.environ.get("COLOUR", "none"),
            "/state": scope["state"].get("name", "none")}.get(path, "hello")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body.encode()})
"""


def make(folder: Path, tests: str, **files: str) -> Suite:
    more = {name.replace("__", "."): content for name, content in files.items()}
    return Suite(folder, {"pytest.ini": INI, "app.py": APP, "test_it.py": tests, **more})


def test_fixtures(tmp_path: Path) -> None:
    suite = make(
        tmp_path,
        """
        import pytest

        def test_shared(asgi_server):
            assert asgi_server.get("/count").text == "1"

        def test_shared_by_all(asgi_server):
            assert asgi_server.received() == []
            assert asgi_server.get("/count").text == "2"
            assert [request.path for request in asgi_server.received()] == ["/count"]

        @pytest.mark.parametrize("number", [1, 2])
        def test_fresh(fresh_asgi_server, number):
            assert fresh_asgi_server.get("/count").text == "1"

        @pytest.mark.asgi(env={"COLOUR": "red"}, state={"name": "state"}, options={"workers": 2})
        class TestMarked:
            def test_of_the_class(self, fresh_asgi_server):
                assert fresh_asgi_server.get("/env").text == "red"
                assert fresh_asgi_server.get("/state").text == "state"
                assert len(fresh_asgi_server.supervisor.workers) == 2

            @pytest.mark.asgi(env={"COLOUR": "blue"}, isolation="thread")
            def test_of_the_function(self, serve_asgi):
                server = serve_asgi()
                assert server.supervisor.in_threads
                assert server.get("/env").text == "blue"
                assert server.get("/state").text == "state"

        def test_factory(serve_asgi):
            one, other = serve_asgi("app:app"), serve_asgi(env={"COLOUR": "green"})
            assert one.port != other.port
            assert one.get("/env").text == "none"
            assert other.get("/env").text == "green"
        """,
    )
    assert "7 passed" in suite.run()
    assert "7 passed" in suite.run("-n2", "--dist=loadfile", plugins=("xdist",))


def test_errors_fail_a_test(tmp_path: Path) -> None:
    suite = make(
        tmp_path,
        """
        import pytest

        def test_unexpected(asgi_server):
            asgi_server.get("/raise")

        def test_beside_a_failure(asgi_server):
            assert asgi_server.get("/raise").status == 200

        def test_of_a_task(fresh_asgi_server):
            fresh_asgi_server.get("/task")

        @pytest.mark.asgi(allow_errors=[ValueError])
        def test_expected(asgi_server):
            assert asgi_server.get("/raise").status == 500
            assert [error.type for error in asgi_server.errors()] == ["ValueError"]

        @pytest.mark.asgi(allow_errors=["KeyError"])
        def test_another_one(asgi_server):
            asgi_server.get("/raise")

        @pytest.fixture
        def asked(asgi_server):
            asgi_server.get("/raise")

        def test_of_a_fixture(asked):
            pass

        def test_afterwards(asgi_server):
            assert asgi_server.get("/").text == "hello"
        """,
    )
    text = suite.run("-rA", status=1)
    assert "5 failed, 2 passed" in text
    assert (
        text.count("FAILED test_it.py::test_unexpected - Failed: the application has raised Val")
        == 1
    )
    assert "GET /raise, worker 0" in text
    assert "Captured the application's errors call" in text
    assert (
        "FAILED test_it.py::test_of_a_task - Failed: the application has raised LookupError" in text
    )
    assert "During handling" not in text
    assert "5 failed" in suite.run("--lf", status=1)


def test_what_a_hung_request_is_at(tmp_path: Path) -> None:
    """Beside a failure, and in the report of pytest-timeout by either of its methods."""
    pytest.importorskip("pytest_timeout")
    suite = make(
        tmp_path,
        """
        def test_failure(asgi_server):
            asgi_server.request("GET", "/hang", timeout=0.2)

        def test_timeout(asgi_server):
            asgi_server.request("GET", "/hang", timeout=60)
        """,
    )
    text = suite.run("-k", "failure", status=1)
    assert "Captured its workers call" in text
    assert "await asyncio.sleep(1000)" in text
    for method in ("signal", "thread"):
        text = suite.run(
            *("-k", "test_timeout", "--timeout=3", f"--timeout-method={method}"),
            *("-o", "timeout_func_only=true"),
            plugins=("timeout",),
            status=1,
        )
        assert "Workers of app:app" in text
        assert "await asyncio.sleep(1000)" in text


def test_forks_are_refused(tmp_path: Path) -> None:
    suite = make(
        tmp_path,
        """
        import multiprocessing, os, pty, subprocess, sys

        import pytest

        from subinterp_asgi.errors import ForkRefusedError

        fork = os.fork

        def double(number):
            return 2 * number

        def test_meanwhile(fresh_asgi_server):
            for function in (os.fork, os.forkpty, pty.fork):
                with pytest.raises(ForkRefusedError, match="while workers run in interpreters"):
                    function()
            with pytest.raises(ForkRefusedError):
                multiprocessing.get_context("fork").Process(target=print).start()
            assert subprocess.run([sys.executable, "-c", "print(1)"], stdout=-1).stdout == b"1\\n"
            for method in ("spawn", "forkserver"):
                with multiprocessing.get_context(method).Pool(1) as pool:
                    assert pool.map(double, [1, 2]) == [2, 4]

        @pytest.mark.asgi(isolation="thread")
        def test_with_threads(fresh_asgi_server):
            assert os.fork is fork

        def test_afterwards():
            assert os.fork is fork
            pid = os.fork()
            if not pid:
                os._exit(3)
            assert os.waitpid(pid, 0)[1] == 3 << 8
        """,
    )
    # (CPython warns of forks in processes that have had threads.)
    assert "3 passed" in suite.run("-W", "ignore::DeprecationWarning")


def test_tls_by_an_authority_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("trustme")
    suite = make(
        tmp_path,
        """
        import ssl

        import pytest

        def test_verified(serve_asgi, asgi_ca):
            server = serve_asgi(**asgi_ca.options())
            assert server.url.startswith("https://")
            assert server.get("/", context=asgi_ca.context()).text == "hello"
            with pytest.raises(ssl.SSLError):
                server.get("/")

        def test_client_certificates(serve_asgi, asgi_ca):
            server = serve_asgi(**asgi_ca.options(client_certificates=True))
            assert server.get("/", context=asgi_ca.context("me")).text == "hello"
            with pytest.raises(OSError):
                server.get("/", context=asgi_ca.context())
        """,
    )
    assert "2 passed" in suite.run()


def test_wrong_use(tmp_path: Path) -> None:
    suite = make(
        tmp_path,
        """
        import pytest

        @pytest.mark.asgi(env={"A": "b"})
        def test_shared(asgi_server):
            pass

        @pytest.mark.asgi(envs={"A": "b"})
        def test_misspelled(fresh_asgi_server):
            pass

        @pytest.mark.asgi("app:app")
        def test_positional(fresh_asgi_server):
            pass
        """,
    )
    text = suite.run(status=1)
    assert "env= of the mark asgi can't be for this one; use fresh_asgi_server" in text
    assert "the mark asgi takes no envs=; did you mean env?" in text
    assert "the mark asgi takes no 'app:app'" in text
    text = suite.run("-o", "asgi_app=", "-k", "misspelled", status=1)
    (tmp_path / "test_it.py").write_text("def test_it(asgi_server): pass")
    assert "no application to serve" in suite.run("-o", "asgi_app=", status=1)
    wrong = suite.run("-o", "asgi_workers=two", status=1)
    assert "workers: must be an integer from 1 to 1024 or 'auto', not 'two'" in wrong


def test_workers_by_the_ini_file(tmp_path: Path) -> None:
    suite = make(
        tmp_path,
        """
        def test_it(asgi_server, pytestconfig):
            count = len(asgi_server.supervisor.workers)
            assert count == 3 or (count and pytestconfig.getini("asgi_workers") == "auto")
        """,
    )
    for workers in ("3", "auto"):
        assert "1 passed" in suite.run("-o", f"asgi_workers={workers}")


def test_nothing_is_imported_before_a_fixture_is_used(tmp_path: Path) -> None:
    suite = make(
        tmp_path,
        """
        import sys

        def test_it():
            ours = {name for name in sys.modules if name.startswith("subinterp_asgi")}
            assert ours == {
                "subinterp_asgi",
                "subinterp_asgi.types",
                "subinterp_asgi.testing",
                "subinterp_asgi.testing.plugin",
            }
        """,
    )
    assert "1 passed" in suite.run()


def test_interrupted_by_the_user(tmp_path: Path) -> None:
    suite = make(
        tmp_path,
        """
        import os, signal, threading

        def test_it(asgi_server, fresh_asgi_server):
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            asgi_server.request("GET", "/hang", timeout=60)
        """,
    )
    assert "KeyboardInterrupt" in suite.run(status=2)


def test_beside_other_plugins(tmp_path: Path) -> None:
    """asyncio's loops by pytest-asyncio and anyio, trio's, and tests in random order."""
    for name in ("pytest_asyncio", "anyio", "pytest_randomly", "httpx"):
        pytest.importorskip(name)
    suite = make(
        tmp_path,
        """
        import anyio, pytest

        @pytest.mark.asyncio
        async def test_by_asyncio(asgi_server, fresh_asgi_server):
            async with fresh_asgi_server.async_client() as client:
                assert (await client.get("/count")).text == "1"
            async with asgi_server.async_client() as client:
                assert (await client.get("/")).text == "hello"

        @pytest.mark.anyio
        async def test_by_anyio(asgi_server, serve_asgi):
            server = await anyio.to_thread.run_sync(serve_asgi)
            async with server.async_client() as client:
                assert (await client.get("/count")).text == "1"
                assert (await client.get("/count")).text == "2"
        """,
    )
    plugins = ("asyncio", "anyio", "randomly", "xdist")
    ini = "asyncio_default_fixture_loop_scope=function"
    text = suite.run("-o", ini, "-n2", plugins=plugins)
    assert " passed" in text
    assert "failed" not in text
