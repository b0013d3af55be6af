"""The floor: what it costs in Python to answer at all.

A bare epoll loop that parses nothing and answers whatever it reads with one constant. No server can
be cheaper that reads and writes through Python's ``socket``; what a real one takes beyond this is
the price of HTTP, ASGI and asyncio. ``python -m benchmarks.floor --port 8000`` serves it.
"""

from __future__ import annotations

import argparse
import select
import socket

HELLO = b"Hello, world!"
RESPONSE = (
    b"HTTP/1.1 200 OK\r\n"
    b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
    b"server: floor\r\n"
    b"content-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(HELLO), HELLO)
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    with socket.create_server(("127.0.0.1", parser.parse_args().port), backlog=2048) as listener:
        serve(listener)


def serve(listener: socket.socket) -> None:
    """Serve for ever."""
    listener.setblocking(False)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    while True:
        for number, _ in epoll.poll():
            if number == listener.fileno():
                client, _ = listener.accept()
                client.setblocking(False)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                clients[client.fileno()] = client
                epoll.register(client, select.EPOLLIN)
                continue
            client = clients[number]
            try:
                if client.recv(65536):
                    client.send(RESPONSE)
                    continue
            except OSError:
                pass
            del clients[number]
            client.close()


if __name__ == "__main__":
    main()
