"""Each TLS option: what it turns on, and what is said when it can't be used."""

from __future__ import annotations

import ssl
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trustme import KeyType

from subinterp_asgi import Supervisor
from subinterp_asgi.errors import ConfigError, StartupError

from ...support import nothing_left, run_script
from ..pki import Pki, TLSClient
from .clients import APP, QUIET, tls_scope


def assert_serves(context: ssl.SSLContext, **options: Any) -> None:
    with (
        Supervisor(APP, **QUIET, **options) as server,
        TLSClient(server.addresses[0], context) as client,
    ):
        client.assert_open()


def refusal(**options: Any) -> str:
    """Start a server that can't start; return why. No worker is started."""
    server = Supervisor(APP, **QUIET, **options)
    with nothing_left(), pytest.raises(ConfigError) as raised:
        server.start()
    assert not server.workers
    return str(raised.value)


def workers_refusal(**options: Any) -> str:
    """The same where only workers can know."""
    with nothing_left(), pytest.raises(StartupError) as raised:
        Supervisor(APP, **QUIET, **options).start()
    first_line = str(raised.value).partition("\n")[0]
    prefix = "worker 0 could not start: ConfigError: "
    assert first_line.startswith(prefix)
    assert raised.value.kind == "config"
    return first_line.removeprefix(prefix)


# --- certificate and key


def test_a_separate_key(pki: Pki) -> None:
    assert_serves(pki.client(), ssl_certfile=pki.certificate, ssl_keyfile=pki.key)


def test_an_encrypted_key(pki: Pki) -> None:
    assert_serves(
        pki.client(),
        ssl_certfile=pki.certificate,
        ssl_keyfile=pki.encrypted_key,
        ssl_keyfile_password=pki.PASSWORD,
    )


def test_an_encrypted_key_without_its_password(pki: Pki) -> None:
    why = refusal(ssl_certfile=pki.certificate, ssl_keyfile=pki.encrypted_key)
    assert why == "ssl_keyfile_password: the private key is encrypted"


def test_the_wrong_password(pki: Pki) -> None:
    why = refusal(
        ssl_certfile=pki.certificate,
        ssl_keyfile=pki.encrypted_key,
        ssl_keyfile_password="close sesame",
    )
    assert why == f"ssl_keyfile_password: does not decrypt {pki.encrypted_key!r}"


