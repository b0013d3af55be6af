"""What having the codec costs an interpreter, and that it works in one of its own."""

from __future__ import annotations

from pathlib import Path

from tests.support import run_script


def run(directory: Path, script: str) -> str:
    """Run a script as a process; return what it printed."""
    done = run_script(directory, script)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


COSTLY = ["typing", "typing_extensions", "zlib", "base64", "hashlib", "_hashlib", "random"]


def test_what_is_not_needed_is_not_imported(tmp_path: Path) -> None:
    """Neither by the import, nor by a connection that does not compress."""
    script = f"""
        import sys
        before = set(sys.modules)
        import subinterp_asgi.websocket as codec
        handshake = codec.read_handshake("GET", "1.1", [
            (b"upgrade", b"websocket"), (b"connection", b"upgrade"),
            (b"sec-websocket-version", b"13"), (b"sec-websocket-key", b"A" * 22 + b"=="),
        ])
        assert codec.negotiate_deflate(handshake.extensions) is None
        handshake.response()
        parser, writer = codec.MessageParser(), codec.MessageWriter()
        parser.feed(b"\\x81\\x80\\0\\0\\0\\0")
        writer.message(parser.next_event())
        print(*sorted((set(sys.modules) - before) & set({COSTLY!r})))
    """
    assert run(tmp_path, script) == ""


IN_AN_INTERPRETER = """
import sys
from subinterp_asgi.control.interpreters import Interpreter

CODE = '''
import zlib
from subinterp_asgi.websocket import (
    MessageParser, MessageWriter, negotiate_deflate, read_handshake,
)

handshake = read_handshake("GET", "1.1", [
    (b"upgrade", b"websocket"), (b"connection", b"upgrade"), (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    (b"sec-websocket-extensions", b"permessage-deflate"),
])
deflate = negotiate_deflate(handshake.extensions)
if b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" not in handshake.response(deflate=deflate):
    raise ValueError("wrong accept value")
parser = MessageParser(inflater=deflate.inflater())
parser.feed(bytes.fromhex("c18700000000f248cdc9c90700"))
if parser.next_event() != "Hello":
    raise ValueError("not inflated")
(frame,) = MessageWriter(deflate.deflater()).message("words " * 100)
plain = zlib.decompressobj(-15).decompress(frame[2:] + bytes.fromhex("0000ffff"))
if plain != b"words " * 100:
    raise ValueError("not deflated")
'''

workers = [Interpreter(), Interpreter()]
for worker in workers:
    worker.adopt_path(tuple(sys.path))
    worker.execute(CODE)
for worker in workers:
    worker.close()
print("done")
"""


def test_the_codec_works_in_interpreters(tmp_path: Path) -> None:
    """Each C module that it needs loads in interpreters with a GIL of their own."""
    assert run(tmp_path, IN_AN_INTERPRETER) == "done"
