"""Records that come late: redriven dead letters, what had waited behind one, and the mark of one
that was given up.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from runtime.dead_letters.headers import (
    ACTOR,
    DROP_MARK,
    DROP_OF,
    REASON,
    format_position,
    referenced_position,
)
from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import Cause, Kind, Leg, SignatureVerdict
from streams.providers.dialect import Draft, Headers, Item

DROP_OPERATION: Final = "dead_letter.dropped"


def with_cause(items: list[Item], cause: Cause) -> list[Item]:
    """The same items, each event of the log with the reason why it comes now.

    By it the ledger refuses a decision, and tells for ever who redrove what and why. A cancel keeps
    its own cause.
    """
    return [
        replace(item, cause=cause) if isinstance(item, Draft) and item.cause is None else item
        for item in items
    ]


def read_drop_mark(record: RawRecord, headers: Headers) -> list[Item]:
    """What a drop's mark says: an event that moves nothing and tells who gave up what and why.

    Raises Rejected(BAD_FIELD) for a mark that names no earlier record of its partition, and for
    what is no mark at all.
    """
    if record.value != DROP_MARK:
        # Whatever bytes these are, they were sent: they must not end as a note that moves nothing.
        raise Rejected(
            RejectCode.BAD_FIELD, f"a record with the header {DROP_OF} is no mark of a drop"
        )
    place = format_position(referenced_position(headers[DROP_OF], record))
    actor, reason = (_shown(headers.get(name)) for name in (ACTOR, REASON))
    return [
        Draft(
            DROP_OPERATION,
            place,
            [Leg(Kind.INFORMATIONAL.value)],
            None,
            None,
            None,
            False,
            None,
            None,
            False,
            SignatureVerdict.NOT_CHECKED.value,
            Cause("drop", place, actor, reason),
        )
    ]


def _shown(raw: bytes | None) -> str | None:
    if not raw:
        return None
    text = raw.decode("utf-8", "replace")[:200]
    return text if text.isprintable() else ascii(text)
