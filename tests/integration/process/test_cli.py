"""The command line, as a real process: what it says, how it ends, and with which exit status."""

from __future__ import annotations

import pkgutil
import re
import signal
import socket
import stat
import tomllib
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import subinterp_asgi
from subinterp_asgi import Config
from subinterp_asgi import __main__ as cli
from subinterp_asgi.supervisor.process import systemd, upgrade

from ...support import ROOT, Pending, get, wait_until
from ..command import APPS, Command

OK, DIED, USAGE, STARTUP, INTERRUPTED = 0, 1, 2, 3, 130

ENDING = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)


def serve(*arguments: str, app: str = "plain:app", **options: Any) -> Command:
    """Start a command on a free port."""
    return Command(app, "--port", "0", *arguments, **options)


def end(command: Command) -> str:
    """Stop a command, which must go well, and return what it wrote to standard error."""
    command.send(signal.SIGTERM)
    assert command.wait() == OK, command.stderr
    return command.stderr


# --- serving


def test_announcement() -> None:
    with serve("--workers", "2", "--no-access-log") as command:
        url = command.url
        assert get(url).status == 200
        end(command)
        listening, workers, stopping, stopped = command.lines
    assert listening == f"Listening on {url}"
    assert re.fullmatch(r"2 workers \(interpreters\) in \d+ ms; Ctrl\+C stops", workers)
    assert stopping.startswith("SIGTERM: stopping")
    assert stopped == "Stopped"
    assert command.stdout == ""


def test_one_worker_is_the_default() -> None:
    with serve() as command:
        command.wait_for(r"1 worker \(interpreter\) in \d+ ms")
        end(command)


def test_bind_twice() -> None:
    with Command("plain:app", "--bind", "127.0.0.1:0", "--bind", "127.0.0.1:0") as command:
        command.wait_for(r"1 worker ")
        addresses = re.findall(
            r"^Listening on (http://127\.0\.0\.1:\d+)$", command.stderr, re.MULTILINE
        )
        assert len(set(addresses)) == 2
        for address in addresses:
            assert get(address).status == 200
        end(command)


@pytest.mark.parametrize(("options", "mode"), [((), 0o660), (("--uds-permissions", "600"), 0o600)])
def test_unix_socket(tmp_path: Path, options: tuple[str, ...], mode: int) -> None:
    path = tmp_path / "socket"
    with Command("plain:app", "--uds", str(path), *options) as command:
        command.wait_for(re.escape(f"Listening on unix:{path}") + "$")
        command.wait_for("1 worker ")
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert get(f"http+unix://{str(path).replace('/', '%2F')}").status == 200
        end(command)
    assert not path.exists()


