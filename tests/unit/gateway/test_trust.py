"""What a caller cannot do: speak for the connector, choose the path, or have a secret shown."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.decisions.reading import Received, make_headers, read_call
from gateway.decisions.routes import Route, RouteTable
from gateway.questions import make_record
from lab.conformance.calls import CallOrder
from lab.conformance.intents import Verb
from lab.conformance.questions import QuestionOrder, make_question, questions_of
from lab.conformance.writers.find import find_writers
from runtime.telemetry.traces import TRACEPARENT
from streams.providers.answers import Answers
from streams.providers.registry import DIALECTS
from tests.unit.gateway.scene import AT_MS, KEY, SECRETS, TX7, Scene, in_virtual_time, signed_call

ROOT = Path(__file__).parents[3]
CONNECTORS = (
    *("player", "currency", "brand", "region", "cancel", "received-at", "connector"),
    *("http-path", "http-method", "http-query", "redrive-of", "redrive-count", "redrive-by"),
    *("redrive-why", "drop-of", "parked-behind"),
)
"""Every header that a worker reads (docs/howto/connectors.md)."""
ROUTES = list(RouteTable(DIALECTS, None, {"": "", "lucky": "eu"}, currency="").routes)
BETS = {
    "hundredhp": CallOrder(Verb.BET, "p-1", TX7 + "1", 150),
    "microgaming": CallOrder(Verb.BET, "p-1", "11", 150),
    "pgsoft": CallOrder(Verb.SPIN, "p-1", "1-1-106-0", 150),
    "playngo": CallOrder(Verb.BET, "p-1", "11", 150),
    "pragmatic": CallOrder(Verb.BET, "p-1", "r-1", 150),
    "skylift": CallOrder(Verb.BET, "p-1", "s-1", 150),
    "adyen": CallOrder(Verb.DEPOSIT, "p-1", "8815999999999999", 5_000, deposit_id="d-1"),
    "sumsub": CallOrder(Verb.CHECK_PASSED, "p-1", "c-1"),
}


def received_by(headers: Any) -> Received:
    return Received("POST", "", "text/plain", headers, b"{}", AT_MS)


def test_every_header_that_workers_read_is_tried():
    text = (ROOT / "docs/howto/connectors.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    named = {
        name.strip("` ")
        for row in rows
        if "every dialect" in row or "the connector" in row or "which only you know" in row
        for name in row.split("|")[1].split(",")
    }
    assert named <= {*CONNECTORS}


@pytest.mark.parametrize("spelling", [str, str.upper, str.title])
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_no_header_speaks_for_the_connector(route: Route, spelling: Any):
    plain = make_headers(route, received_by(CIMultiDict()), None, "gateway")
    evil = CIMultiDict({spelling(name): "evil" for name in CONNECTORS})
    assert make_headers(route, received_by(evil), None, "gateway") == plain
    assert dict(make_record(route, received_by(evil)).headers).keys() == {
        "http-path",
        "received-at",
    }
    assert dict(plain)["http-path"] == route.http_path.encode()


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.one_of(st.sampled_from(CONNECTORS), st.text(min_size=1, max_size=30)),
        st.text(max_size=40),
        max_size=12,
    )
)
def test_of_any_headers_only_those_that_sign_are_passed_on(sent: dict[str, str]):
    for route in ROUTES:
        plain = make_headers(route, received_by(CIMultiDict()), None, "gateway")
        made = make_headers(route, received_by(CIMultiDict(sent)), None, "gateway")
        assert made[: len(plain)] == plain
        signing = {*route.face.signature_headers, TRACEPARENT}
        assert {name for name, _ in made[len(plain) :]} <= signing


def test_the_path_of_a_record_is_the_one_that_was_called():
    """Hub88 signs the body alone: what the path says is known from the connection only."""
    writer = find_writers(("hub88",))["hub88"]
    secrets = writer.new_secrets()
    answers = Answers(DIALECTS, {"hub88": writer.keyring_of(secrets)})
    order = CallOrder(Verb.BET, "p-1", "t-1", 150)
    route, received = signed_call(
        "hub88", order, secrets=secrets, headers={"http-path": "/transaction/win"}
    )
    call = read_call(route, received, answers, KEY.read_token, "gateway")
    assert dict(call.record.headers)["http-path"] == b"/hub88/transaction/bet"
    assert {identity[2] for identity in call.drafts} == {"bet"}


def shown_by(scene: Scene, caplog: pytest.LogCaptureFixture, replies: list[bytes]) -> str:
    return "\n".join([caplog.text, str(scene.stats), *map(str, replies)])


@pytest.mark.parametrize("provider", BETS)
@in_virtual_time
async def test_no_secret_is_in_a_log_or_an_error(
    provider: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    caplog.set_level(logging.DEBUG)
    scene, replies = Scene(patience_ms=50), []
    route, received = signed_call(provider, BETS[provider])
    foreign = {name: secret[::-1] for name, secret in SECRETS[provider].items()}
    foreign |= {"hmac_hex": "12" * 32} if "hmac_hex" in foreign else {}
    _, forged = signed_call(provider, BETS[provider], secrets=foreign)
    broken = [
        received._replace(body=received.body[: len(received.body) // 2]),
        received._replace(body=received.body * 2),
        received._replace(body=b"\xff" + received.body),
        received._replace(body=received.body.replace(b"150", b"x").replace(b"1.50", b"x")),
    ]
    for sent in (received, forged, *broken):
        reply = await asyncio.wait_for(scene.desk.answer(route, sent), 5)
        replies.append(reply.body)

    def fail(*_: Any) -> None:
        message = "a fault of ours"
        raise RuntimeError(message)

    monkeypatch.setattr("gateway.calls.read_call", fail)
    replies.append((await scene.desk.answer(route, received)).body)
    assert "a fault of ours" in caplog.text
    everything = shown_by(scene, caplog, replies)
    values = {*SECRETS[provider].values(), *foreign.values(), *dict(received.headers).values()}
    assert not [secret for secret in values if len(secret) > 8 and secret in everything]


@pytest.mark.parametrize(
    "provider", [name for name in SECRETS if questions_of(DIALECTS[name].face)]
)
async def test_no_secret_of_a_question_is_in_a_log_or_an_error(
    provider: str, caplog: pytest.LogCaptureFixture
):
    from tests.unit.gateway.test_questions import Counter

    caplog.set_level(logging.DEBUG)
    face, counter = DIALECTS[provider].face, Counter()
    assert face is not None
    shown = []
    for word in questions_of(face):
        order = QuestionOrder(word, "p-1", token="a-strangers-token", at_ms=AT_MS)
        request = make_question(provider, face, order, SECRETS[provider])
        route = counter.table.find(f"/{provider}{request.path}")
        assert route is not None
        for body in (request.body, request.body[:-9], request.body + b"x", b"\xff" + request.body):
            sent = Received("POST", "", request.content_type, {}, body, AT_MS)
            reply = await counter.desk.answer(route, sent)
            shown.append(str(reply.body if reply else ""))
    everything = "\n".join([caplog.text, str(counter.stats), *shown])
    assert not [secret for secret in SECRETS[provider].values() if secret in everything]


def test_settings_show_no_secret():
    from gateway.settings import GatewaySettings
    from runtime.security import BrokerAddress

    made = GatewaySettings(BrokerAddress(""), keyring={"a": {"k": "geheim"}}, session_key=b"geheim")
    assert "geheim" not in repr(made)
