"""``worker.proxies.headers``: what is believed of the fields that trusted proxies send."""

from __future__ import annotations

import ipaddress
import subprocess
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from subinterp_asgi.config.trust import TrustedProxies
from subinterp_asgi.types import Address
from subinterp_asgi.worker.proxies.headers import ProxyHeaders, RequestFacts
from tests.support import ROOT

PROXY: Address = ("10.0.0.1", 50000)
STRANGER: Address = ("203.0.113.9", 50001)
SERVER: Address = ("192.0.2.1", 8000)


# --- X-Forwarded-For -----------------------------------------------------------------------------


def apply(
    *fields: tuple[str, str],
    allow: str = "10.0.0.0/8",
    client: Address | None = PROXY,
    server: Address | None = SERVER,
    scheme: str = "http",
    header: str = "x-forwarded",
    host: bool = False,
) -> RequestFacts:
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in fields]
    before = list(headers)
    proxies = ProxyHeaders(TrustedProxies(allow), header=header, host=host)  # type: ignore[arg-type]
    facts = proxies.apply(headers, client, server, scheme)
    assert headers == before
    return facts


def client_of(*values: str, allow: str = "10.0.0.0/8", client: Address | None = PROXY) -> object:
    fields = [("X-Forwarded-For", value) for value in values]
    found, server, scheme, host = apply(*fields, allow=allow, client=client)
    assert (server, scheme, host) == (SERVER, "http", None)
    return found


EVERY_FIELD = (
    ("X-Forwarded-For", "198.51.100.7"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "example.com"),
    ("X-Forwarded-Port", "8443"),
    ("Forwarded", "for=198.51.100.7;proto=https;host=example.com"),
)


@pytest.mark.parametrize("header", ["x-forwarded", "forwarded"])
@pytest.mark.parametrize("client", [STRANGER, None, ("::ffff:203.0.113.9", 1), ("", 1)])
def test_nothing_is_believed_of_who_is_not_trusted(client: Address | None, header: str) -> None:
    facts = apply(*EVERY_FIELD, client=client, header=header, host=True)
    assert facts == (client, SERVER, "http", None)


@pytest.mark.parametrize("header", ["x-forwarded", "forwarded"])
def test_without_the_fields_nothing_changes(header: str) -> None:
    assert apply(("Host", "a"), header=header, host=True) == (PROXY, SERVER, "http", None)


