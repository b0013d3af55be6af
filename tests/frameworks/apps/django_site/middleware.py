"""One middleware of each kind; a stack that mixes them makes Django switch threads on the way."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.decorators import async_only_middleware, sync_only_middleware

from .. import common


@sync_only_middleware
def sync_only(get_response: Any) -> Any:
    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["X-Sync-Middleware-On-Loop"] = str(common.on_loop())
        return response

    return middleware


@async_only_middleware
def async_only(get_response: Any) -> Any:
    async def middleware(request: HttpRequest) -> HttpResponse:
        response = await get_response(request)
        response["X-Async-Middleware-On-Loop"] = str(common.on_loop())
        return response

    return middleware
