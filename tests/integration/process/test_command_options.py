"""Where the command takes its options from, and the file of a logging configuration."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path

import pytest

from ...support import get, wait_until
from ..command import APPS, Command
from .test_cli import OK, USAGE, end, serve


def test_an_option_from_the_environment() -> None:
    with serve(environment={"SUBINTERP_ASGI_WORKERS": "2", "WEB_CONCURRENCY": "3"}) as command:
        command.wait_for("2 workers ")
        end(command)


def test_the_flag_comes_before_the_environment() -> None:
    with serve("-w", "1", environment={"SUBINTERP_ASGI_WORKERS": "2"}) as command:
        command.wait_for("1 worker ")
        end(command)


@pytest.mark.parametrize("value", ["0", "many"])
def test_a_value_of_the_environment_that_will_not_do(value: str) -> None:
    with serve(environment={"SUBINTERP_ASGI_WORKERS": value}) as command:
        assert command.wait() == USAGE
    assert command.lines[1].startswith("Error: SUBINTERP_ASGI_WORKERS: must be an integer")


def test_each_source_is_named_by_its_name() -> None:
    with serve(environment={"FORWARDED_ALLOW_IPS": "1.2.3.4/8"}) as command:
        assert command.wait() == USAGE
    assert command.lines[1].startswith("Error: FORWARDED_ALLOW_IPS: '1.2.3.4/8' has bits after")


def test_a_variable_that_is_no_option() -> None:
    with serve(environment={"SUBINTERP_ASGI_WORKER": "2"}) as command:
        command.wait_for("Warning: SUBINTERP_ASGI_WORKER, in the environment, is no option; did")
        assert command.url
        end(command)


def test_the_directory_of_the_application(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text("from plain import app")
    environment = {"SUBINTERP_ASGI_APP_DIR": str(tmp_path)}
    with serve(app="elsewhere:app", environment=environment) as command:
        assert get(command.url).status == 200
        assert "Warning" not in end(command)


def test_a_directory_that_was_removed(tmp_path: Path) -> None:
    removing = ("sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh")
    with serve(cwd=tmp_path, environment={"PWD": str(tmp_path)}, prefix=removing) as command:
        assert command.wait() == USAGE
    assert command.lines[1].startswith("Error: the directory this was started in has been removed")


def test_a_clean_end_is_told_of() -> None:
    with serve() as command:
        assert command.url
        command.send(signal.SIGTERM)
        assert command.wait() == OK
    assert command.lines[-1] == "Stopped"


FILES = {
    "log.json": json.dumps(
        {
            "version": 1,
            "formatters": {"short": {"format": "CONFIGURED %(name)s %(message)s"}},
            "handlers": {"err": {"class": "logging.StreamHandler", "formatter": "short"}},
            "root": {"level": "INFO", "handlers": ["err"]},
        }
    ),
    "log.ini": """
