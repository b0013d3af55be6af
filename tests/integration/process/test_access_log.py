"""The access log beyond its default line, and ids of requests, as the command shows them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from ...support import get
from ..command import Command
from .test_cli import USAGE, end, serve

both = pytest.mark.parametrize("isolation", ["interpreter", "thread"])
APP = "identified:app"
IDS = ("--request-id-header", "X-Request-ID", "--lifespan", "off")
GIVEN = {"x-request-id": "abc-1"}


def start(*arguments: str, app: str = APP) -> Command:
    return serve("--lifespan", "off", *arguments, app=app)


def ask(command: Command, path: str = "/", **headers: str) -> Any:
    """Send a request; return what the application has seen of its id."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return json.loads(get(command.url, path, headers=given).text)


# --- ids


@both
def test_an_id_that_a_trusted_peer_gives(isolation: str) -> None:
    with start(*IDS, "--isolation", isolation) as command:
        assert ask(command, x_request_id="abc-1") == {"state": "abc-1", "headers": ["abc-1"]}
        command.wait_for(r'INFO: \[abc-1\] 127\.0\.0\.1:\d+ - "GET / HTTP/1.1" 200 OK')
        end(command)


@both
def test_an_id_is_made_where_none_is_believed(isolation: str) -> None:
    with start(*IDS, "--isolation", isolation, "--forwarded-allow-ips", "192.0.2.1") as command:
        seen = ask(command, x_request_id="abc-1")
        assert re.fullmatch("[0-9a-f]{32}", seen["state"])
        assert seen["headers"] == [seen["state"]]
        assert ask(command)["state"] != seen["state"]
        command.wait_for(rf'INFO: \[{seen["state"]}\] .*"GET / HTTP/1.1" 200 OK')
        assert "abc-1" not in end(command)


@pytest.mark.parametrize("value", ["", "two words", 'quo"ted', "x" * 201, "na\u00efve"])
def test_an_id_that_would_spoil_the_log_is_replaced(value: str) -> None:
    with start(*IDS) as command:
        assert re.fullmatch("[0-9a-f]{32}", ask(command, x_request_id=value)["state"])
        end(command)


@both
def test_the_records_of_errors_have_it(isolation: str) -> None:
    with start(*IDS, "--isolation", isolation) as command:
        assert get(command.url, "/boom", headers=GIVEN).status == 500
        command.wait_for(r"ERROR: \[abc-1\] exception in the ASGI application: GET /boom")
        command.wait_for(r'INFO: \[abc-1\] .*"GET /boom HTTP/1.1" 500 ')
        end(command)


def test_the_records_of_the_application_have_it() -> None:
    with start(*IDS) as command:
        ask(command, "/log", x_request_id="abc-1")
        command.wait_for("APP abc-1 from a thread")
        command.wait_for("APP abc-1 hello")
        end(command)


def test_nothing_of_it_without_the_option() -> None:
    with start() as command:
        assert ask(command, x_request_id="abc-1") == {"state": None, "headers": ["abc-1"]}
        command.wait_for(r'INFO: 127\.0\.0\.1:\d+ - "GET / HTTP/1.1" 200 OK \d+\.\dms$')
        end(command)


# --- forms


@both
def test_json(isolation: str) -> None:
    with start(*IDS, "--access-log-format", "json", "--isolation", isolation) as command:
        ask(command, "/a?b=c", x_request_id="abc-1", user_agent='a "browser"')
        line = command.wait_for(r"(\{.*\})$")[1]
        end(command)
    entry = json.loads(line)
    assert entry.pop("duration") > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert entry == {
        "client": "127.0.0.1",
        "method": "GET",
        "path": "/a",
        "query": "b=c",
        "protocol": "HTTP/1.1",
        "status": 200,
        "size": 40,
        "referer": None,
        "user_agent": 'a "browser"',
        "request_id": "abc-1",
    }


FORM = (
    '%(h)s %(l)s %(u)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %(m)s %(U)s %(q)s %(H)s %(B)s '
    "%({x-kind}o)s %({X-Asked}i)s %({absent}i)s %(id)s 100%%"
)


@both
def test_a_format_of_gunicorns_atoms(isolation: str) -> None:
    with start("--access-log-format", FORM, "--isolation", isolation) as command:
        headers = {"authorization": "Basic bWU6c2VjcmV0", "x-asked": "yes", "user-agent": 'a "b"'}
        get(command.url, "/a?b=c", headers=headers)
        line = command.wait_for(r"(127\.0\.0\.1 .*)")[1]
        end(command)
    assert line == (
        r'127.0.0.1 - me "GET /a?b=c HTTP/1.1" 200 30 "-" "a \x22b\x22" GET /a b=c HTTP/1.1 30 '
        "a thing yes - - 100%"
    )


def test_times_of_a_format() -> None:
    with start("--access-log-format", "times %(t)s %(T)s %(M)s %(D)s %(L)s %(p)s") as command:
        ask(command)
        command.wait_for(
            rf"times \[\d\d/\w{{3}}/\d{{4}}:\d\d:\d\d:\d\d \+\d{{4}}\] \d+ \d+ \d+ \d+\.\d{{6}} "
            rf"<{command.pid}>$"
        )
        end(command)


def test_a_format_that_is_none() -> None:
    with start("--access-log-format", "%(z)s") as command:
        assert command.wait() == USAGE
    assert "'json' or a format of the atoms" in command.lines[1]


# --- what is logged


@both
def test_paths_that_are_not_logged(isolation: str) -> None:
    exclude = ("--access-log-exclude", "/health", "--access-log-exclude", "/static/*")
    with start(*exclude, "--isolation", isolation) as command:
        for path in ("/health", "/static/a.css", "/health/more", "/static", "/last"):
            ask(command, path)
        command.wait_for(r'INFO: .*"GET /last ')
        end(command)
    logged = re.findall(r'"GET (\S+) ', command.stderr)
    assert logged == ["/health/more", "/static", "/last"]


def test_a_predicate() -> None:
    with start("--access-log-filter", "identified:wanted") as command:
        ask(command)
        ask(command, "/fails")
        get(command.url, "/boom")
        command.wait_for(r'INFO: .*"GET /boom ')
        end(command)
    assert re.findall(r'"GET (\S+) ', command.stderr) == ["/fails", "/boom"]
    assert "ERROR: access_log_filter: identified:wanted failed; the request is logged" in (
        command.stderr
    )


def test_a_predicate_that_is_not_there() -> None:
    with start("--access-log-filter", "identified:want") as command:
        assert command.wait() == 3
        command.wait_for("Error: .*ConfigError: access_log_filter: .*did you mean wanted")
