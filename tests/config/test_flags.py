"""``config.flags``: what flags and variables of the environment may say, and what help shows."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from subinterp_asgi import Config
from subinterp_asgi.config import flags


def parse(*arguments: str) -> dict[str, Any]:
    parser = flags.Parser(prog="test")
    parser.add_options()
    return parser.parse(arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), {}),
        (("-w", "3"), {"workers": 3}),
        (("-b", "a:1", "--bind", "b:2"), {"bind": ["a:1", "b:2"]}),
        (("--no-access-log", "--factory"), {"access_log": False, "factory": True}),
        (("--timeout-keep-alive", "500ms"), {"timeout_keep_alive": 0.5}),
        (("--timeout-keep-alive", "2m"), {"timeout_keep_alive": 120.0}),
        (("--timeout-keep-alive", "1.5"), {"timeout_keep_alive": 1.5}),
        (("--workers-lifetime", "1d"), {"workers_lifetime": 86400.0}),
        (("--ws-ping-interval", "None"), {"ws_ping_interval": None}),
        (("--ws-max-size", "none"), {"ws_max_size": None}),
        (("--limit-body-size", "10MB"), {"limit_body_size": 10_000_000}),
        (("--limit-body-size", "10MiB"), {"limit_body_size": 10 * 2**20}),
        (("--limit-body-size", "10m"), {"limit_body_size": 10 * 2**20}),
        (("--limit-header-size", "1.5KiB"), {"limit_header_size": 1536}),
        (("--workers-max-rss", "200"), {"workers_max_rss": 200}),
        (("--workers-max-rss", "1GiB"), {"workers_max_rss": 1024}),
        (("--uds-permissions", "600"), {"uds_permissions": 0o600}),
    ],
    ids=" ".join,
)
def test_what_flags_say(arguments: tuple[str, ...], expected: dict[str, Any]) -> None:
    assert parse(*arguments) == expected
    Config().with_options(**expected)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--worker-count", "3"), "unrecognized arguments: --worker-count 3; did you mean --work"),
        (
            ("--graceful-timeout", "5"),
            "--graceful-timeout 5; here it is --timeout-graceful-shutdown",
        ),
        (("--timeout", "30"), "--timeout 30; here it is --timeout-worker-healthcheck"),
        (("--work", "3"), "unrecognized arguments: --work 3; did you mean --workers"),
        (("--daemon",), "unrecognized arguments: --daemon: it stays in the foreground"),
        (("--ws", "auto"), "unrecognized arguments: --ws auto: there is nothing to choose"),
        (("-k", "gevent"), "unrecognized arguments: -k gevent: there is nothing to choose"),
        (("--workers", "none"), "argument -w/--workers: must be an integer, not 'none'"),
        (("--timeout-keep-alive", "5 years"), "must be a time, such as 500ms, 5s or 2m"),
        (("--limit-body-size", "1.2.3MB"), "must be a size, such as 10MB or 512KiB"),
        (("--limit-body-size", "1.5"), "needs a unit, such as 1.5MB: '1.5'"),
        (("--limit-body-size", "1.5B"), "needs a unit, such as 1.5MB: '1.5B'"),
        (("--workers-max-rss", "1.5"), "needs a unit, such as 1.5GB: '1.5'"),
        (
            ("--reload", "true"),
            "--reload: takes no value (true): --reload turns it on, --no-reload",
        ),
        (("--access-log=off",), "--access-log: takes no value (off): --access-log turns it on, --"),
        (("--isolation", "process"), "invalid choice: 'process'"),
        (("--port",), "expected one argument"),
    ],
    ids=" ".join,
)
def test_an_error_is_two_lines(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(*arguments)
    assert caught.value.code == 2
    usage, error = capsys.readouterr().err.splitlines()
    assert usage == "usage: test [options] APP; --help all lists them"
    assert error.startswith("Error: ")
    assert said in error


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("WORKERS", "3", {"workers": 3}),
        ("BIND", "a:1, b:2", {"bind": ("a:1", "b:2")}),
        ("ACCESS_LOG", "Off", {"access_log": False}),
        ("FACTORY", "1", {"factory": True}),
        ("TIMEOUT_KEEP_ALIVE", "500ms", {"timeout_keep_alive": 0.5}),
        ("WS_PING_INTERVAL", "none", {"ws_ping_interval": None}),
        ("ISOLATION", "thread", {"isolation": "thread"}),
        ("ROOT_PATH", "/api", {"root_path": "/api"}),
    ],
)
def test_what_the_environment_says(variable: str, text: str, expected: dict[str, Any]) -> None:
    environment = {flags.PREFIX + variable: text, "PATH": "/bin", "WORKERS": "7"}
    assert flags.from_environment(environment) == (expected, [])


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("WORKERS", "x", "SUBINTERP_ASGI_WORKERS: must be an integer, not 'x'"),
        ("FACTORY", "maybe", "SUBINTERP_ASGI_FACTORY: must be true or false, not 'maybe'"),
        ("DRAIN_DELAY", "soon", "SUBINTERP_ASGI_DRAIN_DELAY: must be a time"),
    ],
)
def test_what_it_can_not_say(variable: str, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        flags.from_environment({flags.PREFIX + variable: text})


def test_a_variable_that_is_nearly_an_option_is_told_of() -> None:
    """Others are not: for a service of this name Kubernetes sets a dozen variables."""
    found = flags.from_environment(
        {"SUBINTERP_ASGI_WORKER": "3", "SUBINTERP_ASGI_8000_TCP_PROTO": "tcp"}
    )
    assert found == (
        {},
        [
            "SUBINTERP_ASGI_WORKER, in the environment, is no option; "
            "did you mean SUBINTERP_ASGI_WORKERS?"
        ],
    )


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        parse(*arguments)
    assert caught.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ("--help", "pkg.mod:app")])
def test_help_is_short(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    text = shown(capsys, *arguments)
    for name in flags._COMMON:
        assert name.replace("_", "-") in text
    assert "--ws-max-size" not in text
    assert "For more: --help all, or --help and a word of: where to listen, workers," in " ".join(
        text.split()
    )
    assert len(text.splitlines()) < 90


@pytest.mark.parametrize(
    ("group", "there", "not_there"),
    [
        ("tls", ["--ssl-ciphers", "--ssl-reload"], "--port"),
        ("HTTP", ["--limit-body-size"], "--ws-max-size"),
        ("reload", ["--reload-canary"], "--startup-timeout"),
        ("listen", ["--port", "--backlog"], "--workers"),
    ],
)
def test_help_on_a_group(
    capsys: pytest.CaptureFixture[str], group: str, there: list[str], not_there: str
) -> None:
    text = shown(capsys, "--help", group).replace("[no-]", "")
    assert all(flag in text for flag in there)
    assert f"{not_there} " not in text


def test_help_on_what_is_no_group(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("--help", "cooking")
    assert caught.value.code == 2
    assert "no group 'cooking'; there are where to listen, workers" in capsys.readouterr().err


def test_every_option_is_in_a_group_and_can_be_given_both_ways() -> None:
    parser = flags.Parser(prog="test")
    parser.add_options()
    assert not [action for action in parser._positionals._group_actions if action.option_strings]
    names = {option.name for option in fields(Config)}
    assert {name for group in parser._action_groups[2:] for name in grouped(group)} == names | {
        "help"
    }
    assert set(flags._GROUPS) <= names
    assert {same.removeprefix("--").replace("-", "_") for same in flags._ELSEWHERE.values()} <= (
        names | {"app_dir"}
    )
    for option in fields(Config):
        given = {"bool": "true", "int": "7", "float": "7"}.get(str(option.type).split(" |")[0], "x")
        read, _ = flags.from_environment({flags.PREFIX + option.name.upper(): given})
        assert read.keys() == {option.name}


def grouped(group: Any) -> list[str]:
    return [action.dest for action in group._group_actions]


def test_no_item_of_a_list_is_called_an_address_that_is_none() -> None:
    lists = [option for option in fields(Config) if str(option.type).startswith("tuple")]
    called = {option.name for option in lists if flags._settings(option)["metavar"] == "ADDRESS"}
    assert called == {"bind", "forwarded_allow_ips"}
