"""Flask, a WSGI framework, through a2wsgi.

Every request runs in a thread of a2wsgi's own executor, which nobody shuts down. a2wsgi answers the
lifespan itself, and WSGI knows no bodies of unknown length.
"""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest

from subinterp_asgi import Supervisor

from ..support import nothing_left
from . import contract

pytest.importorskip("flask")
pytest.importorskip("a2wsgi")

APP = "tests.frameworks.apps.flask_app:app"


class TestFlask(contract.Requests, contract.OwnInterpreters):
    pass


def test_stop_ends_a_download_that_nobody_reads(environment: pytest.MonkeyPatch) -> None:
    """a2wsgi does not see that its client has gone: its thread waits for ever to send more.

    No server can spare it that, but the thread must not outlive the worker.
    """
    journal = Path(os.environ["TEST_JOURNAL"])
    ended = journal.read_text().count("download-ended")
    with nothing_left(), Supervisor(APP, port=0, access_log=False) as server:
        with httpx.stream(
            "GET", f"{server.url}/download", params={"chunks": 1_000_000}, trust_env=False
        ) as answer:
            assert next(answer.iter_raw())
        server.stop(timeout=0)
    assert journal.read_text().count("download-ended") == ended + 1
