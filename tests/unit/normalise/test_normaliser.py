from __future__ import annotations

import json
from typing import Any

import pytest

from runtime.kafka.records import RawRecord
from schemas import codec
from schemas.errors import RejectCode, Rejected, UsageError
from schemas.events import Kind, Leg, MarketSettlement, PlayerEvent, Reference, WalletTransaction
from schemas.identity import event_id, referenced_event_id
from schemas.topics import DAY_MS, PLAYER_EVENTS, SETTLEMENTS, TRANSACTIONS, UNRESOLVED
from streams.normalise.mapping.events import settlement_id
from streams.normalise.mapping.normaliser import (
    VALUE_MAX_BYTES,
    AcceptedEvent,
    AcceptedTransaction,
    ItemResult,
    Normaliser,
    RejectedItem,
)
from streams.providers.dialect import (
    Dialect,
    Draft,
    Headers,
    Item,
    KeyMaterial,
    MarketDraft,
    PlayerDraft,
    Reader,
)
from streams.providers.hub88 import Hub88
from streams.providers.registry import DIALECTS, by_provider
from tests.support.dialect_records import APPENDED_AT, raw_record

BET = json.dumps({"user": "p-1", "transaction_uuid": "t-1", "amount": 100000, "currency": "EUR"})
PATH = {"http-path": "/transaction/bet"}


@pytest.fixture(scope="module")
def normaliser() -> Normaliser:
    return Normaliser(DIALECTS, {})


def accept(normaliser: Normaliser, record: RawRecord) -> AcceptedTransaction:
    [item] = normaliser.normalise(record)
    assert isinstance(item, AcceptedTransaction), item
    return item


def reject(normaliser: Normaliser, record: RawRecord) -> RejectedItem:
    [item] = normaliser.normalise(record)
    assert isinstance(item, RejectedItem), item
    return item


class Echo(Dialect):
    """Returns what it was given."""

    provider = "echo"
    version = "9"

    def __init__(self, *drafts: Item) -> None:
        super().__init__()
        object.__setattr__(self, "drafts", drafts)

    def reader(self, material: KeyMaterial | None) -> Reader:
        def read(record: RawRecord, headers: Headers) -> list[Item]:
            return list(self.drafts)  # type: ignore[attr-defined]

        return read


def draft(**changes: Any) -> Draft:
    fields: dict[str, Any] = {
        "operation": "op",
        "provider_tx_id": "t-1",
        "legs": [Leg(Kind.WIN)],
        "player_id": "p-1",
        "reference": None,
        "round_id": None,
        "round_closed": False,
        "game_id": None,
        "provider_at": None,
        "decision_required": False,
        "signature": "NOT_CHECKED",
    }
    return Draft(**(fields | changes))


def echo(*drafts: Item, headers: dict[str, Any] | None = None) -> list[ItemResult]:
    return Normaliser(by_provider([Echo(*drafts)]), {}).normalise(raw_record("echo", b"x", headers))


# --- where it came from ---------------------------------------------------------------------------------------------


def test_brand_and_region_come_from_the_headers(normaliser: Normaliser) -> None:
    plain = accept(normaliser, raw_record("hub88", BET, PATH)).transaction
    assert (plain.brand, plain.region) == ("default", "")
    empty = accept(
        normaliser, raw_record("hub88", BET, PATH | {"brand": "", "region": None})
    ).transaction
    assert (empty.brand, empty.region) == ("default", "")
    named = accept(
        normaliser, raw_record("hub88", BET, PATH | {"brand": "acme", "region": "mt"})
    ).transaction
    assert (named.brand, named.region) == ("acme", "mt")
    assert named.event_id != plain.event_id  # two brands of one provider never share an identity


@pytest.mark.parametrize("name", ["brand", "region"])
@pytest.mark.parametrize("value", [b"\xff", b"a\nb", b"a" * 65])
def test_a_context_header_that_is_no_name(normaliser: Normaliser, name: str, value: bytes) -> None:
    assert (
        reject(normaliser, raw_record("hub88", BET, PATH | {name: value})).code
        is RejectCode.BAD_FIELD
    )


