"""The connection scope of a request: every key's type and meaning."""

from collections.abc import Callable
from typing import Any

from conformance import codec
from conformance.cases.model import Level, Table
from conformance.client.errors import Mismatch, Skip
from conformance.client.lab import Lab, described
from conformance.client.messages import request

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

table = Table("asgi-scope", "ASGI HTTP: Connection Scope")

Seen = dict[str, Any]


def seen(
    name: str,
    level: Level,
    requirement: str,
    holds: Callable[[Seen], object],
    data: bytes = b"",
    section: str = "",
) -> None:
    """Add a case about what the echo application saw of one request."""

    @table.probe(name, level, requirement, section=section)
    async def check(lab: Lab) -> None:
        scope = await lab.describe(data or None)
        if not holds(scope):
            shown = {key: value for key, value in scope.items() if key not in ("events", "body")}
            raise Mismatch(f"the scope is {shown!r}")


# -- the scope itself --------------------------------------------------------------------

seen(
    "dict",
    MUST,
    "The scope is a dict whose keys are Unicode strings.",
    lambda s: s["scope_class"] == "dict" and all(isinstance(key, str) for key in s["keys"]),
    section="ASGI: Applications",
)
seen("type", MUST, "The type of an HTTP scope is `http`.", lambda s: s["type"] == "http")
seen(
    "asgi-version",
    MUST,
    "scope['asgi']['version'] is present and a string; single-callable applications are 3.x.",
    lambda s: isinstance(s["asgi"]["version"], str) and s["asgi"]["version"].startswith("3."),
    section="ASGI: Applications",
)
seen(
    "asgi-spec-version",
    SHOULD,
    "spec_version is a version of the HTTP specification.",
    lambda s: s["asgi"].get("spec_version", "2.0") in {"2.0", "2.1", "2.2", "2.3", "2.4", "2.5"},
)
seen(
    "extensions",
    MUST,
    "extensions, if present, is a dict of dicts with names as keys.",
    lambda s: all(
        isinstance(name, str) and isinstance(value, dict)
        for name, value in (s.get("extensions") or {}).items()
    ),
    section="ASGI: Extensions",
)
seen(
    "no-debug-extension",
    SHOULD,
    "The debug extension is for tests; servers do not offer it.",
    lambda s: "http.response.debug" not in (s.get("extensions") or {}),
    section="ASGI Extensions: Debug",
)


@table.probe(
    "tls-extension-matches",
    MUST,
    "The tls extension is present only on a TLS connection.",
    section="ASGI TLS: When to use this extension",
)
async def tls_extension(lab: Lab) -> None:
    extensions = (await lab.describe()).get("extensions") or {}
    if lab.target.tls is None and "tls" in extensions:
        raise Mismatch("tls is advertised on a plain connection")


@table.probe(
    "tls-extension-entries",
    MUST,
    "Its mandatory entries are there and every entry has its type.",
    section="ASGI TLS: TLS Connection Scope",
)
async def tls_entries(lab: Lab) -> None:
    extensions = (await lab.describe()).get("extensions") or {}
    if "tls" not in extensions:
        raise Skip("tls is not advertised")
    tls = extensions["tls"]
    for key, kind in (("server_cert", str), ("tls_version", int), ("cipher_suite", int)):
        if key not in tls or not isinstance(tls[key], (kind, type(None))):
            raise Mismatch(f"{key} is {tls.get(key, 'absent')!r}")
    if not all(isinstance(pem, str) for pem in tls.get("client_cert_chain", ())):
        raise Mismatch(f"client_cert_chain is {tls['client_cert_chain']!r}")
    for key in ("client_cert_name", "client_cert_error"):
        if not isinstance(tls.get(key), (str, type(None))):
            raise Mismatch(f"{key} is {tls[key]!r}")
    if tls["tls_version"] not in (None, 0x0303, 0x0304):
        raise Mismatch(f"tls_version is {tls['tls_version']!r}")


# -- method, version, scheme -------------------------------------------------------------

seen("http-version", MUST, "http_version is `1.1`.", lambda s: s["http_version"] == "1.1")
seen(
    "http-version-1.0",
    MUST,
    "http_version of an HTTP/1.0 request is `1.0`.",
    lambda s: s["http_version"] == "1.0",
    request(version=b"HTTP/1.0"),
)
seen(
    "method",
    MUST,
    "method is the method's name as an upper-case Unicode string.",
    lambda s: s["method"] == "DELETE",
    request(method=b"DELETE"),
)


@table.probe("scheme", MUST, "scheme is http or https, as the connection is.")
async def scheme(lab: Lab) -> None:
    value = (await lab.describe()).get("scheme", "http")
    if value != ("https" if lab.target.tls else "http"):
        raise Mismatch(f"scheme is {value!r}")


# -- path and query ----------------------------------------------------------------------

