"""What the log says may stop a player: blocks and holds by source, and limits. Pure.

A source (KYC, an alert, an operator) takes back only what it has said itself. Two statements of one
source are ordered by their own time, not by the log: a KYC provider's old RED that comes after its
newer GREEN changes nothing. A clock that runs ahead is cut to the broker's, or it would shut every
later statement out.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ledger_sink.rules.amounts import BOOKED, Verdict, currency_of, minor_of
from ledger_sink.rules.book import Posting
from ledger_sink.rules.journal import BLOCKED, FREE, HELD
from schemas.errors import InvariantBroken
from schemas.events import Leg, Outcome

STALE_STATE: Final = (Outcome.POSTED.value, "STALE_STATE")
SOURCE_DEFAULT: Final = "operator"

LEVELS: Final = {"player.blocked": BLOCKED, "player.held": HELD, "player.released": FREE}
"""BLOCKED stops bets and withdrawals, HELD withdrawals."""


def player_state(posting: Posting, leg: Leg) -> Verdict:
    """Write down what the event says of its player, unless its source has said something newer."""
    event = posting.event
    said_at = (
        event.appended_at
        if event.provider_at is None
        else min(event.provider_at, event.appended_at)
    )
    old = posting.player_state()
    if event.operation in LEVELS:
        source = SOURCE_DEFAULT if event.cause is None else event.cause.type
        if source in old.standings and old.standings[source][1] > said_at:
            return STALE_STATE
        standings = {**old.standings, source: (LEVELS[event.operation], said_at)}
        posting.state = msgspec.structs.replace(old, standings=standings, event_id=event.event_id)
        return BOOKED
    if event.operation not in ("player.limited", "player.unlimited"):
        message = f"{posting.log_event}: no rule for the player state operation {event.operation!r}"
        raise InvariantBroken(message)
    currency = currency_of(leg)
    if currency in old.limits and old.limits[currency][1] > said_at:
        return STALE_STATE
    most = None if leg.amount is None else minor_of(leg)
    limits = {**old.limits, currency: (most, said_at)}
    posting.state = msgspec.structs.replace(old, limits=limits, event_id=event.event_id)
    return BOOKED
