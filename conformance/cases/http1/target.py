"""The request target in its four forms, and what the application gets of it."""

from collections.abc import Sequence

from conformance.cases.checks import echo, has, header_seen
from conformance.cases.model import (
    Answers,
    Check,
    Dropped,
    End,
    Level,
    Outcome,
    Table,
    refused,
    served,
)
from conformance.client.messages import CANARY, HOST, request
from conformance.client.responses import Response

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

table = Table("target", "RFC 9112 §3.2")
add = table.wire

# -- origin-form -------------------------------------------------------------------------

add(
    "origin-form",
    MUST,
    "Path and query of an origin-form target reach the application.",
    request(b"/a/b?x=1&y=2"),
    served(echo(path="/a/b", query_string=b"x=1&y=2")),
    section="RFC 9112 §3.2.1",
)
add(
    "empty-query",
    MUST,
    "An empty query is a legal one.",
    request(b"/a?"),
    served(echo(path="/a", query_string=b"")),
    section="RFC 9112 §3.2.1",
)
add(
    "question-mark-in-query",
    MUST,
    "Slashes and question marks are legal inside a query; the first ? begins it.",
    request(b"/a?b?c/d"),
    served(echo(path="/a", query_string=b"b?c/d")),
    section="RFC 3986 §3.4",
)
add(
    "all-pchar",
    MUST,
    "Every pchar is legal in a path.",
    request(b"/-._~!$&'()*+,;=:@azAZ09"),
    served(echo(path="/-._~!$&'()*+,;=:@azAZ09")),
    section="RFC 3986 §3.3",
)
add(
    "empty-segments",
    MUST,
    "Empty segments are legal and not an authority.",
    request(b"//evil.example//x"),
    served(echo(path="//evil.example//x")),
    section="RFC 9112 §3.2.1",
)
add(
    "colon-in-path",
    MUST,
    "A path may look like a URL without being one.",
    request(b"/http://other.example/x"),
    served(echo(path="/http://other.example/x")),
    section="RFC 9112 §3.2.1",
)
add(
    "dot-segments",
    SHOULD,
    "Dot segments are left to the application, or removed; never an error of the server.",
    request(b"/a/../b/./c"),
    [served(echo(path="/a/../b/./c")), served(echo(path="/b/c")), refused(end=End.ANY)],
    section="RFC 3986 §5.2.4",
)
add(
    "encoded-slash",
    MUST,
    "An encoded slash is data: the raw path keeps it apart.",
    request(b"/a%2Fb"),
    served(echo(raw_path=b"/a%2Fb")),
    section="RFC 3986 §2.2",
)

_REFUSED: dict[str, tuple[bytes, str]] = {
    "nul": (b"/a\x00b", "RFC 9112 §3.2"),
    "control": (b"/a\x01b", "RFC 9112 §3.2"),
    "escape": (b"/a\x1b[0m", "RFC 9112 §3.2"),
    "del": (b"/a\x7fb", "RFC 9112 §3.2"),
    "non-ascii-utf8": ("/café".encode(), "RFC 9112 §3.2"),
    "non-ascii-octet": (b"/a\xffb", "RFC 9112 §3.2"),
    "non-ascii-query": (b"/a?q=\xc3\xa9", "RFC 9112 §3.2"),
    "control-in-query": (b"/a?q=\x02", "RFC 9112 §3.2"),
    "fragment": (b"/a#fragment", "RFC 9112 §3.2.1"),
    "percent-alone": (b"/a%", "RFC 3986 §2.1"),
    "percent-one-digit": (b"/a%4", "RFC 3986 §2.1"),
    "percent-not-hex": (b"/a%zz", "RFC 3986 §2.1"),
    "percent-u": (b"/a%u0041", "RFC 3986 §2.1"),
    "no-slash": (b"index.html", "RFC 9112 §3.2.1"),
    "only-query": (b"?a=b", "RFC 9112 §3.2.1"),
    "backslash-first": (b"\\index", "RFC 9112 §3.2.1"),
}
for name, (octets, section) in _REFUSED.items():
    add(
        f"bad-{name}",
        SHOULD,
        "A target outside the URI grammar makes the request line invalid: 400 (or a "
        "redirect to what it should have been), no autocorrection.",
        request(octets) + CANARY,
        refused(400, 301),
        section=section,
    )
