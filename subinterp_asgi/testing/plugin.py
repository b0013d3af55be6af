"""The pytest plugin: fixtures that serve an application while tests run.

It does not load itself. A suite asks for it in its topmost ``conftest.py``, or by ``-p``::

    pytest_plugins = ["subinterp_asgi.testing.plugin"]

and has the fixtures ``asgi_server``, ``fresh_asgi_server``, ``serve_asgi`` and ``asgi_ca``. Nothing
else is imported before one of them is used. ``docs/testing.md`` shows each.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .ca import CertificateAuthority
    from .server import LiveServer
    from .session import Session

_SERVERS = {"asgi_server", "fresh_asgi_server", "serve_asgi"}
_MARK = (
    "asgi(env=, state=, options=, isolation=, allow_errors=): how fresh_asgi_server and serve_asgi "
    "serve in this test; allow_errors for asgi_server too"
)

_session = pytest.StashKey["Session"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("asgi_app", "application of the ASGI fixtures, as package.module:attribute")
    parser.addini("asgi_isolation", "interpreter or thread", default="interpreter")
    parser.addini("asgi_workers", "number of workers", default="1")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARK)


# --- fixtures


@pytest.fixture(scope="session")
def asgi_server(request: pytest.FixtureRequest) -> Iterator[LiveServer]:
    """A ``LiveServer`` of ``asgi_app`` that all tests share."""
    session = _session_of(request.config)
    session.prepare(request)
    with session.serving(None, None) as server:
        session.shared = server
        yield server
    session.shared = None


@pytest.fixture
def fresh_asgi_server(request: pytest.FixtureRequest) -> Iterator[LiveServer]:
    """A ``LiveServer`` of ``asgi_app`` for this test alone, as its mark ``asgi`` says."""
    session = _session_of(request.config)
    session.prepare(request)
    with session.serving(None, request.node) as server:
        yield server


@pytest.fixture
def serve_asgi(request: pytest.FixtureRequest) -> Iterator[Callable[..., LiveServer]]:
    """A function that starts a ``LiveServer``, with its arguments, until the end of the test."""
    session = _session_of(request.config)
    session.prepare(request)
    with ExitStack() as servers:

        def serve(app: Any = None, **options: Any) -> LiveServer:
            return servers.enter_context(session.serving(app, request.node, **options))

        yield serve


@pytest.fixture(scope="session")
def asgi_ca(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    """A ``CertificateAuthority`` made for these tests, by trustme."""
    pytest.importorskip("trustme", reason="asgi_ca needs trustme, which is not installed")
    from .ca import CertificateAuthority

    folder: Path = tmp_path_factory.mktemp("asgi_ca")
    return CertificateAuthority(folder)


def _session_of(config: pytest.Config) -> Session:
    if _session not in config.stash:
        from .session import Session

        config.stash[_session] = Session(config)
    return config.stash[_session]


# --- hooks


def _serves(item: pytest.Item) -> bool:
    return not _SERVERS.isdisjoint(getattr(item, "fixturenames", ()))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Have pytest-django do what it does for its own ``live_server``."""
    with_django = "django.conf" in sys.modules and item.config.pluginmanager.hasplugin("django")
    if with_django and _serves(item):
        _session_of(item.config).use_django(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    if not _serves(item):
        return (yield)
    __tracebackhide__ = True
    with _session_of(item.config).watching(item, "setup"):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    if not _serves(item):
        return (yield)
    __tracebackhide__ = True
    with _session_of(item.config).watching(item, "call"):
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """With ``--pdb``, look at the frames of the application first."""
    if isinstance(node, pytest.Item) and node.config.getoption("usepdb", False) and _serves(node):
        _session_of(node.config).debug(node)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    if not _serves(item):
        return (yield)
    __tracebackhide__ = True
    with _session_of(item.config).watching(item, "teardown"):
        return (yield)
