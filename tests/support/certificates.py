"""Certificates that are right, or wrong in one way each, for tests of TLS."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509

from pitboss.embedded.certificates import (
    begin_certificate,
    certificate_pem,
    common_name,
    key_pem,
    key_usage,
    make_key,
    sign,
)

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, as files."""

    certificate: str
    key: str


class Authority:
    """An authority of its own, with its certificate in a file."""

    def __init__(
        self, folder: Path, *, valid: timedelta = 24 * HOUR, has_key_usage: bool = True
    ) -> None:
        folder.mkdir()
        self._folder = folder
        self._key = make_key()
        self._name = common_name(folder.name)
        builder = _begin(self._name, self._name, self._key, self._key, valid).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        if has_key_usage:
            builder = builder.add_extension(key_usage(signs=True), critical=True)
        self.file = str(folder / "ca.pem")
        Path(self.file).write_text(certificate_pem(sign(builder, self._key)))

    def issue(self, *hosts: str, valid: timedelta = 24 * HOUR) -> Issued:
        """Issue a certificate for these hosts, valid until so long from now."""
        key = make_key()
        names = [
            x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
            for host in hosts
        ]
        builder = (
            _begin(common_name("server"), self._name, key, self._key, valid)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(signs=False), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
        )
        number = len(list(self._folder.iterdir()))
        issued = Issued(str(self._folder / f"{number}.pem"), str(self._folder / f"{number}.key"))
        Path(issued.certificate).write_text(certificate_pem(sign(builder, self._key)))
        Path(issued.key).write_text(key_pem(key))
        Path(issued.key).chmod(0o600)
        return issued


def _begin(subject: Any, issuer: Any, key: Any, signer: Any, valid: timedelta) -> Any:
    public, signed_by = key.public_key(), signer.public_key()
    return begin_certificate(subject, issuer, public, signed_by, valid, backdated=48 * HOUR)
