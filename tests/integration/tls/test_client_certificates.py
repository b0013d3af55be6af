"""Clients' certificates: whom a server lets in, and what it tells the application."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from subinterp_asgi import Supervisor

from ..pki import Pki, TLSClient
from ..rawclient import post
from .clients import APP, QUIET, tls_scope


@pytest.fixture(scope="module", params=[1, 2], ids=["optional", "required"])
def verifying(request: pytest.FixtureRequest, pki: Pki) -> Iterator[Supervisor]:
    options: dict[str, Any] = {
        "ssl_certfile": pki.server,
        "ssl_ca_certs": pki.ca_file,
        "ssl_cert_reqs": request.param,
    }
    # One worker: sessions are its own, and can be resumed with none but it.
    with Supervisor(APP, **QUIET, **options) as server:
        yield server


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_good_certificate(pki: Pki, verifying: Supervisor, version: ssl.TLSVersion) -> None:
    identity = pki.ca.issue_cert("ann@example.org", common_name="Ann", organization_name="Org")
    leaf = identity.cert_chain_pems[0].bytes()
    context = pki.client(identity)
    context.maximum_version = version
    session: ssl.SSLSession | None = None
    for resumed in (False, True):
        with TLSClient(verifying.addresses[0], context, session=session) as client:
            found = tls_scope(client)
            assert client.tls.session_reused is resumed
            session = client.tls.session
        assert found["client_cert_chain"][0].encode() == leaf
        assert found["client_cert_name"] == rfc4514(leaf)
        assert found["client_cert_error"] is None
        if not resumed:
            assert found["client_cert_chain"][1:] == [pki.ca.cert_pem.bytes().decode()]


def test_a_chain_with_an_intermediate_authority(pki: Pki, verifying: Supervisor) -> None:
    identity = pki.ca.create_child_ca().issue_cert("ann@example.org")
    with TLSClient(verifying.addresses[0], pki.client(identity)) as client:
        chain = tls_scope(client)["client_cert_chain"]
    expected = [*identity.cert_chain_pems, pki.ca.cert_pem]
    assert [certificate.encode() for certificate in chain] == [blob.bytes() for blob in expected]


def test_no_certificate(pki: Pki, verifying: Supervisor) -> None:
    if verifying.config.ssl_cert_reqs == 1:
        with TLSClient(verifying.addresses[0], pki.client()) as client:
            found = tls_scope(client)
        assert found["client_cert_chain"] == []
        assert found["client_cert_name"] is None
    else:
        assert_refused(pki, verifying, pki.client(), "CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE")


def test_a_certificate_of_another_authority(pki: Pki, verifying: Supervisor) -> None:
    identity = trustme.CA().issue_cert("ann@example.org")
    assert_refused(pki, verifying, pki.client(identity), "UNKNOWN_CA")


def test_a_certificate_that_has_expired(pki: Pki, verifying: Supervisor) -> None:
    past = datetime(2001, 1, 1, tzinfo=UTC)
    identity = pki.ca.issue_cert("ann@example.org", not_after=past)
    assert_refused(pki, verifying, pki.client(identity), "CERTIFICATE_EXPIRED")


def assert_refused(pki: Pki, server: Supervisor, context: ssl.SSLContext, alert: str) -> None:
    """Check that a client is refused, and told why, though it has sent its request already."""

    def ask() -> None:
        # With TLS 1.3 the client's half of the handshake ends before the server has decided.
        with TLSClient(server.addresses[0], context) as client:
            client.try_send(post(b"/digest", bytes(100_000)))
            client.response()

    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context.maximum_version = version
        for _ in range(3):
            with pytest.raises(ssl.SSLError, match=alert):
                ask()
    good = pki.client(pki.ca.issue_cert("ann@example.org"))
    with TLSClient(server.addresses[0], good) as client:
        client.assert_open()


def rfc4514(pem: bytes) -> str:
    """The subject of a certificate as another implementation writes it."""
    return x509.load_pem_x509_certificate(pem).subject.rfc4514_string()


NAMES: dict[str, list[list[tuple[x509.ObjectIdentifier, str]]]] = {
    "all-that-have-short-names": [
        [(NameOID.DOMAIN_COMPONENT, "org")],
        [(NameOID.DOMAIN_COMPONENT, "example")],
        [(NameOID.COUNTRY_NAME, "CH")],
        [(NameOID.STATE_OR_PROVINCE_NAME, "Zürich")],
        [(NameOID.LOCALITY_NAME, "Uster")],
        [(NameOID.STREET_ADDRESS, "Hauptstrasse 1")],
        [(NameOID.ORGANIZATION_NAME, "Org")],
        [(NameOID.ORGANIZATIONAL_UNIT_NAME, "Unit")],
        [(NameOID.COMMON_NAME, "Ann")],
        [(NameOID.USER_ID, "ann")],
    ],
    "several-in-one": [
        [(NameOID.ORGANIZATION_NAME, "Org")],
        [(NameOID.COMMON_NAME, "Ann"), (NameOID.ORGANIZATIONAL_UNIT_NAME, "Unit")],
    ],
    "separators": [[(NameOID.COMMON_NAME, 'a,b+c"d\\e<f>g;h=i')]],
    "forged": [[(NameOID.COMMON_NAME, "nobody,CN=root")]],
    "hash": [[(NameOID.COMMON_NAME, "#not hex#")]],
    "spaces": [[(NameOID.COMMON_NAME, "  two  spaces  ")]],
    "one-space": [[(NameOID.COMMON_NAME, " ")]],
}


@pytest.mark.parametrize("verifying", [2], ids=["required"], indirect=True)
@pytest.mark.parametrize("case", NAMES)
def test_names(pki: Pki, verifying: Supervisor, tmp_path: Path, case: str) -> None:
    name = x509.Name(
        x509.RelativeDistinguishedName(x509.NameAttribute(oid, value) for oid, value in part)
        for part in NAMES[case]
    )
    certificate, key = sign(pki, name)
    path = tmp_path / "client.pem"
    path.write_bytes(certificate + key)
    context = pki.client()
    context.load_cert_chain(path)
    with TLSClient(verifying.addresses[0], context) as client:
        assert tls_scope(client)["client_cert_name"] == rfc4514(certificate)


def sign(pki: Pki, subject: x509.Name) -> tuple[bytes, bytes]:
    """Issue a certificate with a subject such as trustme would not give it."""
    authority = x509.load_pem_x509_certificate(pki.ca.cert_pem.bytes())
    authority_key = serialization.load_pem_private_key(pki.ca.private_key_pem.bytes(), None)
    assert isinstance(authority_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False
        )
        .sign(authority_key, hashes.SHA256())
    )
    encoded = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM), encoded
