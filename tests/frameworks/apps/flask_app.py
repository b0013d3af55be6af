from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from a2wsgi import WSGIMiddleware
from flask import Flask, Response, jsonify, redirect, request

from . import common

flask = Flask(__name__)
app = WSGIMiddleware(flask)


@flask.route("/json", methods=["GET", "POST"])
def json() -> Response:
    if request.method == "POST":
        return jsonify(echo=request.get_json())
    return jsonify(path=request.path, query=dict(request.args))


@flask.post("/form")
def form() -> Response:
    files = {}
    for name, file in request.files.items():
        files[name] = {"filename": file.filename, **common.Digest(file.read()).result()}
    return jsonify(fields=dict(request.form), files=files)


@flask.post("/upload")
def upload() -> Response:
    digest = common.Digest()
    while piece := request.stream.read(65536):
        digest.update(piece)
    return jsonify(digest.result())


@flask.get("/download")
def download() -> Response:
    def body(count: int) -> Iterator[bytes]:
        yield from common.chunks(count)

    return Response(body(int(request.args["chunks"])), mimetype="application/octet-stream")


@flask.get("/sync")
def sync() -> Response:
    return jsonify(common.whoami())


@flask.get("/state")
def state() -> Response:
    return jsonify(given=request.environ["asgi.scope"]["state"]["given"])


@flask.get("/redirect")
def redirect_with_cookies() -> Any:
    response = redirect("/cookies", 303)
    response.set_cookie("flavour", "oat")
    response.set_cookie("size", "large", httponly=True)
    return response


@flask.get("/cookies")
def cookies() -> Response:
    return jsonify(dict(request.cookies))


@flask.get("/error")
def error() -> Response:
    raise RuntimeError("the application's own secret")


@flask.get("/whoami")
def whoami() -> Response:
    return jsonify(common.whoami())
