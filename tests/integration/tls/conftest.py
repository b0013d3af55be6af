"""Fixtures that several modules use."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from subinterp_asgi import Supervisor

from ...support import nothing_left
from ..pki import Pki, TLSClient
from .clients import APP


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def trusting(pki: Pki) -> ssl.SSLContext:
    """The context of a client that trusts the server."""
    return pki.client()


@pytest.fixture(scope="module")
def server(pki: Pki) -> Iterator[Supervisor]:
    options: dict[str, Any] = {"ssl_certfile": pki.server, "access_log": False}
    with nothing_left(), Supervisor(APP, workers=2, port=0, **options) as server:
        yield server


@pytest.fixture
def client(server: Supervisor, trusting: ssl.SSLContext) -> Iterator[TLSClient]:
    with TLSClient(server.addresses[0], trusting) as client:
        yield client