@pytest.mark.parametrize("option", ["--fd", "--bind"])
def test_inherited_socket(option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        number = listener.fileno()
        value = str(number) if option == "--fd" else f"fd://{number}"
        with Command("plain:app", option, value, pass_fds=[number]) as command:
            assert command.url == f"http://{host}:{port}"
            assert get(command.url).status == 200
            end(command)
        # It was only lent: who connects now waits for the next server.
        socket.create_connection((host, port), timeout=10).close()


@pytest.mark.parametrize(
    "arguments", [("plain:create_app", "--factory"), ("plain:create_app()",)], ids=str
)
def test_factory(arguments: tuple[str, ...]) -> None:
    app, *options = arguments
    with serve(*options, app=app) as command:
        assert get(command.url).status == 200
        end(command)


def test_app_dir(tmp_path: Path) -> None:
    with serve("--app-dir", str(APPS), cwd=tmp_path) as command:
        assert get(command.url).status == 200
        end(command)


def test_root_path() -> None:
    with serve("--root-path", "/mounted") as command:
        assert (
            get(command.url, "/here").text == '{"path": "/mounted/here", "root_path": "/mounted"}'
        )
        end(command)


def test_web_concurrency() -> None:
    with serve(environment={"WEB_CONCURRENCY": "3"}) as command:
        command.wait_for(r"3 workers ")
        end(command)


def test_workers_option_beats_web_concurrency() -> None:
    with serve("--workers", "2", environment={"WEB_CONCURRENCY": "3"}) as command:
        command.wait_for(r"2 workers ")
        end(command)


# --- logs

ACCESS_LINE = r'INFO: 127\.0\.0\.1:\d+ - "GET /some/path\?q=1 HTTP/1\.1" 200 OK \d+\.\d+ms$'


@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
def test_access_log(isolation: str) -> None:
    with serve("--isolation", isolation) as command:
        assert get(command.url, "/some/path?q=1").status == 200
        command.wait_for(ACCESS_LINE)
        text = end(command)
    assert f"1 worker ({isolation})" in text
    assert text.count("/some/path") == 1


@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
@pytest.mark.parametrize("option", [("--no-access-log",), ("--log-level", "warning")], ids=str)
def test_no_access_log(isolation: str, option: tuple[str, ...]) -> None:
    with serve("--isolation", isolation, *option) as command:
        assert get(command.url, "/some/path?q=1").status == 200
        assert "/some/path" not in end(command)


def test_application_without_lifespan_is_told_of_in_debug_or_info_only() -> None:
    with serve("--log-level", "warning", app="plain:without_lifespan") as command:
        assert get(command.url).status == 200
        assert "lifespan" not in end(command)


@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
def test_application_without_lifespan_is_told_of_once(isolation: str) -> None:
    options = ("--workers", "3", "--isolation", isolation)
    with serve(*options, app="plain:without_lifespan") as command:
        assert get(command.url).status == 200
        command.send(signal.SIGHUP)
        command.wait_for("Generation 2 serves")
        assert end(command).count("the application does not support lifespan") == 1


# --- ending


@ENDING
def test_signal_lets_requests_finish(tmp_path: Path, number: signal.Signals) -> None:
    with serve("--workers", "2") as command:
        url = command.url
        request = Pending(url, f"/gate?directory={tmp_path}")
        wait_until((tmp_path / "waiting").exists)
        command.send(number)
        command.wait_for(f"{number.name}: stopping")
        wait_until(lambda: refuses(url), "nobody is accepted any more")
        (tmp_path / "open").touch()
        answer = request.result()
        assert not isinstance(answer, Exception)
        assert answer.status == 200
        assert command.wait() == OK
    assert "breaking off" not in command.stderr
    assert "Traceback" not in command.stderr


@ENDING
def test_second_signal_forces(tmp_path: Path, number: signal.Signals) -> None:
    with serve("--timeout-graceful-shutdown", "600") as command:
        request = Pending(command.url, f"/gate?directory={tmp_path}")
        wait_until((tmp_path / "waiting").exists)
        command.send(number)
        command.wait_for(f"{number.name}: stopping")
        assert command.press_until_ended(number) == OK  # also with one that comes when all is over
        answer = request.result()
        assert not isinstance(answer, Exception)
        assert answer.status == 500
    assert f"{number.name}: breaking off" in command.stderr


@pytest.mark.parametrize(("gap", "forced"), [(0.1, False), (0.5, True)])
def test_echo_of_a_signal_does_not_force(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    gap: float,
    forced: bool,
) -> None:
    """A terminal signals the whole group, and a process manager its leader once more."""
    # In this process and with a clock of its own: the gap must be what the test says it is.
    times = iter([100.0, 100.0 + gap])
    monkeypatch.setattr(cli, "monotonic", lambda: next(times))
    server = subinterp_asgi.Supervisor("plain:app", port=0)
    graces: list[float | None] = []
    monkeypatch.setattr(server, "start", lambda: None)
    monkeypatch.setattr(server, "wait", lambda: None)
    inbox = cli._Inbox()

    def stop(timeout: float | None = None) -> None:
        graces.append(timeout)
        if len(graces) == 1 + forced:
            inbox.put("stopped", None)

    monkeypatch.setattr(server, "stop", stop)
    # The first call of stop() ends it all, so that both signals have to be there before.
    with inbox:
        inbox.put("signal", "SIGINT")
        inbox.put("signal", "SIGTERM")
        command = cli._Command(
            server, inbox, lambda: server, systemd.Notifier({}), upgrade.Predecessor({})
        )
        command._serves = True
        assert command._serve() == OK
    assert ("breaking off" in capsys.readouterr().err) is forced


# What comes before it serves is not a clean end for shells: they break off their loops too.
GIVEN_UP = pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, OK), (signal.SIGINT, INTERRUPTED)],
    ids=["SIGTERM", "SIGINT"],
)


