"""The benchmarks' own parts: options, plans, command lines, ratios, the WebSocket client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from benchmarks import app_floor, apps, cli, measure, report, rounds, servers, websocket_client
from benchmarks.distribution import Spread
from benchmarks.distribution import table as spread_table
from benchmarks.load import BROWSER_HEADERS, HTTPLoad
from benchmarks.rounds import Row, Sample
from benchmarks.servers import BARE, BEFORE, OURS, PEERS, Files, Setup
from benchmarks.workloads import IDLE, select, workloads

FILES = Files(Path("/certificate.pem"), Path("/key.pem"), Path("/folder"))


# --- options and plans


def test_every_workload_has_a_plan() -> None:
    plan = rounds.plan(select(None, workloads()), None, 5, 1)
    for workload in plan.workloads:
        assert plan.peers[workload.name][0] == OURS
        assert set(plan.peers[workload.name]) <= set(PEERS)
        suitable = [workload.unsuitable(PEERS[name]) for name in plan.peers[workload.name]]
        assert not any(suitable), workload.name


def test_peers_are_visited_where_they_can_do_it_and_ours_always() -> None:
    chosen = select(["hello", "post-1k", "ws-text"], workloads())
    plan = rounds.plan(chosen, ["floor", "uvicorn-wsproto"], 5, 1)
    assert plan.peers == {
        "hello": [OURS, "floor"],
        "post-1k": [OURS],
        "ws-text": [OURS, "uvicorn-wsproto"],
    }


def test_all_peers() -> None:
    plan = rounds.plan(select(["tls"], workloads()), ["all"], 5, 1)
    assert {"uvicorn", "hypercorn", "gunicorn", "pounce"} < set(plan.peers["tls"])


def test_another_checkout_is_visited_wherever_ours_is() -> None:
    chosen = select(["hello", "ws-text"], workloads())
    for peers in (["floor"], None):
        plan = rounds.plan(chosen, peers, 5, 1, before=True)
        assert [names[:2] for names in plan.peers.values()] == [[OURS, BEFORE]] * 2


def test_who_serves_no_asgi_application_is_asked_for_hello_only() -> None:
    plan = rounds.plan(select(["workers", "starlette"], workloads()), ["pyronova"], 5, 1)
    assert plan.peers == {"workers": [OURS, "pyronova"], "starlette": [OURS]}


@pytest.mark.parametrize("option", ["--peers=nginx", "--workloads=hallo", "--rounds=0"])
def test_wrong_names_and_numbers_are_refused(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main([option])
    assert exit_.value.code == 2
    assert re.search(r"nginx|hallo|from 1, not '0'", capsys.readouterr().err)


@pytest.mark.skipif(sys.platform != "linux", reason="it has said already that it needs Linux")
def test_without_wrk_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["--workloads=hello"]) == 1
    assert "apt-get install wrk" in capsys.readouterr().err


def test_several_workers_are_as_many_as_asked_for() -> None:
    case = workloads(workers=3)["workers"].cases[1]
    assert case.label == "3 workers"
    assert case.setup.workers == 3


# --- servers and load


@pytest.mark.parametrize("name", [name for name in PEERS if not PEERS[name].hello_only])
def test_command_lines_follow_the_setup(name: str, tmp_path: Path) -> None:
    files = Files(FILES.certificate, FILES.key, tmp_path)
    bare = " ".join(PEERS[name].command(Setup(), 4711, files))
    assert "4711" in bare
    assert "pem" not in bare
    full = PEERS[name].command(Setup(workers=3, tls=True, access_log=True), 4711, files)
    assert "--workers=3" in full
    assert "certificate.pem" in " ".join(full)
    assert "key.pem" in " ".join(full)
    assert "--no-access-log" not in full
    assert "--log-level=info" in full
    assert servers.PLAIN_APP in " ".join(full)


def test_what_is_not_installed_is_said_to_be_missing() -> None:
    peer = servers.Peer("x", "no_such_module_anywhere", lambda *_: [], ("no-such-package",))
    assert peer.missing == "not installed"
    assert peer.version == "no-such-package missing"


def test_a_browser_sends_fourteen_lines() -> None:
    assert len({"Host", *(name for name, _ in BROWSER_HEADERS)}) == 14


def test_wrk_scripts() -> None:
    script = HTTPLoad(headers=(("Quoted", 'a"b'),), body=1024, pipelined=16).script()
    assert r'wrk.headers["Quoted"] = "a\"b"' in script
    assert 'string.rep("x", 1024)' in script
    assert "string.rep(wrk.format(), 16)" in script
    plain = HTTPLoad().script()  # wrk is fastest when there is no request function to call
    assert "function request" not in plain
    assert "function done" in plain


def test_another_checkout_serves_our_applications(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    (checkout / OURS).mkdir(parents=True)
    (checkout / OURS / "which.py").write_text("print(__file__)")
    peer = servers.earlier(checkout, Files(Path(), Path(), tmp_path))
    assert peer.folder is not None
    assert (peer.folder / OURS / "which.py").resolve() == checkout / OURS / "which.py"
    assert not (peer.folder / "benchmarks").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processor_time_and_memory_of_this_process() -> None:
    before = measure.cpu_seconds(os.getpid())
    until = time.process_time() + 0.1  # (the other counts dead children too)
    while time.process_time() < until:
        pass
    assert measure.cpu_seconds(os.getpid()) > before
    assert measure.memory(os.getpid()) > 1e6


# --- the applications


def ask(path: str, *pieces: bytes) -> bytes:
    """Call the plain application with a body in pieces; return the response's body."""
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
        for number, piece in enumerate(pieces, 1)
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(apps.app({"type": "http", "path": path}, receive, send))
    start, *body = sent
    assert start["status"] == 200
    assert not body[-1].get("more_body")
    return b"".join(message["body"] for message in body)


