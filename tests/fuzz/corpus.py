"""What cases are made from: streams of requests, and ways to damage them."""

from __future__ import annotations

from random import Random

SEEDS = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /echo?q=%41 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"HEAD /stream HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close, x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n",
    b"GET http://a.example:8080/early?x HTTP/1.1\r\nHost: b\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world",
    b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n" + b"x" * 3000,
    b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'5;a="b;c"\r\nhello\r\n1 ;x=y\r\n \r\n0\r\nX-Trailer: 1\r\n\r\n',
    b"PUT /stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n"
    b"a\r\n0\r\n\r\nGET /\r\n0\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody",
    b"POST /fail HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
    b"GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x05",
    b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /fail-late HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /split HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /impatient HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab",
    b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /short HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /silent HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /background HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"x" * 9000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 120 + b"\r\n",
    b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]

FRAGMENTS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"\0",
    b":",
    b";",
    b",",
    b'"',
    b"%",
    b"%c0%af",
    b"#",
    b"@",
    b"*",
    b"-",
    b"0",
    b"ffffffffffffffff",
    b"0\r\n\r\n",
    b"3\r\nabc\r\n",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"HTTP/2.0",
    b"http://",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: +5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Expect: 100-continue\r\n",
    b"\xff",
    b"\x80",
    b"\x7f",
]

MAX_SIZE = 200_000


def make_stream(random: Random) -> bytes:
    """A few requests, mostly damaged."""
    data = bytearray()
    for _ in range(random.choice((1, 1, 1, 2, 3, 8, 40))):
        data += random.choice(SEEDS)
    if random.random() < 0.02:
        data = bytearray(random.randbytes(random.randrange(2000)))
    for _ in range(random.choice((0, 0, 1, 1, 2, 4, 10))):
        _damage(data, random)
    return bytes(data[:MAX_SIZE])


def _damage(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    size = random.choice((1, 1, 1, 2, 4, 16, 200))
    match random.randrange(8):
        case 0:
            data[at : at + 1] = bytes((random.randrange(256),))
        case 1:
            if at < len(data):
                data[at] ^= 1 << random.randrange(8)
        case 2:
            del data[at : at + size]
        case 3:
            data[at:at] = random.choice(FRAGMENTS) * random.choice((1, 1, 1, 2, 50))
        case 4:
            data[at:at] = data[at : at + size]
        case 5:
            other = random.randrange(len(data) + 1)
            data[at:at] = data[other : other + size]
        case 6:
            seed = random.choice(SEEDS)
            start = random.randrange(len(seed))
            data[at:at] = seed[start : start + size]
        case _:
            if random.random() < 0.3:
                del data[at:]


def cut(data: bytes, random: Random) -> list[bytes]:
    """The stream in pieces, as it might arrive."""
    match random.randrange(6):
        case 0 | 1:
            return [data] if data else []
        case 2 if len(data) < 3000:
            return [data[i : i + 1] for i in range(len(data))]
    pieces = []
    at = 0
    most = random.choice((2, 10, 100, 5000))
    while at < len(data):
        size = random.randint(1, most)
        pieces.append(data[at : at + size])
        at += size
    return pieces
