"""Log records as octets and back."""

from __future__ import annotations

import enum
import logging
import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subinterp_asgi.control import log_records

ANY_TEXT = st.text(st.characters(codec=None, categories=None))  # surrogates and NULs too


def make(msg: Any = "words", *args: Any, **attributes: Any) -> logging.LogRecord:
    record = logging.LogRecord("a.logger", logging.INFO, "/dir/file.py", 12, msg, args, None, "run")
    vars(record).update(attributes)
    return record


def carry(record: logging.LogRecord, own_thread: int | None = None) -> logging.LogRecord:
    (fields,) = log_records.take(bytearray(log_records.encode(record, own_thread)))
    return log_records.rebuild(fields, "its own")


def failing() -> Any:
    try:
        raise LookupError("wörds \ud800 \0")
    except LookupError:
        return sys.exc_info()


class Hostile:
    def __str__(self) -> str:
        raise ZeroDivisionError("never shown")

    __repr__ = __str__


# --- what arrives


def test_a_record_arrives_with_all_its_attributes() -> None:
    record = make("%s and %d", "one", 2)
    there = carry(record)
    same = set(vars(record)) - {"relativeCreated", "msecs"}
    assert {name: vars(there)[name] for name in same} == {name: vars(record)[name] for name in same}
    assert there.getMessage() == "one and 2"
    assert there.msecs == pytest.approx(record.msecs, abs=1.01)  # 3.12 began to truncate it
    assert there.relativeCreated == pytest.approx(record.relativeCreated, abs=1)


def test_it_looks_the_same_once_formatted() -> None:
    text = "%(asctime)s %(levelname)s %(name)s %(module)s %(threadName)s %(process)d %(message)s"
    formatter = logging.Formatter(text)
    record = make("fails: %s", "why", exc_info=failing(), stack_info="Stack:\n  here")
    assert formatter.format(carry(record)) == formatter.format(record)


@pytest.mark.parametrize(
    "args",
    [("one", 2, 0.5, None, True, b"x"), ({"name": "ä"},), ("a\0\ud800",), ("100 %",), (2**70,)],
)
def test_arguments_arrive_that_are_plain(args: tuple[Any, ...]) -> None:
    msg = "%(name)s" if isinstance(args[0], dict) else " %s" * len(args)
    record = make(msg, *args)
    there = carry(record)
    assert (there.msg, there.args, there.getMessage()) == (msg, record.args, record.getMessage())


class Half:
    def __str__(self) -> str:
        return "half"

    def __repr__(self) -> str:
        return "Half()"

    def __float__(self) -> float:
        return 0.5


def test_others_arrive_as_text_if_that_says_the_same() -> None:
    there = carry(make("%s of %d", Half(), 3))
    assert (there.msg, there.args, there.getMessage()) == ("%s of %d", ("half", 3), "half of 3")
    for msg, text in {"%r": "Half()", "%.2f": "0.50"}.items():
        there = carry(make(msg, Half()))
        assert (there.msg, there.args, there.getMessage()) == (text, (), text)


def test_huge_arguments_do_not_cost_the_record() -> None:
    there = carry(make("%.3s", "x" * 2_000_000))
    assert there.getMessage() == "xxx"


def test_an_exception_is_stood_for() -> None:
    """By what has its name, for those who report and group by that, and its traceback as a note."""

    class InnerError(KeyError):
        pass

    try:
        raise InnerError("wörds")
    except InnerError:
        record = make(exc_info=sys.exc_info())
    there = carry(record)
    assert there.exc_info is not None
    kind, value, traceback = there.exc_info
    assert kind is type(value)
    assert issubclass(kind, log_records.RemoteException)
    assert (kind.__module__, kind.__qualname__) == (InnerError.__module__, InnerError.__qualname__)
    assert kind.__name__ == "InnerError"
    assert str(value) == "'wörds'"
    assert traceback is None
    assert value.__notes__ == [there.exc_text]
    again = carry(record).exc_info
    assert again is not None
    assert again[0] is kind
    assert "in test_an_exception_is_stood_for" in logging.Formatter().formatException(
        there.exc_info
    )


def test_there_may_be_no_exception() -> None:
    for exc_info in ((None, None, None), ("not", "an", "exception")):
        assert carry(make(exc_info=exc_info)).exc_info is None


def test_a_traceback_is_text() -> None:
    record = make(exc_info=failing())
    there = carry(record)
    assert there.exc_text is not None
    assert there.exc_text.endswith("LookupError: wörds \ud800 \0")
    assert record.exc_text is None  # which would be what other handlers show


