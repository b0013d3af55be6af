"""A few seconds of ``make fuzz``, and that it would find something."""

from __future__ import annotations

import subprocess
from random import Random

import pytest

from tests.support import run_module

from .corpus import SEEDS, cut
from .responses import Malformed, check_responses


def run(*arguments: str, source: str = "") -> subprocess.CompletedProcess[str]:
    """Run the fuzzer, after some other code if there is any, as a process that may not hang."""
    return run_module("tests.fuzz", *arguments, source=source, timeout=100.0)


def test_a_few_seconds() -> None:
    result = run("--seconds", "4", "--seed", "9112")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "nothing found" in result.stdout


BREAK_AND_RUN = """
import sys
from subinterp_asgi.worker.asgi.exchange import HTTPExchange
from subinterp_asgi.worker.asgi.http import HTTPSession
from subinterp_asgi.worker.asgi.websocket import WebSocketSession
from subinterp_asgi.extensions import elf
from subinterp_asgi.http1 import heads
from subinterp_asgi.http1.parser import RequestParser
from tests.fuzz import serving
from tests.fuzz.__main__ import main

serving.CASE_TIME = 3.0

def replace(owner, name, make):
    setattr(owner, name, make(getattr(owner, name)))

replace({defect})
sys.exit(main())
"""
DEFECTS = {
    "an exception of another kind": ("parsing", "heads, 'decode_path', lambda old: 1"),
    "a result that depends on the cuts": (
        "parsing",
        "RequestParser, 'feed', lambda old: lambda self, data: "
        "old(self, data.replace(b'hello', b'HELLO'))",
    ),
    "an error of another kind": ("files", "elf, 'MOST_SEGMENTS', lambda old: None"),
    "a connection that is forgotten": (
        "serving",
        "HTTPExchange, 'fail', lambda old: lambda self: None",
    ),
    "a response too many": (
        "serving",
        "HTTPSession, 'exchange_ended', lambda old: lambda self, exchange: "
        "(self._connection.write(b'x'), old(self, exchange))",
    ),
    "a message that is lost": (
        "sockets",
        "WebSocketSession, '_disconnected', lambda old: lambda self, *end: "
        "(self._queue.clear(), old(self, *end))",
    ),
    "a close code that is forgotten": (
        "sockets",
        "WebSocketSession, '_disconnected', lambda old: lambda self, *end: old(self, 1000)",
    ),
    "something after the close frame": (
        "sockets",
        "WebSocketSession, '_close', lambda old: lambda self, *end: "
        "(old(self, *end), self._connection.write(bytes((0x8a, 0))))",
    ),
}


@pytest.mark.once
@pytest.mark.parametrize(("target", "defect"), DEFECTS.values(), ids=DEFECTS)
def test_defects_are_found(target: str, defect: str) -> None:
    result = run(
        "--seconds",
        "20",
        "--seed",
        "1",
        "--target",
        target,
        source=BREAK_AND_RUN.format(defect=defect),
    )
    assert result.returncode == 1, result.stdout + result.stderr
    assert "found by: --seed 1" in result.stdout


@pytest.mark.parametrize(
    "data",
    [
        b"x\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nno length",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nmore\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\nHTTP/1.1 200 OK\r\n",
    ],
)
def test_malformed_responses_are_known(data: bytes) -> None:
    with pytest.raises(Malformed):
        check_responses(data, iter(["GET"]))


def test_responses_are_counted() -> None:
    whole = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx"
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    )
    assert check_responses(whole, iter(["GET", "HEAD", "GET"])) == 3
    assert check_responses(whole[:-1], iter(["GET", "HEAD", "GET"])) == 2


def test_cuts_lose_nothing() -> None:
    for number in range(50):
        for seed in SEEDS:
            assert b"".join(cut(seed, Random(number))) == seed
