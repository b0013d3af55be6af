"""Checks of responses that tables name in their allowed outcomes."""

import datetime
import email.utils
import re
from collections.abc import Sequence
from typing import Any

from conformance import codec
from conformance.cases.model import Check
from conformance.client.responses import Framing, Response

_IMF_FIXDATE = re.compile(
    rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} "
    rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} "
    rb"[0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
)


def echo(index: int = 0, **expected: Any) -> Check:
    """Response number `index` is the echo application's and shows these values."""

    def check(responses: Sequence[Response], /) -> str | None:
        try:
            seen = codec.loads(responses[index].body)
        except ValueError:
            return f"response {index} is not the application's: {responses[index].body[:60]!r}"
        for name, value in expected.items():
            if seen.get(name) != value:
                return f"the app saw {name} = {seen.get(name)!r}, not {value!r}"
        return None

    return check


def header_seen(name: bytes, *values: bytes, index: int = 0) -> Check:
    """The application saw exactly these values of the field `name`, in this order."""

    def check(responses: Sequence[Response], /) -> str | None:
        try:
            seen = codec.loads(responses[index].body)["headers"]
        except (ValueError, KeyError, TypeError):
            return f"response {index} is not the application's"
        got = [bytes(value) for key, value in seen if key.lower() == name.lower()]
        return None if got == list(values) else f"the app saw {name!r}: {got!r}"

    return check


def header_one_of(name: bytes, *values: bytes) -> Check:
    """The application saw the field `name` once, with one of these values."""

    def check(responses: Sequence[Response], /) -> str | None:
        seen = codec.loads(responses[0].body)["headers"]
        got = [bytes(value) for key, value in seen if key.lower() == name.lower()]
        return None if len(got) == 1 and got[0] in values else f"the app saw {name!r}: {got!r}"

    return check


def paths(*expected: str) -> Check:
    """The responses come from the echo application, for these paths in this order."""

    def check(responses: Sequence[Response], /) -> str | None:
        for response, path in zip(responses, expected, strict=False):
            if response.framing is Framing.NONE:
                continue
            try:
                seen = codec.loads(response.body)["path"]
            except (ValueError, KeyError, TypeError):
                return f"no echo of {path}: {response.body[:60]!r}"
            if seen != path:
                return f"the response for {path} is that for {seen}"
        return None

    return check


def has(name: str, index: int = -1) -> Check:
    """The response carries the field `name`."""

    def check(responses: Sequence[Response], /) -> str | None:
        present = responses[index].values(name)
        return None if present else f"no {name} field in the {responses[index].status} response"

    return check


def lacks(name: str, index: int = -1) -> Check:
    """The response does not carry the field `name`."""

    def check(responses: Sequence[Response], /) -> str | None:
        values = responses[index].values(name)
        return f"{name}: {values!r} in the {responses[index].status} response" if values else None

    return check


def says_close(responses: Sequence[Response], /) -> str | None:
    """The last response carries the close option."""
    if b"close" in responses[-1].members("connection"):
        return None
    return "the last response does not say Connection: close"


def no_content(responses: Sequence[Response], /) -> str | None:
    """The first response has no content."""
    return f"content came: {responses[0].body[:40]!r}" if responses[0].body else None


def no_interim(responses: Sequence[Response], /) -> str | None:
    """No interim response was sent."""
    codes = [interim.status for response in responses for interim in response.interim]
    return f"interim responses {codes}" if codes else None


def one_continue(responses: Sequence[Response], /) -> str | None:
    """At most one 100 preceded the first response."""
    codes = [interim.status for interim in responses[0].interim]
    return None if codes in ([], [100]) else f"interim responses {codes}"


def dated(responses: Sequence[Response], /) -> str | None:
    """The last response has one Date field in the preferred format."""
    values = responses[-1].values("date")
    if len(values) != 1:
        return f"{len(values)} Date fields in the {responses[-1].status} response"
    if _IMF_FIXDATE.fullmatch(values[0]) is None:
        return f"Date is not an IMF-fixdate: {values[0]!r}"
    return None


def dated_now(responses: Sequence[Response], /) -> str | None:
    """The Date is the present time, to within a day of clock difference."""
    if problem := dated(responses):
        return problem
    value = responses[-1].values("date")[0].decode("ascii")
    then = email.utils.parsedate_to_datetime(value)
    off = abs((datetime.datetime.now(datetime.UTC) - then).total_seconds())
    return None if off < 86400 else f"Date is {off:.0f} s off"


def kept_or_closed(responses: Sequence[Response], /) -> str | None:
    """A persistent answer to HTTP/1.0 has to say keep-alive and be self-delimited."""
    response = responses[0]
    if response.framing is Framing.CLOSE:
        return None
    if response.framing is Framing.CHUNKED:
        return "chunked content was sent to an HTTP/1.0 client"
    return None


def framed_without_chunks(responses: Sequence[Response], /) -> str | None:
    """No Transfer-Encoding in any response."""
    for response in responses:
        if response.values("transfer-encoding"):
            return "Transfer-Encoding was sent to an HTTP/1.0 client"
    return None
