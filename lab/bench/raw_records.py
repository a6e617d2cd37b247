"""Raw records for measurements, from the sandbox's casino.

They are bets, wins and rollbacks of thousands of players.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from typing import Final

from msgspec.structs import replace

from lab.conformance.intents import DEFAULT_BRAND, Game, GameSession, Intent, IntentLeg, Verb
from lab.conformance.writers import house, hub88
from lab.conformance.writers.ids import uuid_of
from lab.conformance.writers.writer import Sending, Writer, connector_headers
from lab.sandbox.actions import HUB88, IntentRequest
from lab.sandbox.keys import SandboxKeys
from lab.sandbox.scenario import Scenario, deliveries_of
from lab.sandbox.writing import write_all
from runtime.kafka.producer import OutRecord

_CHUNK_EVENTS: Final = 20_000
"""Of all providers; about 9,000 of them are Hub88's."""

_PAST_MS: Final = 10 * 60 * 1000
"""A chunk is some minutes of play, which must be over by now: a connector's clock ahead of ours
is not believed.
"""


def hub88_records(keys: SandboxKeys, *, each_signed: bool) -> Iterator[list[OutRecord]]:
    """Yield chunks of valid records without end, each transaction once.

    A signature costs 0.25 ms to make. Where it is not checked, one of the right length serves a
    whole chunk.
    """
    start_ms = time.time_ns() // 1_000_000 - _PAST_MS
    signature = hub88.signature(b"", keys.of(HUB88))
    for seed in count(1):
        scenario = Scenario(
            seed=seed,
            start_ms=start_ms,
            events=_CHUNK_EVENTS,
            poison=0,
            speeders=0,
            retry_share=0,
            reorder_share=0,
        )
        play = [
            delivery
            for delivery in deliveries_of(scenario)
            if isinstance(delivery.request, IntentRequest)
            and delivery.request.intents[0].provider == HUB88
        ]
        records = write_all(play, keys, signed=each_signed)
        headers = () if each_signed else (("x-hub88-signature", signature),)
        # No timestamp: raw topics stamp what is appended themselves. aiokafka takes headers as a
        # list only.
        yield [(record.key, record.value, [*record.headers, *headers], None) for record in records]


def opening_records(keys: SandboxKeys, players: int) -> list[OutRecord]:
    """Write a correction of the cashier for each player.

    With it every bet of `endless_bets` can be booked.
    """
    return [opening_record(keys, str(number), _player(number), "EUR") for number in range(players)]


def opening_record(
    keys: SandboxKeys, name: str, player: str, currency: str, like: Intent | None = None
) -> OutRecord:
    """Write a correction of the cashier that pays for every bet of a measurement.

    `name` identifies it; brand and region are those of `like`, whose player it pays.
    """
    details = (("actor", "bench"), ("reason", "money to bet with"))
    brand, region = (DEFAULT_BRAND, "") if like is None else (like.brand, like.region)
    identity = (brand, "house", "adjustment", f"opening-{name}")
    leg = IntentLeg("ADJUSTMENT", 100_000_000, currency)
    intent = Intent(Verb.ADJUSTMENT, identity, player, (leg,), region=region, details=details)
    return _write(house.WRITER, keys, intent, 0)


def endless_bets(keys: SandboxKeys, players: int) -> Iterator[OutRecord]:
    """Yield signed Hub88 bets without end, the players in turns.

    Making one costs 0.3 ms, so make them ahead.
    """
    session = GameSession(HUB88, "bench", 1, Game("bench", 1))
    leg = IntentLeg("BET", 10, "EUR")
    for number in count():
        identity = (DEFAULT_BRAND, HUB88, "bet", uuid_of(number))
        player, round_id = _player(number * 7919 % players), f"r-{number}"
        intent = Intent(Verb.BET, identity, player, (leg,), round_id=round_id, session=session)
        yield _write(hub88.WRITER, keys, intent, number)


def _write(writer: Writer, keys: SandboxKeys, intent: Intent, number: int) -> OutRecord:
    now_ms = time.time_ns() // 1_000_000
    message = writer.write(
        (replace(intent, at_ms=now_ms),), Sending(now_ms, number), keys.of(writer.provider)
    )
    headers = connector_headers(message, now_ms, "bench", intent.brand, intent.region)
    return message.key.encode(), message.body, list(headers), None


def _player(number: int) -> str:
    return f"p-{number:06d}"
