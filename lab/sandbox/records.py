"""What the sandbox hands out: one raw record as a connector would have put it on Kafka, and where
it comes from.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from schemas.errors import RejectCode

PHASE_DEPOSITS: Final = 0
PHASE_PLAY: Final = 1


class Origin(StrEnum):
    """Why a record is in the stream."""

    FIRST = "FIRST"  # its business content is sent for the first time (unless a batch carries some of it again)
    RETRY = "RETRY"  # the provider sent the same content again: other request id, time, spelling and signature
    DUPLICATE = "DUPLICATE"  # the same bytes again, headers included: a connector that was not sure of its append
    POISON = "POISON"  # unusable; to be rejected with `expected_reject`


class RawEvent(msgspec.Struct, frozen=True):
    """One record of `provider.<provider>.raw.v1`.

    `event_time_ms` is the connector's simulated clock, the same as its `received-at` header. The
    records of a phase all stand before those of the next. `origin` and `expected_reject` are for
    tests and are not part of the record.
    """

    provider: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    event_time_ms: int
    phase: int
    origin: Origin = Origin.FIRST
    expected_reject: RejectCode | None = None
