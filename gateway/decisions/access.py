"""Who may call for a provider: by the address and the certificate of the connection.

An address is that of the connection's other end. Only where that is a proxy which the installation
names, `X-Forwarded-For` is read, from its end: each proxy appends whom it was called by, so what
stands before the first address that is not a proxy's may be anyone's invention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, NamedTuple, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

FORWARDED_FOR: Final = "X-Forwarded-For"
_FORWARDED_MAX: Final = 4_096


class Caller(NamedTuple):
    """The other end of a connection.

    `certificate_names` are the subject's common names and the alternative DNS names of the
    certificate that it has proved to own; empty without one.
    """

    address: str
    certificate_names: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ProviderAccess:
    """From where one provider calls; an empty list allows any."""

    addresses: tuple[Network, ...] = ()
    certificates: frozenset[str] = frozenset()


@dataclass(frozen=True)
class AccessRules:
    """The rules of an installation; a provider that is not named may call from anywhere."""

    proxies: tuple[Network, ...] = ()
    providers: Mapping[str, ProviderAccess] = field(default_factory=dict)

    @property
    def needs_certificates(self) -> bool:
        """Whether any provider is known by its certificate."""
        return any(rule.certificates for rule in self.providers.values())


def find_denial(
    rules: AccessRules, provider: str, caller: Caller, forwarded: Sequence[str]
) -> str | None:
    """Return why a caller may not call for a provider, as it is counted; None where it may.

    `forwarded` are the values of `X-Forwarded-For`, in the order of the request.
    """
    rule = rules.providers.get(provider)
    if rule is None:
        return None
    if rule.certificates and not rule.certificates & caller.certificate_names:
        return "without a certificate of its provider"
    if rule.addresses:
        address = find_address(rules.proxies, caller.address, forwarded)
        if address is None or not _is_within(address, rule.addresses):
            return "not from an address of its provider"
    return None


def find_address(proxies: Sequence[Network], peer: str, forwarded: Sequence[str]) -> Address | None:
    """Return whose call it is: of the other end, or of whom the last named proxy was called by.

    None where what a proxy appended is not an address.
    """
    address = _parse(peer)
    text = ",".join(forwarded)
    if len(text) > _FORWARDED_MAX:
        text = text[-_FORWARDED_MAX:].partition(",")[2]
    for hop in reversed(text.split(",") if text else []):
        if address is None or not _is_within(address, proxies):
            return address
        address = _parse(hop.strip())
    return address


def _parse(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _is_within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
