"""Django Channels, for its WebSockets."""

from __future__ import annotations

import pytest

from . import contract

pytest.importorskip("channels")

APP = "tests.frameworks.apps.channels_app:app"
OPTIONS = {"lifespan": "off"}


class TestChannels(contract.WebSockets):
    pass
