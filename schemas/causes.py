"""Why an event came late, as its cause says it (`Cause.type`): so the ledger knows a decision that
nobody awaits.
"""

from __future__ import annotations

from typing import Final

REDRIVE: Final = "redrive"
"""An operator had a dead letter's bytes appended again; id = the dead letter's source, actor and
reason are his.
"""

PARKED: Final = "parked"
"""It waited behind a dead letter of its player; id = that dead letter's source."""

DELAYED: Final = frozenset({REDRIVE, PARKED})
"""Whoever sent such an event has long had an error or no answer: what he asked to be decided must
not be booked now.

No clock is read for this. What was rejected or parked was answered with no outcome, so its
connector has given up, however short the time was; a retry is an attempt of its own and does not
carry the cause.
"""
