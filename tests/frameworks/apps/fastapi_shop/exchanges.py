"""What is asked of the application; answers must not depend on what was asked before this list."""

from __future__ import annotations

from typing import Any

_WARE = {
    "name": " brown bread ",
    "price": "4.50",
    "colour": "green",
    "maker": {"name": "Bäcker", "founded": "1999-12-31", "tags": ["a", "b"]},
    "parts": {"crust": [{"name": "Müller"}]},
    "secret": "yeast",
}
_EXOTIC = {
    "key": "12345678-1234-5678-1234-567812345678",
    "took": "P1DT2H",
    "evens": [2],
    "octets": "grüezi",
    "givenName": "Ada",
    "pair": [2, "two"],
}
_PETS = [{"kind": "dog", "friends": [{"kind": "cat"}, {"kind": "dog"}]}, {"kind": "cat"}]
_BIG = bytes(range(256)) * 4000
_TOKEN = (  # what the form below gets: nothing of EdDSA is left to chance
    "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9"
    ".eyJzdWIiOiJhZGEiLCJzY29wZSI6InJlYWQiLCJleHAiOjQwMDAwMDAwMDB9"
    ".9JZ1wV62xmRRjnhtahSajZD3JmNmlIJde5_9jB_RwGq8Ke1QCTz6KHF-vCo38WvDuDuDIr02Ejf3TWa47xdOCg"
)
_TOKEN_FORM = {"username": "ada", "password": "open", "scope": "read"}