def test_a_flood_of_brands_does_not_fill_the_memory() -> None:
    normaliser = Normaliser(DIALECTS, {})
    for number in range(5_000):
        record = raw_record("hub88", BET, PATH | {"brand": f"b{number}"})
        assert accept(normaliser, record).transaction.brand == f"b{number}"
    assert len(normaliser._origins) <= 4_096


def test_the_attempt_is_the_records_place(normaliser: Normaliser) -> None:
    record = raw_record(
        "hub88", BET, PATH, partition=7, offset=99, topic="ns.provider.hub88.raw.v1"
    )
    attempt = accept(normaliser, record).transaction.attempt
    assert (attempt.topic, attempt.partition, attempt.offset) == ("ns.provider.hub88.raw.v1", 7, 99)
    assert attempt.record_index == 0


def test_items_are_counted_but_their_place_is_no_part_of_their_identity() -> None:
    first, second = draft(provider_tx_id="a"), draft(provider_tx_id="b")
    here, there = echo(first, second), echo(second, first)
    assert [
        item.transaction.attempt.record_index
        for item in here
        if isinstance(item, AcceptedTransaction)
    ] == [0, 1]
    ids = [
        {i.transaction.event_id for i in items if isinstance(i, AcceptedTransaction)}
        for items in (here, there)
    ]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 2


def test_the_identity_is_brand_provider_operation_and_id() -> None:
    [item] = echo(draft(), headers={"brand": "acme"})
    assert isinstance(item, AcceptedTransaction)
    assert item.transaction.event_id == event_id("acme", "echo", "op", "t-1")
    assert (item.transaction.provider, item.transaction.provider_version) == ("echo", "9")


# --- when -----------------------------------------------------------------------------------------------------------

A = APPENDED_AT


@pytest.mark.parametrize(
    ("provider_at", "received_at", "occurred_at", "source", "clamped"),
    [
        (A - 5, A - 3, A - 5, "PROVIDER", False),
        (None, A - 3, A - 3, "CONNECTOR", False),
        (None, None, A, "BROKER", False),
        (A - DAY_MS, None, A - DAY_MS, "PROVIDER", False),
        (A, None, A, "PROVIDER", False),
        (A - DAY_MS - 1, A - 3, A - DAY_MS, "PROVIDER", True),
        (A + 1, A - 3, A, "PROVIDER", True),
        (None, A + 1, A, "CONNECTOR", True),
        (None, 0, A - DAY_MS, "CONNECTOR", True),
        (-62_135_647_200_000, None, A - DAY_MS, "PROVIDER", True),
    ],
)
def test_which_clock_is_believed(
    provider_at: int | None, received_at: int | None, occurred_at: int, source: str, clamped: bool
) -> None:
    headers = {} if received_at is None else {"received-at": str(received_at)}
    [item] = echo(draft(provider_at=provider_at), headers=headers)
    assert isinstance(item, AcceptedTransaction)
    event = item.transaction
    assert (event.occurred_at, event.time_source, item.clamped) == (occurred_at, source, clamped)
    assert (event.provider_at, event.received_at, event.appended_at) == (
        provider_at,
        received_at,
        A,
    )


def test_the_tolerance_is_the_dialects() -> None:
    narrow = Normaliser(by_provider([Hub88(time_tolerance_ms=1_000)]), {})
    item = accept(narrow, raw_record("hub88", BET, PATH | {"received-at": str(A - 1_001)}))
    assert (item.transaction.occurred_at, item.clamped) == (A - 1_000, True)


@pytest.mark.parametrize("value", ["", "-1", "1.5", "1_000", " 1", "9" * 16, "\u0661"])
def test_received_at_is_epoch_milliseconds(normaliser: Normaliser, value: str) -> None:
    assert (
        reject(normaliser, raw_record("hub88", BET, PATH | {"received-at": value})).code
        is RejectCode.BAD_TIME
    )


