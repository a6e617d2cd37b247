"""Providers that wait for no decision: acknowledged once their message is durable."""

from __future__ import annotations

import pytest

from lab.conformance.calls import CallOrder
from lab.conformance.intents import Verb
from tests.acceptance.gateway.conftest import Client
from tests.acceptance.gateway.test_wallets import raw_ends

pytestmark = pytest.mark.integration

NOTICES = {
    "adyen": CallOrder(Verb.DEPOSIT, "n-1", "8815999999999999", 5_000, deposit_id="d-1"),
    "stripe": CallOrder(Verb.DEPOSIT, "n-1", "pi_0001", 5_000, deposit_id="d-2"),
    "sumsub": CallOrder(Verb.CHECK_PASSED, "n-1", "c-1"),
    "uof": CallOrder(Verb.FEED_ALIVE, "", "alive"),
}
ACKNOWLEDGED = {
    "adyen": (200, "text/plain", b"[accepted]"),
    "stripe": (200, "application/json", b'{"received":true}'),
    "sumsub": (200, "text/plain", b""),
    "uof": (200, "text/plain", b""),
}
FORGED = {
    "adyen": (401, "text/plain", b""),
    "stripe": (400, "application/json", b'{"error":"signature"}'),
    "sumsub": (400, "text/plain", b""),
}


@pytest.mark.parametrize("provider", NOTICES)
async def test_it_is_acknowledged_when_it_is_in_the_log_and_a_repeat_too(
    client: Client, provider: str
):
    before = sum((await raw_ends(client.door, provider)).values())
    for sending in (0, 1):
        answer = await client.call(provider, NOTICES[provider], sending=sending)
        assert answer == ACKNOWLEDGED[provider]
    assert sum((await raw_ends(client.door, provider)).values()) == before + 2


@pytest.mark.parametrize("provider", FORGED)
async def test_a_wrong_signature_is_not_in_the_log(client: Client, provider: str):
    before = await raw_ends(client.door, provider)
    answer = await client.call(provider, NOTICES[provider], signed="foreign")
    assert answer == FORGED[provider]
    assert await raw_ends(client.door, provider) == before


@pytest.mark.parametrize("provider", ["adyen", "uof"])
async def test_what_cannot_be_read_is_kept_as_a_dead_letter(client: Client, provider: str):
    before = sum((await raw_ends(client.door, provider)).values())
    request = client.request(provider, NOTICES[provider])
    status, _, _ = await client.send(provider, request._replace(body=b"?"))
    assert status == (200 if provider == "adyen" else 400)
    assert sum((await raw_ends(client.door, provider)).values()) == before + 1
