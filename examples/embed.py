"""Embedding the server: a program that serves an app in the background and goes on with its work.

    python -m examples.embed

``port=0`` takes any free port; ``server.url`` tells which. On entry to the ``with`` block every
worker is serving already, and after it no thread, socket or interpreter of the server is left.
"""

import urllib.request

from subinterp_asgi import Supervisor


def main() -> None:
    with Supervisor("examples.bare:app", workers=2, port=0) as server:
        print(f"serving on {server.url} with {len(server.workers)} workers")
        with urllib.request.urlopen(f"{server.url.rstrip('/')}/embedded", timeout=10) as response:
            print(response.status, response.read().decode().strip())
    print("stopped")


if __name__ == "__main__":
    main()
