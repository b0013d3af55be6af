"""Which extensions of ASGI's HTTP protocol an application is told of."""

from __future__ import annotations

from typing import Any

from ...serving import respond, serving


def test_advertised() -> None:
    seen: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(scope["extensions"]))
        scope["extensions"]["of my own"] = {}
        await respond(send)

    with serving(app) as server, server.connect() as client:
        for version in (b"1.1", b"1.1", b"1.0"):
            client.get(b"/", version=version)
    assert (
        seen
        == [
            {
                "http.response.trailers": {},
                "http.response.early_hint": {},
                "http.response.pathsend": {},
                "http.response.zerocopysend": {},
            }
        ]
        * 3
    )
