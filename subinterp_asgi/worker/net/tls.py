"""TLS contexts made from the options, and what ASGI's ``tls`` extension says of a connection.

Imported only where TLS is on, since ``ssl`` is one of the larger modules.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from pathlib import Path

from ...config import Config
from ...errors import ConfigError
from ...types import Any
from ..interpreter.importer import import_function, line_of

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", re.DOTALL)
_VERSIONS = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
# The short names of RFC 4514 section 3, for the attributes that it lists.
_ATTRIBUTES = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
_NAME_SPECIALS = re.compile(r'([,+"\\<>;]|\A[ #]| \Z)')


class TLSContext:
    """What accepted sockets are wrapped with, and what applications are told of it.

    ``ConfigError``: a file can't be read or used, or the factory failed; it names the option.
    """

    def __init__(self, config: Config) -> None:
        self.server_cert = _own_certificate(config)
        if config.ssl_context_factory is None:
            self.context = _default_context(config)
        else:
            self.context = _call_factory(config.ssl_context_factory, config)
            if not isinstance(self.context, ssl.SSLContext):
                raise ConfigError(
                    "ssl_context_factory",
                    f"must return an SSLContext, not {type(self.context).__name__}",
                )
        self._suites = {c["name"]: c["id"] & 0xFFFF for c in self.context.get_ciphers()}

    def describe(self, sock: ssl.SSLSocket) -> dict[str, Any]:
        """What ASGI's ``tls`` extension says about a connection (TLS extension 0.2)."""
        chain = [ssl.DER_cert_to_PEM_cert(der) for der in sock.get_verified_chain() or ()]
        if not chain and (der := sock.getpeercert(binary_form=True)):
            chain = [ssl.DER_cert_to_PEM_cert(der)]  # all that a resumed session remembers
        certificate = sock.getpeercert() if chain else None
        cipher = sock.cipher()
        return {
            "server_cert": self.server_cert,
            "client_cert_chain": chain,
            "client_cert_name": _distinguished_name(certificate) if certificate else None,
            "client_cert_error": None,
            "tls_version": _VERSIONS.get(sock.version() or ""),
            "cipher_suite": self._suites.get(cipher[0]) if cipher else None,
        }


def check_files(config: Config) -> None:
    """``ConfigError``: workers could not use the files; what a factory does only they can try."""
    if config.ssl_context_factory is None:
        TLSContext(config)
    else:
        _own_certificate(config)


def _own_certificate(config: Config) -> str | None:
    """The server's certificate, if the options say where it is."""
    if config.ssl_certfile is None:
        return None
    try:
        found = _PEM.search(Path(config.ssl_certfile).read_text("utf-8", "replace"))
    except OSError as exc:
        problem = f"can't read {config.ssl_certfile!r}: {exc.strerror}"
        raise ConfigError("ssl_certfile", problem) from exc
    return found[0] if found else None


def _call_factory(path: str, config: Config) -> Any:
    factory = import_function("ssl_context_factory", path)
    try:
        return factory(lambda: _default_context(config))
    except ConfigError:
        raise
    except (Exception, SystemExit) as exc:
        problem = f"{path} raised {line_of(exc)}"
        raise ConfigError("ssl_context_factory", problem) from exc


def _default_context(config: Config) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    if config.ssl_certfile is None:
        raise ConfigError("ssl_certfile", "is needed for the default context")
    try:
        context.load_cert_chain(
            config.ssl_certfile, config.ssl_keyfile, config.ssl_keyfile_password or _no_password
        )
    except OSError as exc:  # which SSLError is too
        raise _what_is_wrong(config, config.ssl_certfile, exc) from exc
    if config.ssl_ca_certs is not None:
        with _naming("ssl_ca_certs"):
            context.load_verify_locations(config.ssl_ca_certs)
    context.verify_mode = ssl.VerifyMode(config.ssl_cert_reqs)
    if config.ssl_ciphers is not None:
        with _naming("ssl_ciphers"):
            context.set_ciphers(config.ssl_ciphers)
    return context


def _what_is_wrong(config: Config, certfile: str, exc: OSError) -> ConfigError:
    """Find out which option is at fault: OpenSSL says "PEM lib" to nearly everything."""
    keyfile = config.ssl_keyfile or certfile
    text = ""
    for option, path in (("ssl_certfile", certfile), ("ssl_keyfile", keyfile)):
        try:
            text = Path(path).read_text("latin-1")
        except OSError as unreadable:
            return ConfigError(option, f"can't read {path!r}: {unreadable.strerror}")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(certfile)
    except OSError:
        return ConfigError("ssl_certfile", f"there is no certificate in PEM in {certfile!r}")
    reason = getattr(exc, "reason", None)
    if reason in ("KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):  # (to a key of that kind)
        return ConfigError("ssl_keyfile", f"{keyfile!r} is not the key of the certificate")
    if reason is not None:
        return ConfigError("ssl_certfile", str(exc))
    if "ENCRYPTED" in text:
        return ConfigError("ssl_keyfile_password", f"does not decrypt {keyfile!r}")
    return ConfigError("ssl_keyfile", f"there is no private key in PEM in {keyfile!r}")


def _no_password() -> str:
    # OpenSSL would ask the terminal instead, and wait for ever.
    raise ConfigError("ssl_keyfile_password", "the private key is encrypted")


@contextlib.contextmanager
def _naming(option: str) -> Any:
    try:
        yield
    except OSError as exc:  # which SSLError is too
        raise ConfigError(option, str(exc)) from exc


def _distinguished_name(certificate: dict[str, Any]) -> str:
    """A certificate's subject as a string (RFC 4514), most specific part first."""
    parts = []
    for relative in reversed(certificate.get("subject", ())):
        pairs = (
            f"{_ATTRIBUTES.get(name, name)}={_NAME_SPECIALS.sub(r'\\\1', value)}"
            for name, value in relative
        )
        parts.append("+".join(pairs))
    return ",".join(parts)
