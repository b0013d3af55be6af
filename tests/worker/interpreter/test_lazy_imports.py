"""What is put off is the real thing once it is used, for every thread."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def run(script: str) -> str:
    """Run a script in a process of its own, since it changes ``sys.modules``."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


LOAD = """
from subinterp_asgi.worker.interpreter import lazy_imports
lazy_imports.make_rare_lazy()
lazy_imports.import_asyncio(ssl=False)
"""


def test_asyncio_comes_without_ssl() -> None:
    out = run(
        LOAD + "import sys, asyncio, ssl, asyncio.sslproto\n"
        "async def main(): await asyncio.sleep(0)\n"
        "asyncio.run(main())\n"
        "print('_ssl' in sys.modules, ssl.__name__, ssl.__file__.endswith('ssl.py'))\n"
        "print(issubclass(ssl.SSLError, OSError), '_ssl' in sys.modules)\n"
        "print(asyncio.sslproto.SSLProtocol.__module__)\n"
    )
    assert out.splitlines() == ["False ssl True", "True True", "asyncio.sslproto"]


def test_missing_attributes_are_named() -> None:
    out = run(
        LOAD + "import ssl\n"
        "try: ssl.nonsense\n"
        "except AttributeError as exc: print(exc)\n"
        "try: from ssl import nonsense\n"
        "except ImportError as exc: print('ImportError')\n"
    )
    assert out.splitlines() == ["module 'ssl' has no attribute 'nonsense'", "ImportError"]


def test_star_import_has_everything() -> None:
    out = run(LOAD + "from ssl import *\nprint(create_default_context().__class__.__name__)\n")
    assert out.strip() == "SSLContext"


def test_threads_wait_for_the_whole_module() -> None:
    out = run(
        LOAD + "import ssl, threading\n"
        "found, barrier = [], threading.Barrier(8)\n"
        "def use():\n"
        "    barrier.wait()\n"
        "    found.append(ssl.create_default_context)\n"
        "threads = [threading.Thread(target=use) for _ in range(8)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "print(len(found), len(set(found)))\n"
    )
    assert out.split() == ["8", "1"]


def test_what_was_imported_stays() -> None:
    out = run(
        "import ssl, asyncio\n"
        "before = ssl.SSLContext\n"
        + LOAD
        + "import sys; print(sys.modules['ssl'] is ssl, ssl.SSLContext is before)\n"
    )
    assert out.split() == ["True", "True"]


def test_colours_are_ready_when_there_are_no_descriptors() -> None:
    out = run(
        "from subinterp_asgi.worker.interpreter import lazy_imports\n"
        "lazy_imports.make_colours_lazy()\n"
        "import subinterp_asgi.bootstrap, traceback, resource, os, sys\n"
        "print('can_colorize' in vars(sys.modules['_colorize']))\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
        "try: open(os.devnull)\n"
        "except OSError as exc: print(traceback.format_exception(exc)[-1])\n"
        "print('can_colorize' in vars(sys.modules['_colorize']))\n"
    )
    assert "Too many open files" in out
    assert (out.split()[0], out.split()[-1]) == (str(sys.version_info < (3, 14)), "True")


def test_rare_modules_are_not_executed_for_a_worker() -> None:
    out = run(
        LOAD + "import sys, subinterp_asgi.bootstrap\n"
        "import signal, subprocess, tokenize\n"
        "print('_posixsubprocess' in sys.modules, subprocess.PIPE)\n"
        "print('SIGTERM' in vars(signal), 'run' in vars(subprocess), 'open' in vars(tokenize))\n"
        "print(signal.SIGTERM.name, subprocess.run([sys.executable, '-V']).returncode)\n"
    )
    assert out.splitlines()[:2] == ["False -1", "False False False"]
    assert out.splitlines()[-1] == "SIGTERM 0"


