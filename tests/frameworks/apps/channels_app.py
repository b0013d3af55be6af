"""A consumer of Django Channels, with no more of Django than that needs."""

from __future__ import annotations

from typing import Any

from django.conf import settings

settings.configure(SECRET_KEY="for tests only", DATABASES={})

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402 (needs the settings)
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402


class Echo(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        await self.accept("chat" if "chat" in self.scope["subprotocols"] else None)

    async def receive(self, text_data: str | None = None, bytes_data: Any = None) -> None:
        if text_data == "close":
            await self.close(4001, "enough")
        else:
            await self.send(text_data, bytes_data)


class Denied(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        await self.close()


app = ProtocolTypeRouter(
    {
        "websocket": URLRouter(
            [path("ws", Echo.as_asgi()), path("ws-denied", Denied.as_asgi())],
        )
    }
)
