"""Certificates for tests, made by trustme, so that clients verify what they connect to."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import trustme

_NAMES = ("localhost", "127.0.0.1", "::1")


class CertificateAuthority:
    """A certificate authority, a server certificate for the loopback interface, and clients'.

    Args:
        folder: Where files are written.

    Attributes:
        ca: The ``trustme.CA``.
        ca_file: File with its certificate, for clients that want a file.
    """

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self._folder = folder
        self.ca_file = str(folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.ca_file)
        self._server = self._issue("server", *_NAMES)

    def options(self, *, client_certificates: bool = False) -> dict[str, Any]:
        """Options of a server that has the certificate; it may ask clients for theirs, too."""
        certificate, key = self._server
        options: dict[str, Any] = {"ssl_certfile": certificate, "ssl_keyfile": key}
        if client_certificates:
            options |= {"ssl_ca_certs": self.ca_file, "ssl_cert_reqs": ssl.CERT_REQUIRED}
        return options

    def context(self, client: str | None = None) -> ssl.SSLContext:
        """For clients: trusts this authority only; with a certificate of this name, if given."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if client is not None:
            context.load_cert_chain(
                *self._issue(client, f"{client}@example.org", common_name=client)
            )
        return context

    def _issue(self, file: str, *names: str, common_name: str | None = None) -> tuple[str, str]:
        issued = self.ca.issue_cert(*names, common_name=common_name)
        certificate, key = (self._folder / f"{file}.{kind}.pem" for kind in ("cert", "key"))
        key.touch(0o600)
        issued.private_key_pem.write_to_path(str(key))
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        return str(certificate), str(key)
