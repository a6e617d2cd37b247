"""The sandbox's bytes as our own normaliser reads them, keys and all: what is good is understood, and only that."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import pytest

from lab.sandbox.poison import CATALOGUE
from lab.sandbox.records import Origin, RawEvent
from lab.sandbox.scenario import Scenario, generate
from schemas.errors import RejectCode
from schemas.events import Kind, SignatureVerdict, WalletTransaction
from schemas.money import minor_units
from schemas.topics import raw_topic
from streams.normalise.mapping.normaliser import (
    AcceptedTransaction,
    ItemResult,
    Normaliser,
    RejectedItem,
)
from streams.providers.registry import DIALECTS
from tests.support.sandbox_keys import shared_keys

START_MS = 1_760_000_000_000
APPENDED_MS = START_MS + 600_000
EVENTS = 8_000
"""Two minutes of play; most of what a record costs is its signature."""


@dataclass(frozen=True)
class Appended:
    """A raw event as the normaliser meets it on Kafka."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def to_record(offset: int, raw: RawEvent) -> Appended:
    return Appended(
        raw_topic(raw.provider), 0, offset, APPENDED_MS, raw.key, raw.value, raw.headers
    )


@dataclass(frozen=True)
class Read:
    raw: RawEvent
    items: list[ItemResult]


@pytest.fixture(scope="module")
def stream() -> list[Read]:
    keys = shared_keys()
    normaliser = Normaliser(DIALECTS, keys.keyring())
    scenario = Scenario(seed=7, start_ms=START_MS, events=EVENTS, poison=len(CATALOGUE))
    records = generate(scenario, keys)
    return [
        Read(raw, normaliser.normalise(to_record(offset, raw)))
        for offset, raw in enumerate(records)
    ]


@pytest.fixture(scope="module")
def good(stream):
    return [
        (read.raw, item)
        for read in stream
        for item in read.items
        if isinstance(item, AcceptedTransaction)
    ]


@pytest.fixture(scope="module")
def first_seen(good):
    """Each event once, where it first stands in the stream."""
    seen: dict[str, tuple[RawEvent, WalletTransaction]] = {}
    for raw, item in good:
        seen.setdefault(item.transaction.event_id, (raw, item.transaction))
    return seen


def test_exactly_the_poison_is_rejected_with_the_code_it_was_made_for(stream):
    rejected = [
        (read.raw.origin, read.raw.expected_reject, item.code)
        for read in stream
        for item in read.items
        if isinstance(item, RejectedItem)
    ]
    assert Counter(rejected) == Counter((Origin.POISON, code, code) for code, *_ in CATALOGUE)


def test_the_first_ten_kinds_of_poison_have_ten_codes():
    codes = [code for code, *_ in CATALOGUE]
    assert len(set(codes[:10])) == 10
    assert set(codes) <= set(RejectCode)


def test_a_retry_says_the_same_in_other_bytes(stream):
    sent = defaultdict(set)
    for read in stream:
        if read.raw.origin is Origin.FIRST:
            for item in read.items:
                sent[item.transaction.event_id].add((item.transaction.fingerprint, read.raw.value))
    retries = [read for read in stream if read.raw.origin is Origin.RETRY]
    assert len(retries) == EVENTS * 8 // 1_000
    assert {read.raw.provider for read in retries} == {"hub88", "playngo", "adyen", "house"}
    for read in retries:
        for item in read.items:
            (fingerprint, value), *others = sent[item.transaction.event_id]
            assert not others
            assert item.transaction.fingerprint == fingerprint
            assert read.raw.value != value


def test_a_retry_comes_later_and_signed_anew(stream):
    first = {}
    for read in stream:
        if read.raw.origin is Origin.FIRST:
            for item in read.items:
                first[item.transaction.event_id] = read.raw
    for read in stream:
        if read.raw.origin is Origin.RETRY:
            origin = [first[item.transaction.event_id] for item in read.items]
            assert all(read.raw.event_time_ms >= raw.event_time_ms for raw in origin)
            if read.raw.provider == "hub88":
                assert (
                    dict(read.raw.headers)["x-hub88-signature"]
                    != dict(origin[0].headers)["x-hub88-signature"]
                )


