"""Who may call for a provider: addresses, proxies and certificates."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gateway.decisions.access import AccessRules, Caller, ProviderAccess, find_address, find_denial

RULES = AccessRules(
    (ip_network("10.0.0.0/8"), ip_network("fd00::/8")),
    {
        "hub88": ProviderAccess((ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))),
        "playngo": ProviderAccess((), frozenset({"playngo.example"})),
    },
)
OTHER = "not from an address of its provider"


@pytest.mark.parametrize(
    ("peer", "forwarded", "denial"),
    [
        ("192.0.2.7", [], None),
        ("::ffff:192.0.2.7", [], None),
        ("2001:db8::1", [], None),
        ("198.51.100.1", [], OTHER),
        # A header of anyone else is not believed, whatever it says.
        ("198.51.100.1", ["192.0.2.7"], OTHER),
        ("192.0.2.7", ["198.51.100.1"], None),
        # A proxy's is: its own last entry, not what stood in it before.
        ("10.0.0.5", ["192.0.2.7"], None),
        ("10.0.0.5", ["192.0.2.7, 198.51.100.1"], OTHER),
        ("10.0.0.5", ["198.51.100.1, 192.0.2.7"], None),
        ("10.0.0.5", ["198.51.100.1", "192.0.2.7"], None),
        ("10.0.0.5", ["192.0.2.7, 10.9.9.9"], None),
        ("fd00::1", ["198.51.100.1, 192.0.2.7,10.9.9.9"], None),
        ("10.0.0.5", [], OTHER),
        ("10.0.0.5", [""], OTHER),
        ("10.0.0.5", ["unknown"], OTHER),
        ("10.0.0.5", ["192.0.2.7:80"], OTHER),
        ("10.0.0.5", ["192.0.2.7, "], OTHER),
        ("10.0.0.5", ["9" * 10_000 + ",192.0.2.7"], None),
        ("", [], OTHER),
    ],
)
def test_an_address_is_that_of_the_connection_or_of_a_named_proxys_caller(
    peer: str, forwarded: list[str], denial: str | None
):
    assert find_denial(RULES, "hub88", Caller(peer), forwarded) == denial


def test_a_provider_that_is_not_named_may_call_from_anywhere():
    assert find_denial(RULES, "pragmatic", Caller("198.51.100.1"), ["x"]) is None
    assert find_denial(AccessRules(), "hub88", Caller(""), []) is None


@pytest.mark.parametrize(
    ("names", "is_let_in"),
    [({"playngo.example", "x"}, True), ({"hub88.example"}, False), (set(), False)],
)
def test_a_certificate_is_known_by_its_names(names: set[str], is_let_in: bool):
    denial = find_denial(RULES, "playngo", Caller("198.51.100.1", frozenset(names)), [])
    assert (denial is None) == is_let_in


def test_both_are_needed_where_both_are_named():
    both = ProviderAccess((ip_network("192.0.2.0/24"),), frozenset({"a.example"}))
    rules = AccessRules(providers={"hub88": both})
    named = frozenset({"a.example"})
    assert find_denial(rules, "hub88", Caller("192.0.2.7", named), []) is None
    assert find_denial(rules, "hub88", Caller("192.0.2.7"), []) is not None
    assert find_denial(rules, "hub88", Caller("198.51.100.1", named), []) is not None


def test_without_proxies_no_header_is_read():
    address = find_address((), "10.0.0.5", ["192.0.2.7"])
    assert str(address) == "10.0.0.5"
