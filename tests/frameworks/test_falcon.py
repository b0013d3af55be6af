"""Falcon's ASGI half, which keeps idle threads of a module-wide executor until the end."""

from __future__ import annotations

import pytest

from . import contract

pytest.importorskip("falcon")

APP = "tests.frameworks.apps.falcon_app:app"


class TestFalcon(
    contract.Requests,
    contract.OwnInterpreters,
    contract.Lifespan,
    contract.AbandonedDownloads,
    contract.ChunkedUploads,
    contract.WebSockets,
):
    pass