add(
    "bad-bare-cr",
    MUST,
    "A bare CR in the target is invalid, or replaced by SP (and then invalid).",
    request(b"/a\rb") + CANARY,
    refused(400, 301),
    section="RFC 9112 §2.2",
)


def _kept(target: bytes) -> list[Outcome]:
    return [served(echo(raw_path=target), end=End.ANY), refused(400, 301, end=End.ANY)]


for name, octets in {
    "double-quote": b'/"quoted"',
    "angle-brackets": b"/<x>",
    "backslash": b"/a\\b",
    "caret": b"/a^b",
    "backtick": b"/a`b",
    "braces": b"/{id}",
    "pipe": b"/a|b",
    "square-brackets": b"/a[0]",
}.items():
    add(
        f"unwise-{name}",
        MAY,
        "Printable ASCII that belongs percent-encoded is refused, or kept as it came.",
        request(octets),
        _kept(octets),
        section="RFC 3986 §2.2, §3.3",
    )
for name, octets in {
    "encoded-nul": b"/a%00b",
    "encoded-crlf": b"/a%0d%0aX-Injected:1",
    "encoded-invalid-utf8": b"/a%ffb",
    "encoded-overlong-slash": b"/a%c0%afb",
    "encoded-surrogate": b"/a%ed%a0%80b",
    "encoded-percent": b"/a%2525",
}.items():

    def _no_slip(responses: Sequence[Response], /) -> str | None:
        injected = [r for r in responses if r.values("x-injected")]
        return "an encoded line break became a real one" if injected else None

    checks: tuple[Check, ...] = (echo(raw_path=octets), _no_slip)
    add(
        name,
        MUST,
        "Escapes of dangerous octets are data: refused, or kept in the raw path; they neither "
        "break the server nor its framing.",
        request(octets),
        [served(*checks), refused(400, end=End.ANY)],
        section="RFC 3986 §7.3",
    )
add(
    "overlong-not-decoded",
    MUST,
    "An overlong UTF-8 form is not decoded to the character it imitates.",
    request(b"/x/%c0%ae%c0%ae%c0%afy"),
    [
        served(lambda responses, /: _imitated(responses)),
        refused(400, end=End.ANY),
    ],
    section="RFC 3629 §3, §10",
)


def _imitated(responses: Sequence[Response], /) -> str | None:
    return (echo(path="/x/../y")(responses) is None and "the overlong form was decoded") or None


# -- absolute-form -----------------------------------------------------------------------

add(
    "absolute-form",
    MUST,
    "A server accepts the absolute form; the path is that of the URI.",
    request(b"http://conformance.example/a/b?x=1"),
    served(echo(path="/a/b", query_string=b"x=1")),
    section="RFC 9112 §3.2.2",
)
add(
    "absolute-form-no-path",
    MUST,
    "An empty path in the absolute form means /.",
    request(b"http://conformance.example"),
    served(echo(path="/")),
    section="RFC 9112 §3.2.2, RFC 9110 §4.2.3",
)
add(
    "absolute-form-no-path-query",
    MUST,
    "A query may follow the authority directly.",
    request(b"http://conformance.example?q=1"),
    served(echo(path="/", query_string=b"q=1")),
    section="RFC 9112 §3.2.2, RFC 9110 §4.2.3",
)
add(
    "absolute-form-scheme-case",
    MUST,
    "Schemes are case-insensitive.",
    request(b"HTTP://conformance.example/a"),
    served(echo(path="/a")),
    section="RFC 9112 §3.2.2, RFC 9110 §4.2.3",
)
add(
    "absolute-form-port",
    MUST,
    "The authority of the absolute form may have a port.",
    request(b"http://conformance.example:8080/a"),
    served(echo(path="/a")),
    section="RFC 9112 §3.2.2",
)
add(
    "absolute-form-wins",
    MUST,
    "The authority of the absolute form is used instead of a differing Host field, so "
    "that is the host which the application sees.",
    request(b"http://target.example/a", host=b"Host: other.example\r\n"),
    served(echo(path="/a"), header_seen(b"host", b"target.example")),
    section="RFC 9112 §3.2.2",
)
add(
    "absolute-form-needs-host",
    MUST,
    "HTTP/1.1 demands the Host field also with an absolute target: 400.",
    request(b"http://conformance.example/a", host=b""),
    refused(end=End.ANY),
    section="RFC 9112 §3.2",
)
add(
    "absolute-form-empty-host",
    MUST,
    "An http URI with an empty host is invalid and rejected.",
    request(b"http:///a"),
    refused(end=End.ANY),
    section="RFC 9110 §4.2.1",
)
add(
    "absolute-form-userinfo",
    SHOULD,
    "Userinfo in an http URI from an untrusted source is an error.",
    request(b"http://user:pass@conformance.example/a"),
    refused(end=End.ANY),
    section="RFC 9110 §4.2.4",
)
add(
    "absolute-form-bad-port",
    SHOULD,
    "An authority with a port that is no number is no valid URI: 400.",
    request(b"http://conformance.example:port/a"),
    refused(),
    section="RFC 9112 §3.2.2",
)
add(
    "absolute-form-fragment",
    SHOULD,
    "A fragment is no part of absolute-URI: 400.",
    request(b"http://conformance.example/a#b"),
    refused(),
    section="RFC 9112 §3.2.2",
)
add(
    "absolute-form-other-scheme",
    MAY,
    "A URI of another scheme is refused or served, not a fault of the server.",
    request(b"ftp://conformance.example/a"),
    Answers((frozenset({200, 400, 404, 421, 501}),)),
    section="RFC 9110 §7.4",
)

