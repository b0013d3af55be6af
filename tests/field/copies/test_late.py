"""numpy and pillow, imported in a view where they are refused: what the log says."""

from __future__ import annotations

import ctypes  # noqa: F401  (from its first use on, libffi keeps a descriptor)
from pathlib import Path

import pytest

from subinterp_asgi import Supervisor
from tests.support import get, nothing_left, wait_until

APP = """
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def view(request):
        import {module}
        return JSONResponse("unexpected")

    app = Starlette(routes=[Route("/", view)])
"""


@pytest.mark.parametrize(
    ("module", "refused", "distribution"),
    [
        ("numpy", "numpy._core._multiarray_umath", "numpy"),
        ("PIL.Image", "PIL._imaging", "pillow"),
    ],
)
def test_each_failure_says_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    module: str,
    refused: str,
    distribution: str,
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"late_{distribution}"
    source = "\n".join(line[4:] for line in APP.format(module=module).splitlines())
    (tmp_path / f"{name}.py").write_text(source)

    def failures() -> list[str]:
        return [r.getMessage() for r in caplog.records if "exception in the" in r.getMessage()]

    with nothing_left(), Supervisor(f"{name}:app", port=0, log_forwarding=True) as server:
        for _ in range(3):
            assert get(server.url).status == 500
        wait_until(lambda: len(failures()) == 3, "the records")
    for said in failures():
        assert f"the extension module '{refused}' of {distribution} " in said
        assert f"imported by {name} → " in said
        assert "extensions='private' loads it from a copy" in said