def test_responses_are_as_long_as_the_workloads_say() -> None:
    for workload in workloads().values():
        for case in workload.cases:
            if (
                case.setup.app == servers.PLAIN_APP
                and isinstance(case.load, HTTPLoad)
                and case.load.size is not None
            ):
                body = [b"x" * case.load.body] if case.load.body else []
                assert len(ask(case.load.path, *body)) == case.load.size, workload.name


def test_the_application_is_called_without_a_server() -> None:
    found = asyncio.run(app_floor.Caller(apps.app, "/echo", b"{}").call_for(0.01, calls=3))
    assert found["requests"] >= 3
    assert found["cpu"] > 0
    with pytest.raises(AssertionError):
        asyncio.run(app_floor.Caller(answers_nothing, "/", b"").call_for(0.01, calls=1))


async def answers_nothing(scope: Any, receive: Any, send: Any) -> None:
    assert (await receive())["body"] == b""


def test_echo_takes_its_body_in_pieces() -> None:
    assert ask("/echo", b"a", b"bc", b"") == b"abc"


# --- figures


def sample(cpu: float, p99: float = 1.0) -> Sample:
    return Sample(rate=1e6 / cpu, cpu=cpu, p50=0.5, p99=p99, memory=30e6, errors=0)


ROWS = [
    Row(OURS, "", [sample(10), sample(100), sample(12)]),
    Row("uvicorn", "", [sample(20), sample(200), sample(20)]),
    Row("pounce", "", problem="writes no access log"),
]


def test_ratios_are_of_the_same_round_then_their_median() -> None:
    assert report.ratio(ROWS[0], ROWS[1], "cpu") == pytest.approx(0.5)
    assert report.median(ROWS[0], "cpu") == 12
    assert report.ratio(ROWS[0], ROWS[2], "cpu") is None
    assert report.ratio(None, ROWS[1], "cpu") is None


def test_latencies_that_wrk_does_not_know_are_left_out() -> None:
    ours, other = Row(OURS, "", [sample(10, p99=0.0)]), Row("x", "", [sample(10)])
    assert report.ratio(ours, other, "p99") is None


