"""Options: defaults, validation, immutability, JSON."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subinterp_asgi import Config
from subinterp_asgi.config.options import option_names
from subinterp_asgi.errors import ConfigError, SubinterpASGIError

DEFAULTS = {
    "host": "127.0.0.1",
    "port": 8000,
    "bind": (),
    "uds": None,
    "uds_permissions": 0o660,
    "fd": None,
    "backlog": 2048,
    "workers": 1,
    "isolation": "interpreter",
    "daemon_threads": "demote",
    "factory": False,
    "lifespan": "auto",
    "lifespan_restart": False,
    "worker_hooks": False,
    "startup_timeout": 60.0,
    "shutdown_timeout": 5.0,
    "timeout_graceful_shutdown": 20.0,
    "root_path": "",
    "server_header": True,
    "date_header": True,
    "timeout_keep_alive": 5.0,
    "timeout_header": 10.0,
    "timeout_body": 30.0,
    "timeout_write": 30.0,
    "limit_request_line": 8190,
    "limit_request_fields": 100,
    "limit_request_field_size": 8190,
    "limit_header_size": 65536,
    "limit_body_size": None,
    "access_log": True,
    "log_level": "info",
}

# --- values

TIMEOUT = ([0, 0.0, 1, 2.5, 10**9], [-1, -0.001, "1", None, True, float("nan")])
FLAG = ([True, False], [0, 1, "yes", None])
PATH = ([None, "/", "/health", "/-/m"], ["", "health", "/a?b", "/a#b", "/a b", 1, b"/a", True])
SIZE = ([1, 8190, 2**40], [0, -1, 1.0, "8190", None, True])
IMPORT_PATH = (
    [None, "a:b", "a.b:c.d"],
    [1, len, b"a:b", "", "a", ":b", "a:", "a/b.py:c", "a:b()", "a b:c", "a:b:c", "a.:b"],
)

# option: (values that are good, values that are not)
VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    "host": (["0.0.0.0", "::1", "localhost", ""], [None, 1, b"localhost"]),
    "port": ([0, 1, 65535], [-1, 65536, "80", 80.0, None, True]),
    "bind": (
        [(), ["127.0.0.1:1"], ("a:1", "unix:/b"), "127.0.0.1:1"],
        [None, [""], [1], 80, {"a:1"}, [b"a:1"]],
    ),
    "uds": ([None, "/run/s"], [1, b"/run/s", ("/run/s",)]),
    "uds_permissions": ([0, 0o600, 0o777], [-1, 0o1000, "660", None, True]),
    "fd": ([None, 0, 3], [-1, "3", 3.0, True]),
    "backlog": ([1, 2**31 - 1], [0, -1, 2**31, None, 1.5]),
    "workers": ([1, 2, 1024], [0, -1, 1025, "2", 2.0, None, True]),
    "isolation": (["interpreter", "thread", "auto"], ["process", "", None, True]),
    "daemon_threads": (["demote", "refuse"], ["allow", None, False]),
    "factory": FLAG,
    "lifespan": (["auto", "on", "off"], ["yes", None, True]),
    "lifespan_restart": FLAG,
    "worker_hooks": FLAG,
    "startup_timeout": TIMEOUT,
    "shutdown_timeout": TIMEOUT,
    "timeout_graceful_shutdown": TIMEOUT,
    "root_path": (["", "/a", "/a/b"], ["a", "/", "/a/", None, b"/a"]),
    "server_header": FLAG,
    "date_header": FLAG,
    "timeout_keep_alive": TIMEOUT,
    "timeout_header": TIMEOUT,
    "timeout_body": TIMEOUT,
    "timeout_write": TIMEOUT,
    "limit_request_line": SIZE,
    "limit_request_fields": SIZE,
    "limit_request_field_size": SIZE,
    "limit_header_size": SIZE,
    "limit_body_size": ([None, 0, 2**40], [-1, 1.0, "1", True]),
    "limit_connections": ([None, 1, 2**40], [0, -1, 1.0, "1", True]),
    "limit_concurrency": ([None, 1, 2**40], [0, -1, 1.0, "1", True]),
    "limit_connections_total": ([None, 1, 2**40], [0, -1, 1.0, "1", True]),
    "limit_concurrency_total": ([None, 1, 2**40], [0, -1, 1.0, "1", True]),
    "timeout_disconnect_grace": ([None, *TIMEOUT[0]], [v for v in TIMEOUT[1] if v is not None]),
    "lifespan_context": FLAG,
    "ssl_certfile": ([None, "cert.pem"], [1, b"cert.pem"]),
    "ssl_keyfile": ([None, "key.pem"], [1, b"key.pem"]),
    "ssl_keyfile_password": ([None, "secret"], [1, b"secret"]),
    "ssl_ca_certs": ([None, "ca.pem"], [1, b"ca.pem"]),
    "ssl_cert_reqs": ([0, 1, 2], [-1, 3, "1", None, True]),
    "ssl_ciphers": ([None, "HIGH"], [1]),
    "ssl_context_factory": IMPORT_PATH,
    "ssl_reload": FLAG,
    "timeout_tls_handshake": TIMEOUT,
    "drain_delay": TIMEOUT,
    "health_path": PATH,
    "metrics_path": PATH,
    "metrics_bind": (
        [None, "127.0.0.1:0", "localhost:9090", "[::1]:9090", ":9090", "unix:/run/m", "unix:9"],
        ["", "9090", "localhost", "localhost:", "localhost:http", "a:65536", "unix:", 9090, b"a:1"],
    ),
    "access_log": FLAG,
    "access_log_filter": IMPORT_PATH,
    "log_level": (["critical", "error", "warning", "info", "debug"], ["INFO", "trace", 10, None]),
}


def test_defaults() -> None:
    config = Config()
    # Options that later versions add are not this test's business.
    assert {name: getattr(config, name) for name in DEFAULTS} == DEFAULTS


def test_each_option_has_a_check_and_a_documentation() -> None:
    assert {field.name for field in fields(Config)} == option_names()
    for field in fields(Config):
        assert callable(field.metadata["check"]), field.name
        assert field.metadata["doc"].endswith("."), field.name


@pytest.mark.parametrize(
    ("option", "value"), [(name, value) for name in VALUES for value in VALUES[name][0]]
)
def test_good_values_are_accepted(option: str, value: Any) -> None:
    config = Config(**{option: value})
    if option != "bind":
        assert getattr(config, option) == value


@pytest.mark.parametrize(
    ("option", "value"), [(name, value) for name in VALUES for value in VALUES[name][1]]
)
def test_bad_values_are_refused_and_the_error_names_the_option(option: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Config(**{option: value})
    assert caught.value.option == option
    assert str(caught.value).startswith(f"{option}: must be ")
    given = tuple(value) if isinstance(value, list) else value
    assert str(caught.value).endswith(f", not {given!r}")


@pytest.mark.parametrize("option", sorted(option_names()))
def test_no_option_takes_just_anything(option: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config(**{option: object()})
    assert caught.value.option == option


def test_all_defaults_are_themselves_valid() -> None:
    assert Config(**DEFAULTS) == Config()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"port": 70000}, "an integer from 0 to 65535, not 70000"),
        ({"workers": 0}, "an integer from 1 to 1024"),
        ({"startup_timeout": "soon"}, "a number of at least 0, not 'soon'"),
        ({"limit_body_size": -1}, "an integer of at least 0 or None"),
        ({"isolation": "process"}, "one of interpreter, thread, auto, not 'process'"),
        ({"access_log": 1}, "True or False, not 1"),
        ({"uds": 1}, "a path or None"),
        ({"bind": [1]}, "a list of addresses"),
        ({"bind": "9590"}, "with its host: '127.0.0.1:9590', or ':9590' for all interfaces"),
        ({"bind": "@name"}, "'unix:@name' for a Unix socket"),
        ({"bind": ["a:1", "/run/socket"]}, "'unix:/run/socket' for a Unix socket"),
        ({"root_path": "a"}, "start with a slash"),
    ],
)
def test_the_message_says_what_would_do(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config(**options)
    assert words in str(caught.value)


def test_errors_are_value_errors_too() -> None:
    assert issubclass(ConfigError, ValueError)
    assert issubclass(ConfigError, SubinterpASGIError)


@pytest.mark.parametrize(
    "options",
    [
        {"bind": ["127.0.0.1:0"], "uds": "/run/s"},
        {"bind": ["127.0.0.1:0"], "fd": 3},
        {"uds": "/run/s", "fd": 0},
    ],
)
def test_only_one_way_to_say_where_to_listen(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="only one of bind, uds and fd") as caught:
        Config(**options)
    assert caught.value.option == "bind"


@pytest.mark.parametrize(
    "options",
    [{"metrics_path": "/a"}, {"metrics_path": "/a", "metrics_bind": "a:1"}],
)
def test_a_path_can_be_either_health_or_metrics(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="'/a'") as caught:
        Config(health_path="/a", **options)
    assert caught.value.option == "metrics_path"


@pytest.mark.parametrize("name", ["limit_connections", "limit_concurrency"])
def test_a_total_is_not_less_than_what_each_worker_may_have(name: str) -> None:
    with pytest.raises(
        ConfigError, match=f"at least {name}, which is for each worker: 9 < 10$"
    ) as caught:
        Config(**{name: 10, f"{name}_total": 9})
    assert caught.value.option == f"{name}_total"
    assert Config(**{name: 10, f"{name}_total": 10, "workers": 64})
    assert Config(**{f"{name}_total": 1, "workers": 64})


def test_metrics_have_a_path_of_their_own_by_default() -> None:
    with pytest.raises(ConfigError, match="'/metrics'"):
        Config(health_path="/metrics", metrics_bind="a:1")
    assert Config(health_path="/metrics").metrics_path is None


def test_bind_may_be_one_address_or_a_list_and_becomes_a_tuple() -> None:
    assert Config(bind="a:1").bind == ("a:1",)  # type: ignore[arg-type]
    assert Config(bind=["a:1", "b:2"]).bind == ("a:1", "b:2")  # type: ignore[arg-type]


# --- frozen


def test_frozen() -> None:
    config = Config()
    with pytest.raises(FrozenInstanceError):
        config.port = 1  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        config.prot = 1  # type: ignore[attr-defined]


def test_usable_as_a_key() -> None:
    assert {Config(): 1}[Config(port=8000)] == 1


def test_a_password_is_not_shown() -> None:
    config = Config(ssl_certfile="cert.pem", ssl_keyfile_password="hush")
    assert "cert.pem" in repr(config)
    assert "hush" not in repr(config)
    assert Config.from_json(config.to_json()) == config


def test_options_by_keyword_only() -> None:
    with pytest.raises(TypeError):
        Config("0.0.0.0")  # type: ignore[misc]


# --- with_options


def test_with_options_leaves_the_original_alone() -> None:
    config = Config(port=1)
    other = config.with_options(port=2, workers=3)
    assert (config.port, other.port, other.workers) == (1, 2, 3)


def test_with_options_validates() -> None:
    with pytest.raises(ConfigError) as caught:
        Config().with_options(port=-1)
    assert caught.value.option == "port"


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("wokers", "did you mean workers"),
        ("lifespam", "did you mean lifespan?"),
        ("timeout_keepalive", "timeout_keep_alive"),
    ],
)
def test_an_unknown_option_is_refused_with_what_was_probably_meant(
    name: str, suggestion: str
) -> None:
    with pytest.raises(ConfigError, match="no such option") as caught:
        Config().with_options(**{name: 1})
    assert caught.value.option == name
    assert suggestion in str(caught.value)


def test_an_unknown_option_like_no_other_gets_no_suggestion() -> None:
    with pytest.raises(ConfigError) as caught:
        Config().with_options(xyzzy=1)
    assert str(caught.value) == "xyzzy: no such option"


# --- JSON

_STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "host": st.text(),
    "port": st.integers(0, 65535),
    "bind": st.lists(st.text(min_size=1).map("host{}".format), max_size=3).map(tuple),
    "uds_permissions": st.integers(0, 0o777),
    "backlog": st.integers(1, 2**31 - 1),
    "workers": st.integers(1, 1024),
    "isolation": st.sampled_from(["interpreter", "thread", "auto"]),
    "daemon_threads": st.sampled_from(["demote", "refuse"]),
    "factory": st.booleans(),
    "lifespan": st.sampled_from(["auto", "on", "off"]),
    "root_path": st.text().map(lambda s: "/" + s.strip("/") if s.strip("/") else ""),
    "startup_timeout": st.floats(0, allow_nan=False),
    "shutdown_timeout": st.integers(0) | st.floats(0, allow_nan=False),
    "limit_request_line": st.integers(1),
    "limit_body_size": st.none() | st.integers(0),
    "access_log": st.booleans(),
    "log_level": st.sampled_from(["critical", "debug"]),
}


@given(st.fixed_dictionaries({}, optional=_STRATEGIES))
def test_json_is_lossless(options: dict[str, Any]) -> None:
    config = Config(**options)
    assert Config.from_json(config.to_json()) == config


@given(st.text(alphabet=st.characters()), st.text(min_size=1))
def test_any_string_survives_json(host: str, path: str) -> None:
    config = Config(host=host, uds=path)
    assert Config.from_json(config.to_json()) == config


def test_json_has_every_option_and_is_ascii() -> None:
    text = Config(host="höst\ud800\0").to_json()
    assert set(json.loads(text)) == option_names()
    assert text.isascii()  # surrogates and NULs must not reach another interpreter as such


def test_from_json_fills_in_defaults() -> None:
    assert Config.from_json('{"port": 1}') == Config(port=1)


@pytest.mark.parametrize("text", ["", "{", "nonsense", "{} {}"])
def test_from_json_refuses_what_is_not_json(text: str) -> None:
    with pytest.raises(ConfigError, match="config_json: not JSON"):
        Config.from_json(text)


@pytest.mark.parametrize("text", ["[]", "1", "null", '"{}"'])
def test_from_json_refuses_what_is_no_object(text: str) -> None:
    with pytest.raises(ConfigError, match="must be a JSON object"):
        Config.from_json(text)


def test_from_json_validates() -> None:
    with pytest.raises(ConfigError, match=r"^port: "):
        Config.from_json('{"port": "eighty"}')
    with pytest.raises(ConfigError, match=r"^prot: no such option; did you mean port"):
        Config.from_json('{"prot": 80}')


def test_paths_may_be_objects() -> None:
    config = Config(ssl_certfile=Path("a.pem"), reload_dir=[Path("b"), "c"], uds=Path("d"))  # type: ignore[arg-type]
    assert (config.ssl_certfile, config.reload_dir, config.uds) == ("a.pem", ("b", "c"), "d")
    assert Config(reload_dir=Path("b")).reload_dir == ("b",)  # type: ignore[arg-type]
    assert Config.from_json(config.to_json()) == config
    with pytest.raises(ConfigError, match=r"workers: must be an integer .*, not 'x'"):
        Config(workers=Path("x"))  # type: ignore[arg-type]
