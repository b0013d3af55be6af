"""How TLS connections end: their own end, and that of the server."""

from __future__ import annotations

import contextlib
import ssl
import threading
from typing import Any

import pytest

from subinterp_asgi import Supervisor

from ...support import nothing_left, open_descriptors, wait_until
from ..apps.tls import pattern
from ..pki import Pki, TLSClient
from ..rawclient import TIMEOUT, RawClient, request
from ..serving import respond, serving
from .clients import APP, greeting, in_thread, serves

# --- how it ends


def test_close_notify_after_the_last_response(client: TLSClient) -> None:
    response = client.get(b"/", b"Connection: close")
    assert response.body == b"hello"
    client.assert_closed()  # a ragged end would raise


def test_close_notify_tells_the_end_of_a_body_without_length(client: TLSClient) -> None:
    response = client.get(b"/pieces/300000/1000", version=b"1.0")
    assert response.get(b"content-length") is None
    assert response.body == pattern(0, 300_000)


def test_close_notify_after_a_refusal(client: TLSClient) -> None:
    client.send(b"GET / HTTP/1.1\r\n\r\n")
    assert client.response().status == 400
    client.assert_closed()


def test_close_notify_on_an_idle_connection(pki: Pki, trusting: ssl.SSLContext) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"hello")

    options: dict[str, Any] = {"ssl_certfile": pki.server, "timeout_keep_alive": 0.1}
    with (
        serving(app, **options) as server,
        TLSClient(server.address, trusting) as client,
    ):
        client.assert_open()
        client.assert_closed()


def test_close_notify_when_the_server_stops(pki: Pki, trusting: ssl.SSLContext) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Supervisor(APP, workers=2, port=0, ssl_certfile=pki.server))
        client = stack.enter_context(TLSClient(server.addresses[0], trusting))
        client.assert_open()
        stopping = in_thread(server.stop)
        client.assert_closed()
        stopping.join(TIMEOUT)


def test_an_aborted_response_has_no_close_notify(pki: Pki, trusting: ssl.SSLContext) -> None:
    """A client of a body without length must see that it was cut off."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        raise RuntimeError("on purpose")

    with (
        serving(app, ssl_certfile=pki.server) as server,
        TLSClient(server.address, trusting) as client,
    ):
        client.send(request(b"GET", b"/", version=b"1.0"))
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
            client.response()


def test_a_clients_close_notify_is_a_disconnect(pki: Pki, trusting: ssl.SSLContext) -> None:
    heard = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        heard.set()

    with (
        serving(app, ssl_certfile=pki.server) as server,
        TLSClient(server.address, trusting) as client,
    ):
        client.send(request(b"GET", b"/"))
        client.sock.settimeout(0)
        with contextlib.suppress(ssl.SSLWantReadError):  # nor does it wait for the server's
            client.tls.unwrap()
        assert heard.wait(TIMEOUT)


# --- the end of the server


def test_stop_does_not_wait_for_handshakes(pki: Pki, trusting: ssl.SSLContext) -> None:
    options: dict[str, Any] = {
        "ssl_certfile": pki.server,
        "timeout_tls_handshake": 600.0,
        "timeout_graceful_shutdown": 600.0,
        "timeout_keep_alive": 600.0,
    }
    with (
        nothing_left(),
        contextlib.ExitStack() as stack,
        Supervisor(APP, workers=2, port=0, **options) as server,
    ):
        pending = [stack.enter_context(RawClient(server.addresses[0])) for _ in range(20)]
        for client in pending[10:]:
            client.send(greeting(trusting)[:100])
        stopping = in_thread(server.stop)
        stopping.join(TIMEOUT)
        assert not stopping.is_alive()
        for client in pending:
            client.wait_for_end()
        stack.close()


def test_no_descriptor_is_lost(pki: Pki, trusting: ssl.SSLContext) -> None:
    with Supervisor(APP, workers=2, port=0, ssl_certfile=pki.server) as server:
        serves(server, trusting)  # whatever is opened once is open now
        address = server.addresses[0]

        def none_but_ours() -> bool:
            return len(open_descriptors()) <= before

        before = len(open_descriptors())
        for _ in range(10):
            with TLSClient(address, trusting) as client:
                client.get(b"/pieces/200000/100000")
            with RawClient(address) as client:
                client.get(b"/")
            with RawClient(address) as client:
                client.send(greeting(trusting)[:50])
            with pytest.raises(ssl.SSLCertVerificationError):
                TLSClient(address, ssl.create_default_context())
            client = TLSClient(address, trusting)
            client.send(request(b"GET", b"/whole/5000000"))
            client.reset()
        wait_until(none_but_ours, "all descriptors are closed")
        serves(server, trusting)