def test_believes_tells_beforehand() -> None:
    proxies = ProxyHeaders(TrustedProxies("10.0.0.1,unix"))
    assert proxies.believes(PROXY)
    assert proxies.believes(None)
    assert not proxies.believes(STRANGER)


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("198.51.100.7", ("198.51.100.7", 0)),
        ("198.51.100.7:4711", ("198.51.100.7", 4711)),
        ("2001:db8::7", ("2001:db8::7", 0)),
        ("2001:DB8:0:0:0:0:0:7", ("2001:db8::7", 0)),
        ("[2001:db8::7]", ("2001:db8::7", 0)),
        ("[2001:db8::7]:4711", ("2001:db8::7", 4711)),
        ("::ffff:198.51.100.7", ("::ffff:198.51.100.7", 0)),
        ("  198.51.100.7\t", ("198.51.100.7", 0)),
        # Lists are read from their end, over the trusted proxies.
        ("198.51.100.7, 10.0.0.2", ("198.51.100.7", 0)),
        ("198.51.100.7,10.0.0.2:80 , [::ffff:10.0.0.3]", ("198.51.100.7", 0)),
        ("6.6.6.6, 198.51.100.7", ("198.51.100.7", 0)),
        ("10.0.0.2, 198.51.100.7", ("198.51.100.7", 0)),
        ("6.6.6.6, 198.51.100.7, 10.0.0.2", ("198.51.100.7", 0)),
        # A client which is itself a trusted address.
        ("10.0.0.3, 10.0.0.2", ("10.0.0.3", 0)),
        # Empty elements of lists don't count (RFC 9110 section 5.6.1.2).
        (", 198.51.100.7 ,, 10.0.0.2,", ("198.51.100.7", 0)),
        # Nobody to be named.
        ("unknown", None),
        ("6.6.6.6, Unknown, 10.0.0.2", None),
        ("6.6.6.6, unix:", None),
    ],
)
def test_the_client_is_the_last_address_that_is_not_trusted(
    value: str, client: Address | None
) -> None:
    assert client_of(value) == client


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        " ",
        ",",
        "localhost",
        "example.com:80",
        "010.0.0.1",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "198.51.100.7:",
        "198.51.100.7:65536",
        "198.51.100.7:123456",
        "198.51.100.7:-1",
        "198.51.100.7:1:2",
        "198.51.100.7 8080",
        "198.51.100.7/32",
        "0x7f.1",
        "[198.51.100.7]",
        "[2001:db8::7",
        "2001:db8::7]",
        "[2001:db8::7]4711",
        "[2001:db8::7]:",
        "[fe80::1%eth0]",
        "fe80::1%1",
        "2001:db8:::7",
        ":",
        "_hidden",
        '"198.51.100.7"',
        "for=198.51.100.7",
        "<script>",
        "\xb2",
        "198.51.100.7\0",
        "1" * 5000,
    ],
)
def test_what_is_no_address_is_never_believed(garbage: str) -> None:
    assert client_of(garbage) == PROXY
    assert client_of(f"{garbage}, 10.0.0.2") == ("10.0.0.2", 0)
    assert client_of(f"{garbage}, 198.51.100.7") == ("198.51.100.7", 0)
    # Who wrote what stands before it can't be told.
    if garbage.strip(", "):
        assert client_of(f"6.6.6.6, {garbage}, 10.0.0.2") == ("10.0.0.2", 0)
        assert client_of(f"6.6.6.6, {garbage}", allow="*") == PROXY


def test_several_field_lines_are_one_list() -> None:
    assert client_of("6.6.6.6", "198.51.100.7", "10.0.0.3, 10.0.0.2") == ("198.51.100.7", 0)
    assert client_of("198.51.100.7", "10.0.0.2") == ("198.51.100.7", 0)


def test_where_all_are_trusted_the_first_is_the_client() -> None:
    assert client_of("198.51.100.7, 10.0.0.2", allow="*") == ("198.51.100.7", 0)


def test_a_peer_on_a_unix_socket() -> None:
    assert client_of("198.51.100.7", allow="unix", client=None) == ("198.51.100.7", 0)
    assert client_of("198.51.100.7", allow="*", client=None) == ("198.51.100.7", 0)
    assert client_of("198.51.100.7", allow="10.0.0.0/8", client=None) is None


def test_a_hop_through_a_unix_socket_is_a_proxy_if_those_are() -> None:
    allow = "10.0.0.0/8,unix"
    assert client_of("198.51.100.7, unix:", allow=allow) == ("198.51.100.7", 0)
    assert client_of("198.51.100.7, unix:, 10.0.0.2", allow=allow) == ("198.51.100.7", 0)
    assert client_of("unix:", allow=allow) is None


def test_a_trusted_name_is_passed_over_and_is_never_the_client() -> None:
    allow = "10.0.0.0/8,inner"
    assert client_of("198.51.100.7, inner, 10.0.0.2", allow=allow) == ("198.51.100.7", 0)
    assert client_of("inner, 10.0.0.2", allow=allow) == ("10.0.0.2", 0)
    assert client_of("198.51.100.7, inner2", allow=allow) == PROXY


