"""A few seconds of the codec's fuzzing, and that it would find something."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import run_script

RUN = """
import sys
from subinterp_asgi.websocket import deflate, handshake, parser
from tests.fuzz import websocket

def replace(owner, name, make):
    setattr(owner, name, make(getattr(owner, name)))

{defect}
sys.exit(websocket.main())
"""


def run(directory: Path, *arguments: str, defect: str = "") -> tuple[int, str]:
    result = run_script(directory, RUN.format(defect=defect), *arguments, timeout=100)
    return result.returncode, result.stdout + result.stderr


def test_a_few_seconds(tmp_path: Path) -> None:
    code, output = run(tmp_path, "--seconds", "3", "--seed", "6455")
    assert code == 0, output
    assert "nothing found" in output


DEFECTS = {
    "an exception of another kind": "replace(parser, 'parse_close', lambda old: 1)",
    "a key that is not rotated": (
        "replace(parser.MessageParser, '_read_payload', lambda old: lambda self: "
        "(setattr(self, '_key', self._key[:1] * 4), old(self))[1])"
    ),
    "a limit that is forgotten": (
        "replace(deflate.Inflater, 'inflate', lambda old: lambda self, data, limit, *, final=False:"
        " old(self, data, 1 << 30, final=final))"
    ),
    "a character that is cut": (
        "replace(parser, 'utf_8_decode', lambda old: lambda data, errors, final: "
        "(data.decode('utf-8', 'ignore'), len(data)))"
    ),
    "a response that is malformed": (
        "replace(handshake, 'accept_value', lambda old: lambda key: b'a' + bytes((13, 10)))"
    ),
}


@pytest.mark.once
@pytest.mark.parametrize("defect", DEFECTS.values(), ids=DEFECTS)
def test_defects_are_found(defect: str, tmp_path: Path) -> None:
    code, output = run(tmp_path, "--seconds", "30", "--seed", "1", defect=defect)
    assert code == 1, output
    assert "found by: --seed 1" in output
