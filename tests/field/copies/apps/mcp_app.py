from __future__ import annotations

from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import BaseModel

from . import named

server = MCPServer("shop")


class Sum(BaseModel):
    numbers: list[float]
    total: float


@server.tool()
def add(numbers: list[float]) -> Sum:
    """Add numbers."""
    return Sum(numbers=numbers, total=sum(numbers))


@server.tool()
async def fail(text: str) -> str:
    raise ValueError(text)


@server.resource("shop://wares/{name}")
def ware(name: str) -> str:
    return f"a {name}"


@server.prompt()
def praise(what: str) -> str:
    return f"Praise {what}."


# Workers share no sessions.
app = named(
    server.streamable_http_app(
        stateless_http=True,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
)
