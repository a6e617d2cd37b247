"""CANCEL: a connector gave up waiting for the answer to an attempt and said so in the log.

It appends the attempt's key, body and headers once more under a further header `cancel` =
`<attempt's raw topic>-<partition>@<offset>`. The log's order decides between the two, the ledger
nets them to zero. Only a decision can be cancelled: a provider that heard no answer to a win sends
the win again until it does, and must not find it taken back; such a cancel is noted and moves
nothing.
"""

from __future__ import annotations

import re
from typing import Final

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import Cause, Kind, Leg, Reference
from streams.providers.dialect import Draft, Item

CANCEL_HEADER: Final = "cancel"
CANCEL_OPERATION: Final = "cancel"

_ATTEMPT: Final = re.compile(rb"(.{1,249})-(\d{1,9})@(\d{1,18})")


def parse_cancel_header(header: bytes, record: RawRecord) -> str:
    """The attempt that a `cancel` header names, as `topic-partition@offset`.

    Raises Rejected(BAD_FIELD) for another form, another topic, or an attempt that does not come
    before its cancel.
    """
    match = _ATTEMPT.fullmatch(header)
    if match is None or match[1] != record.topic.encode():
        raise Rejected(
            RejectCode.BAD_FIELD, "the header cancel must be <this raw topic>-<partition>@<offset>"
        )
    partition, offset = int(match[2]), int(match[3])
    if partition == record.partition and offset >= record.offset:
        raise Rejected(
            RejectCode.BAD_FIELD,
            f"the header cancel names offset {offset}, which is not before its own",
        )
    return f"{record.topic}-{partition}@{offset}"


def build_cancels(items: list[Item], attempt: str) -> list[Item]:
    """For each draft of the attempt's body the event that takes it back; what cannot be read stays
    as it is.

    What moves no money has nothing to take back: it is said once more, under the id that its
    readers know.
    """
    return [
        _cancel(item, f"{attempt}#{index}") if isinstance(item, Draft) else item
        for index, item in enumerate(items)
    ]


def _cancel(draft: Draft, attempt_text: str) -> Draft:
    return Draft(
        CANCEL_OPERATION,
        attempt_text,
        [Leg((Kind.CANCEL if draft.decision_required else Kind.INFORMATIONAL).value)],
        draft.player_id,
        Reference(draft.operation, draft.provider_tx_id),
        draft.round_id,
        False,
        draft.game_id,
        draft.provider_at,
        False,
        draft.signature,
        Cause("connector", attempt_text, None, "gave up"),
    )
