"""FastAPI in interpreters: from private copies of pydantic-core."""

from __future__ import annotations

from . import contract, test_fastapi

APP = test_fastapi.APP
OPTIONS = {"extensions": "private"}


class TestFastAPI(test_fastapi.TestFastAPI, contract.OwnInterpreters):
    # (The main interpreter has imported it if the module beside has served it from threads.)
    test_main_interpreter_never_imported_the_application = None  # type: ignore[assignment]
