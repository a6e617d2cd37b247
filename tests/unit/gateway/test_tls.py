"""TLS of the gateway: certificates that are read anew, client certificates, and who is let in."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from gateway.decisions.access import AccessRules, ProviderAccess
from gateway.server import GatewayServer
from gateway.settings import GatewaySettings
from gateway.tls import TlsContexts, TlsFiles
from runtime.security import BrokerAddress
from schemas.errors import UsageError
from tests.unit.gateway.scene import TABLE, Scene

ANY = (ip_network("0.0.0.0/0"),)


class Authority:
    """A certificate authority, and the certificates that it signs."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        named = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.certificate = (
            self._builder(named, named, self.key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(is_authority=True), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def issue(self, name: str, file: str, password: bytes | None = None) -> tuple[Path, Path]:
        """Write a certificate for a name and its key, over what is there."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        alternatives = x509.SubjectAlternativeName(
            [x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.1"))]
        )
        certificate = (
            self._builder(subject, self.certificate.subject, key)
            .add_extension(alternatives, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        encryption = BestAvailableEncryption(password) if password else NoEncryption()
        paths = self.folder / f"{file}.pem", self.folder / f"{file}.key"
        paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        return paths

    @staticmethod
    def _builder(subject: x509.Name, issuer: x509.Name, key: Any) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
        )


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


@asynccontextmanager
async def listening(**settings: Any) -> AsyncIterator[GatewayServer]:
    made = GatewaySettings(BrokerAddress(""), port=0, **settings)
    scene = Scene()
    server = GatewayServer(made, TABLE, scene.desk, scene.stats)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def trusting_all(client: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if client is not None:
        context.load_cert_chain(*client)
    return context


async def shown_name(server: GatewayServer) -> str:
    """Return the name in the certificate that a server shows."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trusting_all())
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    certificate = x509.load_der_x509_certificate(shown)
    [named] = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(named.value)


async def call(
    server: GatewayServer,
    scheme: str = "http",
    path: str = "/hub88/transaction/bet",
    client: tuple[Path, Path] | None = None,
    headers: dict[str, str] | None = None,
) -> int:
    """Post to a server, and return the status."""
    connector = aiohttp.TCPConnector(ssl=trusting_all(client), force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        url = f"{scheme}://127.0.0.1:{server.port}{path}"
        async with session.post(url, data=b"{}", headers=headers) as response:
            return response.status


async def test_a_renewed_certificate_holds_from_the_next_connection_on(
    tmp_path: Path,
):
    authority = Authority(tmp_path, "authority")
    files = TlsFiles(*authority.issue("first.example", "server"))
    async with listening(tls=files) as server:
        assert await shown_name(server) == "first.example"
        server.contexts.look_every_s = 0.0
        authority.issue("second.example", "server")
        assert await shown_name(server) == "second.example"
        # A key that does not fit, as between two writes, changes nothing.
        before = files.key.read_bytes()
        authority.issue("third.example", "other")
        files.key.write_bytes((tmp_path / "other.key").read_bytes())
        assert await shown_name(server) == "second.example"
        files.key.write_bytes(before)
        assert await shown_name(server) == "second.example"
        files.certificate.unlink()
        assert await shown_name(server) == "second.example"
        assert await call(server, "https") == 200
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await call(server, "http")


async def test_a_provider_is_let_in_by_its_certificate(tmp_path: Path):
    authority, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    ours = tmp_path / "clients.pem"
    ours.write_bytes(authority.file.read_bytes())
    files = TlsFiles(*authority.issue("gateway.example", "server"), ours)
    access = AccessRules(
        providers={"hub88": ProviderAccess(certificates=frozenset({"hub88.example"}))}
    )
    hub88 = authority.issue("hub88.example", "hub88")
    async with listening(tls=files, access=access) as server:
        server.contexts.look_every_s = 0.0
        assert await call(server, "https", client=hub88) == 200
        assert await call(server, "https") == 403
        playngo = authority.issue("playngo.example", "playngo")
        assert await call(server, "https", client=playngo) == 403
        # A provider that is not named needs none, on the same port.
        assert await call(server, "https", "/playngo") == 200
        forged = other.issue("hub88.example", "forged")
        with pytest.raises((aiohttp.ClientError, ConnectionError, ssl.SSLError)):
            await call(server, "https", client=forged)
        # Another authority holds at once: what the former one signed is not believed any more.
        ours.write_bytes(other.file.read_bytes())
        assert await call(server, "https", client=forged) == 200
        with pytest.raises((aiohttp.ClientError, ConnectionError, ssl.SSLError)):
            await call(server, "https", client=hub88)


async def test_a_call_from_elsewhere_is_not_read():
    scene_access = AccessRules(
        (ip_network("127.0.0.1/32"),),
        {"hub88": ProviderAccess((ip_network("192.0.2.0/24"),)), "playngo": ProviderAccess(ANY)},
    )
    async with listening(access=scene_access) as server:
        assert await call(server) == 403
        named = {"X-Forwarded-For": "192.0.2.7"}
        assert await call(server, headers=named) == 200
        invented = {"X-Forwarded-For": "192.0.2.7, 198.51.100.1"}
        assert await call(server, headers=invented) == 403
        assert await call(server, path="/playngo") == 200
        endings = server._desk._stats.endings
        assert endings["refused, not from an address of its provider"] == 2


@pytest.mark.parametrize("kind", ["missing", "no PEM", "another key", "password"])
def test_files_that_cannot_be_used_are_named_and_not_shown(tmp_path: Path, kind: str):
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue(
        "a.example", "server", b"geheim" if kind == "password" else None
    )
    if kind == "missing":
        key.unlink()
    elif kind == "no PEM":
        key.write_text("geheim")
    elif kind == "another key":
        key.write_bytes(authority.issue("b.example", "other")[1].read_bytes())
    with pytest.raises(UsageError) as raised:
        TlsContexts(TlsFiles(certificate, key))
    assert "geheim" not in str(raised.value)
    assert "key" in str(raised.value)


async def test_a_client_that_speaks_no_tls_is_cut_off(tmp_path: Path):
    files = TlsFiles(*Authority(tmp_path, "authority").issue("a.example", "server"))
    async with listening(tls=files, body_timeout_s=0.2) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()
