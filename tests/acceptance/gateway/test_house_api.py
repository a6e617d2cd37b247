"""The house's own API over real HTTP: each example of its document is decided by the real ledger."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import jsonschema
import pytest

from lab.conformance.writers.house import signature
from streams.providers.house_openapi import make_document
from tests.acceptance.gateway.conftest import Client
from tests.acceptance.gateway.test_wallets import fund

pytestmark = pytest.mark.integration

DOCUMENT = make_document("http://127.0.0.1/house")
MESSAGES = {
    name: example["value"]
    for name, example in DOCUMENT["paths"]["/v1"]["post"]["requestBody"]["content"][
        "application/json"
    ]["examples"].items()
}
OUTCOMES = {
    "deposit.opened": "INFORMATIONAL",
    "withdrawal.requested": "POSTED",
    "adjustment": "POSTED",
    "player.limited": "POSTED",
    "player.blocked": "POSTED",
}
"""In this order: the block stands last, since it would refuse the withdrawal."""


async def post(client: Client, path: str, fields: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Sign and send a body, and return the answer, which fits the document."""
    body = json.dumps(fields).encode()
    signed = signature(body, client.door.keys.of("house")).decode()
    headers = {"content-type": "application/json", "x-house-signature": signed}
    url = client.door.url("house", path)
    async with client.session.post(url, data=body, headers=headers) as response:
        answer = await response.json()
        status = str(response.status)
    schema = DOCUMENT["paths"][path]["post"]["responses"][status]["content"]["application/json"]
    jsonschema.validate(answer, {**schema["schema"], "components": DOCUMENT["components"]})
    return int(status), answer


def test_every_example_is_here():
    assert set(OUTCOMES) == set(MESSAGES)


async def test_each_example_is_decided_and_answered_as_the_document_says(client: Client):
    player = "house-api"
    await fund(client, player)
    for operation, outcome in OUTCOMES.items():
        fields = MESSAGES[operation] | {"player_id": player, "id": f"api-{operation}"}
        status, answer = await post(client, "/v1", fields)
        assert (status, answer["outcome"]) == (200, outcome), answer
        again = await post(client, "/v1", fields)
        assert again[0] == 200
        assert again[1]["outcome"] in {"EXISTS", outcome}, again
    question = {"player_id": player, "at": datetime.now(UTC).isoformat(), "currency": "EUR"}
    status, answer = await post(client, "/v1/balance", question)
    # 100.00, less the withdrawal of 20.00 and the adjustment of -1.50.
    assert (status, answer["balance"], answer["outcome"]) == (200, "78.50", "REFUSED_BLOCKED")
    stranger = {"player_id": "house-stranger", "at": question["at"]}
    status, answer = await post(client, "/v1/balance", stranger)
    assert (status, answer["outcome"]) == (404, "UNKNOWN_PLAYER")


async def test_a_heartbeat_is_recorded(client: Client):
    fields = {"operation": "heartbeat", "id": "api-beat", "at": "2026-11-22T10:15:30Z"}
    status, answer = await post(client, "/v1", fields)
    assert (status, answer["outcome"]) == (200, "RECORDED")
