"""Heartbeats on the topics that detectors read. Pure.

A heartbeat says that a partition has nothing more before a time. In the log it is the cashier's
event. The fraud worker writes one to a partition of player events that has nothing to read while
the log's partition of the same number goes on: detectors that see both wait for it.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from schemas.events import GameResult, Kind, PlayerEvent, WalletTransaction
from schemas.identity import HOUSE, event_id

HEARTBEAT: Final = Kind.HEARTBEAT.value
"""The kind of a heartbeat's leg, and the type of one among player events."""

Watched: TypeAlias = WalletTransaction | PlayerEvent | GameResult


def is_heartbeat(event: Watched) -> bool:
    """Return whether a record of a watched topic is a heartbeat."""
    if isinstance(event, WalletTransaction):
        return event.legs[0].kind == HEARTBEAT
    return isinstance(event, PlayerEvent) and event.type == HEARTBEAT


def player_heartbeat(beat: WalletTransaction, name: str) -> PlayerEvent:
    """Return a heartbeat of the player events at the time of a log's record; it names no player.

    `name` is the place of that record.
    """
    return PlayerEvent(
        event_id=event_id(beat.brand, HOUSE, HEARTBEAT, name),
        brand=beat.brand,
        provider=HOUSE,
        provider_version=beat.provider_version,
        region=beat.region,
        operation=HEARTBEAT,
        provider_event_id=name,
        attempt=beat.attempt,
        player_id="",
        type=HEARTBEAT,
        attributes={},
        occurred_at=beat.occurred_at,
        time_source=beat.time_source,
        provider_at=beat.provider_at,
        received_at=beat.received_at,
        appended_at=beat.appended_at,
        signature=beat.signature,
    )
