"""What the checks know of topics they read there: one bad record is appended to a real topic, and a tick is gone."""

from __future__ import annotations

import json

import msgspec
import pytest

from schemas.events import Attempt, Position, WalletBalance, WalletOutcome
from schemas.topics import (
    ALERTS,
    BALANCES,
    OUTCOMES,
    PLAYER_EVENTS,
    SETTLEMENTS,
    TRANSACTIONS,
    UNRESOLVED,
    dead_letter_topic,
)
from tests.support.evidence_scene import (
    RAW,
    UNREADABLE,
    SceneCopy,
    dead_letter,
    everything,
    log_events,
    look,
    player_event,
    settlement,
    waiting_event,
)

__all__ = ["everything", "look"]

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


async def test_everything_holds_before_anything_bad_is_appended(look):
    assert look.failed_checks() == {}
    assert (len(look.topics.raw), len(look.topics.balances), len(look.topics.outcomes)) == (
        10,
        2,
        8,
    )
    assert [line.event for line in look.topics.log[0]] == log_events(look.scene)


# Each of these is noticed by one line alone: where a balance is under the wrong key or does not add up, it has the
# version that is the last one anyway, and what answers an attempt twice has the right answer before it.


def balance(look: SceneCopy, **changes) -> WalletBalance:
    return msgspec.structs.replace(look.scene.balances["p-1:EUR"], **changes)


def outcome(look: SceneCopy, tx_id: str, **changes) -> WalletOutcome:
    first = next(outcome for outcome in look.scene.outcomes if outcome.provider_tx_id == tx_id)
    return msgspec.structs.replace(first, **changes)


async def another_players_balance(look):
    place = await look.put(BALANCES, "p-1:EUR", look.scene.balances["p-2:EUR"])
    return f"{place}: the record under the key p-1:EUR is the balance of p-2:EUR"


async def a_balance_in_another_currency(look):
    place = await look.put(BALANCES, "p-1:EUR", balance(look, currency="SEK"))
    return f"{place}: the record under the key p-1:EUR is the balance of p-1:SEK"


async def a_balance_of_more_than_its_parts(look):
    more = look.scene.balances["p-1:EUR"].balance_minor + 1
    place = await look.put(BALANCES, "p-1:EUR", balance(look, balance_minor=more))
    return f"{place}: balance v3 of p-1:EUR does not add up"


async def a_hold_that_the_balance_does_not_have(look):
    place = await look.put(BALANCES, "p-1:EUR", balance(look, held_minor=1))
    return f"{place}: balance v3 of p-1:EUR does not add up"


async def an_older_balance_that_comes_last(look):
    await look.put(BALANCES, "p-1:EUR", balance(look, version=1))
    return "wallet p-1:EUR: the last record says version 1, an earlier one 3"


async def a_newer_balance_than_the_ledger_has(look):
    await look.put(BALANCES, "p-1:EUR", balance(look, version=4))
    return "wallet p-1:EUR: the topic says"


async def the_balance_of_a_wallet_that_is_none(look):
    await look.put(BALANCES, "p-9:EUR", balance(look, player_id="p-9"))
    return "wallet p-9:EUR: the topic says"


async def a_second_outcome_that_differs(look):
    other = outcome(look, "b", outcome="REFUSED_FUNDS")
    place = await look.put(OUTCOMES, "p-1", other)
    return f"{place}: {other.attempt} was answered POSTED and REFUSED_FUNDS"


async def a_second_outcome_with_another_message(look):
    other = outcome(look, "b", message="something else")
    place = await look.put(OUTCOMES, "p-1", other)
    return f"{place}: {other.attempt} was answered POSTED and POSTED"


async def an_outcome_under_another_players_key(look):
    same = outcome(look, "b")
    place = await look.put(OUTCOMES, "p-2", same)
    return f"{place}: the outcome of {same.attempt} is under the key b'p-2'"


async def an_outcome_of_a_player_under_its_transaction(look):
    same = outcome(look, "b")
    place = await look.put(OUTCOMES, "b", same)
    return f"{place}: the outcome of {same.attempt} is under the key b'b'"


async def an_outcome_without_player_under_another_key(look):
    same = outcome(look, "nobody's")
    place = await look.put(OUTCOMES, "None", same)
    return f"{place}: the outcome of {same.attempt} is under the key b'None'"


