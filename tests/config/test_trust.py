"""``config.trust``: who is believed."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from subinterp_asgi.config.trust import TrustedProxies
from subinterp_asgi.errors import ConfigError


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