def test_notices_are_sent_again_among_others(stream):
    sets = defaultdict(list)
    for read in stream:
        if read.raw.provider == "adyen" and read.raw.origin in {Origin.FIRST, Origin.RETRY}:
            members = frozenset(
                item.transaction.event_id
                for item in read.items
                if isinstance(item, AcceptedTransaction)
            )
            sets[read.raw.origin].append(members)
    original = set(sets[Origin.FIRST])
    assert any(members not in original for members in sets[Origin.RETRY])


def test_an_exact_duplicate_repeats_a_record_to_the_byte(stream):
    seen = Counter((r.raw.provider, r.raw.key, r.raw.value, r.raw.headers) for r in stream)
    duplicates = [r.raw for r in stream if r.raw.origin is Origin.DUPLICATE]
    assert len(duplicates) == EVENTS * 2 // 1_000
    assert all(seen[raw.provider, raw.key, raw.value, raw.headers] == 2 for raw in duplicates)


def test_an_event_is_sent_for_the_first_time_once(stream):
    ids = Counter(
        item.transaction.event_id
        for read in stream
        if read.raw.origin is Origin.FIRST
        for item in read.items
    )
    assert set(ids.values()) == {1}


def test_every_signature_is_right(good):
    assert {item.transaction.signature for _, item in good} == {SignatureVerdict.VALID}


def test_no_clock_is_doubted(good):
    assert not any(item.clamped for _, item in good)


def test_every_kind_of_event_of_v0_is_there(first_seen):
    kinds = Counter(leg.kind for _, t in first_seen.values() for leg in t.legs)
    assert set(kinds) == {
        Kind.BET,
        Kind.WIN,
        Kind.ROLLBACK,
        Kind.DEPOSIT,
        Kind.DEPOSIT_REVERSAL,
        Kind.WITHDRAWAL,
        Kind.WITHDRAWAL_REVERSAL,
        Kind.BONUS_GRANT,
        Kind.PLAYER_STATE,
        Kind.INFORMATIONAL,
    }
    operations = Counter((t.provider, t.operation) for _, t in first_seen.values())
    assert operations["adyen", "CHARGEBACK"] == 1
    assert operations["adyen", "REFUND"] >= EVENTS // 8_000
    assert operations["adyen", "CAPTURE"] >= 20
    for provider, bet, win, rollback in (
        ("hub88", "bet", "win", "rollback"),
        ("playngo", "reserve", "release", "cancelReserve"),
    ):
        bets = operations[provider, bet]
        assert 0.4 < operations[provider, win] / bets < 0.8
        assert 0.01 < operations[provider, rollback] / bets < 0.04


def test_currencies_with_none_two_and_three_decimals_all_move(first_seen):
    moved = Counter(
        leg.currency for _, t in first_seen.values() for leg in t.legs if leg.amount is not None
    )
    assert set(moved) == {"EUR", "GBP", "SEK", "JPY", "KWD"}
    assert min(moved.values()) > EVENTS // 70


def test_a_player_has_one_currency_and_one_brand(first_seen):
    owned: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for _, t in first_seen.values():
        if t.player_id is not None:
            owned[t.player_id] |= {
                (t.brand, leg.currency) for leg in t.legs if leg.currency is not None
            }
    assert {len(pairs) for pairs in owned.values()} == {1}
    assert "default" in {brand for pairs in owned.values() for brand, _ in pairs}


def test_wins_and_rollbacks_refer_to_bets_and_a_few_bets_never_come(first_seen):
    bets = {
        (t.provider, t.provider_tx_id) for _, t in first_seen.values() if t.legs[0].kind == Kind.BET
    }
    wins = [t for _, t in first_seen.values() if t.provider == "hub88" and t.operation == "win"]
    assert all((t.provider, t.reference.tx_id) in bets for t in wins)
    assert any(t.legs[0].amount.unscaled == 0 and t.round_closed for t in wins)
    rollbacks = [t for _, t in first_seen.values() if t.legs[0].kind == Kind.ROLLBACK]
    unknown = [t for t in rollbacks if (t.provider, t.reference.tx_id) not in bets]
    assert 1 <= len(unknown) < 0.2 * len(rollbacks)


def test_some_rollbacks_stand_before_their_bet(first_seen):
    place: dict[tuple[str, str, str], int] = {}
    for number, (_, t) in enumerate(first_seen.values()):
        place.setdefault((t.provider, t.operation, t.provider_tx_id), number)
    early = [
        t
        for _, t in first_seen.values()
        if t.legs[0].kind == Kind.ROLLBACK
        and place.get((t.provider, t.reference.operation, t.reference.tx_id), -1)
        > place[t.provider, t.operation, t.provider_tx_id]
    ]
    assert early


