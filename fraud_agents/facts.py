"""The vocabulary of player events that the detectors read: types and attributes.

A provider's adapter or the casino's own systems write these types to `player.events.v1`; other
types are not looked at. Attributes are texts. Nothing here is personal data in clear: instruments,
addresses and devices are hashes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from schemas.events import PlayerEvent


class PlayerFact(StrEnum):
    """Types of player events that detectors read."""

    REGISTERED = "REGISTERED"
    LOGIN = "LOGIN"
    LOGIN_FAILED = "LOGIN_FAILED"
    CREDENTIAL_CHANGED = "CREDENTIAL_CHANGED"
    INSTRUMENT_ADDED = "INSTRUMENT_ADDED"
    DEPOSIT_FAILED = "DEPOSIT_FAILED"
    LOCATED = "LOCATED"
    LIMIT_RAISED = "LIMIT_RAISED"
    WITHDRAWAL_CANCELLED = "WITHDRAWAL_CANCELLED"


ATTRIBUTES: Final = {
    PlayerFact.REGISTERED: ("affiliate", "born_on", "address", "government_id", "time_zone"),
    PlayerFact.LOGIN: ("device", "ip", "network", "north", "east"),
    PlayerFact.LOGIN_FAILED: ("device", "ip"),
    PlayerFact.CREDENTIAL_CHANGED: ("what",),
    PlayerFact.INSTRUMENT_ADDED: ("instrument",),
    PlayerFact.DEPOSIT_FAILED: ("instrument",),
    PlayerFact.LOCATED: ("jurisdiction",),
    PlayerFact.LIMIT_RAISED: ("what",),
    PlayerFact.WITHDRAWAL_CANCELLED: ("withdrawal",),
}
"""Attributes that detectors read of each type. `north` and `east` are ten-thousandths of a degree,
`born_on` is YYYY-MM-DD, `network` is `vpn`, `hosting`, `mobile` or `home`, `time_zone` an IANA
name."""


def place_of(event: PlayerEvent) -> tuple[int, int] | None:
    """Return where a login came from, in ten-thousandths of a degree; None where it is unknown."""
    try:
        return int(event.attributes["north"]), int(event.attributes["east"])
    except (KeyError, ValueError):
        return None