for name, raw, path in (
    ("plain", b"/a/b", "/a/b"),
    ("space", b"/a%20b", "/a b"),
    ("plus", b"/a+b", "/a+b"),
    ("utf8", b"/caf%C3%A9/%E2%82%AC", "/café/€"),
    ("utf8-4-octets", b"/%F0%9F%90%8D", "/\U0001f40d"),
    ("lower-case-hex", b"/%c3%a9", "/é"),
    ("slash", b"/a%2Fb", "/a/b"),
    ("percent", b"/100%25", "/100%"),
    ("decoded-once", b"/%2541", "/%41"),
    ("question-mark", b"/a%3Fb", "/a?b"),
):
    seen(
        f"path-{name}",
        MUST,
        "path is the target without query, percent-escapes and UTF-8 decoded, once.",
        lambda s, path=path: s["path"] == path,  # type: ignore[misc]
        request(raw + b"?x=%20"),
    )
    seen(
        f"raw-path-{name}",
        MUST,
        "raw_path, if given, is the path as received, a byte string without the query.",
        lambda s, raw=raw: s.get("raw_path") in (None, raw),  # type: ignore[misc]
        request(raw + b"?x=%20"),
    )
for name, target, query in (
    ("absent", b"/a", b""),
    ("empty", b"/a?", b""),
    ("undecoded", b"/a?b=%20+%C3%A9&c", b"b=%20+%C3%A9&c"),
    ("question-marks", b"/a?b?c=?", b"b?c=?"),
):
    seen(
        f"query-{name}",
        MUST,
        "query_string is the byte string after the first ?, still encoded.",
        lambda s, query=query: s["query_string"] == query,  # type: ignore[misc]
        request(target),
    )
seen(
    "root-path",
    MUST,
    "root_path, if given, is a Unicode string, and path begins with it.",
    lambda s: (
        isinstance(s.get("root_path", ""), str) and s["path"].startswith(s.get("root_path", ""))
    ),
)

# -- headers -----------------------------------------------------------------------------

seen(
    "headers-types",
    MUST,
    "headers is an iterable of pairs of byte strings.",
    lambda s: (
        all(
            len(pair) == 2 and isinstance(pair[0], bytes) and isinstance(pair[1], bytes)
            for pair in s["headers"]
        )
        and len(s["headers"]) >= 2
    ),
    request(b"/", b"X-A: b"),
)
seen(
    "headers-lower-case",
    SHOULD,
    "Names are lower-cased.",
    lambda s: all(name == name.lower() for name, _ in s["headers"]),
    request(b"/", b"X-Mixed-CASE: b"),
)
seen(
    "headers-repeated",
    MUST,
    "Repeated fields stay apart and in order, as received.",
    lambda s: [v for n, v in s["headers"] if n.lower() == b"x-a"] == [b"1", b"2, 3", b"1"],
    request(b"/", b"X-A: 1", b"X-B: 0", b"x-a: 2, 3", b"X-A: 1"),
)
seen(
    "headers-octets",
    MUST,
    "Values reach the application octet for octet.",
    lambda s: [v for n, v in s["headers"] if n.lower() == b"x-a"] == [b"\xe9 \xc3\xa9 \t!"],
    request(b"/", b"X-A: \xe9 \xc3\xa9 \t!"),
)
seen(
    "headers-host",
    MUST,
    "The Host field is among the headers.",
    lambda s: [v for n, v in s["headers"] if n.lower() == b"host"] == [b"conformance.example"],
)
seen(
    "headers-cookies",
    MUST,
    "Cookie fields are kept exactly as provided.",
    lambda s: [v for n, v in s["headers"] if n.lower() == b"cookie"] == [b"a=1; b=2", b"c=3"],
    request(b"/", b"Cookie: a=1; b=2", b"Cookie: c=3"),
    section="ASGI HTTP: HTTP",
)

# -- addresses ---------------------------------------------------------------------------


@table.probe("client", MUST, "client, if given, is the peer's address and integer port.")
async def client(lab: Lab) -> None:
    async with lab.connect() as connection:
        await connection.send(request())
        value = described(await connection.response()).get("client")
        if value is None:
            return
        host, port = connection.local
        if list(value) != [host, port] or not isinstance(value[1], int):
            raise Mismatch(f"client is {value!r}, we are {host}:{port}")


@table.probe("server", MUST, "server, if given, is the listening address and its integer port.")
async def server(lab: Lab) -> None:
    value = (await lab.describe()).get("server")
    if value is None:
        return
    if not isinstance(value[0], str) or len(value) != 2:
        raise Mismatch(f"server is {value!r}")
    if value[1] is not None and value[1] != lab.target.port:
        raise Mismatch(f"server is {value!r}, the port is {lab.target.port}")


@table.probe(
    "fresh-per-request",
    MUST,
    "Requests on one connection have scopes of their own.",
    section="ASGI HTTP: Connection Scope",
)
async def fresh(lab: Lab) -> None:
    async with lab.connect() as connection:
        for _ in range(3):
            await connection.send(request(b"/probe/scope"))
            if codec.loads((await connection.response()).body)["left"]:
                raise Mismatch("the scope carries what an earlier request put into it")
        await connection.send(request(b"/describe"))
        last = described(await connection.response())
        if last["path"] != "/describe" or any(n == b"x-left" for n, _ in last["headers"]):
            raise Mismatch("an earlier request's change of its scope shows")