async def an_outcome_of_an_attempt_that_does_not_exist(look):
    made_up = outcome(look, "b", attempt=look.scene.attempt("hub88", 99))
    await look.put(OUTCOMES, "p-1", made_up)
    return f"event {made_up.event_id} of {made_up.attempt}: the topic says"


@pytest.mark.parametrize(
    "spoil",
    [
        another_players_balance,
        a_balance_in_another_currency,
        a_balance_of_more_than_its_parts,
        a_hold_that_the_balance_does_not_have,
        an_older_balance_that_comes_last,
        a_newer_balance_than_the_ledger_has,
        the_balance_of_a_wallet_that_is_none,
        a_second_outcome_that_differs,
        a_second_outcome_with_another_message,
        an_outcome_under_another_players_key,
        an_outcome_of_a_player_under_its_transaction,
        an_outcome_without_player_under_another_key,
        an_outcome_of_an_attempt_that_does_not_exist,
    ],
)
async def test_a_bad_balance_or_outcome_takes_the_tick_away(look, spoil):
    expected = await spoil(look)
    wrong = look.failed_checks()
    assert wrong.keys() == {"topic_equals_database"}
    assert wrong["topic_equals_database"].startswith(expected)


THREE_NOTICES = json.dumps(
    {"live": "true", "notificationItems": 3 * [{"NotificationRequestItem": {}}]}
).encode()
"""Three items, whatever is in them: how many there are is what the checks want to know."""


def source_at(place: str) -> Position:
    topic, _, offset = place.rpartition("-0@")
    return Position(topic, 0, int(offset))


def attempt_at(place: str, index: int) -> Attempt:
    source = source_at(place)
    return Attempt(source.topic, source.partition, source.offset, index)


async def a_raw_record_that_was_not_read(look):
    place = await look.put(RAW["hub88"], "k", b"{}")
    return f"{place} is neither normalised nor a dead letter"


async def an_event_that_was_not_booked(look):
    place = await look.put(TRANSACTIONS, "p-1", log_events(look.scene)[0])
    return f"{place} has no entry"


async def an_unreadable_record_of_the_log(look):
    place = await look.put(TRANSACTIONS, "p-1", UNREADABLE)
    return f"{place} has no entry"


async def an_event_without_player_that_was_not_parked(look):
    place = await look.put(UNRESOLVED, "waits", waiting_event(look.scene))
    return f"{place} is not parked"


async def an_unreadable_event_without_player(look):
    place = await look.put(UNRESOLVED, "waits", UNREADABLE)
    return f"{place} is not parked"


async def a_parked_event_that_never_came_into_the_log(look):
    look.tables.unappended.clear()  # as the resolver leaves it once it has appended it
    return f"{look.scene.runtime.topic(UNRESOLVED)}-0@0 no longer waits, but is not in the log"


async def a_player_event_whose_neighbour_is_gone(look):
    await look.put(PLAYER_EVENTS, "p-1", player_event(look.scene.attempt("hub88", 4, 2)))
    return f"{look.scene.runtime.topic(RAW['hub88'])}-0@4 has items [0, 2]"


async def a_settlement_whose_neighbour_is_gone(look):
    await look.put(SETTLEMENTS, "match", settlement(look.scene.attempt("hub88", 5, 3)))
    return f"{look.scene.runtime.topic(RAW['hub88'])}-0@5 has items [0, 1, 3]"


async def a_dead_letter_whose_neighbour_is_gone(look):
    source = Position(look.scene.runtime.topic(RAW["hub88"]), 0, 4)
    await look.put(dead_letter_topic(RAW["hub88"]), "k", dead_letter(source, index=2))
    return f"{source.topic}-0@4 has items [0, 2]"


async def a_batch_whose_last_item_is_gone(look):
    place = await look.put(RAW["adyen"], "k", THREE_NOTICES)
    for index in (0, 1):
        await look.put(PLAYER_EVENTS, "p-1", player_event(attempt_at(place, index)))
    return f"{place} has items [0, 1] of 3"