def test_nobody_is_asked_for_the_password(pki: Pki, tmp_path: Path) -> None:
    """OpenSSL would ask a terminal that the process has, and wait for the answer."""
    script = """
        import os, pty, sys

        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(sys.executable, [sys.executable, "serve.py", *sys.argv[1:]])
        output = b""
        try:
            while data := os.read(terminal, 4096):
                output += data
                if b"pass phrase" in output:
                    break
        except OSError:
            pass  # the terminal's other side is closed
        os.write(1, output)
        os.close(terminal)
        print("status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    serve = """
        import sys
        from subinterp_asgi import Supervisor
        from subinterp_asgi.errors import ConfigError

        try:
            Supervisor(
                "tests.integration.apps.tls:app",
                port=0, ssl_certfile=sys.argv[1], ssl_keyfile=sys.argv[2],
            ).start()
        except ConfigError as exc:
            sys.exit(str(exc))
    """
    arguments = (pki.certificate, pki.encrypted_key)
    done = run_script(tmp_path, script, *arguments, files={"serve.py": serve})
    assert "pass phrase" not in done.stdout
    assert "ssl_keyfile_password: the private key is encrypted" in done.stdout
    assert done.stdout.endswith("status 1\n")


BAD_FILES: dict[str, Callable[[Pki, str, str], tuple[dict[str, str], str]]] = {
    # (pki, path of a file that is missing, of one that holds no PEM) -> options, what is said
    "missing-certificate": lambda pki, missing, junk: (
        {"ssl_certfile": missing},
        f"ssl_certfile: can't read {missing!r}: No such file or directory",
    ),
    "missing-key": lambda pki, missing, junk: (
        {"ssl_certfile": pki.certificate, "ssl_keyfile": missing},
        f"ssl_keyfile: can't read {missing!r}: No such file or directory",
    ),
    "garbage-certificate": lambda pki, missing, junk: (
        {"ssl_certfile": junk},
        f"ssl_certfile: there is no certificate in PEM in {junk!r}",
    ),
    "garbage-certificate-good-key": lambda pki, missing, junk: (
        {"ssl_certfile": junk, "ssl_keyfile": pki.key},
        f"ssl_certfile: there is no certificate in PEM in {junk!r}",
    ),
    "garbage-key": lambda pki, missing, junk: (
        {"ssl_certfile": pki.certificate, "ssl_keyfile": junk},
        f"ssl_keyfile: there is no private key in PEM in {junk!r}",
    ),
    "no-key": lambda pki, missing, junk: (
        {"ssl_certfile": pki.certificate},
        f"ssl_keyfile: there is no private key in PEM in {pki.certificate!r}",
    ),
    "directory": lambda pki, missing, junk: (
        {"ssl_certfile": str(pki.directory)},
        f"ssl_certfile: can't read {str(pki.directory)!r}: Is a directory",
    ),
    "another-key": lambda pki, missing, junk: (
        {"ssl_certfile": pki.certificate, "ssl_keyfile": pki.issue("another.pem")},
        f"ssl_keyfile: {str(pki.directory / 'another.pem')!r} is not the key of the certificate",
    ),
    "key-of-another-kind": lambda pki, missing, junk: (
        {"ssl_certfile": pki.certificate, "ssl_keyfile": pki.issue("rsa.pem", KeyType.RSA)},
        f"ssl_keyfile: {str(pki.directory / 'rsa.pem')!r} is not the key of the certificate",
    ),
    "missing-authorities": lambda pki, missing, junk: (
        {"ssl_certfile": pki.server, "ssl_ca_certs": missing},
        "ssl_ca_certs: [Errno 2] No such file or directory",
    ),
    "garbage-authorities": lambda pki, missing, junk: (
        {"ssl_certfile": pki.server, "ssl_ca_certs": junk},
        "ssl_ca_certs: ",
    ),
    "ciphers": lambda pki, missing, junk: (
        {"ssl_certfile": pki.server, "ssl_ciphers": "NO-SUCH-CIPHER"},
        "ssl_ciphers: ",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_what_is_wrong_is_named(pki: Pki, tmp_path: Path, case: str) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no PEM\n")
    options, expected = BAD_FILES[case](pki, str(tmp_path / "missing.pem"), str(junk))
    why = refusal(**options)
    assert why.startswith(expected)
    assert len(why) > len("ssl_ciphers: ")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("ssl_keyfile", "key.pem"),
        ("ssl_keyfile_password", "secret"),
        ("ssl_ca_certs", "ca.pem"),
        ("ssl_cert_reqs", 2),
        ("ssl_ciphers", "HIGH"),
        ("ssl_reload", True),
    ],
)
def test_an_option_that_turns_nothing_on(option: str, value: Any) -> None:
    """A server that was given a key must not serve in the clear because a word was forgotten."""
    with pytest.raises(ConfigError, match="TLS is off without ssl_certfile") as raised:
        Supervisor(APP, **{option: value})
    assert raised.value.option == option


def test_nobody_to_verify_clients_by(pki: Pki) -> None:
    with pytest.raises(ConfigError, match="ssl_cert_reqs: needs ssl_ca_certs"):
        Supervisor(APP, ssl_certfile=pki.server, ssl_cert_reqs=2)


# --- versions and ciphers


def old_client(pki: Pki) -> ssl.SSLContext:
    """A client that knows nothing newer than TLS 1.1."""
    context = pki.client()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def test_tls_1_1_is_refused(pki: Pki) -> None:
    with (
        Supervisor(APP, **QUIET, ssl_certfile=pki.server) as server,
        pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"),  # the server's alert
    ):
        TLSClient(server.addresses[0], old_client(pki))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions(pki: Pki, version: ssl.TLSVersion) -> None:
    context = pki.client()
    context.minimum_version = context.maximum_version = version
    with (
        Supervisor(APP, **QUIET, ssl_certfile=pki.server) as server,
        TLSClient(server.addresses[0], context) as client,
    ):
        assert tls_scope(client)["tls_version"] == version.value


def test_ciphers(pki: Pki) -> None:
    context = pki.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    name = "ECDHE-ECDSA-AES128-GCM-SHA256"
    with Supervisor(APP, **QUIET, ssl_certfile=pki.server, ssl_ciphers=name) as server:
        with TLSClient(server.addresses[0], context) as client:
            assert (client.tls.cipher() or [None])[0] == name
            assert tls_scope(client)["cipher_suite"] == 0xC02B
        context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
        with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
            TLSClient(server.addresses[0], context)


# --- a context of the application's own making


FACTORIES = """
    import ssl, threading

    calls = []

    def own(default):
        context = default()
        calls.append(threading.current_thread().name)
        context.set_alpn_protocols(["http/1.1", "of-our-own"])
        return context

    def from_nothing(default):
        import os
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.environ["TEST_SERVER_PEM"])
        return context

    def old(default):
        import warnings
        context = default()
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            context.minimum_version = ssl.TLSVersion.TLSv1_1
        return context

    def nothing(default):
        default()

    def fails(default):
        raise LookupError("no context today")

    def leaves(default):
        raise SystemExit(3)

    class Made:
        inner = staticmethod(own)
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module with context factories; only the workers import it."""
    (tmp_path / "context_factories.py").write_text(textwrap.dedent(FACTORIES))
    monkeypatch.syspath_prepend(tmp_path)
    return "context_factories"


@pytest.mark.parametrize("attribute", ["own", "Made.inner"])
def test_a_factory(pki: Pki, factories: str, attribute: str) -> None:
    context = pki.client()
    context.set_alpn_protocols(["of-our-own"])
    options: dict[str, Any] = {"ssl_certfile": pki.server, "workers": 2}
    options["ssl_context_factory"] = f"{factories}:{attribute}"
    with Supervisor(APP, **QUIET, **options) as server:
        for _ in range(4):
            with TLSClient(server.addresses[0], context) as client:
                assert client.tls.selected_alpn_protocol() == "of-our-own"
                assert tls_scope(client)["server_cert"] is not None


def test_a_factory_alone_turns_tls_on(
    pki: Pki, factories: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_SERVER_PEM", pki.server)
    with (
        Supervisor(APP, **QUIET, ssl_context_factory=f"{factories}:from_nothing") as server,
        TLSClient(server.addresses[0], pki.client()) as client,
    ):
        assert server.url.startswith("https:")
        assert tls_scope(client)["server_cert"] is None  # nobody said which file it is


def test_a_factory_may_allow_what_the_default_does_not(pki: Pki, factories: str) -> None:
    options = {"ssl_certfile": pki.server, "ssl_context_factory": f"{factories}:old"}
    with (
        Supervisor(APP, **QUIET, **options) as server,
        TLSClient(server.addresses[0], old_client(pki)) as client,
    ):
        assert tls_scope(client)["tls_version"] == 0x0302


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        (":nothing", "ssl_context_factory: must return an SSLContext, not NoneType"),
        (
            ":fails",
            "ssl_context_factory: context_factories:fails raised LookupError: no context today",
        ),
        (":leaves", "ssl_context_factory: context_factories:leaves raised SystemExit: 3"),
        (":absent", "ssl_context_factory: 'context_factories' has no attribute 'absent'"),
        ("_absent:x", "ssl_context_factory: no module named 'context_factories_absent'"),
        (":calls", "ssl_context_factory: context_factories:calls can't be called"),
    ],
)
def test_a_factory_that_fails(pki: Pki, factories: str, attribute: str, expected: str) -> None:
    path = factories + attribute
    why = workers_refusal(ssl_certfile=pki.server, ssl_context_factory=path)
    assert why.startswith(expected)
    assert path.partition(":")[0] in why or attribute == ":nothing"


def test_a_certificate_that_a_factory_would_not_find(factories: str, tmp_path: Path) -> None:
    path = str(tmp_path / "missing.pem")
    why = refusal(ssl_certfile=path, ssl_context_factory=f"{factories}:from_nothing")
    assert why == f"ssl_certfile: can't read {path!r}: No such file or directory"


def test_a_factory_that_has_no_certificate(factories: str) -> None:
    why = workers_refusal(ssl_context_factory=f"{factories}:own")
    assert why == "ssl_certfile: is needed for the default context"
