"""A scenario is a function of its numbers: count, order, determinism, cast."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest
from msgspec.structs import replace

from lab.conformance.intents import Verb
from lab.sandbox.actions import PoisonAction
from lab.sandbox.keys import SandboxKeys
from lab.sandbox.records import PHASE_DEPOSITS, PHASE_PLAY, Origin
from lab.sandbox.scenario import PLAY_AFTER_MS, Scenario, deliveries_of, duration_ms, generate
from schemas.errors import UsageError
from tests.support.sandbox_keys import shared_keys

START_MS = 1_760_000_000_000


@pytest.fixture(scope="module")
def keys() -> SandboxKeys:
    return shared_keys()


@pytest.fixture(scope="module")
def canonical():
    return deliveries_of(Scenario(seed=7, start_ms=START_MS))


def test_the_same_numbers_and_keys_make_the_same_bytes(keys):
    scenario = Scenario(seed=3, start_ms=START_MS, events=2_500)
    assert generate(scenario, keys) == generate(scenario, keys)


def test_neither_string_hashing_nor_another_process_changes_a_byte(keys, tmp_path):
    # Sets and dictionaries of text are ordered by a hash that differs in each process, unless a seed is set.
    keys.save(tmp_path / "keys.json")
    script = (
        "import hashlib, sys; from pathlib import Path; from lab.sandbox.keys import SandboxKeys;"
        "from lab.sandbox.scenario import Scenario, generate;"
        f"s = Scenario(seed=3, start_ms={START_MS}, events=2_000);"
        "print(hashlib.sha256(repr(generate(s, SandboxKeys.load(Path(sys.argv[1])))).encode()).hexdigest())"
    )
    here = generate(Scenario(seed=3, start_ms=START_MS, events=2_000), keys)
    digests = {hashlib.sha256(repr(here).encode()).hexdigest()}
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "keys.json")],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout.strip())
    assert len(digests) == 1


def test_the_global_generator_is_neither_used_nor_touched(keys):
    random.seed(1)
    before = random.getstate()
    first = generate(Scenario(seed=3, start_ms=START_MS, events=1_000, speeders=0), keys)
    assert random.getstate() == before
    random.seed(2)
    assert generate(Scenario(seed=3, start_ms=START_MS, events=1_000, speeders=0), keys) == first


def _intents(deliveries):
    """Return every intent with its delivery, in order."""
    return [
        (delivery, intent)
        for delivery in deliveries
        if not isinstance(delivery.request, PoisonAction)
        for intent in delivery.request.intents
    ]


def _tx_ids(deliveries) -> set[str]:
    return {intent.tx_id for _, intent in _intents(deliveries)}


@pytest.mark.parametrize("other", [{"seed": 4}, {"events": 2_501}, {"players": 20}])
def test_two_scenarios_share_no_transaction_and_no_player(other):
    scenario = Scenario(seed=3, start_ms=START_MS, events=2_500)
    first, second = deliveries_of(scenario), deliveries_of(replace(scenario, **other))
    assert not _tx_ids(first) & _tx_ids(second)
    assert not _players(first) & _players(second)


def test_another_start_moves_the_time_and_nothing_else():
    early = deliveries_of(Scenario(seed=3, start_ms=START_MS, events=2_500))
    late = deliveries_of(Scenario(seed=3, start_ms=START_MS + 86_400_000, events=2_500))
    assert [d.at_ms + 86_400_000 for d in early] == [d.at_ms for d in late]
    assert _tx_ids(early) == _tx_ids(late)


@pytest.mark.parametrize(
    "numbers",
    [
        {"events": 60, "players": 3, "speeders": 0},
        {"events": 1_000, "speeders": 1},
        {"events": 3_333, "poison": 40, "retry_share": 0.2, "reorder_share": 0.3},
        {"events": 5_000, "players": 700, "speeders": 2},
        {"events": 2_000, "retry_share": 0, "reorder_share": 0, "poison": 0, "speeders": 0},
    ],
)
def test_events_is_the_number_of_records_in_all(numbers):
    scenario = Scenario(seed=11, start_ms=START_MS, **numbers)
    deliveries = deliveries_of(scenario)
    origins = Counter(d.origin for d in deliveries)
    assert len(deliveries) == scenario.events
    assert origins[Origin.POISON] == scenario.poison
    assert origins[Origin.RETRY] + origins[Origin.DUPLICATE] == scenario.redelivered_count


@pytest.mark.parametrize(
    ("numbers", "word"),
    [
        ({"events": 600}, "speeders"),
        ({"events": 100, "players": 90, "speeders": 0}, "players"),
        ({"retry_share": 0.6}, "shares"),
        ({"reorder_share": -0.1}, "shares"),
        ({"poison": -1}, "poison"),
        ({"players": 0}, "player"),
    ],
)
def test_numbers_that_do_not_fit_are_refused_with_what_to_change(numbers, word):
    with pytest.raises(UsageError, match=word):
        Scenario(**({"seed": 1, "start_ms": START_MS} | numbers))


def _players(deliveries) -> set[str]:
    return {intent.player for _, intent in _intents(deliveries)}


def test_deposits_stand_before_play_and_every_player_has_one(canonical):
    phases = [d.phase for d in canonical]
    assert phases == sorted(phases)
    assert set(phases) == {PHASE_DEPOSITS, PHASE_PLAY}
    first = [intent for d, intent in _intents(canonical) if d.phase == PHASE_DEPOSITS]
    opened = {intent.player for intent in first if intent.verb is Verb.DEPOSIT_OPENED}
    authorised = {intent.player for intent in first if intent.verb is Verb.DEPOSIT}
    assert opened == authorised == _players(canonical)
    assert {intent.verb for intent in first} == {Verb.DEPOSIT_OPENED, Verb.DEPOSIT}
    assert max(d.at_ms for d in canonical if d.phase == PHASE_DEPOSITS) < START_MS + PLAY_AFTER_MS


def test_the_simulated_time_is_that_of_a_casino(canonical):
    assert 100_000 < duration_ms(Scenario(seed=7, start_ms=START_MS)) - PLAY_AFTER_MS < 240_000
    bets: dict[str, list[int]] = {}
    for d, intent in _intents(canonical):
        if intent.verb in {Verb.BET, Verb.FREE_BET} and d.origin is Origin.FIRST:
            bets.setdefault(intent.player, []).append(d.at_ms)
    spans = [
        (max(times) - min(times)) / (len(times) - 1)
        for times in bets.values()
        if 10 < len(times) < 600
    ]
    assert len(spans) > 350
    assert 3_000 < sum(spans) / len(spans) < 6_500  # pauses between sittings included


def test_what_is_moved_is_few_and_keeps_its_time(canonical):
    late = sum(1 for a, b in pairwise(canonical) if a.phase == b.phase and a.at_ms > b.at_ms)
    assert 100 < late < 500  # 200 displaced and 40 doubled records of 20,000
    straight = deliveries_of(Scenario(seed=7, start_ms=START_MS, reorder_share=0))
    assert Counter(map(repr, straight)) == Counter(map(repr, canonical))


def test_one_player_is_blocked_and_released_and_tries_meanwhile(canonical):
    state = {
        intent.verb: (d, intent.player)
        for d, intent in _intents(canonical)
        if intent.operation.startswith("player.")
    }
    assert set(state) == {Verb.PLAYER_BLOCKED, Verb.PLAYER_RELEASED}
    (blocked, player), (released, same) = state[Verb.PLAYER_BLOCKED], state[Verb.PLAYER_RELEASED]
    assert player == same
    tries = [
        d
        for d, intent in _intents(canonical)
        if intent.verb is Verb.BET
        and intent.player == player
        and blocked.at_ms < d.at_ms < released.at_ms
    ]
    assert tries


def test_shares_of_the_dialects(keys):
    records = generate(Scenario(seed=7, start_ms=START_MS, events=10_000), keys)
    share = {name: count / 10_000 for name, count in Counter(r.provider for r in records).items()}
    assert 0.38 < share["hub88"] < 0.55
    assert 0.38 < share["playngo"] < 0.55
    assert 0.06 < share["house"] + share["adyen"] < 0.14


def test_an_adyen_batch_holds_one_account_and_at_most_a_few_notices(canonical):
    batches = [
        d
        for d in canonical
        if not isinstance(d.request, PoisonAction) and d.request.intents[0].provider == "adyen"
    ]
    assert {len({item.brand for item in d.request.intents}) for d in batches} == {1}
    sizes = Counter(len(d.request.intents) for d in batches if d.origin is Origin.FIRST)
    assert set(sizes) == {1, 2, 3, 4, 5}
    assert any(len({item.player for item in d.request.intents}) > 1 for d in batches)


def test_progress_is_told_up_to_the_end(keys):
    reports: list[tuple[int, int]] = []
    generate(
        Scenario(seed=1, start_ms=START_MS, events=900, speeders=0),
        keys,
        lambda *done: reports.append(done),
    )
    assert [total for _, total in reports] == [900] * len(reports)
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert reports[-1] == (900, 900)


def test_headers_name_the_connectors_context(keys):
    for record in generate(Scenario(seed=1, start_ms=START_MS, events=900, speeders=0), keys):
        headers = dict(record.headers)
        assert len(headers) == len(record.headers)
        assert headers["received-at"] == str(record.event_time_ms).encode()
        assert headers["http-method"] == b"POST"
        assert headers["http-path"].startswith(
            {
                "hub88": b"/transaction/",
                "playngo": b"/playngo",
                "adyen": b"/adyen/notifications",
                "house": b"/house/v1",
            }[record.provider]
        )
        assert {name for name in headers if name != name.lower()} == set()


def test_the_key_is_the_player_or_the_first_reference(keys):
    for record in generate(
        Scenario(seed=1, start_ms=START_MS, events=900, speeders=0, poison=0), keys
    ):
        if record.provider == "adyen":
            body = json.loads(record.value)
            expected = body["notificationItems"][0]["NotificationRequestItem"]["merchantReference"]
        elif record.provider == "playngo":
            expected = record.value.partition(b"<externalId>")[2].partition(b"<")[0].decode()
        else:
            body = json.loads(record.value)
            expected = body["user" if record.provider == "hub88" else "player_id"]
        assert record.key == expected.encode()
