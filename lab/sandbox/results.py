"""Results of rounds: what providers publish on `game.results.v1` beside a scenario's calls. Pure.

A round whose provider signs its results has one, when it ends. A round of the provably fair wheel
has two: the hash of the server's seed before it, and the seed after it. Every fourth round of a
player is followed by one of the wheel, whose stakes are play money: it moves no wallet, so what it
pays depends on its seeds alone. No adapter reads results yet, so they go to their topic as they
are.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from hashlib import sha256
from operator import attrgetter
from typing import Any, Final

import msgspec

from lab.conformance.intents import Intent, Verb
from lab.sandbox.actions import Delivery, IntentRequest
from lab.sandbox.records import Origin
from lab.sandbox.scenario import Scenario, deliveries_of
from schemas.events import Attempt, GameResult, SignatureVerdict
from schemas.identity import event_id
from schemas.topics import raw_topic

SIGNING: Final = frozenset({"hub88", "pragmatic"})
"""Providers that sign the results of their rounds."""
WHEEL: Final = "wheel-1"
WHEEL_PROVIDER: Final = "fairwheel"
SCHEME: Final = "wheel-hmac-sha256/1"
PAYOUTS: Final = (0, 0, 0, 100, 100, 150, 200, 218)
"""Payout of each segment in hundredths of the stake: 96 % are returned."""
WHEEL_EVERY: Final = 4
_COMMITTED_BEFORE_MS: Final = 2_000
_RESULT_AFTER_MS: Final = 50
_STAKES: Final = frozenset({Verb.BET, Verb.SPIN})


class PlayedRound(msgspec.Struct):
    """What a scenario tells of one round."""

    first: Intent
    ended_ms: int
    stake: int = 0
    payout: int = 0
    is_void: bool = False


def make_results(scenario: Scenario) -> list[GameResult]:
    """Return the results of a scenario, in the order of their times."""
    results: list[GameResult] = []
    played = [one for one in rounds_of(deliveries_of(scenario)) if not one.is_void]
    for number, one in enumerate(played):
        if one.first.provider in SIGNING:
            results.append(_signed_result(one))
        if number % WHEEL_EVERY == 0:
            results += _wheel_round(one, f"{scenario.seed} {number}", number)
    return sorted(results, key=attrgetter("occurred_at"))


def rounds_of(deliveries: Iterable[Delivery]) -> list[PlayedRound]:
    """Return the rounds of games with a stake of the player's own, in the order of their bets."""
    rounds: dict[tuple[str, str], PlayedRound] = {}
    for intent in _intents_of(deliveries):
        if intent.round_id is None or intent.game is None:
            continue
        place = (intent.provider, intent.round_id)
        if intent.verb in _STAKES and place not in rounds:
            rounds[place] = PlayedRound(intent, intent.at_ms)
        if (own := rounds.get(place)) is None:
            continue
        own.ended_ms = max(own.ended_ms, intent.at_ms)
        own.is_void = own.is_void or intent.verb is Verb.ROLLBACK
        for leg in intent.legs:
            own.stake += (leg.minor or 0) if leg.kind == "BET" else 0
            own.payout += (leg.minor or 0) if leg.kind == "WIN" else 0
    return list(rounds.values())


def _intents_of(deliveries: Iterable[Delivery]) -> Iterator[Intent]:
    """Yield what is sent for the first time, in the order of the events' own times."""
    first = [
        intent
        for delivery in deliveries
        if delivery.origin is Origin.FIRST and isinstance(delivery.request, IntentRequest)
        for intent in delivery.request.intents
    ]
    yield from sorted(first, key=attrgetter("at_ms"))


def _signed_result(one: PlayedRound) -> GameResult:
    return _result(
        one,
        one.first.provider,
        f"{one.first.round_id}",
        one.ended_ms + _RESULT_AFTER_MS,
        game_id=one.first.game,
        stake_minor=one.stake,
        payout_minor=one.payout,
        signature=SignatureVerdict.VALID.value,
    )


def _wheel_round(one: PlayedRound, name: str, nonce: int) -> tuple[GameResult, GameResult]:
    """Return the commitment and the result of a spin, right after a round of the player."""
    server_seed = sha256(f"server {name}".encode()).hexdigest()
    client_seed, round_id = f"client of {one.first.player}", f"wheel-{one.first.round_id}"
    digest = hmac.new(server_seed.encode(), f"{client_seed}:{nonce}".encode(), sha256).hexdigest()
    segment = int(digest[:13], 16) % len(PAYOUTS)
    known: dict[str, Any] = {
        "game_id": WHEEL,
        "scheme": SCHEME,
        "committed_hash": sha256(server_seed.encode()).hexdigest(),
        "client_seed": client_seed,
        "nonce": nonce,
    }
    at_ms = one.ended_ms + _RESULT_AFTER_MS
    before_ms = at_ms - _COMMITTED_BEFORE_MS
    commitment = _result(one, WHEEL_PROVIDER, round_id, before_ms, operation="commitment", **known)
    shown: dict[str, Any] = {
        "server_seed": server_seed,
        "outcome": str(segment),
        "stake_minor": one.stake,
        "payout_minor": one.stake * PAYOUTS[segment] // 100,
    }
    return commitment, _result(one, WHEEL_PROVIDER, round_id, at_ms, **known, **shown)


def _result(
    one: PlayedRound,
    provider: str,
    round_id: str,
    at_ms: int,
    *,
    operation: str = "result",
    **fields: Any,
) -> GameResult:
    nothing = dict.fromkeys(
        (
            *("stake_minor", "payout_minor", "outcome", "scheme", "committed_hash"),
            *("server_seed", "client_seed", "nonce"),
        )
    )
    first = one.first
    return GameResult(
        event_id=event_id(first.brand, provider, operation, round_id),
        brand=first.brand,
        provider=provider,
        provider_version="v1",
        region=first.region,
        operation=operation,
        provider_event_id=round_id,
        attempt=Attempt(raw_topic(provider), 0, 0),
        round_id=round_id,
        game_version="1",
        player_id=first.player,
        currency=first.legs[0].currency if first.legs else None,
        selection=None,
        bets_closed_at=first.at_ms,
        outcome_known_at=None if operation == "commitment" else at_ms,
        occurred_at=at_ms,
        time_source="PROVIDER",
        provider_at=at_ms,
        received_at=at_ms,
        appended_at=at_ms,
        **{**nothing, "signature": SignatureVerdict.NOT_CHECKED.value, **fields},
    )
