"""Fresh servers: on the same port with new modules, in new interpreters or in those used before."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from subinterp_asgi.control import interpreters
from subinterp_asgi.errors import AppRaisedError, StateError
from subinterp_asgi.testing import LiveServer, serve
from subinterp_asgi.testing.interpreters import stock
from tests.support import open_descriptors, running_threads

APP = "tests.testing.observed:app"

pytestmark = pytest.mark.usefixtures("leaves_nothing")


@pytest.mark.parametrize("fresh", ["interpreter", "modules"])
def test_it_begins_anew_on_the_same_port(fresh: str) -> None:
    with serve(APP, env={"OBSERVED": "first"}, state={"n": 1}) as server:
        port = server.port
        for number in range(4):
            answer = server.get("/").json()
            assert answer["requests"] == 1, "these are new modules"
            assert answer["env"] == ("first" if number == 0 else f"{number}")
            assert answer["state"] == {"n": number + 1}
            env, state = {"OBSERVED": f"{number + 1}"}, {"n": number + 2}
            server.fresh(env=env, state=state, fresh=fresh)  # type: ignore[arg-type]
            assert server.port == port
            assert server.received() == []


def test_without_other_words_environment_and_state_stay() -> None:
    with serve(APP, env={"OBSERVED": "x"}, state={"n": 1}) as server:
        server.fresh()
        answer = server.get("/").json()
        assert (answer["env"], answer["state"]) == ("x", {"n": 1})


def test_a_request_that_comes_meanwhile_is_served_by_the_new_one() -> None:
    with serve(APP) as server:
        server.get("/")
        server.fresh()
        assert server.get("/").json()["requests"] == 1


def test_what_was_raised_before_is_not_forgotten() -> None:
    with serve(APP) as server:
        server.get("/raise")
        with pytest.raises(AppRaisedError):
            server.fresh()
        server.fresh()


def test_interpreters_are_used_again_if_only_modules_are_to_be_new() -> None:
    with serve(APP, fresh="modules") as server:
        first = server.call("_interpreters:get_current")
        server.fresh(fresh="modules")
        assert server.call("_interpreters:get_current") == first
        server.fresh()
        assert server.call("_interpreters:get_current") != first
    with serve(APP, fresh="modules") as server:
        assert server.call("_interpreters:get_current") == first, "a server after it takes it, too"


def test_what_such_servers_share_can_be_listed() -> None:
    with serve("benchmarks.starlette_app:app") as server:
        shared = server.shared_modules()
    assert "starlette" in shared
    assert not {"benchmarks", "subinterp_asgi", "json"} & set(shared)


def test_it_is_refused_for_django_before_anything_ends() -> None:
    with serve("benchmarks.django_app:app") as server:
        with pytest.raises(StateError, match="django keeps settings and databases"):
            server.fresh(fresh="modules")
        assert server.get("/").status == 200
    with pytest.raises(StateError, match='fresh="interpreter"'):
        LiveServer("benchmarks.django_app:app", fresh="modules").start()


def test_it_is_refused_in_threads() -> None:
    with serve(APP, isolation="thread") as server:
        with pytest.raises(StateError, match="share the modules of the test"):
            server.fresh(fresh="modules")
        with pytest.raises(StateError, match="share the modules of the test"):
            server.fresh()
    with serve("tests.testing.observed:make_app()", isolation="thread") as server:
        assert server.get("/").json() == 1
        server.fresh()
        assert server.get("/").json() == 1, "the factory was called anew"


def test_a_server_that_can_not_begin_anew_has_ended(tmp_path: Path) -> None:
    (tmp_path / "breaking_app.py").write_text("from tests.testing.observed import app\n")
    sys.path.insert(0, str(tmp_path))
    try:
        server = serve("breaking_app:app").start()
        (tmp_path / "breaking_app.py").write_text("raise LookupError('broken')\n")
        with pytest.raises(Exception, match="LookupError: broken"):
            server.fresh()
    finally:
        sys.path.remove(str(tmp_path))
    with pytest.raises(StateError, match="not started"):
        server.get("/")


@pytest.mark.parametrize("fresh", ["interpreter", "modules"])
def test_many_leave_nothing_behind(fresh: str) -> None:
    def one() -> None:
        with serve(APP, fresh=fresh) as server:
            assert server.get("/").json()["requests"] == 1

    for _ in range(3):
        one()
    stock.empty()
    descriptors, threads, others = open_descriptors(), running_threads(), interpreters.alive()
    for _ in range(10):
        one()
        assert interpreters.alive() <= others + 5, "two wait, two are made or closed, one is ours"
    stock.empty()
    assert set(open_descriptors()) == set(descriptors)
    assert running_threads() <= threads
    assert interpreters.alive() == others
