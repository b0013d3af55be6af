"""That nothing which a client or the application sends spoils the log: every atom, every form."""

from __future__ import annotations

import base64
import json
import re
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subinterp_asgi import Config
from subinterp_asgi.http1.heads import HeadParser
from subinterp_asgi.types import Address
from subinterp_asgi.worker import access_log
from subinterp_asgi.worker.asgi.notes import Notes
from subinterp_asgi.worker.detailed_log import _ATOMS, make_detailed_log

SPOILT = bytes(range(0x20)) + b' "\\ \x7f\x80\x9b31m\xe9\xff \xe2\x80\xa8'
"""Controls, a quote, a backslash, DEL, C1 controls (CSI is one), UTF-8 of a line separator."""
TOLD = (
    "".join(f"\\x{octet:02X}" for octet in range(0x20))
    + r" \x22\x5C \x7F\x80\x9B31m\xE9\xFF \xE2\x80\xA8"
)
PRINTABLE = re.compile(r"[ -~]*")


def request(target: bytes = b"/", *fields: tuple[bytes, bytes]) -> Any:
    """A request as the parser makes it."""
    lines = b"".join(b"%b: %b\r\n" % field for field in ((b"host", b"h"), *fields))
    return HeadParser().parse(b"GET %b HTTP/1.1\r\n%b\r\n" % (target, lines))


def line_of(
    form: str | None,
    parsed: Any,
    *,
    client: Address | None = ("192.0.2.7", 4711),
    sent: tuple[tuple[Any, Any], ...] = (),
    **options: Any,
) -> str:
    """What the log says of a request."""
    notes = Notes()
    notes.fields = sent
    served: Any = SimpleNamespace(request=parsed, client=client, notes=notes)
    config = Config(access_log_format=form, **options)
    lines: list[str] = []
    with mock.patch.object(access_log, "write_line", lines.append):
        make_detailed_log(config, access_log.log_access_directly)(served, 200, 0.5)
    (line,) = lines
    return line


def basic(user: bytes) -> tuple[bytes, bytes]:
    return b"authorization", b"Basic " + base64.b64encode(user + b":secret")


# What a client can put into a field, or a target: the parser refuses the rest.
FIELD, FIELD_TOLD = b'a"b\\c\td \x80\x9b31m\xe9', r"a\x22b\x5Cc\x09d \x80\x9B31m\xE9"
TARGET, TARGET_TOLD = b'/a"b\\c?d"e\\f', r"/a\x22b\x5Cc?d\x22e\x5Cf"

# Each atom with what was made to spoil it, and what it says then; a new one has to be put here.
ATOMS: dict[str, tuple[dict[str, Any], str | re.Pattern[str]]] = {
    "h": ({"client": ("/run/" + SPOILT.decode("utf-8", "surrogateescape"), None)}, "/run/" + TOLD),
    "l": ({}, "-"),
    "u": ({"fields": [basic(SPOILT)]}, TOLD),
    "t": ({}, re.compile(r"\[.*\]")),
    "r": ({"target": TARGET}, f"GET {TARGET_TOLD} HTTP/1.1"),
    "m": ({}, "GET"),
    "U": ({"target": TARGET}, TARGET_TOLD.partition("?")[0]),
    "q": ({"target": TARGET}, TARGET_TOLD.partition("?")[2]),
    "H": ({}, "HTTP/1.1"),
    "s": ({}, "200"),
    "B": ({}, "0"),
    "b": ({}, "-"),
    "f": ({"fields": [(b"referer", FIELD)]}, FIELD_TOLD),
    "a": ({"fields": [(b"user-agent", FIELD)]}, FIELD_TOLD),
    "T": ({}, "0"),
    "M": ({}, "500"),
    "D": ({}, "500000"),
    "L": ({}, "0.500000"),
    "p": ({}, re.compile(r"<\d+>")),
    "id": ({}, "-"),
    "{x-any}i": ({"fields": [(b"x-any", FIELD)]}, FIELD_TOLD),
    "{x-any}o": ({"sent": ((b"x-any", SPOILT),)}, TOLD),
}


def test_all_atoms_are_in_the_table() -> None:
    assert {atom for atom in ATOMS if "{" not in atom} == set(_ATOMS)


@pytest.mark.parametrize("atom", ATOMS)
def test_an_atom_is_escaped(atom: str) -> None:
    made, told = ATOMS[atom]
    parsed = request(made.get("target", b"/"), *made.get("fields", ()))
    others = {name: made[name] for name in ("client", "sent") if name in made}
    line = line_of(f'"%({atom})s"', parsed, **others)
    if isinstance(told, str):
        assert line == f'"{told}"'
    else:
        assert told.fullmatch(line.strip('"'))


@pytest.mark.parametrize("options", [{}, {"request_id_header": "x-request-id"}])
def test_the_default_line_is_escaped(options: Any) -> None:
    client = ('/run/a"\n\x1b[2J', None)
    line = line_of(None, request(TARGET), client=client, **options)
    what = rf'/run/a\x22\x0A\x1B[2J:None - "GET {TARGET_TOLD} HTTP/1.1" 200 OK 500.0ms'
    assert line.endswith(what)
    assert (
        access_log.ACCESS_MESSAGE
        % access_log.access_arguments(client, "GET", TARGET.decode(), "1.1", 200, 0.5)
        == what
    )


def test_what_is_usual_is_left_as_it_is() -> None:
    agent = b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko; it's) ~100%"
    parsed = request(b"/a%20b?c=d&e=%22", (b"user-agent", agent))
    assert line_of("%(r)s %(a)s", parsed) == f"GET /a%20b?c=d&e=%22 HTTP/1.1 {agent.decode()}"


targets = st.binary(max_size=20).map(
    lambda octets: b"/" + bytes(o for o in octets if 0x20 < o < 0x7F and o not in b"#%")
)
values = st.binary(max_size=20).map(
    lambda octets: bytes(o for o in octets if o in b"\t" or 0x20 <= o != 0x7F)
)
clients = st.sampled_from([None, ("192.0.2.7", 4711), ("2001:db8::1", 0)]) | st.binary(
    min_size=1, max_size=20
).map(lambda name: ("/" + name.decode("utf-8", "surrogateescape"), None))


@given(
    target=targets,
    value=values,
    user=st.binary(max_size=20),
    client=clients,
    sent=st.binary(max_size=20) | st.text(max_size=5) | st.none(),
)
def test_a_record_is_one_line_and_has_the_quotes_of_its_form(
    target: bytes, value: bytes, user: bytes, client: Address | None, sent: Any
) -> None:
    fields = [(b"referer", value), (b"user-agent", value), (b"x-any", value), basic(user)]
    parsed = request(target, *fields)
    form = " ".join(f'"%({atom})s"' for atom in ATOMS)
    line = line_of(form, parsed, client=client, sent=((b"x-any", sent),))
    assert PRINTABLE.fullmatch(line)
    assert len(re.findall('"[^"]*"', line)) == len(ATOMS)
    assert line.count('"') == 2 * len(ATOMS)

    line = line_of(None, parsed, client=client)
    assert PRINTABLE.fullmatch(line)
    assert line.count('"') == 2

    line = line_of("json", parsed, client=client)
    assert PRINTABLE.fullmatch(line)
    text = value.strip(b" \t").decode("latin-1")
    assert json.loads(line)["user_agent"] == (None if text == "-" else text)
