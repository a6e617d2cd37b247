"""Certificates that are right, or wrong in one way each, for tests of TLS."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
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


class Defect(Enum):
    """What an authority's certificate may lack of what RFC 5280 asks of one that signs others."""

    NO_KEY_USAGE = auto()
    SIGNS_NOTHING = auto()
    IS_NO_AUTHORITY = auto()
    CONSTRAINTS_NOT_CRITICAL = auto()


class Authority:
    """An authority of its own or below another one, with its certificate in a file."""

    def __init__(
        self,
        folder: Path,
        *,
        valid: timedelta = 24 * HOUR,
        defect: Defect | None = None,
        parent: Authority | None = None,
    ) -> None:
        folder.mkdir()
        self._folder = folder
        self._key = make_key()
        self._name = common_name(folder.name)
        above = parent or self
        constraints = x509.BasicConstraints(defect is not Defect.IS_NO_AUTHORITY, None)
        builder = _begin(self._name, above._name, self._key, above._key, valid).add_extension(
            constraints, critical=defect is not Defect.CONSTRAINTS_NOT_CRITICAL
        )
        if defect is not Defect.NO_KEY_USAGE:
            usage = key_usage(signs=defect not in {Defect.SIGNS_NOTHING, Defect.IS_NO_AUTHORITY})
            builder = builder.add_extension(usage, critical=True)
        self.file = str(folder / "ca.pem")
        own = certificate_pem(sign(builder, above._key))
        Path(self.file).write_text(own)
        self._chain: str = "" if parent is None else own + parent._chain

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
        own = certificate_pem(sign(builder, self._key))
        Path(issued.certificate).write_text(own + self._chain)
        Path(issued.key).write_text(key_pem(key))
        Path(issued.key).chmod(0o600)
        return issued


def _begin(subject: Any, issuer: Any, key: Any, signer: Any, valid: timedelta) -> Any:
    public, signed_by = key.public_key(), signer.public_key()
    return begin_certificate(subject, issuer, public, signed_by, valid, backdated=48 * HOUR)
