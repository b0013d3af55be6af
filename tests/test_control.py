"""The control channel: its vocabulary, doorbells, rung queues and the runtime in the config."""

from __future__ import annotations

import json
import os
import queue
import select
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subinterp_asgi import Config
from subinterp_asgi.control import messages
from subinterp_asgi.control.messages import Doorbell, RungQueue, Runtime
from subinterp_asgi.errors import ConfigError
from tests.support import open_descriptors, run_script


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = set(open_descriptors())
    yield
    assert set(open_descriptors()) <= before


@pytest.fixture(params=["eventfd", "pipe"])
def bell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doorbell]:
    if request.param == "pipe":
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("no eventfd on this system")
    doorbell = Doorbell()
    yield doorbell
    doorbell.close()


def is_ringing(doorbell: Doorbell) -> bool:
    return bool(select.select([doorbell], [], [], 0)[0])


# --- the vocabulary


def test_the_words_are_those_that_are_documented() -> None:
    commands = (messages.CMD_DRAIN, messages.CMD_SHUTDOWN)
    statuses = (
        messages.STATUS_STARTED,
        messages.STATUS_SERVING,
        messages.STATUS_DRAINING,
        messages.STATUS_IDLE,
        messages.STATUS_STOPPED,
        messages.STATUS_ERROR,
    )
    assert commands == ("drain", "shutdown")
    assert statuses == ("started", "serving", "draining", "idle", "stopped", "error")
    for word in commands + statuses[:-1]:
        assert f'``("{word}",)``' in (messages.__doc__ or "")
    assert '``("error", text)``' in (messages.__doc__ or "")


# --- doorbells


def test_a_ring_makes_it_readable_until_it_is_silenced(bell: Doorbell) -> None:
    assert not is_ringing(bell)
    bell.ring()
    assert is_ringing(bell)
    bell.silence()
    assert not is_ringing(bell)


def test_rings_add_up_to_one(bell: Doorbell) -> None:
    for _ in range(3):
        bell.ring()
    bell.silence()
    assert not is_ringing(bell)


def test_silence_without_a_ring_does_not_block(bell: Doorbell) -> None:
    bell.silence()


def test_ringing_never_blocks(bell: Doorbell) -> None:
    for _ in range(70_000 // 8 + 1):  # more than fits into a pipe
        bell.ring()
    assert is_ringing(bell)


def test_waiting_in_another_thread(bell: Doorbell) -> None:
    waiter = threading.Thread(target=bell.wait)
    waiter.start()
    assert waiter.is_alive()
    bell.ring()
    waiter.join(20)
    assert not waiter.is_alive()


def test_a_borrowed_one_is_the_same_bell(bell: Doorbell) -> None:
    borrowed = Doorbell(bell.numbers)
    borrowed.ring()
    assert is_ringing(bell)
    bell.silence()
    assert not is_ringing(borrowed)
    assert borrowed.fileno() == bell.fileno() == bell.numbers[0]


def test_closing_twice_spares_the_next_owner_of_the_numbers(tmp_path: Path) -> None:
    doorbell = Doorbell()
    doorbell.close()
    with (tmp_path / "file").open("w") as file:
        assert file.fileno() in doorbell.numbers  # the lowest free number is taken again
        doorbell.close()
        doorbell.ring()  # which nobody hears
        file.write("still mine")
    assert (tmp_path / "file").read_text() == "still mine"


def test_it_is_not_inherited_by_programs(bell: Doorbell) -> None:
    assert not any(os.get_inheritable(fd) for fd in bell.numbers)


def test_descriptors_from_1024_on_can_be_waited_for(tmp_path: Path) -> None:
    """A host with many connections of its own has such; ``select()`` refuses them."""
    done = run_script(
        tmp_path,
        """
        import os, resource, threading
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (2048, hard))
        while os.dup(1) < 1024:
            pass
        from subinterp_asgi.control import Doorbell
        bell = Doorbell()
        assert bell.fileno() > 1024
        threading.Timer(0.05, bell.ring).start()
        bell.wait()
        print("rung")
        """,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "rung\n", "")


# --- queues with a doorbell


def test_put_rings_after_the_item_is_there(bell: Doorbell) -> None:
    order: list[str] = []

    class Watched(queue.Queue[tuple[str, ...]]):
        def put(self, item: tuple[str, ...], block: bool = True, timeout: object = None) -> None:
            order.append("ringing" if is_ringing(bell) else "silent")
            super().put(item)

    rung = RungQueue(Watched(), bell)
    rung.put(("started",))
    assert order == ["silent"]
    assert is_ringing(bell)
    assert rung.get_nowait() == ("started",)
    with pytest.raises(queue.Empty):
        rung.get_nowait()


# --- the runtime within the config


def test_without_a_runtime_the_text_is_the_configs() -> None:
    text = Config(port=1).to_json()
    assert Runtime.split(text) == (text, Runtime())


@given(
    st.lists(st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 50)), max_size=4),
    st.none() | st.tuples(st.integers(0), st.integers(0)),
    st.none() | st.tuples(st.integers(0), st.integers(0)),
)
def test_join_and_split_are_inverse(
    listeners: list[tuple[int, int]],
    command_bell: tuple[int, int] | None,
    status_bell: tuple[int, int] | None,
) -> None:
    config = Config(host="höst", workers=3)
    runtime = Runtime(
        listeners=tuple(listeners),
        metrics_listeners=tuple(listeners[1:]),
        command_bell=command_bell,
        status_bell=status_bell,
    )
    text, again = Runtime.split(runtime.join(config))
    assert again == runtime
    assert Config.from_json(text) == config


def test_the_joined_text_is_no_config() -> None:
    """A worker of another version must not ignore what it does not know."""
    with pytest.raises(ConfigError, match="runtime"):
        Config.from_json(Runtime().join(Config()))


def test_split_refuses_what_is_not_json() -> None:
    with pytest.raises(ConfigError, match="config_json: not JSON"):
        Runtime.split("{")


def test_split_leaves_it_to_the_config_to_refuse_what_is_no_object() -> None:
    assert Runtime.split("[1]") == ("[1]", Runtime())


def test_a_runtime_of_null_is_none() -> None:
    assert Runtime.split(json.dumps({"runtime": None}))[1] == Runtime()
