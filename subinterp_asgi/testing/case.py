"""For ``unittest``: a server for the tests of a class, as Django's users know it."""

from __future__ import annotations

import unittest
from typing import Any, ClassVar

from ..types import ASGIApp
from .server import LiveServer


class LiveServerTestCase(unittest.TestCase):
    """Serves ``app`` while the tests of a class run; fails a test whose requests made it raise.

    Attributes:
        app: The application, as ``LiveServer`` takes it.
        server_options: Its other arguments.
        allow_errors: Exceptions that are no failure; a test may set it for itself.
        live_server: The server.
        live_server_url: Its URL.
    """

    app: ClassVar[str | ASGIApp]
    server_options: ClassVar[dict[str, Any]] = {}
    allow_errors: bool | tuple[str | type[BaseException], ...] = ()
    live_server: ClassVar[LiveServer]
    live_server_url: ClassVar[str]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        app = cls.__dict__.get("app", cls.app)  # a function is not to become a method
        cls.live_server = LiveServer(app, **cls.server_options)
        cls.live_server.start()
        cls.addClassCleanup(cls.live_server.stop)
        cls.live_server_url = cls.live_server.url

    def setUp(self) -> None:
        super().setUp()
        self.live_server.reset()
        self.addCleanup(self._check)

    def _check(self) -> None:
        self.live_server.check(self.allow_errors)
