"""``config.log_rotation``: which files are opened anew, and what becomes of those that can't be."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from subinterp_asgi.config import log_rotation

type Log = Callable[..., logging.Logger]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """Makes a logger that writes the file ``log``."""
    made: list[logging.FileHandler] = []

    def make(**options: object) -> logging.Logger:
        handler = logging.FileHandler(tmp_path / "log", **options)  # type: ignore[arg-type]
        made.append(handler)
        logger = logging.getLogger("tests.rotated")
        logger.propagate = False
        logger.addHandler(handler)
        return logger

    yield make
    for handler in made:
        logging.getLogger("tests.rotated").removeHandler(handler)
        handler.close()


def test_a_file_that_was_renamed(tmp_path: Path, log: Log) -> None:
    logger = log()
    logger.warning("one")
    (tmp_path / "log").rename(tmp_path / "log.1")
    logger.warning("two")
    log_rotation.reopen()
    logger.warning("three")
    assert (tmp_path / "log.1").read_text() == "one\ntwo\n"
    assert (tmp_path / "log").read_text() == "three\n"


def test_a_file_that_another_one_has_taken_the_place_of(tmp_path: Path, log: Log) -> None:
    logger = log()
    (tmp_path / "log").rename(tmp_path / "log.1")
    (tmp_path / "log").write_text("made by logrotate\n")
    log_rotation.reopen()
    logger.warning("one")
    assert (tmp_path / "log").read_text() == "made by logrotate\none\n"


@pytest.mark.parametrize("delay", [True, False])
def test_a_file_that_is_in_place_is_not_emptied(tmp_path: Path, log: Log, delay: bool) -> None:
    logger = log(mode="w", delay=delay)
    if not delay:
        logger.warning("one")
    log_rotation.reopen()
    logger.warning("two")
    assert (tmp_path / "log").read_text() == ("" if delay else "one\n") + "two\n"


def test_a_file_that_can_not_be_opened(
    tmp_path: Path, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    logger = log()
    (tmp_path / "log").rename(tmp_path / "log.1")
    (tmp_path / "log").mkdir()
    log_rotation.reopen()
    logger.warning("one")
    assert (tmp_path / "log.1").read_text() == "one\n"
    (message,) = (r.getMessage() for r in caplog.records if r.name == "subinterp_asgi.error")
    assert message.startswith("a log can't be opened anew, and the file that was open is written")
    assert str(tmp_path / "log") in message


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full disk at hand")
def test_a_file_on_a_full_disk_is_let_go(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What it could not take is lost; open it would go on to fill the disk, though removed."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    (tmp_path / "log").symlink_to("/dev/full")
    logger = log()
    (handler,) = (each for each in logger.handlers if type(each) is logging.FileHandler)
    old = handler.stream
    logger.warning("one")
    (tmp_path / "log").unlink()
    log_rotation.reopen()
    logger.warning("two")
    assert old.closed
    assert (tmp_path / "log").read_text() == "two\n"
    assert "what was last logged is lost" in caplog.text
