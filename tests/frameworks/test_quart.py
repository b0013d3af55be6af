"""Quart, whose sync views run in the loop's default executor."""

from __future__ import annotations

import pytest

from . import contract

pytest.importorskip("quart")

APP = "tests.frameworks.apps.quart_app:app"


class TestQuart(
    contract.Requests,
    contract.OwnInterpreters,
    contract.Lifespan,
    contract.AbandonedDownloads,
    contract.AbandonedEvents,
    contract.ChunkedUploads,
    contract.WebSockets,
):
    pass