[loggers]
keys=root
[handlers]
keys=err
[formatters]
keys=short
[logger_root]
level=INFO
handlers=err
[handler_err]
class=StreamHandler
formatter=short
args=(sys.stderr,)
[formatter_short]
format=CONFIGURED %(name)s %(message)s
""",
}


@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
@pytest.mark.parametrize("name", FILES)
def test_a_logging_configuration(tmp_path: Path, name: str, isolation: str) -> None:
    (tmp_path / name).write_text(FILES[name])
    with serve("--log-config", str(tmp_path / name), "--isolation", isolation) as command:
        assert get(command.url).status == 200
        command.wait_for(r'CONFIGURED subinterp_asgi.access .* "GET / HTTP/1.1" 200 OK')
        assert "INFO: " not in end(command)


@pytest.mark.parametrize(
    ("options", "interpreters"),
    [(("--workers", "2", "--spares", "1"), 4), (("--isolation", "thread"), 1)],
    ids=["interpreters", "thread"],
)
def test_a_log_that_is_rotated(tmp_path: Path, options: tuple[str, ...], interpreters: int) -> None:
    """USR1 has all go on in the new file, spares and the command itself too."""
    log = tmp_path / "log"
    configuration = json.loads(FILES["log.json"])
    handler = {"class": "logging.FileHandler", "filename": str(log), "formatter": "short"}
    configuration["handlers"]["err"] = handler
    (tmp_path / "log.json").write_text(json.dumps(configuration))
    with serve("--log-config", str(tmp_path / "log.json"), *options) as command:
        assert get(command.url, "/before").status == 200
        wait_until(lambda: len(files_by_this_name(command.pid, str(log))) == interpreters)
        wait_until(lambda: "GET /before" in log.read_text())
        log.rename(tmp_path / "log.1")
        command.send(signal.SIGUSR1)
        command.wait_for("SIGUSR1: reopening log files")
        wait_until(lambda: not files_by_this_name(command.pid, f"{log}.1"))
        assert get(command.url, "/after").status == 200
        wait_until(lambda: "GET /after" in log.read_text())
        assert len(files_by_this_name(command.pid, str(log))) == interpreters
        end(command)
    assert "GET /before" in (tmp_path / "log.1").read_text()
    assert "GET /after" not in (tmp_path / "log.1").read_text()


def files_by_this_name(pid: int, name: str) -> list[str]:
    """The descriptors of a process that are this file."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if os.readlink(link) == name:
                found.append(link.name)
    return found


def test_usr1_does_no_harm_where_no_file_is_written() -> None:
    with serve() as command:
        assert command.url
        command.send(signal.SIGUSR1)
        command.wait_for("SIGUSR1: reopening log files")
        assert get(command.url).status == 200
        end(command)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("missing.json", None, "can't be read: .*No such file"),
        ("broken.json", '{"version": 1,\n}', "can't be read: .*line [12] column"),
        ("broken.yaml", "version: 1\nroot: [\n", "can't be read: .*line 3, column 1"),
        ("list.json", "[]", "must be an object"),
        ("wrong.json", '{"version": 7}', "Unsupported version"),
        ("broken.ini", "no section", "can't be read: .*line: 1"),
        ("short.ini", "[loggers]\nkeys=root\n", ".*'formatters' is missing"),
        (
            "handler.json",
            '{"version": 1, "handlers": {"x": {"class": "nowhere.Handler"}}}',
            "Unable to configure handler 'x': Cannot resolve 'nowhere.Handler': No module named",
        ),
        (
            "file.json",
            '{"version": 1, "handlers": {"x": {"class": "logging.FileHandler", '
            '"filename": "/no/such/folder/log"}}}',
            "Unable to configure handler 'x': .*No such file or directory: '/no/such/folder/log'",
        ),
    ],
)
def test_a_logging_configuration_that_will_not_do(
    tmp_path: Path, name: str, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with Command("plain:app", "--log-config", str(tmp_path / name)) as command:
        assert command.wait() == USAGE, command.stderr
        command.wait_for(f"Error: --log-config: .*{said}")
    assert len(command.lines) == 2


def test_a_logging_configuration_that_needs_the_application(tmp_path: Path) -> None:
    """Its folder is on the path by then."""
    (tmp_path / "handlers.py").write_text("from logging import StreamHandler as Own\n")
    text = FILES["log.json"].replace("logging.StreamHandler", "handlers.Own")
    (tmp_path / "log.json").write_text(text)
    options = ("--log-config", str(tmp_path / "log.json"), "--app-dir", str(tmp_path))
    (tmp_path / "app.py").write_text((APPS / "plain.py").read_text())
    with serve(*options, app="app:app") as command:
        assert command.url
        end(command)


def test_options_that_others_leave_without_effect(tmp_path: Path) -> None:
    with serve("--uds", str(tmp_path / "socket")) as command:
        command.wait_for("Warning: --port has no effect beside --uds")
        command.wait_for("1 worker ")
        assert "Warning: --host" not in end(command)


def test_a_folder_of_the_application_that_is_not_there() -> None:
    with serve("--app-dir", "nowhere") as command:
        assert command.wait() == USAGE
    assert command.lines[1] == "Error: --app-dir: 'nowhere' is no folder"
