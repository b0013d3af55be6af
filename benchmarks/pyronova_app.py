"""Hello for pyronova, which serves routes of its own and speaks no ASGI.

``python -m benchmarks.pyronova_app --port 8000 --workers 2`` serves it, in subinterpreters.
"""

from __future__ import annotations

import argparse

from pyronova import Pyronova, Response


def hello(request: object) -> Response:
    return Response("Hello, world!", content_type="text/plain; charset=utf-8")


app = Pyronova()
app.get("/", hello)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    app.run(host="127.0.0.1", port=arguments.port, workers=arguments.workers, mode="subinterp")
