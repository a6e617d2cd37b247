"""The ledger's rows as the text that COPY reads and prints, byte for byte. Pure.

PostgreSQL prints each value in one way only, so that a row that was written can be made again with
COPY TO and compared with what was sent. Text is quoted as PostgreSQL's manual says in "COPY, Text
Format".
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from typing import Final

from ledger_sink.rules.book import DecidedEvent, LogEvent
from ledger_sink.rules.journal import Transfer
from schemas.topics import DAY_MS

NULL: Final = "\\N"

_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
_DAYS_MAX: Final = date.max.toordinal() - _EPOCH_ORDINAL
_QUOTED: Final = str.maketrans(
    {"\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\v": "\\v", "\f": "\\f", "\r": "\\r"}
)


def escape(text: str | None) -> str:
    """A text as a field of a line."""
    return NULL if text is None else text.translate(_QUOTED)


def needs_no_escape(text: str) -> bool:
    """Whether it needs no quoting: a sure and quick look that says no to some texts that would need
    none.
    """
    return text.isprintable() and "\\" not in text


def entry_row(decided: DecidedEvent) -> str:
    """One row of `entry`; the order of its fields is that of the statement `copy_entries`."""
    sourced, answer = decided.log_event, decided.answer
    event, source = sourced.event, sourced.source
    attempt, player, round_id, game = event.attempt, event.player_id, event.round_id, event.game_id
    legs = event.legs
    kind = legs[0].kind if len(legs) == 1 else "+".join([leg.kind for leg in legs])
    named = f"{event.brand}\t{event.provider}\t{event.provider_version}\t{event.region}\t{event.operation}"
    tx_id, topic = event.provider_tx_id, attempt.topic
    if not needs_no_escape(
        f"{event.brand}{event.provider}{event.provider_version}{event.region}{event.operation}{kind}"
        f"{tx_id}{player}{round_id}{game}{topic}"
    ):
        named = "\t".join(
            map(
                escape,
                (
                    event.brand,
                    event.provider,
                    event.provider_version,
                    event.region,
                    event.operation,
                ),
            )
        )
        tx_id, topic, kind = escape(tx_id), escape(topic), escape(kind)
        player, round_id, game = escape(player), escape(round_id), escape(game)
    closed = "t" if event.round_closed else "f"
    currency, available, version = answer.currency, answer.available_minor, answer.version
    return (
        f"{event.event_id}\t{decided.decision}\t{named}\t{tx_id}\t{kind}\t"
        f"{NULL if player is None else player}\t{NULL if round_id is None else round_id}\t"
        f"{closed}\t{NULL if game is None else game}\t{sourced.reference_id or NULL}\t{event.fingerprint}\t{topic}\t"
        f"{attempt.partition}\t{attempt.offset}\t{attempt.record_index}\t{source.partition}\t{source.offset}\t"
        f"{event.occurred_at}\t{answer.outcome}\t{answer.reason}\t{NULL if currency is None else currency}\t"
        f"{NULL if available is None else available}\t{NULL if version is None else version}\t{decided.transfers}\n"
    )


def repeat_row(decided: DecidedEvent) -> str:
    """One row of `repeat`, as `copy_repeats` has it."""
    event, source, answer = decided.log_event.event, decided.log_event.source, decided.answer
    attempt = event.attempt
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
        *(
            NULL if value is None else value
            for value in (answer.currency, answer.available_minor, answer.version)
        ),
    )
    return "\t".join(map(str, fields)) + "\n"


@lru_cache(maxsize=4096)
def _month_of_day(days: int) -> int:
    if not 0 <= days < _DAYS_MAX:
        return 0
    day = date.fromordinal(_EPOCH_ORDINAL + days)
    return day.year * 100 + day.month


def month_of(at_ms: int) -> int:
    """The calendar month of a time in UTC: 202611 for November 2026; 0 for what is no time since
    1970.
    """
    return _month_of_day(at_ms // DAY_MS)


def transfer_row(sourced: LogEvent, decision: int, transfer: Transfer) -> str:
    """One row of `transfer`, as `copy_transfers` has it."""
    event, source = sourced.event, sourced.source
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
        f"{NULL if transfer.version is None else transfer.version}\t{debit}\t{credit}\t{transfer.amount_minor}\t"
        f"{balances}\t{event.event_id}\t{decision}\t{source.partition}\t{source.offset}\t{event.occurred_at}\t"
        f"{month_of(event.appended_at)}\n"
    )
