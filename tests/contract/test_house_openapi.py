"""The OpenAPI document of the house's own API, tried by schemathesis against a gateway that listens.

The gateway is the real one over loopback; broker and ledger are imitated: each append is decided at
once. What a real ledger answers is in tests/acceptance/gateway.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.appender import PendingAppend
from gateway.questions import AnsweredVersions, QuestionDesk
from gateway.server import GatewayServer
from schemas.current_player import CurrentPlayer, CurrentWallet
from streams.providers.answers import Answers
from streams.providers.house_messages import MESSAGES
from streams.providers.house_openapi import make_document
from streams.providers.registry import DIALECTS
from tests.unit.gateway.scene import KEY, TABLE, FakeAppender, Scene, outcome_of

SECRET = "ef" * 32
DOCUMENT = make_document("http://127.0.0.1/house")
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
BODIES = schemathesis.openapi.from_dict({**DOCUMENT, "security": []})
"""The same without the signature, which the tests make themselves: cases are about bodies."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
COUNTS: Counter[str] = Counter()
many = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


class DecidingAppender(FakeAppender):
    """Acknowledges each record, and has it decided by an imitated ledger."""

    def __init__(self, scene: Scene) -> None:
        super().__init__()
        self.scene = scene

    def append(self, topic: str, key: bytes, value: bytes | None, headers: Any) -> PendingAppend:
        pending = super().append(topic, key, value, headers)
        outcome = outcome_of(topic, len(self.records) - 1, key.decode(), "POSTED", "BOOKED")
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: loop.call_soon(self.scene.attempts.deliver, [outcome]))
        return pending


class Players:
    async def read_player(self, player_id: str) -> CurrentPlayer:
        if len(player_id) % 2:
            return CurrentPlayer()
        return CurrentPlayer((CurrentWallet("EUR", 2, 9_850, 7, "default"),), len(player_id) == 4)


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """The house's base URL of a gateway in a thread of its own."""
    loop, started = asyncio.new_event_loop(), threading.Event()
    servers: list[GatewayServer] = []

    async def start() -> None:
        scene = Scene(player_rate=1e9, player_burst=1e9, port=0)
        keyring = {"house": {"hmac_hex": SECRET}}
        desk = scene.desk
        desk._appender = DecidingAppender(scene)  # type: ignore[assignment]  # decides by itself: no broker
        desk._answers = Answers(DIALECTS, keyring)
        desk._questions = QuestionDesk(
            DIALECTS, keyring, Players(), AnsweredVersions(), scene.stats, KEY.read_token
        )
        server = GatewayServer(scene.settings, TABLE, desk, scene.stats)
        await server.start()
        servers.append(server)
        started.set()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(start(), loop).result(60)
    assert started.wait(60)
    yield f"http://127.0.0.1:{servers[0].port}/house"
    asyncio.run_coroutine_threadsafe(servers[0].stop(), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def send(base: str, case: Any, *, checks: list[Any], fields: dict[str, Any] | None = None) -> int:
    """Sign a case's body, send it, and hold the answer against the document."""
    body = case.body
    if fields is not None and isinstance(body, dict):
        body = {**body, **fields}
    # A case of another media type, or of a body that JSON cannot hold, is bytes already.
    text = body if isinstance(body, bytes) else json.dumps(body, default=str).encode()
    signature = hmac.digest(bytes.fromhex(SECRET), text, "sha256").hex()
    headers = {"content-type": "application/json", "x-house-signature": signature}
    response = requests.post(base + case.path, data=text, headers=headers, timeout=60)
    COUNTS[f"{case.path} {response.status_code}"] += 1
    case.validate_response(response, checks=checks)
    return response.status_code


@many
@given(case=BODIES["/v1"]["POST"].as_strategy())
def test_any_message_gets_an_answer_of_the_document(base: str, case: Any):
    send(base, case, checks=CHECKS)
    # Of any text few are an amount or a currency: once more with what can be one.
    real = {"amount": "1.50", "wagering_amount": "9.00", "currency": "EUR"}
    send(base, case, checks=CHECKS, fields={name: real[name] for name in real if name in case.body})


@many
@given(case=BODIES["/v1"]["POST"].as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
def test_what_is_no_message_is_rejected(base: str, case: Any):
    assert send(base, case, checks=[*CHECKS, negative_data_rejection]) in {400, 401}


@many
@given(case=BODIES["/v1/balance"]["POST"].as_strategy())
def test_any_question_gets_an_answer_of_the_document(base: str, case: Any):
    send(base, case, checks=CHECKS, fields={"at": datetime.now(UTC).isoformat()})


def test_each_operation_is_taken_and_decided(base: str):
    """The least message of each class, so that none is only ever rejected by its fields."""
    document = make_document(base)
    values = {
        "amount": "1.50",
        "currency": "EUR",
        "at": "2026-11-22T10:15:30Z",
        "reason": "r",
        "entry_id": "5f0a1b2c-3d4e-5f6a-8b8c-9d0000000001",
        "player_id": "p-1",
        "id": "i-1",
        "record": "wallet.transactions.v1-3@17#0123abcd",
        "cash": "1.50",
        "bonus": "0.00",
        "held": "0.00",
        "checkpoint": "0" * 64,
    }
    for message in MESSAGES:
        operation = str(message.__struct_config__.tag)
        name = message.__name__.lstrip("_")
        schema = document["components"]["schemas"][name]
        body = {field: values.get(field, "x-1") for field in schema["required"]}
        text = json.dumps(body | {"operation": operation}).encode()
        signature = hmac.digest(bytes.fromhex(SECRET), text, "sha256").hex()
        headers = {"x-house-signature": signature}
        response = requests.post(f"{base}/v1", data=text, headers=headers, timeout=60)
        assert response.status_code == 200, (operation, response.text)


def test_every_class_of_answer_was_seen(base: str):
    """Nothing of the document was tried in vain, here or before in this process."""
    kinds = ("/v1 200", "/v1 400", "/v1/balance 200", "/v1/balance 400", "/v1/balance 404")
    for play in (
        test_any_message_gets_an_answer_of_the_document,
        test_what_is_no_message_is_rejected,
        test_any_question_gets_an_answer_of_the_document,
    ):
        if not all(COUNTS[kind] > 0 for kind in kinds):
            play(base=base)  # another process may have had this test
    assert all(COUNTS[kind] > 0 for kind in kinds), COUNTS
    print(dict(COUNTS))


def test_a_message_without_a_signature_is_401(base: str):
    for path in ("/v1", "/v1/balance"):
        for headers in ({}, {"x-house-signature": "00"}):
            response = requests.post(base + path, data=b"{}", headers=headers, timeout=60)
            assert response.status_code == 401
            SCHEMA[path]["POST"].validate_response(response)


def test_the_document_names_every_operation_and_is_valid():
    document = make_document("https://wallet.example/house")
    mapping = document["components"]["schemas"]["Message"]["discriminator"]["mapping"]
    assert set(mapping) == {str(message.__struct_config__.tag) for message in MESSAGES}
    SCHEMA.validate()
    assert SCHEMA["/v1"]["POST"].definition.raw["operationId"] == "sendMessage"