def exchanges() -> list[tuple[str, str, dict[str, Any]]]:
    """Return method, target and arguments for ``httpx`` of each request."""
    asked: list[tuple[str, str, dict[str, Any]]] = [
        # models
        ("POST", "/wares/1", {"json": _WARE}),
        ("POST", "/wares/2", {"json": {"name": "butter", "price": 1}}),
        ("GET", "/wares/1", {}),
        ("GET", "/wares/2", {}),
        ("GET", "/wares/1/short", {}),
        ("GET", "/wares/9", {}),
        ("GET", "/wares?limit=1&tag=a&tag=b", {}),
        ("GET", "/wares?limit=51", {}),
        ("DELETE", "/wares", {}),
        ("GET", "/wares/1", {}),
        ("POST", "/span", {"json": {"begin": "2026-01-01T23:30:00-02:00", "end": 1_800_000_000}}),
        ("POST", "/pets", {"json": _PETS}),
        ("POST", "/pet", {"json": {"pet": {"kind": "cat"}, "loud": "yes"}}),
        ("POST", "/lengths", {"json": [1, 2.5, "3"]}),
        ("PUT", "/exotic", {"json": _EXOTIC}),
        ("GET", "/filter?limit=3&order=price", {}),
        ("GET", "/orjson", {}),
        # what is wrong with them
        ("POST", "/wares/0", {"json": {"name": "?", "price": "-1.234", "maker": {"name": "x"}}}),
        ("POST", "/wares/x", {"content": b"{", "headers": {"content-type": "application/json"}}),
        ("POST", "/wares/1", {"json": {"name": "curse", "price": 1, "colour": "blue"}}),
        ("POST", "/span", {"json": {"begin": "2026-01-02", "end": "2026-01-01"}}),
        ("POST", "/pets", {"json": [{"kind": "cow"}, {"kind": "dog", "friends": [{"kind": 1}]}]}),
        ("POST", "/pet", {"json": {}}),
        ("POST", "/lengths", {"json": ["long"]}),
        ("PUT", "/exotic", {"json": {**_EXOTIC, "key": "1", "evens": [1], "more": 1, "pair": [1]}}),
        ("GET", "/filter?what=1", {}),
        ("GET", "/wrong-answer", {}),
        # fields, cookies, methods
        (
            "GET",
            "/headers",
            {"headers": [("x-token", "a"), ("x-token", "b"), ("cookie", "flavour=oat")]},
        ),
        ("GET", "/headers", {}),
        ("GET", "/cookies", {}),
        *((method, "/any?q=k%C3%A4se", {}) for method in ("PATCH", "OPTIONS", "HEAD", "GET")),
        ("DELETE", "/span", {}),
        ("GET", "/nowhere", {}),
        ("GET", "/any/", {}),
        (
            "OPTIONS",
            "/any",
            {"headers": {"origin": "https://example.org", "access-control-request-method": "PUT"}},
        ),
        ("GET", "/any", {"headers": {"origin": "https://example.org"}}),
        # dependencies
        ("GET", "/depends/order", {}),
        ("GET", "/depends?skip=2", {}),
        ("GET", "/depends/order", {}),
        ("GET", "/depends?fail=true", {}),
        ("GET", "/depends/order", {}),
        # accounts
        ("POST", "/accounts/reset", {}),
        ("POST", "/accounts/", {"json": {"name": "ada", "age": 36}}),
        ("POST", "/accounts/", {"json": {"name": "bob", "age": 12}}),
        ("POST", "/accounts/", {"json": {"name": "ada"}}),
        ("POST", "/accounts/", {"json": {"name": "n" * 21, "age": -1}}),
        ("GET", "/accounts/?older=18", {}),
        ("DELETE", "/accounts/1", {}),
        ("DELETE", "/accounts/1", {}),
        ("GET", "/accounts/", {}),
        ("POST", "/accounts/token", {"data": _TOKEN_FORM}),
        ("POST", "/accounts/token", {"data": {**_TOKEN_FORM, "password": "shut"}}),
        ("POST", "/accounts/token", {"data": {}}),
        ("GET", "/accounts/me", {"headers": {"authorization": f"Bearer {_TOKEN}"}}),
        ("GET", "/accounts/me", {"headers": {"authorization": f"Bearer {_TOKEN}x"}}),
        ("GET", "/accounts/me", {}),
        ("PUT", "/accounts/me", {"headers": {"authorization": f"Bearer {_TOKEN}"}}),
        ("GET", "/accounts/basic", {"auth": ("ada", "pässword")}),
        ("GET", "/accounts/basic", {}),
        ("GET", "/accounts/key", {"headers": {"x-key": "k"}}),
        ("GET", "/accounts/key", {}),
        # forms and files
        ("POST", "/form", {"data": {"title": "a & b", "numbers": ["1", "2"]}}),
        ("POST", "/form", {"data": {"title": "a", "numbers": ["one"]}}),
        ("POST", "/login", {"data": {"name": "ada", "password": "x", "remember": "on"}}),
        ("POST", "/login", {"data": {"name": "ada"}}),
        ("POST", "/file", {"files": {"data": ("a.bin", _BIG)}, "data": {"note": "ünïcode"}}),
        (
            "POST",
            "/files",
            {"files": [("files", ("a.txt", b"a")), ("files", ("b.png", _BIG, "image/png"))]},
        ),
        ("POST", "/files", {}),
        ("POST", "/raw", {"content": _BIG}),
        # the other way
        ("GET", "/stream", {}),
        ("GET", "/stream", {"headers": {"accept-encoding": "identity"}}),
        ("GET", "/stream/sync", {}),
        ("GET", "/download", {}),
        ("GET", "/download", {"headers": {"range": "bytes=2-9"}}),
        ("GET", "/page", {}),
        ("GET", "/away", {}),
        ("POST", "/background/a", {}),
        ("GET", "/background/a", {}),
        # the rest
        ("GET", "/settings", {}),
        ("GET", "/state", {}),
        ("GET", "/stock/bread", {}),
        ("GET", "/error", {}),
        ("GET", "/sync", {}),
        ("GET", "/inside/hello/ada", {}),
        ("GET", "/inside/openapi.json", {}),
        ("GET", "/static/style.css", {}),
        ("GET", "/static/none.css", {}),
        ("GET", "/openapi.json", {}),
        ("GET", "/docs", {}),
        ("GET", "/redoc", {}),
    ]
    return asked
