"""Serves the application that a test module names as ``APP``, from two workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from subinterp_asgi import Supervisor

from ..support import nothing_left

pytest.register_assert_rewrite("tests.frameworks.contract")

GIVEN = {"greeting": "grüezi", "limits": [1, 2.5, None, {"deep": True}]}
"""What the supervisor hands to every worker's lifespan state."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """Environment variables; interpreters see those that were there when they began."""
    journal = tmp_path_factory.mktemp("journal") / "journal"
    journal.touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_JOURNAL", str(journal))
        yield patch


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, environment: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    options: dict[str, Any] = getattr(request.module, "OPTIONS", {})
    supervisor = Supervisor(
        request.module.APP,
        workers=2,
        port=0,
        state={"given": GIVEN},
        access_log=False,
        **options,
    )
    with nothing_left(), supervisor as server:
        yield server


@pytest.fixture
def client(server: Supervisor) -> Iterator[httpx.Client]:
    # Plain HTTP on loopback: neither a CA bundle nor a proxy is worth looking for.
    with httpx.Client(base_url=server.url, verify=False, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture
def journal(server: Supervisor) -> Path:
    """Where the applications write down what they opened and closed."""
    return Path(os.environ["TEST_JOURNAL"])
