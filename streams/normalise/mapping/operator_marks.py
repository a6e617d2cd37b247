"""Operator marks: headers by which a raw record is not an ordinary message of its provider.

- `cancel`: a connector stopped waiting for the answer to an attempt and says so in the log. It
  appends the attempt's key, body and headers once more under the further header `cancel` =
  `<attempt's raw topic>-<partition>@<offset>`. The log's order decides between the two, and the
  ledger nets them to zero. Only a decision can be cancelled: a provider that got no answer to a win
  sends the win again until it gets one, and must not find it taken back; such a cancel is noted and
  moves nothing.
- `redrive-of` and `parked-behind`: a redriven dead letter, and a record that waited behind one,
  come late.
- `drop-of`: the mark of a dead letter that was given up.

A record with a mark leaves the main road of `normaliser` before it is read.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec.structs import replace

from runtime.dead_letters.headers import (
    ACTOR,
    DROP_MARK,
    DROP_OF,
    PARKED_BEHIND,
    REASON,
    REDRIVE_OF,
    cause_from_headers,
    format_position,
    referenced_position,
)
from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import Cause, Kind, Leg, Reference, SignatureVerdict
from streams.providers.dialect import Draft, Headers, Item
from streams.providers.groups import reject_broken_groups
from streams.providers.routing import ProviderRouter, RoutedRecord

CANCEL_HEADER: Final = "cancel"
CANCEL_OPERATION: Final = "cancel"
DROP_OPERATION: Final = "dead_letter.dropped"

OPERATOR_MARKS: Final = frozenset({CANCEL_HEADER, DROP_OF, REDRIVE_OF, PARKED_BEHIND})
"""Headers of which any one makes a record leave the main road."""

_ATTEMPT: Final = re.compile(rb"(.{1,249})-(\d{1,9})@(\d{1,18})")
_TEXT_CHARACTERS_MAX: Final = 200


def read_marked(router: ProviderRouter, record: RawRecord, headers: Headers) -> RoutedRecord:
    """Read a record that carries operator marks, and apply them to its items.

    Raises Rejected, as the dialect does for its body, and BAD_FIELD for a mark of another form.
    """
    if DROP_OF in headers:
        expected = router.expected_reader(record, headers)
        routed = RoutedRecord(expected, read_drop_mark(record, headers))
    else:
        routed = router.read(record, headers)
    items = reject_broken_groups(routed.items)
    cancel = headers.get(CANCEL_HEADER)
    if cancel is not None:
        items = build_cancels(items, parse_cancel_header(cancel, record))
    if REDRIVE_OF in headers or PARKED_BEHIND in headers:
        items = with_cause(items, cause_from_headers(headers, record))
    return routed._replace(items=items)


def parse_cancel_header(header: bytes, record: RawRecord) -> str:
    """Return the attempt that a `cancel` header names, as `topic-partition@offset`.

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
    """Return for each draft of the attempt's body the event that takes it back; other items stay.

    A draft that its provider waits for is cancelled, and so is each that was decided together with
    one. Any other becomes an informational event under the attempt's identity. Events of players
    and markets move no money and stay as they are.
    """
    decided = {
        item.group for item in items if isinstance(item, Draft) and item.decision_required
    } - {None}
    return [
        _cancel(
            item,
            f"{attempt}#{index}",
            is_decision=item.decision_required or item.group in decided,
        )
        if isinstance(item, Draft)
        else item
        for index, item in enumerate(items)
    ]


def _cancel(draft: Draft, attempt: str, *, is_decision: bool) -> Draft:
    kind = Kind.CANCEL if is_decision else Kind.INFORMATIONAL
    return Draft(
        operation=CANCEL_OPERATION,
        provider_tx_id=attempt,
        legs=[Leg(kind.value)],
        player_id=draft.player_id,
        reference=Reference(draft.operation, draft.provider_tx_id),
        round_id=draft.round_id,
        round_closed=False,
        game_id=draft.game_id,
        provider_at=draft.provider_at,
        decision_required=False,
        signature=draft.signature,
        cause=Cause("connector", attempt, None, "gave up"),
    )


def with_cause(items: list[Item], cause: Cause) -> list[Item]:
    """Return the same items, each event of the log with the reason why it comes now.

    By it the ledger refuses a decision, and the log keeps who redrove what and why. A cancel keeps
    its own cause.
    """
    return [
        replace(item, cause=cause) if isinstance(item, Draft) and item.cause is None else item
        for item in items
    ]


def read_drop_mark(record: RawRecord, headers: Headers) -> list[Item]:
    """Return the event of a drop's mark: it moves nothing and keeps who gave up what and why.

    Raises Rejected(BAD_FIELD) for a mark that names no earlier record of its partition, and for a
    record that is not a mark.
    """
    if record.value != DROP_MARK:
        # These bytes were sent by someone: they must not be lost as a note that moves nothing.
        raise Rejected(
            RejectCode.BAD_FIELD, f"a record with the header {DROP_OF} is not a mark of a drop"
        )
    dropped = format_position(referenced_position(headers[DROP_OF], record))
    actor, reason = (_printable(headers.get(name)) for name in (ACTOR, REASON))
    return [
        Draft(
            operation=DROP_OPERATION,
            provider_tx_id=dropped,
            legs=[Leg(Kind.INFORMATIONAL.value)],
            player_id=None,
            reference=None,
            round_id=None,
            round_closed=False,
            game_id=None,
            provider_at=None,
            decision_required=False,
            signature=SignatureVerdict.NOT_CHECKED.value,
            cause=Cause("drop", dropped, actor, reason),
        )
    ]


def _printable(raw: bytes | None) -> str | None:
    if not raw:
        return None
    text = raw.decode("utf-8", "replace")[:_TEXT_CHARACTERS_MAX]
    return text if text.isprintable() else ascii(text)