def test_tables_name_what_could_not_be_measured() -> None:
    table = report.table(workloads()["hello"], ROWS)
    assert re.search(r"^uvicorn +50000 +20\.0 .* 0\.50 +1\.00$", table.text(), re.MULTILINE)
    assert "pounce: writes no access log" in table.text()
    assert "| pounce | n/a |" in table.markdown()
    rules = [line for line in table.markdown().splitlines() if line.startswith("| ---")]
    assert rules == ["| --- |" + " ---: |" * (len(table.head) - 1)]


def test_what_servers_add_to_the_bare_application() -> None:
    rows = [
        *ROWS[:2],
        Row(BARE[OURS], "", [sample(5), sample(50), sample(6)]),
        Row(BARE["uvicorn"], "", [sample(10), sample(100), sample(8)]),
    ]
    text = report.table(workloads()["starlette"], rows).text()
    assert "subinterp_asgi 6.0 us, uvicorn 12.0 us; ours/its 0.50" in text
    assert "added" not in report.table(workloads()["starlette"], rows[:3]).text()
    assert report.summary([(workloads()["starlette"], rows)]).head[2:] == ["uvicorn"]


def test_cases_are_compared_with_the_first() -> None:
    workload = workloads()["connections"]
    idle = Row(OURS, workload.cases[3].label, [sample(11)], bytes_per_idle=2048.0)
    text = report.table(workload, [Row(OURS, "32", [sample(10)]), idle]).text()
    assert re.search(rf"32 \+ {IDLE} idle .* 1\.10 +0\.91$", text, re.MULTILINE)
    assert "2.0 KiB for each idle connection" in text


def test_summary_tells_not_visited_from_not_possible() -> None:
    hello, browser = workloads()["hello"], workloads()["browser"]
    lines = report.summary([(hello, ROWS), (browser, ROWS[:1])]).rows
    assert lines == [["hello", "12.0", "0.50", "n/a"], ["browser", "12.0", "", ""]]


def test_json_has_samples_medians_and_ratios(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    report.write_json(path, {"rounds": 3}, [(workloads()["hello"], ROWS)], [])
    content = json.loads(path.read_text())
    ours, uvicorn, pounce = content["workloads"][0]["servers"]
    assert content["rounds"] == 3
    assert len(ours["samples"]) == 3
    assert uvicorn["ours/its"]["cpu"] == pytest.approx(0.5)
    assert pounce["median"] is None


def test_spread_shows_the_worst_try() -> None:
    spread = Spread(OURS, 2, "64 kept", ((40, 24), (48, 16)))
    assert spread.busiest == 1.5
    assert "40 24; 48 16" in spread_table([spread]).text()
    assert "exited" in spread_table([Spread(OURS, 2, problem="exited")]).text()


# --- the WebSocket client


@contextlib.contextmanager
def answering(answer: Callable[[str | bytes], str | bytes]) -> Iterator[int]:
    def talk(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            for message in connection:
                connection.send(answer(message))

    with serve(talk, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def echo_port() -> Iterator[int]:
    """The port of somebody else's server, which echoes."""
    with answering(lambda message: message) as port:
        yield port


@pytest.mark.parametrize("size", [32, 1000, 65536])
def test_websocket_client_counts_echoes(echo_port: int, size: int) -> None:
    result = websocket_client.press(
        echo_port, websocket_client.BINARY, b"m" * size, connections=2, in_flight=3, seconds=0.1
    )
    assert result["requests"] >= 3
    assert result["requests"] % 3 == 0
    assert result["seconds"] >= 0.1


def test_websocket_client_refuses_what_is_no_echo() -> None:
    with (
        answering(lambda message: message[::-1]) as port,
        pytest.raises(ValueError, match="not what was sent"),
    ):
        websocket_client.press(port, websocket_client.TEXT, b"ab", 1, 1, 0.1)


def test_accept_key() -> None:
    # RFC 6455, section 1.3
    expected = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert websocket_client.accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == expected
