"""The small parts of ``bootstrap``, and by which names and signatures they are had."""

from __future__ import annotations

import inspect
import queue
from pathlib import Path

import pytest

from subinterp_asgi.bootstrap import (
    _iic_bridge,
    _noop_receive,
    _noop_send,
    _run_worker_with_iic,
    _try_get,
)
from subinterp_asgi.control import interpreters
from tests.support import run_script

from .driving import BrokenQueue, FakeQueue, run

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def test_try_get() -> None:
    assert _try_get(FakeQueue(("drain",))) == ("drain",)
    assert _try_get(FakeQueue()) is None
    with pytest.raises(RuntimeError, match="the queue is gone"):
        _try_get(BrokenQueue())


def test_try_get_of_real_queues() -> None:
    for real in (interpreters.create_queue(4), queue.Queue[tuple[str, ...]]()):
        assert _try_get(real) is None
        real.put_nowait(("shutdown",))
        assert _try_get(real) == ("shutdown",)
        assert _try_get(real) is None


def test_the_hooks_receive_and_send() -> None:
    async def main() -> None:
        message = await _noop_receive()
        assert isinstance(message, dict)
        assert all(isinstance(part, str) for item in message.items() for part in item)
        assert await _noop_send({"type": "anything"}) is None  # type: ignore[func-returns-value]

    run(main)


def test_the_signatures_are_those_that_are_documented() -> None:
    import subinterp_asgi.bootstrap as module

    expected = (
        "(ctrl_queue: 'Any', status_queue: 'Any', config_json: 'str', lifespan_state_json: 'str', "
        "app_import_path: 'str', sock_fd: 'int', sock_family: 'int', worker_id: 'int', "
        "parent_sys_path: 'tuple[str, ...]') -> 'None'"
    )
    assert str(inspect.signature(module.bootstrap)) == expected
    assert str(inspect.signature(module)) == expected  # which is callable, see there
    for function, parameters, result in (
        (_run_worker_with_iic, ["worker", "ctrl_queue", "status_queue"], "None"),
        (_iic_bridge, ["worker", "ctrl_queue", "status_queue"], "None"),
        (_try_get, ["queue"], "tuple[Any, ...] | None"),
        (module._import_app, ["app_path"], "Any"),
        (_noop_receive, [], "dict[str, str]"),
        (_noop_send, ["message"], "None"),
    ):
        signature = inspect.signature(function)
        assert list(signature.parameters) == parameters
        assert signature.return_annotation == result
    for function in (_run_worker_with_iic, _iic_bridge, _noop_receive, _noop_send):
        assert inspect.iscoroutinefunction(function)


def test_the_package_exports_it_before_and_after_the_module_is_imported(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        """
        from subinterp_asgi import bootstrap
        assert callable(bootstrap)
        import subinterp_asgi.bootstrap
        assert callable(subinterp_asgi.bootstrap)
        from subinterp_asgi.bootstrap import bootstrap as function, _iic_bridge
        from subinterp_asgi import bootstrap as again
        for name in (bootstrap, again, function):
            try:
                name()
            except TypeError as exc:
                assert "ctrl_queue" in str(exc), exc
            else:
                raise AssertionError(name)
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_module_imported_first(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        """
        import subinterp_asgi.bootstrap
        from subinterp_asgi import bootstrap
        assert callable(bootstrap)
        assert bootstrap.bootstrap.__name__ == "bootstrap"
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")
