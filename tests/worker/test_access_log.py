"""What workers log, and that nobody's logging is configured who did not ask for it."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from subinterp_asgi import Config
from subinterp_asgi.control import output
from subinterp_asgi.worker import access_log
from tests.support import run_script

REQUEST = (("192.0.2.7", 4711), "GET", "/a?b=%20c", "1.1", 404, 0.01234)
LINE = '192.0.2.7:4711 - "GET /a?b=%20c HTTP/1.1" 404 Not Found 12.3ms'


@pytest.fixture(autouse=True)
def manager(monkeypatch: pytest.MonkeyPatch) -> logging.Manager:
    """Loggers as in a fresh interpreter: pytest's handlers would count as an application's."""
    manager = logging.Manager(logging.RootLogger(logging.WARNING))
    monkeypatch.setattr(access_log, "package_logger", manager.getLogger("subinterp_asgi"))
    monkeypatch.setattr(access_log, "access_logger", manager.getLogger("subinterp_asgi.access"))
    return manager


class Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


# --- where there is no configuration


def test_a_fresh_interpreter_gets_a_level_and_a_handler(manager: logging.Manager) -> None:
    access_log.configure_interpreter(Config(log_level="warning"))
    assert access_log.package_logger.level == logging.WARNING
    assert [type(handler) for handler in access_log.package_logger.handlers] == [
        access_log.StderrHandler
    ]
    assert not access_log.package_logger.propagate
    assert manager.root.handlers == []  # which is the application's


def test_configuring_twice_adds_nothing() -> None:
    access_log.configure_interpreter(Config())
    access_log.configure_interpreter(Config(log_level="error"))
    assert len(access_log.package_logger.handlers) == 1
    assert access_log.package_logger.level == logging.INFO


def test_records_appear_on_standard_error(
    manager: logging.Manager, capfd: pytest.CaptureFixture[str]
) -> None:
    access_log.configure_interpreter(Config())
    logger = manager.getLogger("subinterp_asgi.error")
    logger.info("from %s", "here")
    logger.debug("too fine")
    assert capfd.readouterr().err == "INFO: from here\n"


def test_a_traceback_is_part_of_the_record(
    manager: logging.Manager, capfd: pytest.CaptureFixture[str]
) -> None:
    access_log.configure_interpreter(Config())
    try:
        raise LookupError("words")
    except LookupError:
        manager.getLogger("subinterp_asgi.error").exception("failed")
    text = capfd.readouterr().err
    assert text.startswith("ERROR: failed\nTraceback")
    assert text.endswith("LookupError: words\n")


# --- where the application has configured logging


def test_an_applications_handler_gets_the_records_instead(manager: logging.Manager) -> None:
    handler = Collector()
    manager.root.addHandler(handler)
    access_log.configure_interpreter(Config())
    assert access_log.package_logger.handlers == []
    assert access_log.package_logger.propagate
    manager.getLogger("subinterp_asgi.error").info("words")
    assert [record.getMessage() for record in handler.records] == ["words"]


def test_an_applications_level_is_kept() -> None:
    access_log.package_logger.setLevel(logging.CRITICAL)
    access_log.configure_interpreter(Config(log_level="debug"))
    assert access_log.package_logger.level == logging.CRITICAL


# --- the access log


def test_the_access_line() -> None:
    handler = Collector()
    access_log.access_logger.addHandler(handler)
    access_log.access_logger.setLevel(logging.INFO)
    access_log.log_access(*REQUEST)
    (record,) = handler.records
    assert record.getMessage() == LINE
    assert record.levelno == logging.INFO
    assert record.name == "subinterp_asgi.access"


def test_a_client_without_an_address_and_a_status_without_a_name() -> None:
    handler = Collector()
    access_log.access_logger.addHandler(handler)
    access_log.access_logger.setLevel(logging.INFO)
    access_log.log_access(None, "PURGE", "*", "1.0", 299, 1.5)
    assert handler.records[0].getMessage() == '- - "PURGE * HTTP/1.0" 299 - 1500.0ms'


def test_a_logger_that_is_off_is_not_bothered() -> None:
    handler = Collector()
    access_log.access_logger.addHandler(handler)
    access_log.access_logger.setLevel(logging.WARNING)
    access_log.log_access(*REQUEST)
    assert handler.records == []


@pytest.mark.parametrize("client", [None, ("192.0.2.7", 4711), ("/run/s", None)])
@pytest.mark.parametrize("status", [200, 499, 599])
def test_the_direct_way_writes_the_same_line(
    client: tuple[str, int | None] | None, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    access_log.configure_interpreter(Config())
    access_log.log_access(client, "GET", "/", "1.1", status, 0.5)
    through_logging = capfd.readouterr().err
    access_log.log_access_directly(client, "GET", "/", "1.1", status, 0.5)
    assert capfd.readouterr().err == through_logging != ""


def test_the_direct_way_is_taken_where_nobody_can_tell_the_difference() -> None:
    access_log.configure_interpreter(Config())
    assert access_log.choose_access_log(own_interpreter=True) is access_log.log_access_directly
    assert access_log.choose_access_log(own_interpreter=False) is access_log.log_access


def test_any_configuration_of_the_applications_takes_the_records_way(
    manager: logging.Manager,
) -> None:
    manager.root.addHandler(Collector())
    access_log.configure_interpreter(Config())
    assert access_log.choose_access_log(own_interpreter=True) is access_log.log_access


def test_a_handler_or_level_of_the_access_logger_takes_the_records_way() -> None:
    access_log.configure_interpreter(Config())
    access_log.access_logger.setLevel(logging.ERROR)
    assert access_log.choose_access_log(own_interpreter=True) is access_log.log_access
    access_log.access_logger.setLevel(logging.NOTSET)
    access_log.access_logger.addHandler(Collector())
    assert access_log.choose_access_log(own_interpreter=True) is access_log.log_access


def test_a_log_level_above_info_silences_the_access_log(
    capfd: pytest.CaptureFixture[str],
) -> None:
    access_log.configure_interpreter(Config(log_level="warning"))
    access_log.choose_access_log(own_interpreter=True)(*REQUEST)
    assert capfd.readouterr().err == ""


# --- writing


def test_a_line_is_one_system_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Lines of several workers would mix otherwise."""
    calls: list[tuple[int, bytes]] = []

    def write(fd: int, data: bytes) -> int:
        calls.append((fd, data))
        return len(data)

    stderr = output.Output(os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT))
    monkeypatch.setattr(output, "stderr", stderr)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        access_log.write_line("höst \ud800 " + "x" * 100_000)
    assert stderr.fd is not None
    os.close(stderr.fd)
    assert calls == [(stderr.fd, "höst \\ud800 ".encode() + b"x" * 100_000 + b"\n")]


