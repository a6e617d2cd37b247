"""Retries, duplicates and overtaking, and the gathering of notices, each by itself."""

from __future__ import annotations

from collections import Counter
from random import Random

from lab.conformance.intents import Intent, Verb
from lab.conformance.writers.find import find_writers
from lab.conformance.writers.ids import Ids, uuid7_of, uuid_of
from lab.sandbox.actions import Delivery, IntentRequest
from lab.sandbox.cashier import BATCH_WAIT_MS, batch_intents
from lab.sandbox.mixing import add_duplicates, displace, draw_retries, sort_by_time
from lab.sandbox.players import make_players
from lab.sandbox.records import Origin
from lab.sandbox.seats import make_intent

PLAYERS = make_players(Random(1), 30)


WRITERS = find_writers(("house", "adyen"))
BATCH_MAX = WRITERS["adyen"].batch_max


def item(number: int, at_ms: int, player=PLAYERS[0]) -> Intent:
    return make_intent(
        WRITERS["adyen"],
        Verb.DEPOSIT,
        player,
        f"PSP{number}",
        at_ms,
        100,
        deposit_id=f"ref-{number}",
    )


def heartbeat(at_ms: int, phase: int = 1) -> Intent:
    return make_intent(WRITERS["house"], Verb.HEARTBEAT, PLAYERS[0], f"h-{phase}-{at_ms}", at_ms)


def house(at_ms: int, phase: int = 1) -> Delivery:
    request = IntentRequest(at_ms, (heartbeat(at_ms, phase),))
    return Delivery(request, at_ms, phase, nonce=at_ms)


def test_a_displaced_delivery_is_overtaken_by_few_and_never_leaves_its_phase():
    stream = [house(at, 0) for at in range(300)] + [house(at, 1) for at in range(300, 2_000)]
    moved = displace(stream, 40, Random(5))
    assert Counter(map(repr, moved)) == Counter(map(repr, stream))
    assert [d.phase for d in moved] == sorted(d.phase for d in moved)
    places = {d.nonce: place for place, d in enumerate(moved)}
    # One that moves lets up to 200 pass and may land behind others that move; all the rest only move up.
    late = {
        d.nonce: places[d.nonce] - place
        for place, d in enumerate(stream)
        if places[d.nonce] > place
    }
    assert 30 <= len(late) <= 40
    assert max(late.values()) <= 200
    assert min(places[d.nonce] - place for place, d in enumerate(stream)) >= -40


def test_nothing_to_displace_changes_nothing():
    stream = [house(at) for at in range(50)]
    assert displace(stream, 0, Random(1)) == stream
    assert add_duplicates(stream, 0, Random(1)) == stream
    assert draw_retries(stream, 0, Random(1)) == []


def test_a_duplicate_stands_behind_its_original_and_differs_in_nothing_but_its_origin():
    stream = [house(at) for at in range(400)]
    doubled = add_duplicates(stream, 20, Random(2))
    assert len(doubled) == 420
    for place, delivery in enumerate(doubled):
        if delivery.origin is Origin.DUPLICATE:
            original = next(index for index, d in enumerate(doubled) if d.nonce == delivery.nonce)
            assert original < place <= original + 50 + 20
            assert doubled[original].at_ms == delivery.at_ms
            assert doubled[original].request is delivery.request


def test_a_retried_batch_carries_all_of_its_items_and_only_what_was_sent_by_then():
    batches = [
        Delivery(IntentRequest(at, (item(at, at), item(at + 1, at))), at, 1, nonce=at)
        for at in range(0, 100_000, 2_000)
    ]
    again = draw_retries(batches, 30, Random(3), {"adyen"})
    sent = [d.request for d in batches]
    grown = 0
    for retry in again:
        assert retry.origin is Origin.RETRY
        assert isinstance(retry.request, IntentRequest)
        members = set(retry.request.intents)
        source = [
            request
            for request in sent
            if isinstance(request, IntentRequest) and set(request.intents) <= members
        ]
        assert source
        assert all(one.at_ms <= retry.at_ms for one in members)
        grown += len(members) > 2
    assert grown > 10


def test_retries_keep_the_content_and_change_the_nonce():
    stream = [house(at) for at in range(100)]
    for retry in draw_retries(stream, 10, Random(4)):
        original = next(d for d in stream if d.request is retry.request)
        assert retry.at_ms > original.at_ms
        assert retry.nonce != original.nonce


def test_order_of_time_is_by_phase_first():
    stream = [house(5, 1), house(9, 0), house(1, 1), house(2, 0)]
    assert [(d.phase, d.at_ms) for d in sort_by_time(stream)] == [(0, 2), (0, 9), (1, 1), (1, 5)]


def test_a_batch_goes_when_it_is_full_or_old_and_never_mixes_brands():
    brands = {player.brand: player for player in PLAYERS}
    assert len(brands) == 3
    players = list(brands.values())
    notices = [item(number, number * 100, players[number % 3]) for number in range(300)]
    requests = list(batch_intents(notices, Random(6), WRITERS))
    assert [
        one for request in requests for one in request.intents if one.player == players[0].id
    ] == [one for one in notices if one.player == players[0].id]
    assert sum(len(request.intents) for request in requests) == 300
    for request in requests:
        assert len({one.brand for one in request.intents}) == 1
        assert len(request.intents) <= BATCH_MAX
        assert 0 <= request.at_ms - request.intents[0].at_ms <= BATCH_WAIT_MS
        assert all(one.at_ms <= request.at_ms for one in request.intents)
    assert [request.at_ms for request in requests] == sorted(request.at_ms for request in requests)


def test_waiting_notices_go_before_whatever_comes_later():
    later = heartbeat(60_000)
    first, second = batch_intents([item(1, 0), later], Random(0), WRITERS)
    assert first.intents == (item(1, 0),)
    assert first.at_ms <= BATCH_WAIT_MS
    assert second.intents == (later,)


def test_uuids_are_of_version_4():
    import uuid

    for bits in (0, 2**128 - 1, Random(1).getrandbits(128)):
        parsed = uuid.UUID(uuid_of(bits))
        assert str(parsed) == uuid_of(bits)
        assert (parsed.version, parsed.variant) == (4, uuid.RFC_4122)
        assert parsed == uuid.UUID(int=bits, version=4)


def test_uuids_of_version_7_hold_their_time():
    import uuid

    at_ms = 1_795_183_400_123
    parsed = uuid.UUID(uuid7_of(at_ms, 2**128 - 1))
    assert (parsed.int >> 80, parsed.version, parsed.variant) == (at_ms, 7, uuid.RFC_4122)


def test_numbers_rise_and_fit_64_bits():
    ids = Ids(Random(1))
    numbers = [ids.number() for _ in range(1_000)]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] < 2**63
    assert len({ids.psp_reference() for _ in range(1_000)}) == 1_000
