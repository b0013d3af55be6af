"""The application that is served over TLS, and what its clients do."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from subinterp_asgi import Supervisor

from ...support import wait_until
from ..pki import TLSClient
from ..rawclient import request

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


def serial(server: Supervisor, context: ssl.SSLContext) -> int:
    """Serial number of the certificate that a new connection is shown."""
    return serial_at(server.addresses[0], context)


def serial_at(address: Any, context: ssl.SSLContext) -> int:
    """The same, of a server by its address."""
    with TLSClient(address, context) as client:
        client.assert_open()
        return client.serial


def wait_for_all(server: Supervisor, context: ssl.SSLContext, expected: int) -> None:
    """Wait until each worker has served while only the expected certificate was shown."""

    def requests() -> dict[int, int]:
        # (Those of a reload that has failed may still be there.)
        serving = [each for each in server.workers if each.generation == server.generation]
        return {worker.id: worker.requests for worker in serving}

    def only_expected() -> bool:
        before = requests()
        while any(count == before[worker] for worker, count in requests().items()):
            if serial(server, context) != expected:
                return False
        return True

    wait_until(only_expected, f"all workers use {expected:x}")


def serial_in(path: str) -> int:
    """Serial number of the certificate in a file."""
    return x509.load_pem_x509_certificate(Path(path).read_bytes()).serial_number


def ask(address: Any, context: ssl.SSLContext) -> None:
    """Send a request; with TLS 1.3 who connects hears only then that he is refused."""
    with TLSClient(address, context) as client:
        client.try_send(request(b"GET", b"/"))
        client.response()
