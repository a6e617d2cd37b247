"""Raw records for measurements, from the sandbox's casino: bets, wins and rollbacks of thousands of players."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from typing import Final

from sandbox.actions import HUB88, GameAction
from sandbox.hub88_writer import hub88_body, hub88_fields, hub88_sealed
from sandbox.keys import SandboxKeys
from sandbox.records import RawEvent
from sandbox.scenario import Scenario, deliveries_of
from sandbox.writing import write_all
from streams.kafka.producer import OutRecord

_STRETCH_EVENTS: Final = 20_000
"""Of all providers; about 9,000 of them are Hub88's."""

_PAST_MS: Final = 10 * 60 * 1000
"""A stretch is some minutes of play, which must be over by now: a connector's clock ahead of ours is not believed."""


def hub88_records(keys: SandboxKeys, *, each_signed: bool) -> Iterator[list[OutRecord]]:
    """Stretches without end of valid records, no transaction twice.

    A signature costs 0.25 ms to make. Where nobody checks it, one of the right length serves a whole stretch.
    """
    start_ms = time.time_ns() // 1_000_000 - _PAST_MS
    for seed in count(1):
        scenario = Scenario(
            seed=seed, start_ms=start_ms, events=_STRETCH_EVENTS, poison=0, speeders=0, retry_share=0, reorder_share=0
        )
        records = _signed(scenario, keys) if each_signed else _unsigned(scenario, keys)
        # No timestamp: raw topics stamp what is appended themselves. aiokafka takes headers as a list only.
        yield [(record.key, record.value, list(record.headers), None) for record in records]


def _signed(scenario: Scenario, keys: SandboxKeys) -> list[RawEvent]:
    play = [
        delivery
        for delivery in deliveries_of(scenario)
        if isinstance(delivery.request, GameAction) and delivery.request.session.provider == HUB88
    ]
    return write_all(play, keys)


def _unsigned(scenario: Scenario, keys: SandboxKeys) -> list[RawEvent]:
    signature = keys.hub88_signature(b"")
    return [
        hub88_sealed(delivery, action, hub88_body(hub88_fields(action, delivery.nonce), None), signature)
        for delivery in deliveries_of(scenario)
        if isinstance(action := delivery.request, GameAction) and action.session.provider == HUB88
    ]
