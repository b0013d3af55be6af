"""The framework of ``examples/mini``, as a user of its command meets it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from examples.mini import until_drain

from ...support import ROOT, get

SHOP = "examples.shop:app"


@contextlib.contextmanager
def mini(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the framework's command while the block lasts."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "examples.mini", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_comes(number: signal.Signals) -> None:
    with mini(SHOP, "--port", "0") as process:
        words = said(process).split()
        assert words[:3] == ["mini:", SHOP, "on"]
        assert words[4:] == ["with", "2", "workers"]
        assert get(words[3], "/prices").text == '{"apple": 3, "pear": 4, "currency": "EUR"}'
        process.send_signal(number)
        assert process.wait(60) == 0


def test_streams_under_other_servers() -> None:
    """They end when they do."""

    async def streamed() -> list[int]:
        async def pieces() -> AsyncIterator[int]:
            for number in range(3):
                yield number

        return [piece async for piece in until_drain(pieces())]

    assert asyncio.run(streamed()) == [0, 1, 2]


def test_what_can_not_be_served() -> None:
    with mini("examples.shop:missing") as process:
        assert "has no attribute 'missing'" in said(process) + said(process)
        assert process.wait(60) == 1
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        with mini(SHOP, "--port", port) as process:
            assert said(process).startswith(f"mini: cannot listen on 127.0.0.1:{port}: ")
            assert process.wait(60) == 1
    with mini(SHOP, "--workers", "0") as process:
        assert said(process).startswith("mini: workers: ")
        assert process.wait(60) == 2