@GIVEN_UP
@pytest.mark.parametrize("ends", [True, False])
def test_signal_while_the_application_is_imported(
    tmp_path: Path, number: signal.Signals, status: int, ends: bool
) -> None:
    """No import can be interrupted; the process ends under it."""
    with serve(
        "--workers", "2", app="slow_import:app", environment={"TEST_GATE": str(tmp_path)}
    ) as command:
        wait_until((tmp_path / "waiting").exists)
        command.send(number)
        command.wait_for(f"{number.name}: stopping")
        if ends:
            (tmp_path / "open").touch()
        assert command.wait() == status
    assert command.lines == [f"{number.name}: stopping"]


@GIVEN_UP
def test_signal_during_the_lifespans_startup(number: signal.Signals, status: int) -> None:
    with serve("--workers", "2", app="plain:endless_lifespan") as command:
        command.wait_for("starting up, for ever")
        command.send(number)
        command.wait_for(f"{number.name}: stopping")
        assert command.wait() == status
    assert "Traceback" not in command.stderr
    assert "Error" not in command.stderr


def test_ctrl_c_twice_while_the_application_is_imported(tmp_path: Path) -> None:
    """The second one does not wait for anything."""
    environment = {"TEST_GATE": str(tmp_path)}
    with serve("--shutdown-timeout", "600", app="slow_import:app", environment=environment) as (
        command
    ):
        wait_until((tmp_path / "waiting").exists)
        assert command.press_until_ended(signal.SIGINT) == INTERRUPTED
    assert "Traceback" not in command.stderr


@pytest.mark.parametrize(
    "module", ["subinterp_asgi.supervisor.pool.ahead", "subinterp_asgi.supervisor.supervisor"]
)
def test_ctrl_c_while_the_command_itself_is_imported(tmp_path: Path, module: str) -> None:
    (tmp_path / "pressing.py").write_text(
        "import os, runpy, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(name, *others):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder)\n"
        "runpy.run_module('subinterp_asgi', run_name='__main__', alter_sys=True)\n"
    )
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    with serve(module="pressing", environment=environment) as command:
        assert command.wait() == INTERRUPTED
    assert command.stderr == ""


def test_death_of_all_workers() -> None:
    with serve("--restart-limit", "0") as command:
        Pending(command.url, "/die").result()
        assert command.wait() == DIED
        command.wait_for("Error: worker 0 died: .*stopped")


def test_death_beside_a_worker_that_does_not_end(tmp_path: Path) -> None:
    """The status is the command's own; the process can't end in the usual way."""
    options = ("--workers", "2", "--restart-limit", "0", "--timeout-graceful-shutdown", "0.1")
    with serve(*options, module="hasty_end") as command:
        Pending(command.url, f"/hang?directory={tmp_path}")
        wait_until((tmp_path / "waiting").exists)
        Pending(command.url, "/die").result()
        assert command.wait() == DIED, command.stderr
        command.wait_for("Error: worker [01] died: .*stopped")


# --- failing to start


