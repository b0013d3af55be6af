"""FastAPI: refused in interpreters because of pydantic-core, served from threads."""

from __future__ import annotations

import httpx
import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.errors import StartupError

from ..support import nothing_left
from . import contract

pytest.importorskip("fastapi")
pytest.importorskip("python_multipart")

APP = "tests.frameworks.apps.fastapi_app:app"
OPTIONS = {"isolation": "thread"}


class TestFastAPI(
    contract.Requests,
    contract.Lifespan,
    contract.AbandonedDownloads,
    contract.AbandonedEvents,
    contract.Background,
    contract.ChunkedUploads,
):
    def test_validation(self, client: httpx.Client) -> None:
        good = {"name": "bread", "price": 4.5}
        assert client.post("/item", json=good).json() == good
        answer = client.post("/item", json={"name": "bread", "price": -1})
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["body", "price"]
        assert client.get("/openapi.json").json()["info"]["title"] == "FastAPI"


@pytest.mark.parametrize("workers", [1, 2])
def test_interpreters_are_refused(environment: pytest.MonkeyPatch, workers: int) -> None:
    with nothing_left(), pytest.raises(StartupError) as refusal:
        Supervisor(APP, workers=workers, port=0).start()
    first_line = str(refusal.value).splitlines()[0]
    assert "'pydantic_core._pydantic_core'" in first_line
    assert "does not support subinterpreters" in first_line
    assert "isolation='thread'" in first_line