# --- where it goes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "topic", "key"),
    [
        ({"player_id": "p-ж"}, TRANSACTIONS, "p-ж"),
        ({"player_id": None, "reference": Reference("bet", "t-0")}, UNRESOLVED, "t-0"),
        (
            {
                "player_id": None,
                "legs": [Leg(Kind.INFORMATIONAL)],
                "reference": Reference("x", "t-0"),
            },
            TRANSACTIONS,
            "t-1",
        ),
        ({"player_id": None, "legs": [Leg(Kind.HEARTBEAT)]}, TRANSACTIONS, "t-1"),
        (
            {
                "player_id": None,
                "legs": [Leg(Kind.INFORMATIONAL), Leg(Kind.WIN)],
                "reference": Reference("x", "t-0"),
            },
            UNRESOLVED,
            "t-0",
        ),
    ],
)
def test_topic_and_key(changes: dict[str, Any], topic: str, key: str) -> None:
    [item] = echo(draft(**changes))
    assert isinstance(item, AcceptedTransaction)
    assert (item.topic, item.key) == (topic, key.encode())
    assert codec.decoder(WalletTransaction)(item.value) == item.transaction


def test_money_without_an_owner_is_rejected() -> None:
    [item] = echo(draft(player_id=None))
    assert isinstance(item, RejectedItem)
    assert (item.code, item.record_index) == (RejectCode.MISSING_FIELD, 0)


def test_a_bad_item_leaves_the_others_alone() -> None:
    bad = Rejected(RejectCode.BAD_AMOUNT, "no")
    first, second, third = echo(draft(provider_tx_id="a"), bad, draft(provider_tx_id="b"))
    assert isinstance(first, AcceptedTransaction)
    assert second == RejectedItem(RejectCode.BAD_AMOUNT, "no", 1, None)
    assert isinstance(third, AcceptedTransaction)


# --- cancel ---------------------------------------------------------------------------------------------------------

CANCEL = {"cancel": "provider.hub88.raw.v1-3@41"}


def test_a_cancel_takes_back_the_attempt_it_names(normaliser: Normaliser) -> None:
    bet = accept(normaliser, raw_record("hub88", BET, PATH, offset=41)).transaction
    item = accept(normaliser, raw_record("hub88", BET, PATH | CANCEL, offset=42))
    event = item.transaction
    assert (event.operation, event.provider_tx_id) == ("cancel", "provider.hub88.raw.v1-3@41#0")
    assert event.legs == [Leg(Kind.CANCEL)]
    assert event.reference is not None
    assert referenced_event_id(event.brand, event.provider, event.reference) == bet.event_id
    assert (event.player_id, item.key, item.topic) == (bet.player_id, b"p-1", TRANSACTIONS)
    assert not event.decision_required
    assert event.cause is not None
    assert (event.cause.type, event.cause.id) == ("connector", event.provider_tx_id)
    assert event.attempt.offset == 42


def test_a_win_cannot_be_cancelled_since_its_provider_sends_it_until_it_is_heard(
    normaliser: Normaliser,
) -> None:
    win = json.dumps(
        {**json.loads(BET), "transaction_uuid": "t-2", "reference_transaction_uuid": "t-1"}
    )
    event = accept(
        normaliser, raw_record("hub88", win, {"http-path": "/transaction/win"} | CANCEL, offset=42)
    ).transaction
    assert [leg.kind for leg in event.legs] == ["INFORMATIONAL"]


def test_cancels_of_two_attempts_of_one_bet_are_two_events(normaliser: Normaliser) -> None:
    ids = {
        accept(
            normaliser, raw_record("hub88", BET, PATH | {"cancel": f"provider.hub88.raw.v1-3@{n}"})
        ).transaction.event_id
        for n in (1, 2, 2)
    }
    assert len(ids) == 2


@pytest.mark.parametrize(
    "header",
    [
        "",
        "provider.hub88.raw.v1",
        "provider.hub88.raw.v1-3",
        "provider.hub88.raw.v1-3@",
        "provider.hub88.raw.v1-x@1",
        "provider.hub88.raw.v1-3@-1",
        "provider.hub88.raw.v1-3@1#0",
        "provider.house.raw.v1-3@1",
        "ns.provider.hub88.raw.v1-3@1",
        "provider.hub88.raw.v1-3@42",
        "provider.hub88.raw.v1-3@" + "9" * 30,
    ],
)
def test_a_cancel_names_an_earlier_record_of_its_topic(normaliser: Normaliser, header: str) -> None:
    assert (
        reject(normaliser, raw_record("hub88", BET, PATH | {"cancel": header})).code
        is RejectCode.BAD_FIELD
    )


