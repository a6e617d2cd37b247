"""Raw records for measurements, from the sandbox's casino.

They are bets, wins and rollbacks of thousands of players.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from typing import Final

import orjson

from lab.sandbox.actions import HUB88, GameAction
from lab.sandbox.hub88_writer import hub88_body, hub88_fields, wrap_hub88_body
from lab.sandbox.ids import uuid_of
from lab.sandbox.keys import SandboxKeys
from lab.sandbox.records import RawEvent
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
        records = _sign_all(scenario, keys) if each_signed else _sign_alike(scenario, keys)
        # No timestamp: raw topics stamp what is appended themselves. aiokafka takes headers as a
        # list only.
        yield [(record.key, record.value, list(record.headers), None) for record in records]


def _sign_all(scenario: Scenario, keys: SandboxKeys) -> list[RawEvent]:
    play = [
        delivery
        for delivery in deliveries_of(scenario)
        if isinstance(delivery.request, GameAction) and delivery.request.session.provider == HUB88
    ]
    return write_all(play, keys)


def _sign_alike(scenario: Scenario, keys: SandboxKeys) -> list[RawEvent]:
    signature = keys.hub88_signature(b"")
    return [
        wrap_hub88_body(
            delivery, action, hub88_body(hub88_fields(action, delivery.nonce), None), signature
        )
        for delivery in deliveries_of(scenario)
        if isinstance(action := delivery.request, GameAction) and action.session.provider == HUB88
    ]


def opening_records(keys: SandboxKeys, players: int) -> list[OutRecord]:
    """Write a correction of the cashier for each player.

    With it every bet of `endless_bets` can be booked.
    """
    records: list[OutRecord] = []
    for number in range(players):
        player = _player(number)
        body = orjson.dumps(
            {
                "operation": "adjustment",
                "id": f"opening-{number}",
                "player_id": player,
                "amount": "1000000.00",
                "currency": "EUR",
                "actor": "bench",
                "reason": "money to bet with",
                "at": "2026-01-01T00:00:00.000Z",
            }
        )
        records.append(
            (player.encode(), body, [("x-house-signature", keys.house_signature(body))], None)
        )
    return records


def endless_bets(keys: SandboxKeys, players: int) -> Iterator[OutRecord]:
    """Yield signed Hub88 bets without end, the players in turns.

    Making one costs 0.3 ms, so make them ahead.
    """
    for number in count():
        player = _player(number * 7919 % players)
        tx_id = uuid_of(number)
        body = orjson.dumps(
            {
                "user": player,
                "transaction_uuid": tx_id,
                "round": f"r-{number}",
                "round_closed": False,
                "request_uuid": tx_id,
                "game_code": "bench",
                "currency": "EUR",
                "amount": 10_000,
            }
        )
        headers = [
            ("http-path", b"/transaction/bet"),
            ("x-hub88-signature", keys.hub88_signature(body)),
        ]
        yield player.encode(), body, headers, None


def _player(number: int) -> str:
    return f"p-{number:06d}"
