"""The suites in ``examples/testing``, as ``docs/testing.md`` says to run them."""

from __future__ import annotations

import pytest

from tests.support import ROOT

from .suites import Suite

pytestmark = [
    pytest.mark.once,
    pytest.mark.timeout(300),  # for several runs of pytest, on a loaded machine
]

NEEDED = {
    "starlette": ("starlette", "anyio", "httpx", "websockets", "trustme", "playwright"),
    "django": ("django", "pytest_django"),
}
PLUGINS = {"anyio": "anyio", "pytest_django": "django"}


@pytest.mark.parametrize("folder", NEEDED)
def test_suite(folder: str) -> None:
    for name in NEEDED[folder]:
        pytest.importorskip(name)
    suite = Suite(ROOT / "examples" / "testing" / folder, {})
    plugins = [f"-p{PLUGINS[name]}" for name in NEEDED[folder] if name in PLUGINS]
    text = suite.python("-m", "pytest", "-rs", "-p", "no:cacheprovider", *plugins)
    assert " passed" in text
    assert "failed" not in text