def test_each_item_of_a_batch_is_cancelled_by_itself() -> None:
    items = echo(
        draft(provider_tx_id="a"),
        Rejected(RejectCode.BAD_AMOUNT, "no"),
        draft(provider_tx_id="b"),
        headers={"cancel": "provider.echo.raw.v1-3@7"},
    )
    tx_ids = [
        item.transaction.provider_tx_id for item in items if isinstance(item, AcceptedTransaction)
    ]
    assert tx_ids == ["provider.echo.raw.v1-3@7#0", "provider.echo.raw.v1-3@7#2"]


# --- what cannot be used --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "topic", ["provider.unknown.raw.v1", "provider.hub88.raw.v1.dlt", "wallet.transactions.v1"]
)
def test_a_topic_without_a_dialect(normaliser: Normaliser, topic: str) -> None:
    assert (
        reject(normaliser, raw_record("hub88", BET, PATH, topic=topic)).code
        is RejectCode.UNKNOWN_PROVIDER
    )


@pytest.mark.parametrize(
    ("body", "timestamp", "code"),
    [
        (None, A, RejectCode.MALFORMED),
        (b"", A, RejectCode.MALFORMED),
        (b" " * (VALUE_MAX_BYTES + 1), A, RejectCode.TOO_LARGE),
        (BET.encode(), -1, RejectCode.BAD_TIME),
    ],
)
def test_records_that_no_dialect_needs_to_see(
    normaliser: Normaliser, body: bytes | None, timestamp: int, code: RejectCode
) -> None:
    item = reject(normaliser, raw_record("hub88", body, PATH, timestamp=timestamp))
    assert (item.code, item.record_index) == (code, None)


def test_what_the_schema_cannot_hold_is_rejected_not_raised() -> None:
    def encode(_: WalletTransaction) -> bytes:
        raise Rejected(RejectCode.BAD_CONTRACT, "does not fit")

    item = reject(Normaliser(DIALECTS, {}, encode), raw_record("hub88", BET, PATH))
    assert (item.code, item.record_index) == (RejectCode.BAD_CONTRACT, 0)


def test_a_detail_is_short_and_printable() -> None:
    [item] = echo(Rejected(RejectCode.BAD_FIELD, "line\nbreak\x1b[2J" + "x" * 5_000))
    assert isinstance(item, RejectedItem)
    assert item.detail.isprintable()
    assert len(item.detail) < 400


def test_a_key_that_is_none_ends_the_start() -> None:
    with pytest.raises(UsageError):
        Normaliser(DIALECTS, {"house": {"hmac_hex": "zz"}})


# --- what moves no money --------------------------------------------------------------------------------------------


def player_draft(**changes: Any) -> PlayerDraft:
    fields: dict[str, Any] = {
        "operation": "applicantReviewed",
        "provider_event_id": "c-1",
        "player_id": "p-1",
        "type": "KYC_REJECTED",
        "attributes": {"answer": "RED"},
        "provider_at": A - 5,
        "signature": "VALID",
        "scope": "a-1:basic",
    }
    return PlayerDraft(**(fields | changes))


def market_draft(**changes: Any) -> MarketDraft:
    fields: dict[str, Any] = {
        "operation": "bet_settlement",
        "match_id": "sr:match:1",
        "market_id": "16",
        "specifiers": "hcp=-0.75",
        "outcome_id": "1714",
        "action": "SETTLED",
        "result": "1",
        "void_factor": "0.5",
        "dead_heat_factor": None,
        "certainty": "2",
        "from_at": None,
        "until_at": None,
        "provider_at": A + 7,
        "signature": "NOT_CHECKED",
    }
    return MarketDraft(**(fields | changes))


def accept_event(item: Any) -> AcceptedEvent:
    assert isinstance(item, AcceptedEvent), item
    return item


