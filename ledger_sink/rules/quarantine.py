"""Records of the log that cannot be booked, and the step of two people past one of them.

The step is two events of the house, in the partition of the record: `quarantine.proposed` by one
person, and behind it `quarantine.approved` by another. Both name the record by its place and its
checksum. A ledger that is stuck at the record reads its partition forward for them, and for nothing
else (docs/explanation/adr/0015-quarantine.md).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final

from ledger_sink.rules.amounts import NOTED, Verdict
from ledger_sink.rules.book import NO_PLAYER, Book, DecidedEvent, LogEvent
from ledger_sink.rules.journal import QUARANTINED, Answer, Closing, Entry, OpenItem, Quarantine
from ledger_sink.rules.open_posting import Posting
from ledger_sink.rules.two_people import ALREADY_CLOSED, comparable_actor
from schemas.causes import QUARANTINE
from schemas.events import (
    Attempt,
    Cause,
    Kind,
    Leg,
    Outcome,
    Position,
    SignatureVerdict,
    TimeSource,
    WalletTransaction,
)
from schemas.identity import HOUSE, quarantined_record, referenced_event_id

PROPOSED: Final = "quarantine.proposed"
APPROVED: Final = "quarantine.approved"

NOT_BOOKED: Final = (Outcome.UNRESOLVED.value, "QUARANTINED")
TOOK_EFFECT: Final = (Outcome.POSTED.value, "RECORD_QUARANTINED")
RECORD_NOT_WAITING: Final = (Outcome.REFUSED_REFERENCE.value, "RECORD_NOT_WAITING")

_TEXT_CHARACTERS_MAX: Final = 512
"""Of a text of an entry. Dialects allow far fewer, so a longer one is not theirs."""


class QuarantineSearch:
    """The search for the quarantine of one record in the events behind it, in their order."""

    def __init__(self, source: Position, checksum: int) -> None:
        """Search for a quarantine of the record at a place, with the CRC-32 of its key and value.

        A quarantine of any other record is passed over.
        """
        self.record = quarantined_record(source, checksum)
        self.proposals: list[WalletTransaction] = []
        """Proposals of a quarantine of the record, by whomever."""

    def observe(self, event: WalletTransaction) -> Quarantine | None:
        """Look at the next event; return the quarantine if it is an approval by a second person."""
        cause = event.cause
        if not is_quarantine(event) or cause is None or cause.id != self.record:
            return None
        if event.operation == PROPOSED:
            self.proposals.append(event)
            return None
        actor = comparable_actor(cause.actor)
        for proposal in self.proposals:
            proposed = proposal.cause
            if (
                event.operation == APPROVED
                and event.reference is not None
                and proposed is not None
                and actor not in ("", comparable_actor(proposed.actor))
            ):
                return Quarantine(
                    self.record,
                    event.brand,
                    referenced_event_id(event.brand, HOUSE, event.reference),
                    event.event_id,
                    proposed.actor or "",
                    cause.actor or "",
                    proposed.reason or "",
                )
        return None


def is_quarantine(event: WalletTransaction) -> bool:
    """Return whether an event proposes or approves a quarantine."""
    return (
        event.provider == HOUSE
        and len(event.legs) == 1
        and event.legs[0].kind == Kind.QUARANTINE
        and event.cause is not None
        and event.cause.type == QUARANTINE
    )


def quarantined_event(
    source: Position, timestamp: int, event: WalletTransaction | None, quarantine: Quarantine
) -> LogEvent:
    """Return what is booked in the place of a record that is quarantined.

    It is the event itself, so that its attempt gets an answer and its repeats the same one. A
    record that holds no event (None), or one that no table can hold, gets an event that stands for
    it, under the record's name.
    """
    if event is not None:
        log_event = LogEvent(event, source, timestamp, quarantine=quarantine)
        if all(_is_storable(one.event) for one in log_event.members or (log_event,)):
            return log_event
    stand_in = _stand_in(source, timestamp, event, quarantine)
    return LogEvent(stand_in, source, timestamp, quarantine=quarantine)


def replace_quarantined(
    events: Sequence[LogEvent], source: Position, checksum: int, timestamp: int
) -> list[LogEvent] | None:
    """Return a partition's events as they are booked where a record of it is quarantined.

    `timestamp` is that of the record, which need not be among the events. None if they hold no
    approval of its quarantine.
    """
    search = QuarantineSearch(source, checksum)
    behind = (one.event for one in events if one.source.offset > source.offset)
    quarantine = next(filter(None, map(search.observe, behind)), None)
    if quarantine is None:
        return None
    own = next((one.event for one in events if one.source == source), None)
    booked = quarantined_event(source, timestamp, own, quarantine)
    others = [one for one in events if one.source != source]
    return sorted([*others, booked], key=lambda one: one.source.offset)


def _stand_in(
    source: Position, timestamp: int, event: WalletTransaction | None, quarantine: Quarantine
) -> WalletTransaction:
    attempt = Attempt(source.topic, source.partition, source.offset, 0)
    if event is not None and _is_text(event.attempt.topic):
        attempt = event.attempt
    at_ms = max(0, timestamp)
    return WalletTransaction(
        event_id=quarantine.event_id,
        brand=quarantine.brand,
        provider=HOUSE,
        provider_version="1",
        region="",
        operation="quarantined",
        provider_tx_id=quarantine.record,
        attempt=attempt,
        player_id=None,
        legs=[Leg(Kind.QUARANTINE.value)],
        reference=None,
        round_id=None,
        round_closed=False,
        game_id=None,
        occurred_at=at_ms,
        time_source=TimeSource.BROKER.value,
        provider_at=None,
        received_at=None,
        appended_at=at_ms,
        fingerprint=quarantine.record.rpartition("#")[2],
        fingerprint_version=1,
        signature=SignatureVerdict.NOT_CHECKED.value,
        decision_required=False,
        cause=Cause(QUARANTINE, quarantine.record, quarantine.approved_by, quarantine.reason),
    )


def _is_storable(event: WalletTransaction) -> bool:
    """Return whether the tables can hold an event's identity, whatever its money is."""
    texts = (
        event.brand,
        event.provider,
        event.provider_version,
        event.region,
        event.operation,
        event.provider_tx_id,
        event.player_id,
        event.round_id,
        event.game_id,
        event.fingerprint,
        event.attempt.topic,
        "+".join(leg.kind for leg in event.legs),
    )
    ids = (event.event_id, *(() if event.group is None else (event.group.id,)))
    return all(text is None or _is_text(text) for text in texts) and all(map(_is_uuid, ids))


