"""The headers by which a raw record says that it is a redrive, or that a dead letter was dropped.

They are written and read here. Like `cancel`, they belong to the operator of the log: a connector
must not pass on a provider's own headers of these names. A sender who forges them gains nothing: a
redriven decision is refused, and a fact is booked under the identity that it has anyway.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from runtime.kafka.records import RawRecord, readable_headers
from schemas.causes import PARKED, REDRIVE
from schemas.errors import RejectCode, Rejected
from schemas.events import Cause, Position

HeaderList: TypeAlias = Sequence[tuple[str, bytes | None]]

REDRIVE_OF: Final = "redrive-of"
"""The dead letter's source, `<topic>-<partition>@<offset>`: the record holds its bytes once
more."""
REDRIVE_COUNT: Final = "redrive-count"
"""1 for the first redrive of a record; each further redrive adds 1."""
DROP_OF: Final = "drop-of"
"""The source of a dead letter that was dropped; the record is a mark in the log and holds nothing
else."""
ACTOR: Final = "redrive-by"
REASON: Final = "redrive-why"
PARKED_BEHIND: Final = "parked-behind"
"""Added to a parked record when it is released, with the source that it waited for. It is on topics
only after a rebind: what is appended once more then cannot name its place as a redrive does.
"""

OPERATOR_HEADERS: Final = frozenset(
    {REDRIVE_OF, REDRIVE_COUNT, DROP_OF, ACTOR, REASON, PARKED_BEHIND}
)
ACTOR_MAX: Final = 64
REASON_MAX: Final = 200

DROP_MARK: Final = b"dropped"
"""Value of the record that marks a drop: a raw record must have a value."""

_POSITION_MAX: Final = 280
_POSITION: Final = re.compile(r"(.{1,249})-(\d{1,9})@(\d{1,18})", re.ASCII)


def format_position(position: Position) -> str:
    """Format a record's position as people and headers write it: `<topic>-<partition>@<offset>`."""
    return f"{position.topic}-{position.partition}@{position.offset}"


def parse_position(text: str) -> Position | None:
    """Return the position in `<topic>-<partition>@<offset>`; None if the text has another form."""
    match = _POSITION.fullmatch(text)
    return None if match is None else Position(match[1], int(match[2]), int(match[3]))


def redrive_headers(
    original: HeaderList, source: Position, actor: str, reason: str
) -> list[tuple[str, bytes | None]]:
    """Return the original headers, less those of an earlier redrive, and those of this one."""
    count = 1 + _count_of(dict(original).get(REDRIVE_COUNT))
    added = {
        REDRIVE_OF: format_position(source),
        REDRIVE_COUNT: str(count),
        ACTOR: actor,
        REASON: reason,
    }
    kept = [(name, value) for name, value in original if name not in OPERATOR_HEADERS]
    return [*kept, *((name, text.encode()) for name, text in added.items())]


def append_again_headers(
    original: HeaderList, source: Position, actor: str, reason: str
) -> list[tuple[str, bytes | None]]:
    """Return the headers of a record of before a rebind that is appended once more.

    It comes late, and names the place of before only as what it waited for: a redrive's would be
    that of another record.
    """
    added = {PARKED_BEHIND: format_position(source), ACTOR: actor, REASON: reason}
    kept = [(name, value) for name, value in original if name not in OPERATOR_HEADERS]
    return [*kept, *((name, text.encode()) for name, text in added.items())]


def drop_headers(source: Position, actor: str, reason: str) -> list[tuple[str, bytes]]:
    """Return the headers of a drop's mark."""
    return [
        (DROP_OF, format_position(source).encode()),
        (ACTOR, actor.encode()),
        (REASON, reason.encode()),
    ]


def is_mark(record: RawRecord) -> bool:
    """Return whether the record is the mark of a drop, which holds nothing of the provider's."""
    return any(name == DROP_OF for name, _ in readable_headers(record))


def referenced_position(raw: bytes | None, record: RawRecord) -> Position:
    """Return the position that one of our headers names.

    It must be in the record's own raw partition and before the record. Raises Rejected(BAD_FIELD)
    for anything else.
    """
    position = parse_position((raw or b"").decode("utf-8", "replace"))
    if position is None or (position.topic, position.partition) != (record.topic, record.partition):
        raise Rejected(
            RejectCode.BAD_FIELD,
            "a redrive or drop must name <this raw topic>-<this partition>@<offset>",
        )
    if position.offset >= record.offset:
        raise Rejected(
            RejectCode.BAD_FIELD,
            f"a redrive or drop names offset {position.offset}, which is not before it",
        )
    return position


def cause_from_headers(headers: Mapping[str, bytes | None], record: RawRecord) -> Cause:
    """Return the cause of a late record's events: its `redrive-of` or `parked-behind`.

    Raises Rejected(BAD_FIELD) for a header of another form.
    """
    if REDRIVE_OF in headers:
        position = referenced_position(headers[REDRIVE_OF], record)
        actor = _text(headers, ACTOR, ACTOR_MAX)
        return Cause(REDRIVE, format_position(position), actor, _text(headers, REASON, REASON_MAX))
    return Cause(PARKED, _text(headers, PARKED_BEHIND, _POSITION_MAX) or "")


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