def test_the_command_does_not_execute_what_it_never_uses() -> None:
    out = run(
        "import sys\n"
        "sys.argv = ['subinterp-asgi']\n"
        "import subinterp_asgi.__main__\n"
        "from subinterp_asgi import Supervisor\n"
        "with Supervisor('tests.integration.apps.pool:App', factory=True, port=0): pass\n"
        "import inspect, pickle\n"
        "print('dis' in sys.modules, 'dumps' in vars(pickle))\n"
        "print(inspect.signature(len), len(pickle.dumps('')))\n"
    )
    assert out.splitlines()[0] == "False False"


def test_asyncio_offers_what_it_does_elsewhere() -> None:
    names = "import asyncio; print(sorted(asyncio.__all__))\n"
    out = run(
        LOAD + names + "from asyncio import *\n"
        "print([name for name in asyncio.__all__ if name not in globals()])\n"
        "print([name for name in asyncio.__all__ if not hasattr(asyncio, name)])\n"
        "try: asyncio.nonsense\n"
        "except AttributeError as exc: print(exc)\n"
    )
    nonsense = "module 'asyncio' has no attribute 'nonsense'"
    assert out.splitlines() == [run(names).strip(), "[]", "[]", nonsense]


def test_what_was_assigned_before_stays() -> None:
    out = run(
        LOAD + "import signal\nsignal.signal = 'mine'\nprint(signal.SIGTERM.name, signal.signal)\n"
    )
    assert out.split() == ["SIGTERM", "mine"]


def test_a_module_that_could_not_be_read_is_tried_again() -> None:
    out = run(
        LOAD + "import resource, subprocess\n"
        "limits = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))\n"
        "try: subprocess.run\n"
        "except OSError as exc: print(exc.strerror)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, limits)\n"
        "print(subprocess.run.__name__)\n"
    )
    assert out.splitlines() == ["Too many open files", "run"]


def test_what_a_module_has_before_is_replaced() -> None:
    out = run(
        LOAD + "import inspect, functools, sys\n"
        "before = inspect.unwrap\n"
        "def f(): pass\n"
        "class C: a: 'int' = 1\n"
        "print(inspect.get_annotations(C), inspect.get_annotations(type('D', (C,), {})))\n"
        "print('signature' in vars(inspect) and sys.version_info < (3, 14))\n"
        "print(inspect.get_annotations(f))\n"
        "@functools.wraps(f)\n"
        "def g(): pass\n"
        "print(before(g) is f, before(g, stop=lambda _: True) is g)\n"
        "print(inspect.unwrap.__module__, inspect.unwrap(g) is f)\n"
        "f.__wrapped__ = g\n"
        "try: before(g)\n"
        "except ValueError as exc: print('ValueError')\n"
    )
    annotations = ["{'a': 'int'} {}", "False", "{}"]
    assert out.splitlines() == [*annotations, "True True", "inspect True", "ValueError"]


HAND_OVER = """
import sys
from subinterp_asgi.control.interpreters import Interpreter
from subinterp_asgi.supervisor.pool import ahead

TELL = '''
import sys, asyncio.base_events, inspect, logging, subinterp_asgi.bootstrap
told = []
for name, module in sorted(sys.modules.items()):
    if name.partition(".")[0] in ("asyncio", "subinterp_asgi", "logging"):
        where = module.__spec__.submodule_search_locations
        told.append((name, module.__spec__.origin, where, module.__file__, module.__spec__.cached))
print(told)
print({type(module.__loader__).__name__ for module in (asyncio.base_events, logging)})
print(inspect.getsource(logging.info).partition(chr(10))[0])
'''
path, code = tuple(each or "." for each in sys.path), None
for _ in range(2):
    interpreter = Interpreter()
    ahead.load(interpreter, path, tls=False, code=code)
    interpreter.execute(TELL)
    code = ahead.code_of(interpreter)
    interpreter.close()
"""


def test_modules_are_made_of_code_that_is_handed_over() -> None:
    told = run(HAND_OVER).splitlines()
    assert told[0] == told[3]
    assert [told[1], told[4]] == ["{'SourceFileLoader'}", "{'_CodeLoader'}"]
    assert told[2] == told[5] == "def info(msg, *args, **kwargs):"