# --- X-Forwarded-Proto ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "scheme", "expected"),
    [
        (["https"], "http", "https"),
        (["HTTPS"], "http", "https"),
        (["http"], "https", "http"),
        # A WebSocket is one, and anything else isn't, whatever the proxy calls it.
        (["wss"], "http", "https"),
        (["ws"], "https", "http"),
        (["https"], "ws", "wss"),
        (["wss"], "ws", "wss"),
        (["http"], "wss", "ws"),
        # The last value is what the peer has written.
        (["https, http"], "http", "http"),
        (["http , https\t"], "http", "https"),
        (["http", "https"], "http", "https"),
        (["https", "http"], "http", "http"),
        # And if it is nonsense those before it don't count either.
        (["https, ftp"], "http", "http"),
        (["https", ""], "http", "http"),
        (["https,"], "http", "http"),
        (["ftp"], "http", "http"),
        (["http s"], "https", "https"),
        (["\xdf"], "https", "https"),
        (["on"], "http", "http"),
    ],
)
def test_scheme(values: list[str], scheme: str, expected: str) -> None:
    fields = [("X-Forwarded-Proto", value) for value in values]
    assert apply(*fields, scheme=scheme) == (PROXY, SERVER, expected, None)


# --- X-Forwarded-Host and -Port ------------------------------------------------------------------


def test_host_and_port_are_believed_only_if_asked_for() -> None:
    facts = apply(*EVERY_FIELD)
    assert facts == (("198.51.100.7", 0), SERVER, "https", None)


@pytest.mark.parametrize(
    ("host", "port", "scheme", "server", "override"),
    [
        ("example.com", None, "http", ("example.com", 80), b"example.com"),
        ("example.com", None, "https", ("example.com", 443), b"example.com"),
        ("example.com", None, "wss", ("example.com", 443), b"example.com"),
        ("example.com:8443", None, "https", ("example.com", 8443), b"example.com:8443"),
        ("example.com:8443", "9", "https", ("example.com", 8443), b"example.com:8443"),
        ("example.com", "8443", "https", ("example.com", 8443), b"example.com:8443"),
        ("example.com:", "8443", "https", ("example.com", 8443), b"example.com:8443"),
        ("example.com", "443", "https", ("example.com", 443), b"example.com"),
        ("[2001:db8::1]", "8443", "https", ("2001:db8::1", 8443), b"[2001:db8::1]:8443"),
        ("[2001:db8::1]:81", None, "http", ("2001:db8::1", 81), b"[2001:db8::1]:81"),
        ("spoof.example, example.com", None, "http", ("example.com", 80), b"example.com"),
        # Only the port: the host was passed on.
        (None, "443", "https", ("192.0.2.1", 443), None),
        (None, "8443", "https", ("192.0.2.1", 8443), b"inside:8443"),
        (None, "80, 8443", "https", ("192.0.2.1", 8443), b"inside:8443"),
    ],
)
def test_host_and_port(
    host: str | None, port: str | None, scheme: str, server: Address, override: bytes | None
) -> None:
    fields = [("Host", "inside"), ("X-Forwarded-Proto", scheme)]
    fields += [("X-Forwarded-Host", host)] if host is not None else []
    fields += [("X-Forwarded-Port", port)] if port is not None else []
    kind = "ws" if scheme.startswith("w") else "http"
    assert apply(*fields, scheme=kind, host=True) == (PROXY, server, scheme, override)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "a b",
        "example.com, ",
        "user@example.com",
        "example.com/path",
        "example.com:x",
        "example.com:65536",
        ":80",
        "a.example b.example",
        "[::1",
        "[:::1]",
        "ex\xe4mple.com",
        "a\r\nb",
    ],
)
def test_what_can_not_be_a_host_is_not_believed(host: str) -> None:
    assert apply(("X-Forwarded-Host", host), host=True) == (PROXY, SERVER, "http", None)


@pytest.mark.parametrize("port", ["", "0", "-1", "65536", "123456", "x", "80 80", "443,"])
def test_what_can_not_be_a_port_is_not_believed(port: str) -> None:
    facts = apply(("Host", "inside"), ("X-Forwarded-Port", port), host=True)
    assert facts == (PROXY, SERVER, "http", None)


