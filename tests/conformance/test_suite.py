"""The conformance suite's own soundness: its reader, its outcomes, its catalogue.

What it says of servers is worth only as much as this: canned servers, right and wrong, must
get the verdict they deserve.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conformance import codec, report, runner
from conformance.cases import catalogue, exchange
from conformance.cases.model import (
    OK,
    Answers,
    Case,
    Dropped,
    End,
    HalfClose,
    Level,
    Outcome,
    ProbeCase,
    Send,
    Step,
    Waits,
    WireCase,
    refused,
    served,
)
from conformance.client.errors import Mismatch, Violation
from conformance.client.lab import Lab, Target
from conformance.client.messages import CANARY, request
from conformance.client.responses import framing_of, parse_chunk_line, parse_fields, parse_head

# -- the catalogue -----------------------------------------------------------------------


def test_catalogue_is_complete_and_consistent() -> None:
    cases = catalogue.all_cases()
    assert len(cases) >= 800
    for case in cases:
        assert case.topic
        assert case.requirement.endswith((".", ".)")), case.id
        assert case.section.startswith(("RFC ", "ASGI")), case.id
        assert isinstance(case, (WireCase, ProbeCase))
        if isinstance(case, WireCase):
            assert case.allowed, case.id


def test_select_by_glob_and_level() -> None:
    cases = catalogue.all_cases()
    picked = catalogue.select(cases, ["host.*"], [Level.MAY])
    assert {case.id for case in picked} == {"host.empty", "host.port-out-of-range"}


# -- the codec ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [b"\x00\xff", "é", (1, [b"a", None]), {"k": (b"v", {"n": 1.5})}, {b"bytes": "key"}, True],
)
def test_codec_keeps_types(value: object) -> None:
    assert codec.loads(codec.dumps(value)) == value


# -- the reader --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200",
        b"HTTP/1.1  200 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/1.1 600 Odd",
        b"http/1.1 200 OK",
        b"HTTP/1.1 200 OK\r\nName : value",
        b"HTTP/1.1 200 OK\r\nName: value\r\n folded",
        b"HTTP/1.1 200 OK\r\nName: a\rb",
        b"HTTP/1.1 200 OK\r\nName: a\nb",
        b"HTTP/1.1 200 OK\r\n: empty",
        b"HTTP/1.1 200 OK\r\nNo colon",
        b"HTTP/1.1 200 O\x00K",
    ],
)
def test_reader_refuses_sloppy_heads(head: bytes) -> None:
    with pytest.raises(Violation):
        parse_head(head)


@pytest.mark.parametrize(
    "fields",
    [
        [b"Content-Length: 5", b"Content-Length: 5"],
        [b"Content-Length: 5, 5"],
        [b"Content-Length: +5"],
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: gzip, chunked"],
    ],
)
def test_reader_refuses_doubtful_framing(fields: list[bytes]) -> None:
    head = parse_head(b"\r\n".join([b"HTTP/1.1 200 OK", *fields]))
    with pytest.raises(Violation):
        framing_of(head, "GET")


def test_reader_accepts_what_is_legal() -> None:
    head = parse_head(b"HTTP/1.1 200 \r\nEmpty:\r\nTEXT:\t\xe9 b \r\n".removesuffix(b"\r\n"))
    assert head.status == 200
    assert head.fields == ((b"empty", b""), (b"text", b"\xe9 b"))
    assert parse_fields([]) == ()
    assert parse_chunk_line(b'1A ; a = "b" ; c') == 26
    with pytest.raises(Violation):
        parse_chunk_line(b"1A ;")


# -- outcomes against canned servers -----------------------------------------------------

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_BAD = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"


class Canned:
    """A server that plays answers per head received, then does as told.

    The numbered request that proves an open connection gets the answer it waits for.
    """

    def __init__(self, *answers: bytes, close: bool = False) -> None:
        self._answers = list(answers)
        self._close = close

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Target]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield Target("127.0.0.1", server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers = iter(self._answers)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._alive(head) or next(answers, b""))
                await writer.drain()
                if self._close and not head.startswith(b"GET /probe/alive"):
                    break
        with contextlib.suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

    @staticmethod
    def _alive(head: bytes) -> bytes | None:
        if not head.startswith(b"GET /probe/alive?"):
            return None
        nonce = head.split(b"?")[1].split(b" ")[0]
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(nonce), nonce)


def judge(
    server: Canned, allowed: Outcome | list[Outcome], *steps: Step, methods: tuple[str, ...] = ()
) -> str:
    """Play a case against the canned server; return what was observed."""
    outcomes = tuple(allowed) if isinstance(allowed, list) else (allowed,)
    case = WireCase(
        id="t.t",
        section="",
        level=Level.MUST,
        requirement="",
        steps=steps or (Send(request()),),
        allowed=outcomes,
        methods=methods,
    )

    async def play() -> str:
        async with server.running() as target:
            return await exchange.play(case, Lab(target, timeout=0.5))

    return asyncio.run(play())


def test_served_and_open() -> None:
    assert judge(Canned(_OK), served()) == "200, then open"


def test_served_but_closed() -> None:
    with pytest.raises(Mismatch, match="has to be open"):
        judge(Canned(_OK, close=True), served())


def test_refused_and_closed() -> None:
    assert judge(Canned(_BAD, close=True), refused()) == "400, then closed"


def test_refused_but_left_open() -> None:
    with pytest.raises(Mismatch, match="has to be closed"):
        judge(Canned(_BAD), refused())


def test_open_or_closed_is_found_out() -> None:
    either: list[Outcome] = [served(), Answers((OK,), End.CLOSED)]
    assert judge(Canned(_OK), either) == "200, then open"
    assert judge(Canned(_OK, close=True), either) == "200, then closed"


def test_wrong_status() -> None:
    with pytest.raises(Mismatch, match="200 is not allowed here"):
        judge(Canned(_OK), refused())


def test_answered_canary_is_found() -> None:
    with pytest.raises(Mismatch, match="2 responses instead of 1"):
        judge(Canned(_OK, _OK), Answers((OK,), End.CLOSED), Send(request() + CANARY))


def test_surplus_response_is_found_where_open_is_allowed() -> None:
    with pytest.raises(Mismatch, match="2 responses instead of 1"):
        judge(Canned(_OK + _OK), served())


def test_surplus_octets_are_found() -> None:
    with pytest.raises(Violation, match="not a response"):
        judge(Canned(_OK + b"surplus"), served())


def test_content_in_answer_to_head_is_found() -> None:
    with pytest.raises(Violation, match="not a response"):
        judge(Canned(_OK), served(), Send(request(method=b"HEAD")), methods=("HEAD",))


def test_announced_close_must_happen() -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(Mismatch, match="left open"):
        judge(Canned(closing), served(end=End.ANY))


def test_dropped() -> None:
    assert judge(Canned(close=True), [Dropped(), refused()]) == "no response, then closed"
    with pytest.raises(Mismatch):
        judge(Canned(close=True), refused())


def test_waits() -> None:
    unfinished = Send(b"GET / HTTP/1.1\r\n")
    assert judge(Canned(), Waits(), unfinished).startswith("no response")
    with pytest.raises(Mismatch, match="it did not wait"):
        judge(Canned(_OK), Waits())


def test_half_close() -> None:
    assert judge(Canned(_OK), Answers((OK,)), Send(request()), HalfClose()).startswith("200")


def test_truncated_content_is_no_success() -> None:
    with pytest.raises(Mismatch, match="missing"):
        judge(Canned(_OK[:-1], close=True), served(end=End.ANY))


# -- results -----------------------------------------------------------------------------


@pytest.fixture
def results() -> list[runner.Result]:
    case = Case(id="topic.name", section="RFC 9112 §3", level=Level.SHOULD, requirement="So.")
    return [
        runner.Result(case, runner.Verdict.PASS, "200, then open", 0.1),
        runner.Result(case, runner.Verdict.FAIL, "it did not", 0.2),
    ]


def test_exit_code_follows_levels(results: list[runner.Result]) -> None:
    assert runner.failed(results)
    assert not runner.failed(results, must_only=True)
    assert not runner.failed(results[:1])


def test_reports(results: list[runner.Result], tmp_path: Path) -> None:
    assert "1/2" in report.table(results)
    assert "FAIL topic.name  [SHOULD, RFC 9112 §3]" in report.failures(results)
    assert report.verdict_line(results, 1.0).endswith("1 pass; 1 fail; broken: 1 SHOULD")
    report.write_json(tmp_path / "out.json", results, "http://x", "name")
    document = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [case["verdict"] for case in document["cases"]] == ["pass", "fail"]


def test_target_urls() -> None:
    assert Target.from_url("http://[::1]:81") == Target("::1", 81)
    assert Target.from_url("https://localhost").tls is not None
    with pytest.raises(ValueError, match="not an http"):
        Target.from_url("ftp://x")
