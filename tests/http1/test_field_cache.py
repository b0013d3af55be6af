"""Field blocks that are remembered: bounded, and no client ever sees what is another's."""

from __future__ import annotations

import pytest

from subinterp_asgi.http1 import Limits, ProtocolError, RequestParser
from subinterp_asgi.http1.fields import FieldCache

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\nCookie: a=b\r\n\r\n"


def test_each_request_has_a_list_of_its_own() -> None:
    limits = Limits()
    cache = limits.new_field_cache()
    one, other = RequestParser(limits, cache), RequestParser(limits, cache)
    one.feed(HEAD)
    other.feed(HEAD)
    first, second = one.next_request(), other.next_request()
    assert first is not None
    assert second is not None
    assert first.fields is second.fields  # found again
    first.headers.append((b"x-added", b"by a middleware"))
    first.headers[0] = (b"host", b"changed")
    assert second.headers == [(b"host", b"x"), (b"cookie", b"a=b")]
    one.feed(HEAD)
    third = one.next_request()
    assert third is not None
    assert third.headers == second.headers


def test_an_absolute_target_changes_one_request_only() -> None:
    parser = RequestParser()
    parser.feed(HEAD.replace(b" / ", b" http://other/ ") + HEAD)
    first, second = parser.next_request(), parser.next_request()
    assert first is not None
    assert second is not None
    assert first.headers[0] == (b"host", b"other")
    assert second.headers[0] == (b"host", b"x")


def test_size_is_bounded() -> None:
    cache = FieldCache(100, 8190)
    for number in range(2000):
        cache.parse(b"host: x\r\nx-number: %d\r\nx-pad: %s\r\n" % (number, b"p" * 500))
        assert sum(map(len, cache._blocks)) <= cache.MAX_SIZE
        assert cache._size == sum(map(len, cache._blocks))


def test_large_blocks_are_not_kept() -> None:
    cache = FieldCache(100, 8190)
    cache.parse(b"x-pad: %s\r\n" % (b"p" * cache.MAX_BLOCK))
    assert not cache._blocks


def test_errors_are_not_kept() -> None:
    cache = FieldCache(100, 8190)
    for _ in range(2):
        with pytest.raises(ProtocolError):
            cache.parse(b"host: x\r\nhost: x\r\n")
    assert not cache._blocks
