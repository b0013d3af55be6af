"""Requests to each library, answered by each of two interpreters as under uvicorn, and reloads."""

from __future__ import annotations

import asyncio
import ctypes  # noqa: F401  (from its first use on, libffi keeps a descriptor)
import io
import json
import sys
from pathlib import Path
from typing import Any

import websockets.sync.client

from subinterp_asgi import Supervisor
from subinterp_asgi.extensions.environment import Environment
from tests.frameworks.beside_uvicorn import Exchange, ask, client_of_each, new_client, uvicorn
from tests.support import nothing_left


def written() -> str:
    """What of files can be written in this process: the variables of libraries."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return "\n".join(line for line in lines if line.split()[1].startswith("rw"))


def check(app: str, tmp_path: Path, exchanges: list[Exchange], *copied: str) -> None:
    """Check what is answered, by each worker and through a reload; and from what it was loaded."""
    app = f"tests.field.copies.apps.{app}:app"
    with uvicorn(app, tmp_path, {}) as url, new_client(url, keep_alive=False) as client:
        expected = ask(client, exchanges)
    seen = set()
    before = written()  # what the test has loaded for itself
    with (
        nothing_left(),
        Supervisor(
            app, workers=2, port=0, access_log=False, extensions="private", timeout_keep_alive=600
        ) as server,
    ):
        for _ in range(2):
            with client_of_each(server.url, exchanges[0][1]) as clients:
                for worker, client in clients.items():
                    seen.add(worker)
                    for found, wanted in zip(ask(client, exchanges, worker), expected, strict=True):
                        assert found == wanted
            mapped = written()
            for module in copied:
                file = Environment(sys.path).find(module)
                assert file is not None
                assert f"/memfd:{Path(file.path).name}" in mapped
                assert file.path not in mapped or file.path in before
            server.reload()
    assert len(seen) == 4


def test_litestar(tmp_path: Path) -> None:
    wares = [{"name": "bread", "price": 4.5, "tags": ["a"]}, {"name": "tea", "price": 1}]
    check(
        "litestar_app",
        tmp_path,
        [
            ("GET", "/json?skip=3&q=k%C3%A4se", {}),
            ("GET", "/json?skip=x", {}),
            ("POST", "/wares", {"json": wares}),
            ("POST", "/wares", {"json": [{"name": "b", "price": "x"}]}),
            ("POST", "/wares", {"content": b"{"}),
            ("GET", "/wares/1", {}),
            ("GET", "/wares/10", {}),
            ("GET", "/wares/410", {}),
            ("GET", "/wares/x", {}),
            ("DELETE", "/wares/1", {}),
            ("PUT", "/wares/1", {}),
            ("POST", "/form", {"data": {"title": "é"}, "files": {"file": b"x" * 100_000}}),
            ("POST", "/form", {"data": {"title": "é"}}),
            ("GET", "/stream", {}),
            ("GET", "/cookie", {}),
            ("GET", "/away", {}),
            ("GET", "/msgpack", {}),
            ("GET", "/error", {}),
            ("GET", "/schema/openapi.json", {}),
        ],
        "msgspec._core",
    )


def test_litestars_websocket() -> None:
    app = "tests.field.copies.apps.litestar_app:app"
    with Supervisor(app, workers=2, port=0, extensions="private") as server:
        for _ in range(8):
            url = server.url.replace("http://", "ws://") + "/ws"
            with websockets.sync.client.connect(url, proxy=None) as client:
                client.send('{"a": [1, "grüezi"]}')
                assert json.loads(client.recv(20)) == {"echo": {"a": [1, "grüezi"]}}


def test_mcp_with_its_own_client() -> None:
    app = "tests.field.copies.apps.mcp_app:app"
    with (
        nothing_left(),
        Supervisor(app, workers=2, port=0, access_log=False, extensions="private") as server,
    ):
        for _ in range(2):
            asyncio.run(talk_mcp(f"{server.url}/mcp"))
            while not all(worker.requests for worker in server.workers):
                asyncio.run(talk_mcp(f"{server.url}/mcp"))
            server.reload()


async def talk_mcp(url: str) -> None:
    from mcp import Client

    async with Client(url) as client:
        tools = await client.list_tools()
        assert {tool.name for tool in tools.tools} == {"add", "fail"}
        result = await client.call_tool("add", {"numbers": [1, 2.5]})
        assert result.structured_content == {"numbers": [1, 2.5], "total": 3.5}
        wrong = await client.call_tool("add", {"numbers": ["one"]})
        assert wrong.is_error
        failed = await client.call_tool("fail", {"text": "on demand"})
        assert failed.is_error
        resource: Any = (await client.read_resource("shop://wares/bread")).contents[0]
        assert resource.text == "a bread"
        prompt: Any = (await client.get_prompt("praise", {"what": "tea"})).messages[0].content
        assert prompt.text == "Praise tea."


def test_django_with_pillow_and_cryptography(tmp_path: Path) -> None:
    from PIL import Image

    picture = io.BytesIO()
    Image.linear_gradient("L").save(picture, "png")
    octets = picture.getvalue()
    check(
        "django_app",
        tmp_path,
        [
            ("GET", "/key", {}),
            ("POST", "/thumbnail?as=png", {"content": octets}),
            ("POST", "/thumbnail?as=jpeg", {"content": octets}),
            ("POST", "/thumbnail?as=webp", {"content": octets}),
            ("POST", "/bad-image", {"content": octets}),
            ("POST", "/bad-image", {"content": b"no image"}),
            ("GET", "/token?sub=ada", {}),
            ("GET", "/nowhere", {}),
        ],
        "PIL._imaging",
        "cryptography.hazmat.bindings._rust",
    )


def test_numpy_and_pandas(tmp_path: Path) -> None:
    lines = (
        f"2026-{day % 12 + 1:02}-{day % 28 + 1:02},{'ab'[day % 2]},{day}" for day in range(500)
    )
    sales = "\n".join(["day,ware,amount", *lines])
    check(
        "frames_app",
        tmp_path,
        [
            ("GET", "/solve?size=50", {}),
            ("GET", "/solve?size=300", {}),
            ("GET", "/singular", {}),
            ("POST", "/sales", {"content": sales.encode()}),
            ("POST", "/sales", {"content": b"no,such\n1,2"}),
        ],
        "numpy._core._multiarray_umath",
        "pandas._libs.lib",
    )