def test_a_closed_standard_error_is_nobodys_problem(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        """
        import logging, os
        from subinterp_asgi import Config; from subinterp_asgi.worker import access_log
        access_log.configure_interpreter(Config())
        os.close(2)
        access_log.write_line("lost")
        logging.getLogger("subinterp_asgi.error").error("lost too")
        print("still here")
        """,
    )
    assert (done.returncode, done.stdout) == (0, "still here\n")


# --- served


APP = """
    import logging
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError
        logging.getLogger("the_app").warning("from the application")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
"""

SCRIPT = """
    import json, logging, sys, urllib.request
    from subinterp_asgi import Supervisor
    before = [logging.root.handlers[:], logging.getLogger("subinterp_asgi").handlers[:],
              logging.getLogger("subinterp_asgi").level, logging.getLogger("subinterp_asgi").propagate]
    options = json.loads(sys.argv[1])
    with Supervisor("served:app", port=0, **options) as server:
        urllib.request.urlopen(server.url + "/here?a=b").close()
    after = [logging.root.handlers[:], logging.getLogger("subinterp_asgi").handlers[:],
             logging.getLogger("subinterp_asgi").level, logging.getLogger("subinterp_asgi").propagate]
    assert before == after, (before, after)
"""  # noqa: E501


def serve(tmp_path: Path, app: str = APP, **options: object) -> str:
    done = run_script(tmp_path, SCRIPT, json.dumps(options), files={"served.py": app})
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return done.stderr


def test_access_lines_really_appear_and_the_hosts_logging_is_untouched(tmp_path: Path) -> None:
    text = serve(tmp_path)
    assert '"GET /here?a=b HTTP/1.1" 200 OK ' in text
    assert text.count("\n") >= 1


def test_the_access_log_can_be_switched_off(tmp_path: Path) -> None:
    assert "GET" not in serve(tmp_path, access_log=False)


def test_an_applications_own_configuration_formats_access_lines(tmp_path: Path) -> None:
    configured = (
        "    import logging\n"
        "    logging.basicConfig(level='INFO', format='MINE %(name)s %(message)s')\n" + APP
    )
    text = serve(tmp_path, configured)
    assert "MINE subinterp_asgi.access 127.0.0.1:" in text
    assert "MINE the_app from the application" in text


def test_in_threads_the_hosts_logging_decides(tmp_path: Path) -> None:
    """Nothing is configured there, so that no record of the access log appears."""
    assert "GET" not in serve(tmp_path, isolation="thread")
