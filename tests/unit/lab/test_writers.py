"""Every provider's writer, driven by the sandbox's casino and read by the real normaliser with the writers' keys."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from lab.conformance import writers
from lab.conformance.examples.fill import ExampleRecord
from lab.conformance.intents import FREE_VERBS, KINDS, Intent, Verb
from lab.conformance.oracle import OutputEvent, event_of
from lab.conformance.writers.find import find_writers, writer_of
from lab.sandbox.actions import Delivery, IntentRequest
from lab.sandbox.records import Origin, RawEvent
from lab.sandbox.scenario import Scenario, deliveries_of
from lab.sandbox.writing import write_all, write_record
from schemas.errors import UsageError
from schemas.events import SignatureVerdict
from schemas.money import minor_units
from schemas.topics import raw_topic
from streams import providers
from streams.normalise.mapping.normaliser import (
    AcceptedTransaction,
    ItemResult,
    Normaliser,
    RejectedItem,
)
from streams.providers.hub88 import Hub88
from streams.providers.registry import DIALECTS
from tests.support.sandbox_keys import shared_keys

START_MS = 1_760_000_000_000
EVENTS = 4_000
KEYS = shared_keys()
WRITERS = find_writers()
FORBIDDEN = {
    f"streams.providers.{path.stem}"
    for path in Path(providers.__path__[0]).glob("*.py")
    if path.stem not in {"dialect", "text_fields"}
}
"""What a writer never imports: it may know the headers of connectors, and no adapter."""

every_writer = pytest.mark.parametrize("provider", sorted(WRITERS))


@dataclass(frozen=True)
class Sent:
    delivery: Delivery
    raw: RawEvent
    items: list[ItemResult]

    @property
    def events(self) -> list[OutputEvent]:
        """The events of its items; none of a sandbox's record may be rejected."""
        rejected = [item for item in self.items if isinstance(item, RejectedItem)]
        assert not rejected, rejected[0]
        return [event_of(item) for item in self.items if not isinstance(item, RejectedItem)]


@cache
def played(provider: str) -> list[Sent]:
    """Play a scenario of one provider and whoever brings the money, and read it."""
    scenario = Scenario(
        seed=5, start_ms=START_MS, events=EVENTS, providers=(provider,), speeders=0, retry_share=0.4
    )
    deliveries = [
        delivery
        for delivery in deliveries_of(scenario)
        if isinstance(delivery.request, IntentRequest)
        and delivery.request.intents[0].provider == provider
    ]
    normaliser = Normaliser(DIALECTS, KEYS.keyring())
    return [
        Sent(delivery, raw, normaliser.normalise(to_record(raw, offset)))
        for offset, (delivery, raw) in enumerate(
            zip(deliveries, write_all(deliveries, KEYS), strict=True)
        )
    ]


def to_record(raw: RawEvent, offset: int) -> ExampleRecord:
    appended_ms = START_MS + 600_000
    return ExampleRecord(
        raw_topic(raw.provider), 0, offset, appended_ms, raw.key, raw.value, raw.headers
    )


@every_writer
def test_all_that_it_sends_is_accepted_with_a_valid_signature(provider):
    sent = played(provider)
    verdicts = Counter(event.signature for one in sent for event in one.events)
    signs = bool(WRITERS[provider].secret_names)
    assert set(verdicts) <= ({SignatureVerdict.VALID} if signs else {SignatureVerdict.NOT_CHECKED})
    assert verdicts.total() >= 20, "too little traffic to show anything"


@every_writer
def test_what_is_read_is_what_was_meant(provider):
    compared = 0
    for one in played(provider):
        assert isinstance(one.delivery.request, IntentRequest)
        intents = one.delivery.request.intents
        operations = {intent.operation for intent in intents}
        assert operations & {event.operation for event in one.events}, one.raw.value
        if len(one.items) == len(intents):
            for intent, item in zip(intents, one.items, strict=True):
                compared += compare_legs(intent, item)
    moves_money = set(WRITERS[provider].says) & set(KINDS)
    assert compared or not moves_money


def compare_legs(intent: Intent, item: ItemResult) -> int:
    """Compare the kinds, and the amounts that are printed; a bet of zero in a spin has no leg."""
    if not isinstance(item, AcceptedTransaction):
        return 0
    legs = item.transaction.legs
    meant = {leg.kind: leg.minor for leg in intent.legs}
    assert {leg.kind for leg in legs} <= set(meant), item
    for leg in legs:
        if leg.amount is not None and leg.currency is not None and len(meant) == len(intent.legs):
            assert minor_units(leg.amount, leg.currency) == meant[leg.kind], item
    if item.transaction.player_id is not None:
        assert item.transaction.player_id == intent.player
    return 1


@every_writer
def test_a_retry_says_the_same_in_other_bytes(provider):
    first: dict[str, tuple[object, bytes]] = {}
    for one in played(provider):
        if one.raw.origin is Origin.FIRST:
            for event in one.events:
                assert event.event_id not in first, "an event is sent for the first time twice"
                first[event.event_id] = (getattr(event, "fingerprint", None), one.raw.value)
    retries = [one for one in played(provider) if one.raw.origin is Origin.RETRY]
    assert retries
    differing = 0
    for one in retries:
        for event in one.events:
            fingerprint, value = first[event.event_id]
            assert getattr(event, "fingerprint", None) == fingerprint
        differing += one.raw.value != value
    # A short form has few orders of its fields, and may come out in the usual one.
    assert differing >= 0.8 * len(retries)


@every_writer
def test_the_same_delivery_makes_the_same_bytes_and_secrets_are_left_out_without_keys(provider):
    for one in played(provider)[:200]:
        assert write_record(one.delivery, KEYS) == one.raw
        unsigned = write_record(one.delivery, KEYS, signed=False)
        assert unsigned.key == one.raw.key
        shown = b"".join([unsigned.value, *(value for _, value in unsigned.headers)])
        for secret in KEYS.of(provider).values():
            assert secret.encode() not in shown


@every_writer
def test_the_casino_plays_the_verbs_of_its_kind(provider):
    says = set(WRITERS[provider].says)
    seen = {
        intent.verb
        for one in played(provider)
        if isinstance(one.delivery.request, IntentRequest)
        for intent in one.delivery.request.intents
    }
    assert seen <= says
    common = {Verb.BET, Verb.WIN, Verb.SPIN, Verb.DEPOSIT, Verb.MARKET_SETTLED, Verb.CHECK_PASSED}
    common |= {Verb.REPORT_ROW, Verb.ROUND_CLOSE, *FREE_VERBS} - {Verb.FREE_WIN}
    assert says & common <= seen


@every_writer
def test_a_writer_is_the_second_opinion_on_its_adapter(provider):
    path = (
        Path(str(writers.__path__[0]))
        / f"{type(WRITERS[provider]).__module__.rpartition('.')[2]}.py"
    )
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
    assert not imported & FORBIDDEN
    assert not any(name.startswith(("streams.normalise", "ledger_sink")) for name in imported)


def test_every_provider_has_a_writer():
    assert set(WRITERS) == set(DIALECTS)


def test_a_provider_without_a_writer_is_named_with_what_to_write():
    class Stranger(Hub88):
        provider = "stranger"

    with pytest.raises(UsageError, match=r"write lab\.conformance\.writers\.test_writers"):
        writer_of(Stranger())
    with pytest.raises(UsageError, match="'nowhere' is not a registered provider"):
        find_writers(("hub88", "nowhere"))
    with pytest.raises(UsageError, match=r"did you mean 'hub88'\?"):
        find_writers(("hub-88",))
