"""The control channel: its vocabulary, wakeups, rung queues and the runtime in the config."""

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

from subinterp_asgi import Config, control
from subinterp_asgi.control import messages
from subinterp_asgi.control.launch import Runtime
from subinterp_asgi.control.wakeup import Channel, Wakeup
from subinterp_asgi.errors import ConfigError
from tests.support import open_descriptors, run_script


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = set(open_descriptors())
    yield
    assert set(open_descriptors()) <= before


@pytest.fixture(params=["eventfd", "pipe"])
def bell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wakeup]:
    if request.param == "pipe":
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("no eventfd on this system")
    wakeup = Wakeup()
    yield wakeup
    wakeup.close()


def is_ringing(wakeup: Wakeup) -> bool:
    return bool(select.select([wakeup], [], [], 0)[0])


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
        assert f'``("{word}",)``' in (control.__doc__ or "")
    assert '``("error", text)``' in (control.__doc__ or "")


def test_every_command_says_where_its_listeners_are() -> None:
    """One that is missing in the table could leak the descriptors it carries."""
    words = {value for name, value in vars(messages).items() if name.startswith("CMD_")}
    assert set(messages.COMMANDS) == words
    with pytest.raises(KeyError):
        messages.command("dance")


@pytest.mark.parametrize("arguments", [("adopt", 3), ("serve", 3, -1)])
def test_listeners_are_found_where_they_were_put(arguments: tuple[str | int, ...]) -> None:
    name, *others = arguments
    for listeners in ([], [(7, 2)], [(7, 2), (9, 10)]):
        made = messages.command(str(name), *others, listeners=listeners)
        assert made[: len(arguments)] == arguments
        assert messages.listeners_of(made) == listeners


def test_listeners_in_the_wrong_place_are_refused() -> None:
    with pytest.raises(ValueError, match="carries no listeners"):
        messages.command("drain", listeners=[(7, 2)])
    with pytest.raises(ValueError, match="begin at 2, not 3"):
        messages.command("adopt", 1, 2, listeners=[(7, 2)])
    assert messages.listeners_of(("dance", 1, 2)) == []


@pytest.mark.parametrize(("old", "new"), [("Doorbell", Wakeup), ("RungQueue", Channel)])
def test_the_names_of_before_go_on_working(old: str, new: type) -> None:
    with pytest.warns(DeprecationWarning, match=f"{old} is now called {new.__name__}"):
        found = getattr(control, old)
    assert issubclass(found, new)
    bell = control.old_names.Doorbell()
    bell.ring()
    assert is_ringing(bell)
    bell.silence()
    assert not is_ringing(bell)
    assert control.old_names.RungQueue(queue.Queue(), bell).doorbell is bell
    bell.close()
    with pytest.raises(AttributeError, match="Buzzer"):
        control.Buzzer  # noqa: B018


# --- wakeups


def test_a_ring_makes_it_readable_until_it_is_silenced(bell: Wakeup) -> None:
    assert not is_ringing(bell)
    bell.set()
    assert is_ringing(bell)
    bell.clear()
    assert not is_ringing(bell)


def test_rings_add_up_to_one(bell: Wakeup) -> None:
    for _ in range(3):
        bell.set()
    bell.clear()
    assert not is_ringing(bell)


def test_silence_without_a_ring_does_not_block(bell: Wakeup) -> None:
    bell.clear()


def test_ringing_never_blocks(bell: Wakeup) -> None:
    for _ in range(70_000 // 8 + 1):  # more than fits into a pipe
        bell.set()
    assert is_ringing(bell)


def test_waiting_in_another_thread(bell: Wakeup) -> None:
    waiter = threading.Thread(target=bell.wait)
    waiter.start()
    assert waiter.is_alive()
    bell.set()
    waiter.join(20)
    assert not waiter.is_alive()


def test_a_borrowed_one_is_the_same_bell(bell: Wakeup) -> None:
    borrowed = Wakeup(bell.numbers)
    borrowed.set()
    assert is_ringing(bell)
    bell.clear()
    assert not is_ringing(borrowed)
    assert borrowed.fileno() == bell.fileno() == bell.numbers[0]


def test_closing_twice_spares_the_next_owner_of_the_numbers(tmp_path: Path) -> None:
    wakeup = Wakeup()
    wakeup.close()
    with (tmp_path / "file").open("w") as file:
        assert file.fileno() in wakeup.numbers  # the lowest free number is taken again
        wakeup.close()
        wakeup.set()  # which nobody hears
        file.write("still mine")
    assert (tmp_path / "file").read_text() == "still mine"


def test_it_is_not_inherited_by_programs(bell: Wakeup) -> None:
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
        from subinterp_asgi.control import Wakeup
        bell = Wakeup()
        assert bell.fileno() > 1024
        threading.Timer(0.05, bell.set).start()
        bell.wait()
        print("rung")
        """,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "rung\n", "")


# --- queues with a wakeup


def test_put_rings_after_the_item_is_there(bell: Wakeup) -> None:
    order: list[str] = []

    class Watched(queue.Queue[tuple[str, ...]]):
        def put(self, item: tuple[str, ...], block: bool = True, timeout: object = None) -> None:
            order.append("ringing" if is_ringing(bell) else "silent")
            super().put(item)

    rung = Channel(Watched(), bell)
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
    command_wakeup: tuple[int, int] | None,
    status_wakeup: tuple[int, int] | None,
) -> None:
    config = Config(host="höst", workers=3)
    runtime = Runtime(
        listeners=tuple(listeners),
        metrics_listeners=tuple(listeners[1:]),
        command_wakeup=command_wakeup,
        status_wakeup=status_wakeup,
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


@pytest.mark.parametrize(
    ("old", "new"), [("command_bell", "command_wakeup"), ("status_bell", "status_wakeup")]
)
def test_fields_go_by_their_earlier_names_too(old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"Runtime.{old} is now called {new}") as caught:
        runtime = Runtime(**{old: (3, 4)}, inbox=5)  # type: ignore[arg-type]
    assert caught[0].filename == __file__
    assert runtime == Runtime(**{new: (3, 4)}, inbox=5)  # type: ignore[arg-type]
    text = runtime.join(Config()).replace(new, old)
    assert f'"{old}": [3, 4]' in text
    with pytest.warns(DeprecationWarning, match=f"Runtime.{old} is now called {new}"):
        assert Runtime.split(text)[1] == runtime


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError, match="doorbell"):
        Runtime(doorbell=(3, 4))  # type: ignore[call-arg]