@pytest.mark.parametrize(
    ("app", "options", "told"),
    [
        (
            "no_such_module:app",
            (),
            "Error: worker 0 could not start: .*'no_such_module'.*--app-dir",
        ),
        ("plain.no_such:app", (), "Error: .*'plain"),
        ("plain:ap", (), "Error: .*no attribute 'ap'.*did you mean app"),
        ("plain:not_an_app", (), "Error: .*not an ASGI application"),
        ("plain:app()", (), "Error: .*plain:app"),
        ("needs_missing:app", (), "Error: .*'a_module_that_is_not_there', which is not installed"),
        ("raises_on_import:app", (), "Error: .*ValueError: no such luck"),
        ("fails_with_pool:app", (), "Error: .*ValueError: no such luck"),
        ("plain:failing_lifespan", (), "Error: .*the database is on fire"),
        ("plain:without_lifespan", ("--lifespan", "on"), "Error: .*lifespan"),
        ("plain:endless_lifespan", ("--startup-timeout", "0.2"), "Error: .*startup_timeout=0.2"),
        ("plain:app", ("--fd", "99"), "Error: cannot listen on fd://99: "),
        ("plain:app", ("--uds", "/no/such/directory/socket"), "Error: cannot listen on unix:/no/"),
        ("plain:app", ("--host", "name.invalid"), "Error: cannot listen on name.invalid:0: "),
    ],
)
def test_failure_to_start(app: str, options: tuple[str, ...], told: str) -> None:
    port = () if {"--fd", "--uds"}.intersection(options) else ("--port", "0")
    with Command(app, *port, *options) as command:
        assert command.wait() == STARTUP
        command.wait_for(told)
    assert "Listening" not in command.stderr
    assert "--port" not in command.stderr  # which would change nothing


def test_failed_import_shows_its_own_traceback() -> None:
    with serve(app="raises_on_import:app") as command:
        assert command.wait() == STARTUP
    assert f'File "{APPS / "raises_on_import.py"}", line 2, in fail' in command.stderr


def test_failure_to_start_beside_a_worker_that_does_not_end(tmp_path: Path) -> None:
    environment = {"TEST_GATE": str(tmp_path)}
    with serve(
        *("--workers", "2", "--timeout-graceful-shutdown", "0.1"),
        app="raises_beside_another:app",
        environment=environment,
        module="hasty_end",
    ) as command:
        assert command.wait() == STARTUP, command.stderr
        command.wait_for("Error: worker [01] could not start: ")


def test_port_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with Command("plain:app", "--port", str(port)) as command:
            assert command.wait() == STARTUP
            command.wait_for(f"Error: cannot listen on 127.0.0.1:{port}: .*in use.*--port")


# --- usage


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "APP"),
        (("plain:app", "--no-such-option"), "--no-such-option"),
        (("plain:app", "--port", "http"), "--port"),
        (("plain:app", "--port", "70000"), "--port: "),
        (("plain:app", "--workers", "0"), "--workers: "),
        (("plain:app", "--isolation", "process"), "--isolation: invalid choice"),
        (("plain:app", "--timeout-keep-alive", "-1"), "--timeout-keep-alive: "),
        (("plain:app", "--uds-permissions", "9"), "--uds-permissions"),
        (("plain:app", "--root-path", "no-slash"), "--root-path: "),
        (("plain:app", "--log-level", "loud"), "--log-level: invalid choice"),
        (("plain:app", "--uds", "x", "--bind", "127.0.0.1:0"), "--bind: "),
    ],
    ids=" ".join,
)
def test_usage(arguments: tuple[str, ...], named: str) -> None:
    with Command(*arguments) as command:
        assert command.wait() == USAGE, command.stderr
    assert command.lines[0] == "usage: subinterp-asgi [options] APP; --help all lists them"
    assert named in command.lines[1]
    assert len(command.lines) == 2


@pytest.mark.parametrize("address", ["::1:8000", "127.0.0.1:many"])
def test_an_address_that_is_none(address: str) -> None:
    with Command("plain:app", "--bind", address) as command:
        assert command.wait() == USAGE, command.stderr
    assert len(command.lines) == 1
    assert command.lines[0].startswith("Error: --bind: ")