def test_one_record_may_tell_of_a_player_and_change_a_wallet() -> None:
    items = echo(
        player_draft(),
        draft(legs=[Leg(Kind.PLAYER_STATE)]),
        headers={"brand": "acme", "region": "mt"},
    )
    noted, booked = accept_event(items[0]), items[1]
    assert isinstance(booked, AcceptedTransaction)
    assert (noted.topic, noted.key, booked.topic) == (PLAYER_EVENTS, b"p-1", TRANSACTIONS)
    assert codec.decoder(PlayerEvent)(noted.value) == noted.event
    event = noted.event
    assert isinstance(event, PlayerEvent)
    assert event.event_id == event_id("acme", "echo", "applicantReviewed", "c-1")
    assert (event.brand, event.region, event.provider_version, event.scope) == (
        "acme",
        "mt",
        "9",
        "a-1:basic",
    )
    assert (event.occurred_at, event.time_source, event.provider_at, noted.clamped) == (
        A - 5,
        "PROVIDER",
        A - 5,
        False,
    )
    assert [event.attempt.record_index, booked.transaction.attempt.record_index] == [0, 1]


def test_a_feeds_settlement_goes_to_its_match() -> None:
    noted = accept_event(echo(market_draft())[0])
    assert (noted.topic, noted.key) == (SETTLEMENTS, b"sr:match:1")
    assert codec.decoder(MarketSettlement)(noted.value) == noted.event
    assert noted.clamped  # the feed's clock is ahead of the broker's
    assert noted.event.occurred_at == A


def test_what_a_feed_says_twice_is_one_event_and_another_outcome_or_time_is_another() -> None:
    others: list[dict[str, Any]]
    others = [
        {"outcome_id": "1715"},
        {"outcome_id": None},
        {"provider_at": A + 8},
        {"market_id": "161"},
    ]
    others += [
        {"specifiers": ""},
        {"match_id": "sr:match:11"},
        {"operation": "rollback_bet_settlement"},
    ]
    settlements = [
        market_draft(),
        market_draft(result="0", certainty="1"),
        *(market_draft(**other) for other in others),
    ]
    ids = [accept_event(item).event.event_id for item in echo(*settlements)]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 1 + len(others)


def test_the_parts_of_a_settlements_id_cannot_run_into_each_other() -> None:
    one = market_draft(market_id="1", specifiers="a=1|1:x", outcome_id="2")
    other = market_draft(market_id="1", specifiers="a=1", outcome_id="x|1:2")
    assert settlement_id(one) != settlement_id(other)


def test_a_cancel_takes_back_money_and_repeats_what_is_none() -> None:
    plain = echo(player_draft(), draft())
    noted, cancel = echo(player_draft(), draft(), headers={"cancel": "provider.echo.raw.v1-3@7"})
    assert accept_event(noted).event.event_id == accept_event(plain[0]).event.event_id
    assert isinstance(cancel, AcceptedTransaction)
    assert cancel.transaction.provider_tx_id == "provider.echo.raw.v1-3@7#1"


def test_a_text_that_no_record_can_hold_is_rejected() -> None:
    items = echo(player_draft(attributes={"a": "\ud800"}), market_draft(result="\ud800"), draft())
    assert [getattr(item, "code", None) for item in items] == [
        RejectCode.BAD_CONTRACT,
        RejectCode.BAD_CONTRACT,
        None,
    ]


class Broken(Echo):
    """Fails as a dialect with a mistake does, on a value that holds a secret."""

    provider = "broken"

    def reader(self, material: KeyMaterial | None) -> Reader:
        def read(record: RawRecord, headers: Headers) -> list[Item]:
            return [{"hunter2": draft()}[(record.value or b"").decode()]]

        return read


def test_a_mistake_in_a_dialect_stops_no_other_record_and_betrays_nothing() -> None:
    normaliser = Normaliser(by_provider([Broken(), Hub88()]), {})
    item = reject(normaliser, raw_record("broken", "secret"))
    assert (item.code, item.record_index) == (RejectCode.DIALECT_FAILED, None)
    assert "the dialect of broken failed" in item.detail
    assert "KeyError in read" in item.detail
    assert "secret" not in item.detail
    accept(normaliser, raw_record("hub88", BET, PATH))
