"""Starlette, whose sync endpoints run in AnyIO's threads."""

from __future__ import annotations

import pytest

from . import contract

pytest.importorskip("starlette")
pytest.importorskip("python_multipart")

APP = "tests.frameworks.apps.starlette_app:app"


class TestStarlette(
    contract.Requests,
    contract.OwnInterpreters,
    contract.Lifespan,
    contract.AbandonedDownloads,
    contract.AbandonedEvents,
    contract.Background,
    contract.ChunkedUploads,
    contract.WebSockets,
):
    pass