def test_a_port_alone_where_the_host_has_one_or_there_is_none() -> None:
    port = ("X-Forwarded-Port", "8443")
    own = apply(("Host", "inside:81"), port, host=True)
    assert own == (PROXY, ("192.0.2.1", 8443), "http", None)
    address = apply(("Host", "[::1]"), port, host=True)
    assert address[3] == b"[::1]:8443"
    assert apply(port, host=True) == (PROXY, ("192.0.2.1", 8443), "http", None)
    # A Unix socket has no port that could change.
    path: Address = ("/run/app.sock", None)
    assert apply(port, server=path, host=True) == (PROXY, path, "http", None)
    assert apply(port, server=None, host=True) == (PROXY, None, "http", None)


# --- Forwarded -----------------------------------------------------------------------------------


def test_only_one_family_of_fields_is_read() -> None:
    both = (
        ("X-Forwarded-For", "198.51.100.7"),
        ("X-Forwarded-Host", "x.example"),
        ("X-Forwarded-Port", "81"),
        ("Forwarded", "for=198.51.100.8;proto=https;host=f.example"),
    )
    assert apply(*both, host=True) == (
        ("198.51.100.7", 0), ("x.example", 81), "http", b"x.example:81"
    )  # fmt: skip
    assert apply(*both, header="forwarded", host=True) == (
        ("198.51.100.8", 0), ("f.example", 443), "https", b"f.example"
    )  # fmt: skip
    assert apply(*both, header="forwarded") == (("198.51.100.8", 0), SERVER, "https", None)


@pytest.mark.parametrize(
    ("values", "client", "scheme", "host"),
    [
        (["for=198.51.100.7;proto=https"], ("198.51.100.7", 0), "https", None),
        (['For="[2001:DB8::7]:4711"'], ("2001:db8::7", 4711), "http", None),
        (["for=198.51.100.7;proto=HTTPS;host=h"], ("198.51.100.7", 0), "https", b"h"),
        (["proto=https"], PROXY, "https", None),
        (["for=198.51.100.7;proto=gopher"], ("198.51.100.7", 0), "http", None),
        (['for=198.51.100.7;host="a b"'], ("198.51.100.7", 0), "http", None),
        # Over the trusted proxies to the last address that isn't one.
        (["for=6.6.6.6;proto=http;host=x, for=198.51.100.7;proto=https, for=10.0.0.2;host=h"],
         ("198.51.100.7", 0), "https", b"h"),
        (["for=6.6.6.6", "for=198.51.100.7;proto=https", "for=10.0.0.2;proto=http"],
         ("198.51.100.7", 0), "https", None),
        (["for=10.0.0.3, for=10.0.0.2"], ("10.0.0.3", 0), "http", None),
        # Whom the proxy doesn't name, it does not become.
        (["for=6.6.6.6, for=unknown;proto=https"], None, "https", None),
        (["for=6.6.6.6, for=_SEVKISEK;host=h, for=10.0.0.2"], None, "http", b"h"),
        (["for=6.6.6.6, proto=https"], PROXY, "https", None),
        # What the client has broken doesn't hide what its proxy has appended.
        (['for=6.6.6.6;host=", for=198.51.100.7;proto=https'],
         ("198.51.100.7", 0), "https", None),
        (['for="', 'for="[2001:db8::7]"'], ("2001:db8::7", 0), "http", None),
        (["nonsense, for=10.0.0.2;proto=https"], ("10.0.0.2", 0), "https", None),
        # And what the peer has broken is not believed, nor anything before it.
        (["for=6.6.6.6;proto=https, nonsense"], PROXY, "http", None),
        (["for=6.6.6.6:80;proto=https"], PROXY, "http", None),
        (["for=6.6.6.6; proto=https"], PROXY, "http", None),
        (["for=6.6.6.6;for=6.6.6.7;proto=https"], PROXY, "http", None),
        (["for=010.1.1.1;proto=https;host=h"], PROXY, "http", None),
        (["198.51.100.7"], PROXY, "http", None),
        ([""], PROXY, "http", None),
    ],
)  # fmt: skip
def test_forwarded(
    values: list[str], client: Address | None, scheme: str, host: bytes | None
) -> None:
    fields = [("Forwarded", value) for value in values]
    facts = apply(*fields, header="forwarded", host=True)
    assert (facts[0], facts[2], facts[3]) == (client, scheme, host)


