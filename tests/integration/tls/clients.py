"""The application that is served over TLS, and what its clients do."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest

from subinterp_asgi import Supervisor

from ...support import wait_until
from ..pki import TLSClient

APP = "tests.integration.apps.tls:app"
LARGE = 20_000_000
QUIET: dict[str, Any] = {"port": 0, "access_log": False}


def in_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, name="test-client")
    thread.start()
    return thread


def greeting(context: ssl.SSLContext) -> bytes:
    """The octets that a handshake begins with."""
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def serves(server: Supervisor, context: ssl.SSLContext) -> None:
    """Check that each worker still does: one connection after the other, until all have."""
    before = {worker.id: worker.requests for worker in server.workers}

    def all_have_served() -> bool:
        with TLSClient(server.addresses[0], context) as client:
            client.assert_open()
        return all(worker.requests > before[worker.id] for worker in server.workers)

    wait_until(all_have_served, "each worker has served a request")


def tls_scope(client: TLSClient) -> dict[str, Any]:
    """What the application was told of the connection."""
    _, extensions = json.loads(client.get(b"/show").body)
    found: dict[str, Any] = extensions["tls"]
    return found
