"""Tests of a Starlette application, by a server that runs in this process."""

import logging
import shutil

import pytest

from subinterp_asgi.testing import faults

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


# --- one server for all that does not mind what others have done


def test_page(asgi_server):
    response = asgi_server.get("/")
    assert response.status == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"


def test_what_the_server_was_sent(asgi_server):
    asgi_server.post("/items?from=test", json={"name": "plum", "number": 3})
    (request,) = asgi_server.received()
    assert (request.method, request.path, request.query) == ("POST", "/items", "from=test")
    assert request.json() == {"name": "plum", "number": 3}
    assert request.status == 201


def test_websocket(asgi_server):
    with asgi_server.websocket("/talk") as websocket:
        websocket.send("plums")
        assert websocket.recv() == "no plums today"


@pytest.mark.anyio
async def test_by_httpx(asgi_server):
    async with asgi_server.async_client() as client:
        assert (await client.get("/price/4")).text == "2.50 EUR"


def test_log(asgi_server, caplog):
    """Also what the application does after its response."""
    caplog.set_level(logging.INFO, "shop")
    asgi_server.post("/items", json={"name": "fig", "number": 1})
    asgi_server.flush()
    assert "fig was added" in caplog.messages


@pytest.mark.asgi(allow_errors=[ZeroDivisionError])
def test_error(asgi_server):
    """Without the mark, the error would fail this test, with the traceback of the worker."""
    assert asgi_server.get("/price/0").status == 500
    (error,) = asgi_server.errors()
    assert (error.type, error.path) == ("ZeroDivisionError", "/price/0")
    assert "def price" not in error.traceback
    assert "in price" in error.traceback


# --- a server of its own, with modules that nobody has used


@pytest.mark.parametrize("number", [1, 2])
def test_each_begins_anew(fresh_asgi_server, number):
    fresh_asgi_server.post("/items", json={"name": "apple", "number": number})
    assert fresh_asgi_server.get("/items").json() == {"apple": number}


def test_called(fresh_asgi_server):
    assert fresh_asgi_server.call("shop:put", "apple", 5) == 5
    assert fresh_asgi_server.get("/items").json() == {"apple": 5}


@pytest.mark.asgi(env={"CURRENCY": "CHF"})
def test_environment(fresh_asgi_server):
    assert fresh_asgi_server.get("/price/3").text == "3.33 CHF"
    fresh_asgi_server.fresh(env={"CURRENCY": "USD"})
    assert fresh_asgi_server.get("/price/3").text == "3.33 USD"


def test_a_worker_dies(serve_asgi):
    server = serve_asgi(workers=2, allow_errors=["SystemExit"])
    died = faults.crash_worker(server, wait=True)
    assert server.get("/").status == 200
    assert died.worker_id in (0, 1)


def test_tls(serve_asgi, asgi_ca):
    server = serve_asgi(**asgi_ca.options(client_certificates=True))
    assert server.get("/price/4", context=asgi_ca.context("me")).text == "2.50 EUR"
    with pytest.raises(OSError):  # noqa: PT011  (which one depends on the version of TLS)
        server.get("/price/4", context=asgi_ca.context())


@pytest.mark.skipif(CHROMIUM is None, reason="apt-get install chromium")
def test_in_a_browser(fresh_asgi_server):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(fresh_asgi_server.url)
        page.get_by_role("button", name="Add a pear").click()
        page.get_by_text("1 pear").wait_for()
        browser.close()
    assert [each.path for each in fresh_asgi_server.received() if each.method == "POST"] == [
        "/items"
    ]
