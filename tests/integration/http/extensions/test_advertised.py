"""Which extensions of ASGI's HTTP protocol an application is told of."""

from __future__ import annotations

from typing import Any

import pytest

from ...serving import respond, serving

ALWAYS = ["http.response.trailers", "http.response.pathsend", "http.response.zerocopysend"]


@pytest.mark.parametrize(
    ("options", "names"),
    [({}, ALWAYS), ({"early_hints": True}, [*ALWAYS, "http.response.early_hint"])],
)
def test_advertised(options: dict[str, Any], names: list[str]) -> None:
    seen: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(scope["extensions"]))
        scope["extensions"]["of my own"] = {}
        await respond(send)

    with serving(app, **options) as server, server.connect() as client:
        for version in (b"1.1", b"1.1", b"1.0"):
            client.get(b"/", version=version)
    assert seen == [{name: {} for name in names}] * 3
