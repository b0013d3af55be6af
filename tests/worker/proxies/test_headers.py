"""``worker.proxies.headers``: who is believed, and what is then believed of X-Forwarded-*."""

from __future__ import annotations

import ipaddress
import subprocess
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from subinterp_asgi.errors import ConfigError
from subinterp_asgi.types import Address
from subinterp_asgi.worker.proxies.headers import ProxyHeaders, RequestFacts, TrustedProxies
from tests.support import ROOT

PROXY: Address = ("10.0.0.1", 50000)
STRANGER: Address = ("203.0.113.9", 50001)
SERVER: Address = ("192.0.2.1", 8000)


# --- the trust list ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allow", "host", "trusted"),
    [
        ("127.0.0.1,::1", "127.0.0.1", True),
        ("127.0.0.1,::1", "::1", True),
        ("127.0.0.1, ::1 ,", "::1", True),
        ("127.0.0.1,::1", "127.0.0.2", False),
        ("127.0.0.1,::1", None, False),
        ("", "127.0.0.1", False),
        ("", None, False),
        ("", "", False),
        # networks
        ("10.0.0.0/8", "10.255.255.255", True),
        ("10.0.0.0/8", "11.0.0.0", False),
        ("10.0.0.0/8", "9.255.255.255", False),
        ("192.0.2.128/25", "192.0.2.127", False),
        ("192.0.2.128/25", "192.0.2.128", True),
        ("192.0.2.7/32", "192.0.2.7", True),
        ("0.0.0.0/0", "203.0.113.9", True),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("2001:db8::/32", "2001:db8:ffff::1", True),
        ("2001:db8::/32", "2001:db9::", False),
        ("::/0", "2001:db8::1", True),
        ("::/0", "203.0.113.9", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("10.0.0.1", "10.0.0.1%eth0", False),
        ("0.0.0.0/0", "proxy", False),
        ("0.0.0.0/0,::/0", None, False),
        # one address, written differently
        ("2001:DB8:0:0::1", "2001:db8::1", True),
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("10.0.0.0/8", "::ffff:10.9.9.9", True),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.0/104", "10.9.9.9", True),
        ("::ffff:10.0.0.0/104", "11.0.0.1", False),
        ("::/0", "::ffff:203.0.113.9", False),
        # Unix sockets
        ("unix", None, True),
        ("unix:", None, True),
        ("unix", "127.0.0.1", False),
        ("unix", "unix", False),
        # names, and everybody
        ("testclient", "testclient", True),
        ("testclient", "testclient2", False),
        ("*", "203.0.113.9", True),
        ("*", None, True),
        ("*", "", True),
        ("10.0.0.1,*", "203.0.113.9", True),
    ],
)
def test_trust(allow: str, host: str | None, trusted: bool) -> None:
    proxies = TrustedProxies(allow)
    assert proxies.trusts(host) is trusted
    assert proxies.trusts(host) is trusted  # as remembered


def test_an_iterable_of_entries() -> None:
    proxies = TrustedProxies(("10.0.0.1", "10.0.1.0/24, ::1"))
    assert all(map(proxies.trusts, ("10.0.0.1", "10.0.1.9", "::1")))


@pytest.mark.parametrize(
    "entry",
    [
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/",
        "10.0.0.0/８",  # noqa: RUF001 - a digit that int() would take
        "10.0.0.0/" + "9" * 5000,
        "10.0.0.0/255.0.0.0",
        "10.0.0.1/8",
        "2001:db8::1/32",
        "::/129",
        "/8",
        "proxy/8",
        "10.0.0.256",
        "10.0.0",
        "010.0.0.1",
        "1.2.3.4.5",
        ":::1",
        "2001:db8::1::",
        "[::1]",
        "fe80::1%eth0",
        "127.0.0.1:80",
        "unix:/run/proxy.sock",
        "two words",
        "nul\0",
        "\udc80",
        "-",
    ],
)
def test_nonsense_is_refused(entry: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrustedProxies(f"127.0.0.1,{entry}")
    assert caught.value.option == "forwarded_allow_ips"
    assert repr(entry) in str(caught.value)


def test_a_network_with_host_bits_names_what_was_meant() -> None:
    with pytest.raises(ConfigError, match=r"the network is 10\.0\.0\.0/8"):
        TrustedProxies("10.1.2.3/8")


def test_an_entry_has_to_be_text() -> None:
    with pytest.raises(ConfigError, match="127 is not a string"):
        TrustedProxies([127])  # type: ignore[list-item]


def test_memory_of_hosts_is_bounded() -> None:
    proxies = TrustedProxies("10.0.0.0/8")
    for number in range(5000):
        assert not proxies.trusts(f"192.0.{number >> 8}.{number & 255}")
    assert not proxies.trusts("x" * 100000)
    assert len(proxies._known) <= 1024
    assert max(len(host or "") for host in proxies._known) < 300
    assert proxies.trusts("10.0.0.1")


addresses = st.ip_addresses() | st.ip_addresses(network="10.0.0.0/8")
networks = st.one_of(
    st.tuples(st.ip_addresses(v=4) | st.ip_addresses(network="10.0.0.0/8"), st.integers(0, 32)),
    st.tuples(st.ip_addresses(v=6), st.integers(0, 128)),
).map(lambda pair: ipaddress.ip_network(f"{pair[0]}/{pair[1]}", strict=False))


@given(st.lists(addresses | networks, max_size=4), addresses)
def test_trust_is_that_of_ipaddress(
    allow: list[ipaddress.IPv4Address | ipaddress.IPv4Network], address: ipaddress.IPv4Address
) -> None:
    # Networks of IPv4-mapped addresses are those of IPv4 here, which is not so there.
    assume(not any(str(ip).startswith("::ffff:") and "/" in str(ip) for ip in allow))

    def unmapped(ip: object) -> object:
        return getattr(ip, "ipv4_mapped", None) or ip

    expected = any(
        unmapped(address) in entry
        if isinstance(entry, ipaddress.IPv4Network | ipaddress.IPv6Network)
        else unmapped(address) == unmapped(entry)
        for entry in allow
    )
    assert TrustedProxies([str(entry) for entry in allow]).trusts(str(address)) is expected


@given(st.text())
def test_any_text_is_a_trust_list_or_a_config_error(text: str) -> None:
    try:
        proxies = TrustedProxies(text)
    except ConfigError:
        return
    assert proxies.trusts("203.0.113.9") in (True, False)


@given(st.text() | st.none())
def test_any_host_is_trusted_or_not(host: str | None) -> None:
    assert TrustedProxies("192.0.2.0/24,unix").trusts(host) is (host is None)


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
        "import sys, subinterp_asgi.worker.proxies.headers as p\n"
        "p.ProxyHeaders(p.TrustedProxies('127.0.0.1,::1,10.0.0.0/8'))\n"
        "unwanted = {'ipaddress', 'typing', 'subinterp_asgi.worker.proxies.forwarded'}\n"
        "print(sorted(unwanted.intersection(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert (done.returncode, done.stderr, done.stdout.strip()) == (0, "", "[]")