async def a_batch_of_which_one_item_has_a_letter_and_nothing_else(look):
    place = await look.put(RAW["adyen"], "k", THREE_NOTICES)
    await look.put(dead_letter_topic(RAW["adyen"]), "k", dead_letter(source_at(place), index=0))
    return f"{place} has items [0] of 3"


@pytest.mark.parametrize(
    "spoil",
    [
        a_raw_record_that_was_not_read,
        an_event_that_was_not_booked,
        an_unreadable_record_of_the_log,
        an_event_without_player_that_was_not_parked,
        an_unreadable_event_without_player,
        a_parked_event_that_never_came_into_the_log,
        a_player_event_whose_neighbour_is_gone,
        a_settlement_whose_neighbour_is_gone,
        a_dead_letter_whose_neighbour_is_gone,
        a_batch_whose_last_item_is_gone,
        a_batch_of_which_one_item_has_a_letter_and_nothing_else,
    ],
)
async def test_a_record_that_leads_nowhere_takes_the_tick_away_and_is_named(look, spoil):
    expected = await spoil(look)
    wrong = look.failed_checks()
    assert wrong.keys() == {"offsets_accounted"}
    assert wrong["offsets_accounted"].startswith(expected)


async def test_a_batch_is_accounted_for_by_what_became_of_each_item_or_by_one_letter_for_the_rest(
    look,
):
    for letter in (2, None):
        place = await look.put(RAW["adyen"], "k", THREE_NOTICES)
        for index in (0, 1) if letter else (1,):
            await look.put(PLAYER_EVENTS, "p-1", player_event(attempt_at(place, index)))
        await look.put(
            dead_letter_topic(RAW["adyen"]), "k", dead_letter(source_at(place), index=letter)
        )
        assert look.failed_checks() == {}


async def test_a_parked_event_that_came_into_the_log_is_not_lost_on_the_way(look):
    look.tables.unappended.clear()
    place = await look.put(TRANSACTIONS, "waits", waiting_event(look.scene))
    assert look.failed_checks() == {"offsets_accounted": f"{place} has no entry"}


async def test_what_has_its_dead_letter_is_accounted_for_on_every_topic(look):
    for topic in (RAW["hub88"], TRANSACTIONS, UNRESOLVED):
        name, _, offset = (await look.put(topic, "k", UNREADABLE)).rpartition("-0@")
        assert look.failed_checks().keys() == {"offsets_accounted"}
        await look.put(dead_letter_topic(topic), "k", dead_letter(Position(name, 0, int(offset))))
        assert look.failed_checks() == {}


@pytest.mark.parametrize("value", [UNREADABLE, None], ids=["no bytes of ours", "no value"])
@pytest.mark.parametrize(
    "topic",
    [BALANCES, OUTCOMES, PLAYER_EVENTS, SETTLEMENTS, ALERTS, dead_letter_topic(RAW["hub88"])],
)
async def test_an_unreadable_record_is_named(look, topic, value):
    # Our own workers alone write to these topics; none of them makes a dead letter of an unreadable record there.
    place = await look.put(topic, "p-1:EUR", value)
    assert look.failed_checks().keys() == {"topic_equals_database"}
    assert look.failed_checks()["topic_equals_database"].startswith(
        f"{place}: the record cannot be read: BAD_CONTRACT"
    )


async def test_an_outcome_in_other_decimals_than_its_wallets_is_noticed(look):
    known = outcome(look, "b")
    assert known.scale is not None
    look.topics.outcomes[known.event_id, known.attempt] = msgspec.structs.replace(
        known, scale=known.scale + 1
    )
    assert "decimals" in look.failed_checks()["topic_equals_database"]


async def test_a_version_that_repeats_with_other_content_is_noticed(look):
    # Compaction leaves the second, so a later reader gets another balance than the ledger's.
    last = look.scene.balances["p-1:EUR"]
    more = balance(
        look, balance_minor=last.balance_minor + 1, available_minor=last.available_minor + 1
    )
    await look.put(BALANCES, "p-1:EUR", more)
    assert look.failed_checks().keys() == {"topic_equals_database"}


async def test_an_outcome_without_a_key_is_noticed(look):
    # Of a balance the broker itself refuses it: its topic is compacted.
    await look.put(OUTCOMES, None, outcome(look, "b"))
    assert look.failed_checks().keys() == {"topic_equals_database"}