def _is_text(text: str) -> bool:
    return len(text) <= _TEXT_CHARACTERS_MAX and "\0" not in text


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def post_quarantined(book: Book, log_event: LogEvent, quarantine: Quarantine) -> DecidedEvent:
    """Answer a quarantined event UNRESOLVED, with all events of its group; nothing moves.

    What was decided before stays as it is: then only this attempt gets the answer.
    """
    members = log_event.members or (log_event,)
    decided = [_answer_quarantined(book, member) for member in members]
    key = (quarantine.event_id, NO_PLAYER)
    closing = Closing(quarantine.event_id, NO_PLAYER, QUARANTINED, quarantine.by_event_id)
    book.closings[key] = closing
    book.new_closings[key] = (log_event, closing)
    return decided[0]


def _answer_quarantined(book: Book, member: LogEvent) -> DecidedEvent:
    event = member.event
    # Without a balance: the wallet may be what cannot be read.
    answer = Answer(*NOT_BOOKED, decided_at=member.logged_at)
    if event.event_id in book.entries:
        return book.add_repeat(member, answer)
    group = None if event.group is None else event.group.id
    entry = Entry(
        event.event_id, 0, event.player_id, event.fingerprint, event.attempt, answer, 0, group
    )
    book.entries[event.event_id] = [entry]
    book.transfers_of[event.event_id, 0] = []
    decided = DecidedEvent(member, answer, 0)
    book.decisions.append(decided)
    # Not what it is about: its amounts may be what cannot be booked.
    about = (event.event_id, 0, event.provider, event.player_id, None, None, False)
    book.open_item(OpenItem(*about, member.logged_at or event.appended_at))
    return decided


def note_quarantine(posting: Posting, leg: Leg) -> Verdict:
    """Answer the proposal or the approval of a quarantine, which the ledger has passed by now.

    It changes nothing here: it took effect where its record lies, or the record was booked.
    """
    del leg
    target_id = posting.log_event.reference_id
    closing = posting.book.closings.get((target_id or "", NO_PLAYER))
    if closing is None or closing.action != QUARANTINED:
        return RECORD_NOT_WAITING
    if posting.event.operation != APPROVED:
        return NOTED
    return TOOK_EFFECT if closing.by_event_id == posting.event.event_id else ALREADY_CLOSED
