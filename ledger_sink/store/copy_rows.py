"""The ledger's rows as the text that COPY reads and prints, byte for byte.

PostgreSQL prints each value in one way only, so that a stored row can be printed again with COPY TO
and compared with what was sent. Text is escaped as PostgreSQL's manual says in "COPY, Text Format".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import Final

from ledger_sink.rules.book import DecidedEvent, LogEvent
from ledger_sink.rules.journal import Transfer
from schemas.topics import DAY_MS

NULL: Final = "\\N"

_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
_DAYS_MAX: Final = date.max.toordinal() - _EPOCH_ORDINAL
_ESCAPES: Final = str.maketrans(
    {
        "\\": "\\\\",
        "\b": "\\b",
        "\t": "\\t",
        "\n": "\\n",
        "\v": "\\v",
        "\f": "\\f",
        "\r": "\\r",
    }
)


@dataclass(slots=True)
class CopyRows:
    """The rows that a book adds, as COPY reads them, some hundreds a chunk."""

    entries: list[bytes] = field(default_factory=list)
    transfers: list[bytes] = field(default_factory=list)
    repeats: list[bytes] = field(default_factory=list)
    events: int = 0
    is_plain: bool = True
    """Whether none of their texts is escaped, so that they may be cut at their tabs."""

    def add(
        self,
        decisions: Sequence[DecidedEvent],
        transfers: Sequence[tuple[LogEvent, int, Transfer]],
    ) -> None:
        """Add the rows of some of what a book has decided and moved."""
        entries = [entry_row(decided) for decided in decisions if decided.decision is not None]
        self.events += len(decisions)
        self._append(self.entries, entries)
        self._append(self.transfers, [transfer_row(*transfer) for transfer in transfers])
        if len(entries) < len(decisions):
            repeats = [repeat_row(decided) for decided in decisions if decided.decision is None]
            self._append(self.repeats, repeats)

    def _append(self, chunks: list[bytes], rows: Sequence[str]) -> None:
        chunk = "".join(rows)
        self.is_plain = self.is_plain and chunk.count("\\") == chunk.count(NULL)
        chunks.append(chunk.encode())


def escape(text: str | None) -> str:
    """Return a text as a field of a row."""
    return NULL if text is None else text.translate(_ESCAPES)


def needs_no_escape(text: str) -> bool:
    """Return whether a text is certain to need no escapes.

    Quick, and False for some texts that would need none.
    """
    return text.isprintable() and "\\" not in text


def entry_row(decided: DecidedEvent) -> str:
    """Return a row of `entry`, its fields in the order of the statement `copy_entries`."""
    log_event, answer = decided.log_event, decided.answer
    event, source = log_event.event, log_event.source
    attempt, player, round_id, game = event.attempt, event.player_id, event.round_id, event.game_id
    legs = event.legs
    kind = legs[0].kind if len(legs) == 1 else "+".join([leg.kind for leg in legs])
    brand, provider, version = event.brand, event.provider, event.provider_version
    region, operation = event.region, event.operation
    tx_id, topic = event.provider_tx_id, attempt.topic
    if not needs_no_escape(
        f"{brand}{provider}{version}{region}{operation}{kind}{tx_id}{player}{round_id}{game}{topic}"
    ):
        brand, provider, version = escape(brand), escape(provider), escape(version)
        region, operation, kind = escape(region), escape(operation), escape(kind)
        tx_id, topic = escape(tx_id), escape(topic)
        player, round_id, game = escape(player), escape(round_id), escape(game)
    closed = "t" if event.round_closed else "f"
    group_id = NULL if event.group is None else event.group.id
    billable = "t" if event.is_billable else "f"
    decided_at = NULL if answer.decided_at is None else answer.decided_at
    currency, available, wallet_version = answer.currency, answer.available_minor, answer.version
    return (
        f"{event.event_id}\t{decided.decision}\t{brand}\t{provider}\t{version}\t{region}\t"
        f"{operation}\t{tx_id}\t{kind}\t"
        f"{NULL if player is None else player}\t{NULL if round_id is None else round_id}\t"
        f"{closed}\t{NULL if game is None else game}\t{log_event.reference_id or NULL}\t"
        f"{event.fingerprint}\t{topic}\t"
        f"{attempt.partition}\t{attempt.offset}\t{attempt.record_index}\t"
        f"{source.partition}\t{source.offset}\t"
        f"{event.occurred_at}\t{answer.outcome}\t{answer.reason}\t"
        f"{NULL if currency is None else currency}\t{NULL if available is None else available}\t"
        f"{NULL if wallet_version is None else wallet_version}\t{decided.transfers}\t"
        f"{group_id}\t{billable}\t{decided_at}\t{decided.contribution_rest or NULL}\n"
    )


def repeat_row(decided: DecidedEvent) -> str:
    """Return a row of `repeat`, its fields in the order of `copy_repeats`."""
    event, source, answer = decided.log_event.event, decided.log_event.source, decided.answer
    attempt = event.attempt
    of_answer = (answer.currency, answer.available_minor, answer.version, answer.decided_at)
    fields = (
        source.partition,
        source.offset,
        event.event_id,
        escape(event.brand),
        escape(event.provider),
        escape(event.operation),
        escape(event.provider_tx_id),
        escape(event.player_id),
        event.fingerprint,
        escape(attempt.topic),
        attempt.partition,
        attempt.offset,
        attempt.record_index,
        "t" if decided.redelivered else "f",
        answer.outcome,
        answer.reason,
        *(NULL if value is None else value for value in of_answer),
    )
    return "\t".join(map(str, fields)) + "\n"


def transfer_row(log_event: LogEvent, decision: int, transfer: Transfer) -> str:
    """Return a row of `transfer`, its fields in the order of `copy_transfers`."""
    event, source = log_event.event, log_event.source
    player, debit, credit = transfer.player_id, transfer.debit, transfer.credit
    if not needs_no_escape(f"{debit}{credit}{player}"):
        player, debit, credit = escape(player), escape(debit), escape(credit)
    balances = (
        f"{transfer.cash_minor}\t{transfer.bonus_minor}\t{transfer.held_minor}"
        if transfer.version is not None
        else f"{NULL}\t{NULL}\t{NULL}"
    )
    return (
        f"{NULL if player is None else player}\t{transfer.currency}\t"
        f"{NULL if transfer.version is None else transfer.version}\t{debit}\t{credit}\t"
        f"{transfer.amount_minor}\t{balances}\t{event.event_id}\t{decision}\t"
        f"{source.partition}\t{source.offset}\t{event.occurred_at}\t"
        f"{month_of(event.appended_at)}\n"
    )


@lru_cache(maxsize=4096)
def _month_of_day(days: int) -> int:
    if not 0 <= days < _DAYS_MAX:
        return 0
    day = date.fromordinal(_EPOCH_ORDINAL + days)
    return day.year * 100 + day.month


def month_of(at_ms: int) -> int:
    """Return the calendar month of a time in UTC: 202611 for November 2026.

    0 for what is not a time since 1970.
    """
    return _month_of_day(at_ms // DAY_MS)


def previous_month(month: int) -> int:
    """Return the month before one: 202612 for 202701; 0 stays 0."""
    return 0 if month == 0 else month - 89 if month % 100 == 1 else month - 1
