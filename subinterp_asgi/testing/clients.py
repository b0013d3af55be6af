"""How a test speaks to its server: by the standard library, or what libraries there are."""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from ..errors import MissingLibraryError


@dataclass(frozen=True, slots=True)
class Response:
    """A response, read to its end.

    Attributes:
        headers: A ``http.client.HTTPMessage``: a mapping that takes names in any case.
    """

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        """The body, in the charset that the response names, or UTF-8."""
        return self.body.decode(self.headers.get_content_charset() or "utf-8", "replace")

    def json(self) -> Any:
        """The body, as JSON."""
        return json.loads(self.body)


def fetch(
    url: str,
    method: str,
    path: str,
    *,
    headers: dict[str, str] | None,
    body: bytes | str | None,
    json_body: Any,
    timeout: float,
    context: ssl.SSLContext | None,
) -> Response:
    """Send one request on a connection of its own."""
    headers = {"connection": "close", **(headers or {})}
    if json_body is not None:
        body = json.dumps(json_body)
        headers.setdefault("content-type", "application/json")
    if isinstance(body, str):
        body = body.encode()
    where = urlsplit(url)
    assert where.hostname is not None
    connection: http.client.HTTPConnection
    if where.scheme == "https":
        connection = http.client.HTTPSConnection(
            where.hostname, where.port, timeout=timeout, context=context
        )
    else:
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=timeout)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return Response(response.status, response.msg, response.read())
    finally:
        connection.close()


def library(name: str, module: str, what: str) -> Any:
    """Import a module of a library that is optional.

    ``MissingLibraryError``: it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] != module.partition(".")[0]:
            raise
        raise MissingLibraryError(
            f"{what} needs the library {name}, which is not installed: pip install {name}",
            name=exc.name,
        ) from None