# --- whatever comes ------------------------------------------------------------------------------

hosts = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(lambda ip: f"[{ip}]")
trusted_hops = st.lists(st.ip_addresses(network="10.0.0.0/8").map(str), max_size=3)
field_values = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=60)


@given(field_values, hosts, trusted_hops)
def test_a_client_can_not_be_somebody_else(spoof: str, client: str, proxies: list[str]) -> None:
    """Whatever a client sends in the fields, its proxies append to that, and they are believed."""
    assume(not TrustedProxies("10.0.0.0/8").trusts(client.strip("[]")))
    x_forwarded = apply(("X-Forwarded-For", ", ".join((spoof, client, *proxies))))
    assert x_forwarded[0] is not None
    assert ipaddress.ip_address(x_forwarded[0][0]) == ipaddress.ip_address(client.strip("[]"))
    elements = [f'for="{host}"' for host in (client, *proxies)]
    elements[0] += ";proto=https"
    forwarded = apply(("Forwarded", ", ".join((spoof, *elements))), header="forwarded")
    assert forwarded[0] == x_forwarded[0]
    assert forwarded[2] == "https"


NAMES = st.sampled_from(
    [b"x-forwarded-" + name for name in (b"for", b"proto", b"host", b"port")]
    + [b"forwarded", b"host", b"accept"]
)
pieces = st.sampled_from(
    ("1.2.3.4", "10.0.0.2", "[::1]", "for=", '"', "\\", ",", ";", ":80", "https", "unix:", "a", " ")
)
texts = st.binary(max_size=40) | st.lists(pieces, max_size=12).map(lambda p: "".join(p).encode())


@given(
    st.lists(st.tuples(NAMES, texts), max_size=6),
    st.sampled_from(("10.0.0.0/8", "*", "unix,10.0.0.1", "")),
    st.sampled_from(("x-forwarded", "forwarded")),
    st.booleans(),
)
def test_any_fields_give_sound_facts(
    headers: list[tuple[bytes, bytes]], allow: str, header: str, host: bool
) -> None:
    proxies = ProxyHeaders(TrustedProxies(allow), header=header, host=host)  # type: ignore[arg-type]
    client, server, scheme, override = proxies.apply(headers, PROXY, SERVER, "http")
    if client is not None:
        ipaddress.ip_address(client[0])
        assert client[1] is not None
        assert 0 <= client[1] <= 65535
    assert scheme in ("http", "https")
    assert server is not None
    assert server[1] is not None
    assert 0 <= server[1] <= 65535
    assert host or (server, override) == (SERVER, None)
    if not proxies.believes(PROXY):
        assert (client, server, scheme, override) == (PROXY, SERVER, "http", None)


# --- what it costs -------------------------------------------------------------------------------


def test_workers_do_not_pay_for_what_they_do_not_use() -> None:
    script = (
        "import sys\n"
        "from subinterp_asgi.config.trust import TrustedProxies\n"
        "from subinterp_asgi.worker.proxies.headers import ProxyHeaders\n"
        "ProxyHeaders(TrustedProxies('127.0.0.1,::1,10.0.0.0/8'))\n"
        "unwanted = {'ipaddress', 'typing', 'subinterp_asgi.worker.proxies.forwarded'}\n"
        "print(sorted(unwanted.intersection(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert (done.returncode, done.stderr, done.stdout.strip()) == (0, "", "[]")
