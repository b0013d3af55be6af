"""Which requests are answered without the application, and how."""

from __future__ import annotations

import pytest

from subinterp_asgi.http1 import RequestParser
from subinterp_asgi.http1.parser import Request
from subinterp_asgi.worker.asgi.endpoints import Endpoints, Reply

FOUND: Reply = (200, [], b"found")
LOST: Reply = (404, [], b"lost")


def request(target: str, method: str = "GET") -> Request:
    parser = RequestParser()
    parser.feed(f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    parsed = parser.next_request()
    assert parsed is not None
    return parsed


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "target", ["/page", "/page?full=1", "/%70age", "http://a/page", "http://b:80/page?"]
)
def test_pages_are_found_by_path(target: str, method: str) -> None:
    assert (
        Endpoints({"/page": lambda: FOUND}, otherwise=LOST).find(request(target, method)) is FOUND
    )


@pytest.mark.parametrize("target", ["/", "/page/", "/Page", "//page", "/page%2F", "/pag", "/page;"])
@pytest.mark.parametrize("otherwise", [None, LOST])
def test_other_paths_are_not(target: str, otherwise: Reply | None) -> None:
    assert Endpoints({"/page": lambda: FOUND}, otherwise).find(request(target)) is otherwise


@pytest.mark.parametrize("method", ["POST", "DELETE", "PROPFIND", "get"])
def test_pages_can_only_be_read(method: str) -> None:
    page = Endpoints({"/page": lambda: FOUND}, otherwise=None).find(request("/page", method))
    assert page is not None
    assert page[0] == 405
    assert (b"allow", b"GET, HEAD, OPTIONS") in page[1]


def test_options_is_answered_alike() -> None:
    """As load balancers probe with it, who look at the status."""
    page = Endpoints({"/page": lambda: FOUND}, otherwise=None).find(request("/page", "OPTIONS"))
    assert page == (200, [(b"allow", b"GET, HEAD, OPTIONS")], b"found")


def test_each_page_is_made_anew() -> None:
    count = iter(range(9))
    pages = Endpoints({"/n": lambda: (200, [], b"%d" % next(count))}, otherwise=None)
    found = [pages.find(request("/n")) for _ in range(2)]
    assert [page and page[2] for page in found] == [b"0", b"1"]