# -- authority-form and asterisk-form ----------------------------------------------------

add(
    "authority-form-get",
    SHOULD,
    "The authority form is for CONNECT only: 400.",
    request(b"conformance.example:80") + CANARY,
    refused(),
    section="RFC 9112 §3.2.3",
)
_NO_TUNNEL = frozenset({400, 403, 404, 405, 421, 501})
add(
    "connect",
    MUST,
    "An origin server that makes no tunnel does not answer CONNECT with 2xx.",
    request(b"conformance.example:80", method=b"CONNECT"),
    Answers((_NO_TUNNEL,)),
    section="RFC 9110 §9.3.6",
    methods=["CONNECT"],
)


def _allow_with_405(responses: Sequence[Response], /) -> str | None:
    return has("allow")(responses) if responses[0].status == 405 else None


add(
    "connect-405-allow",
    MUST,
    "A 405 that the server makes lists the allowed methods.",
    request(b"conformance.example:80", method=b"CONNECT"),
    Answers((_NO_TUNNEL,), End.ANY, (_allow_with_405,)),
    section="RFC 9110 §15.5.6",
    methods=["CONNECT"],
)
for name, octets in {
    "connect-no-port": b"conformance.example",
    "connect-empty-port": b"conformance.example:",
    "connect-bad-port": b"conformance.example:http",
}.items():
    add(
        name,
        MUST,
        "CONNECT with an empty or invalid port is rejected.",
        request(octets, method=b"CONNECT"),
        Answers((_NO_TUNNEL,)),
        section="RFC 9110 §9.3.6",
        methods=["CONNECT"],
    )
add(
    "connect-origin-form",
    SHOULD,
    "CONNECT takes no path.",
    request(b"/", method=b"CONNECT"),
    Answers((_NO_TUNNEL,)),
    section="RFC 9112 §3.2.3",
    methods=["CONNECT"],
)
add(
    "asterisk-options",
    MUST,
    "OPTIONS * is well-formed: it is served, or not implemented, but not malformed.",
    request(b"*", method=b"OPTIONS"),
    Answers((frozenset({200, 204, 404, 405, 501}),), End.OPEN),
    section="RFC 9112 §3.2.4",
)
for method in (b"GET", b"POST"):
    add(
        f"asterisk-{method.decode().lower()}",
        SHOULD,
        "The asterisk form is for OPTIONS only.",
        request(b"*", method=method),
        refused(400, 404, 405, 501, end=End.ANY),
        section="RFC 9112 §3.2.4",
    )
add(
    "asterisk-prefix",
    SHOULD,
    "A target that only begins with an asterisk has no valid form.",
    b"OPTIONS *x HTTP/1.1\r\n" + HOST + b"\r\n" + CANARY,
    [refused(), Dropped()],
    section="RFC 9112 §3.2.4",
)
