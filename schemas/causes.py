"""Causes that rules look at (`Cause.type`): those of delayed events, and of opened deposits.

The ledger refuses a decision that carries a delayed one, because its provider no longer awaits the
answer.
"""

from __future__ import annotations

from typing import Final

REDRIVE: Final = "redrive"
"""An operator had a dead letter's bytes appended again. The id is the dead letter's source; actor
and reason are the operator's."""

PARKED: Final = "parked"
"""The event waited behind a dead letter of its player; the id is that dead letter's source."""

PSP: Final = "psp"
"""A deposit was opened; the id is the payment provider that will confirm it."""

QUARANTINE: Final = "quarantine"
"""Two people let the ledger go on behind a record that it cannot book. The id is the record's name,
place and checksum; actor and reason are those of the person who proposes or approves."""

DIVIDED: Final = "divided"
"""The event takes a whole back because its payments are booked; its reason is the whole's kind."""

PART: Final = "part"
"""A payment of an entry that another message may state as a whole; the id is the whole's
transaction id, the reason the whole's operation."""

OPENING: Final = "opening"
"""The event states a balance at the beginning of a new log. The id is the digest of the checkpoint
whose seals prove it."""

DELAYED: Final = frozenset({REDRIVE, PARKED})
"""Causes of events that come too late for a decision: their providers have had an error or no
answer.

No clock is read for this. A rejected or parked event had no outcome, so its connector has given up,
however short the time was. A retry is an attempt of its own and does not carry the cause.
"""