def test_a_traceback_that_another_handler_has_formatted_is_taken_over() -> None:
    assert carry(make(exc_info=failing(), exc_text="formatted")).exc_text == "formatted"


def test_the_workers_own_thread_is_named_by_the_host() -> None:
    record = make()
    assert carry(record, threading.get_ident()).threadName == "its own"
    assert carry(record, threading.get_ident()).thread == threading.get_ident()
    assert carry(record, 1).threadName == record.threadName


def test_what_was_added_to_a_record_arrives() -> None:
    extra = {"request_id": "ä\0", "count": 3, "ratio": 0.5, "yes": True, "none": None, "raw": b"x"}
    there = carry(make(**extra, asctime="no", message="no"))
    assert {name: vars(there)[name] for name in extra} == extra
    assert not hasattr(there, "asctime")


def test_what_was_added_and_is_no_plain_value_arrives_as_text() -> None:
    endless: list[Any] = []
    endless.append(endless)
    there = carry(make(listed=[1, "two"], endless=endless, hostile=Hostile()))
    assert (there.listed, there.endless) == ("[1, 'two']", "[[...]]")  # type: ignore[attr-defined]
    assert there.hostile == "<Hostile>"  # type: ignore[attr-defined]


def test_subclasses_of_plain_types_are_no_obstacle() -> None:
    class Level(enum.IntEnum):
        LOUD = 35

    class Text(str):
        __slots__ = ()

        def __str__(self) -> str:
            return self

    class Number(float):
        pass

    record = make(
        Text("text"), levelno=Level.LOUD, name=Text("n"), created=Number(1.5), mood=Level.LOUD
    )
    there = carry(record)
    assert (there.msg, there.levelno, there.name, there.created) == ("text", 35, "n", 1.5)
    assert type(there.levelno) is int
    assert there.mood == 35  # type: ignore[attr-defined]


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_any_text_arrives_as_it_is(text: str, name: str, extra: str) -> None:
    there = carry(make(text, name=name, extra=extra))
    assert (there.getMessage(), there.name) == (text, name)
    assert there.extra == extra  # type: ignore[attr-defined]


# --- what is not as it should be


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (make("%d", "word"), "%d (can't be formatted: TypeError: "),
        (make("%s", Hostile()), "%s (can't be formatted: ZeroDivisionError: never shown)"),
        (make(Hostile()), "<Hostile> (can't be formatted: ZeroDivisionError: never shown)"),
    ],
)
def test_a_message_that_cannot_be_formatted(record: logging.LogRecord, expected: str) -> None:
    assert carry(record).getMessage().startswith(expected)


def test_a_traceback_that_cannot_be_formatted() -> None:
    there = carry(make(exc_info=("not", "an", "exception")))
    assert there.exc_text is not None
    assert there.exc_text.startswith("(the traceback can't be shown: ")


def test_what_is_huge_is_cut() -> None:
    big = "x" * 1_000_000
    frame = log_records.encode(make(big, exc_text=big + "the end", stack_info=big))
    assert len(frame) < log_records.MAX_FRAME
    (fields,) = log_records.take(bytearray(frame))
    there = log_records.rebuild(fields, "")
    assert there.getMessage().endswith("x... (737856 characters more)")
    assert there.exc_text is not None
    assert there.exc_text.endswith("x" * 1000 + "the end")


# --- frames


def test_frames_come_in_pieces() -> None:
    stream = b"".join(log_records.encode(make(str(number))) for number in range(20))
    buffer = bytearray()
    texts = []
    for index in range(0, len(stream), 7):
        buffer += stream[index : index + 7]
        texts += [log_records.rebuild(f, "").getMessage() for f in log_records.take(buffer)]
    assert texts == [str(number) for number in range(20)]
    assert buffer == b""


@pytest.mark.parametrize(
    "octets",
    [
        b"a line of text that somebody wrote\n",
        b"\0" * 100,
        b"\xf5log\xff\xff\xff\xff",
        b"\xf5log\1\0\0\0?",
        b"\xf5log\1\0\0\0[",
        b"\xf5log\1\0\0\0c",  # code is refused before it is read
    ],
)
def test_what_are_no_frames_is_an_error(octets: bytes) -> None:
    with pytest.raises(ValueError, match=r"no records|marshal"):
        log_records.take(bytearray(octets))


@given(st.binary(min_size=8, max_size=200))
def test_what_has_no_mark_is_not_even_looked_at(octets: bytes) -> None:
    with pytest.raises(ValueError, match="no records"):
        log_records.take(bytearray(octets))
