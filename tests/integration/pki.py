"""Certificates for tests: an authority of their own, and clients that trust it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives import serialization

from .rawclient import RawClient


class Pki:
    """An authority, and the files that a server is given.

    Attributes:
        ca: The authority.
        ca_file: Its certificate.
        server: Key and certificate chain of the server, in one file.
        certificate: The chain alone.
        key: The key alone.
        encrypted_key: The key, encrypted with ``PASSWORD``.
    """

    PASSWORD = "open sesame"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = trustme.CA()
        self.ca_file = self._write("ca.pem", self.ca.cert_pem.bytes())
        issued = self.ca.issue_cert("localhost", "127.0.0.1")
        self.server = self._write("server.pem", issued.private_key_and_cert_chain_pem.bytes())
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        self.certificate = self._write("certificate.pem", chain)
        self.key = self._write("key.pem", issued.private_key_pem.bytes())
        self.encrypted_key = self._write("encrypted.pem", self._encrypted(issued))

    def _encrypted(self, issued: trustme.LeafCert) -> bytes:
        key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(self.PASSWORD.encode()),
        )

    def _write(self, name: str, content: bytes) -> str:
        path = self.directory / name
        path.write_bytes(content)
        return str(path)

    def issue(self, name: str, kind: trustme.KeyType = trustme.KeyType.ECDSA) -> str:
        """Issue another certificate for the server; return the file with key and chain."""
        issued = self.ca.issue_cert("localhost", "127.0.0.1", key_type=kind)
        return self._write(name, issued.private_key_and_cert_chain_pem.bytes())

    def issue_pair(self, folder: Path, *, encrypted: bool = False) -> None:
        """Issue another one, as ``certificate.pem`` and ``key.pem`` in a folder."""
        issued = self.ca.issue_cert("localhost", "127.0.0.1")
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        (folder / "certificate.pem").write_bytes(chain)
        key = self._encrypted(issued) if encrypted else issued.private_key_pem.bytes()
        (folder / "key.pem").write_bytes(key)

    def client(self, identity: trustme.LeafCert | None = None) -> ssl.SSLContext:
        """Make the context of a client that trusts the authority, and perhaps has a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.ca.configure_trust(context)
        if identity is not None:
            identity.configure_cert(context)
        return context


class TLSClient(RawClient):
    """A connection over TLS. The server's end without a ``close_notify`` is an error."""

    def __init__(
        self,
        address: Any,
        context: ssl.SSLContext,
        *,
        session: ssl.SSLSession | None = None,
        receive_buffer: int = 0,
    ) -> None:
        super().__init__(address, receive_buffer=receive_buffer)
        self.tls = context.wrap_socket(
            self.sock,
            server_hostname="localhost",
            suppress_ragged_eofs=False,
            session=session,
        )
        self.sock = self.tls

    @property
    def serial(self) -> int:
        """Serial number of the server's certificate."""
        certificate = self.tls.getpeercert()
        assert certificate is not None
        return int(str(certificate["serialNumber"]), 16)
