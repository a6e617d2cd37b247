"""How a raw record says that it is a redrive, or that a dead letter was given up: headers, written
and read here.

Like `cancel`, these headers belong to the operator of the log: a connector must not pass on a
provider's own headers of these names. What they can do to a stranger's advantage is nothing: a
redriven decision is refused, a fact is booked under the identity that it has anyway.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from runtime.kafka.records import RawRecord
from schemas.causes import PARKED, REDRIVE
from schemas.errors import RejectCode, Rejected
from schemas.events import Cause, Position

HeaderList: TypeAlias = Sequence[tuple[str, bytes | None]]

REDRIVE_OF: Final = "redrive-of"
"""The dead letter's source, `<topic>-<partition>@<offset>`: what is here are its bytes once more.
"""
REDRIVE_COUNT: Final = "redrive-count"
"""1 for the first redrive of a record; a redrive of what was redriven counts on."""
DROP_OF: Final = "drop-of"
"""The source of a dead letter that was given up; the record is a mark in the log and holds nothing
else.
"""
ACTOR: Final = "redrive-by"
REASON: Final = "redrive-why"
PARKED_BEHIND: Final = "parked-behind"
"""Not on any topic: what a parked record carries when it goes on, with the source that it had
waited for.
"""

OPERATOR_HEADERS: Final = frozenset(
    {REDRIVE_OF, REDRIVE_COUNT, DROP_OF, ACTOR, REASON, PARKED_BEHIND}
)
ACTOR_MAX: Final = 64
REASON_MAX: Final = 200

DROP_MARK: Final = b"dropped"
"""The value of a drop's mark: a raw record must have one."""

_PLACE_MAX: Final = 280
_PLACE: Final = re.compile(r"(.{1,249})-(\d{1,9})@(\d{1,18})", re.ASCII)


def format_position(place: Position) -> str:
    """A record's place as people and headers write it."""
    return f"{place.topic}-{place.partition}@{place.offset}"


def parse_position(text: str) -> Position | None:
    """The place in `<topic>-<partition>@<offset>`; None if the text is no such thing."""
    match = _PLACE.fullmatch(text)
    return None if match is None else Position(match[1], int(match[2]), int(match[3]))


def redrive_headers(
    original: HeaderList, source: Position, actor: str, reason: str
) -> list[tuple[str, bytes | None]]:
    """The original headers, without traces of an earlier redrive, and who redrives what and why."""
    count = 1 + _count_of(dict(original).get(REDRIVE_COUNT))
    said = {
        REDRIVE_OF: format_position(source),
        REDRIVE_COUNT: str(count),
        ACTOR: actor,
        REASON: reason,
    }
    kept = [(name, value) for name, value in original if name not in OPERATOR_HEADERS]
    return [*kept, *((name, text.encode()) for name, text in said.items())]


def drop_headers(source: Position, actor: str, reason: str) -> list[tuple[str, bytes]]:
    """The headers of a drop's mark."""
    return [
        (DROP_OF, format_position(source).encode()),
        (ACTOR, actor.encode()),
        (REASON, reason.encode()),
    ]


def referenced_position(raw: bytes | None, record: RawRecord) -> Position:
    """The place that one of our headers names: of the record's own raw partition, and before it.

    Raises Rejected(BAD_FIELD) for anything else.
    """
    place = parse_position((raw or b"").decode("utf-8", "replace"))
    if place is None or (place.topic, place.partition) != (record.topic, record.partition):
        raise Rejected(
            RejectCode.BAD_FIELD,
            "a redrive or drop must name <this raw topic>-<this partition>@<offset>",
        )
    if place.offset >= record.offset:
        raise Rejected(
            RejectCode.BAD_FIELD,
            f"a redrive or drop names offset {place.offset}, which is not before it",
        )
    return place


def cause_from_headers(headers: Mapping[str, bytes | None], record: RawRecord) -> Cause:
    """Why a record with `redrive-of` or `parked-behind` comes late, as the cause of its events.

    Raises Rejected(BAD_FIELD) for a header that says nothing of the kind.
    """
    if REDRIVE_OF in headers:
        place = referenced_position(headers[REDRIVE_OF], record)
        return Cause(
            REDRIVE,
            format_position(place),
            _text(headers, ACTOR, ACTOR_MAX),
            _text(headers, REASON, REASON_MAX),
        )
    return Cause(PARKED, _text(headers, PARKED_BEHIND, _PLACE_MAX) or "")


def _text(headers: Mapping[str, bytes | None], name: str, characters_max: int) -> str | None:
    raw = headers.get(name)
    if not raw:
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Rejected(RejectCode.BAD_FIELD, f"the header {name} must be UTF-8") from None
    if len(text) > characters_max or not text.isprintable():
        raise Rejected(RejectCode.BAD_FIELD, f"the header {name} must be short and printable")
    return text


def _count_of(raw: bytes | None) -> int:
    return int(raw) if raw and raw.isdigit() and len(raw) <= 6 else 0