def test_free_rounds_cost_nothing_and_name_their_campaign(first_seen):
    free = [leg for _, t in first_seen.values() for leg in t.legs if leg.is_free]
    assert {leg.kind for leg in free} == {Kind.BET, Kind.WIN}
    assert all(leg.campaign_id for leg in free)
    assert {leg.amount.unscaled for leg in free if leg.kind == Kind.BET} == {0}
    assert any(leg.amount.unscaled for leg in free if leg.kind == Kind.WIN)


def test_references_of_the_cashier_and_the_payment_provider_meet(first_seen):
    opened = {t.provider_tx_id for _, t in first_seen.values() if t.operation == "deposit.opened"}
    requested_ids = {
        t.provider_tx_id for _, t in first_seen.values() if t.operation == "withdrawal.requested"
    }
    authorised = {
        t.provider_tx_id for _, t in first_seen.values() if t.operation == "AUTHORISATION"
    }
    for _, t in first_seen.values():
        if t.reference is None:
            continue
        known = {
            "deposit.opened": opened,
            "withdrawal.requested": requested_ids,
            "AUTHORISATION": authorised,
        }
        if t.reference.operation in known:
            assert t.reference.tx_id in known[t.reference.operation]


def _most_bets_within(first_seen, window_ms: int) -> Counter[str]:
    times = defaultdict(list)
    for _, t in first_seen.values():
        if t.legs[0].kind == Kind.BET:
            times[t.player_id].append(t.occurred_at)
    most: Counter[str] = Counter()
    for player, moments in times.items():
        moments.sort()
        start = 0
        for end, moment in enumerate(moments):
            while moment - moments[start] >= window_ms:
                start += 1
            most[player] = max(most[player], end - start + 1)
    return most


def test_one_account_and_only_one_speeds(first_seen):
    (speeder, most), (_, next_most) = _most_bets_within(first_seen, 60_000).most_common(2)
    assert most == 600
    assert next_most < 60
    bets = [
        t for _, t in first_seen.values() if t.player_id == speeder and t.legs[0].kind == Kind.BET
    ]
    assert len(bets) == 600  # nothing before and nothing after: one episode
    assert max(t.occurred_at for t in bets) - min(t.occurred_at for t in bets) < 56_000


def test_the_speeder_can_pay_for_all_of_it(first_seen):
    speeder = _most_bets_within(first_seen, 60_000).most_common(1)[0][0]
    mine = [t for _, t in first_seen.values() if t.player_id == speeder]
    total: Counter[str] = Counter()
    for t in mine:
        for leg in t.legs:
            total[t.operation] += minor_units(leg.amount, leg.currency)
    assert total["deposit.opened"] >= total["bet"] + total["reserve"]


def test_a_few_bets_are_above_what_the_player_has(first_seen):
    # A plain purse a player, in the stream's order; it only has to show that such bets are there, and rare.
    owner = {
        t.provider_tx_id: t.player_id
        for _, t in first_seen.values()
        if t.operation == "deposit.opened"
    }
    funds: Counter[str] = Counter()
    stakes: dict[tuple[str, str], int] = {}
    above = 0
    for _, t in first_seen.values():
        leg = t.legs[0]
        amount = minor_units(leg.amount, leg.currency) if leg.amount is not None else 0
        if leg.kind == Kind.DEPOSIT:
            owner[t.provider_tx_id] = owner[t.reference.tx_id]
            funds[owner[t.provider_tx_id]] += amount
        elif leg.kind in {Kind.WIN, Kind.BONUS_GRANT}:
            funds[t.player_id] += amount
        elif leg.kind == Kind.ROLLBACK:
            funds[t.player_id] += stakes.pop((t.provider, t.reference.tx_id), 0)
        elif leg.kind in {Kind.BET, Kind.WITHDRAWAL} and amount <= funds[t.player_id]:
            funds[t.player_id] -= amount
            stakes[t.provider, t.provider_tx_id] = amount
        elif leg.kind == Kind.BET:
            above += 1
    bets = sum(1 for _, t in first_seen.values() if t.legs[0].kind == Kind.BET)
    assert 0.003 < above / bets < 0.012