@pytest.mark.parametrize("value", ["many", "0", "-1", "1.5"])
def test_bad_web_concurrency(value: str) -> None:
    with serve(environment={"WEB_CONCURRENCY": value}) as command:
        assert command.wait() == USAGE
    assert "WEB_CONCURRENCY: " in command.lines[-1]
    assert repr(value).strip("'") in command.lines[-1]


def test_version() -> None:
    with Command("--version") as command:
        assert command.wait() == OK
    assert command.stdout == f"subinterp-asgi {subinterp_asgi.__version__}\n"


def test_help_tells_of_every_option() -> None:
    with Command("--help", "all") as command:
        assert command.wait() == OK
    words = " ".join(command.stdout.split())
    for option in fields(Config):
        flag = "--" + option.name.replace("_", "-")
        assert re.search(rf"(?<![\w-])--(\[no-\])?{flag[2:]}(?![\w-])", words), flag
        # Lines are broken at hyphens too.
        doc = option.metadata["doc"].partition(". ")[0].rstrip(".").replace(" ", "")
        assert doc in words.replace(" ", ""), flag
    assert "--isolation {interpreter,thread,auto}" in words
    assert "-w, --workers N Number of workers; 'auto'" in words
    assert "--[no-]access-log Log a line for each request [on]" in words


def test_console_script_is_the_same_command() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert pkgutil.resolve_name(scripts["subinterp-asgi"]) is cli.main


def refuses(url: str) -> bool:
    """Whether nobody listens at the address any more."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    with closing(socket.socket()) as sock:
        sock.settimeout(10)
        return sock.connect_ex((host, int(port))) != 0


# --- reloading and scaling


def test_reloading_and_scaling_by_signals() -> None:
    with serve("--workers", "2") as command:
        assert get(command.url).status == 200
        command.send(signal.SIGHUP)
        command.wait_for("Generation 2 serves")
        command.send(signal.SIGTTIN)
        command.wait_for("SIGTTIN: 3 workers instead of 2")
        command.send(signal.SIGTTOU)
        command.wait_for("SIGTTOU: 2 workers instead of 3")  # (signals that wait become one)
        command.send(signal.SIGTTOU)
        command.wait_for("SIGTTOU: 1 worker instead of 2")
        command.send(signal.SIGTTOU)
        command.wait_for("SIGTTOU: 1 worker instead of 1")
        assert get(command.url).status == 200
        end(command)


def test_several_reloads_asked_for_at_once_are_one_after_the_present_one() -> None:
    with serve() as command:
        assert get(command.url).status == 200
        for _ in range(5):
            command.send(signal.SIGHUP)
        command.wait_for("Generation 2 serves")
        assert end(command).count("SIGHUP: reloading") <= 3


def test_a_signal_that_another_thread_takes_is_answered() -> None:
    """The system chooses the thread; if that isn't the main one, nothing interrupts its wait."""
    with serve(module="hasty") as command:
        assert get(command.url).status == 200
        for count in range(1, 201):
            command.send(signal.SIGTTIN)
            for _ in range(count):  # a little later, in a different way each time
                pass
            command.send(signal.SIGHUP)
            command.wait_for_count("Generation 2 serves", count)
            command.wait_for_count(f"SIGTTIN: {1 + count} workers", 1)
        end(command)


def test_a_reload_that_fails_leaves_the_old_generation(tmp_path: Path) -> None:
    module = tmp_path / "changing.py"
    source = (APPS / "plain.py").read_text()
    module.write_text(source)
    with serve("--app-dir", str(tmp_path), app="changing:app") as command:
        assert get(command.url).status == 200
        module.write_text("raise RuntimeError('half written')\n")
        command.send(signal.SIGHUP)
        command.wait_for("Error: generation 2 does not serve, generation 1 goes on: .*half written")
        assert get(command.url).status == 200
        module.write_text(source)
        command.send(signal.SIGHUP)
        command.wait_for("Generation 3 serves")
        assert get(command.url).status == 200
        end(command)
