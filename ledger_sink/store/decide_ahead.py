"""Decides a group, and the next one while PostgreSQL writes the group before it.

A group that was decided ahead is written only if nothing that it depends on was committed in
between: its positions are where they were, and no transaction has crossed partitions.
`PostgresLedger` compares both behind the locks; otherwise it decides the group again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Final

from ledger_sink.rules.book import Book, LogEvent
from ledger_sink.rules.posting import post
from ledger_sink.store.copy_rows import CopyRows
from ledger_sink.store.groups import PendingGroup, Slice, UnbookableEvent
from schemas.errors import PitbossError
from schemas.policies import DEFAULT_POLICY, LedgerPolicy

logger = logging.getLogger(__name__)

_EVENTS_PER_TURN: Final = 100
"""About 2 ms of deciding; then other tasks run, the connection first of all."""


class AheadDecider:
    """Decides at most one group in the background and keeps it until it is taken."""

    def __init__(self, policies: Mapping[str, LedgerPolicy]) -> None:
        self._policies = policies
        self._group: PendingGroup | None = None
        self._task: asyncio.Task[PendingGroup | None] | None = None

    @property
    def has_group(self) -> bool:
        """Whether a group was decided ahead and was not taken yet."""
        return self._group is not None

    def take(self, slices: Sequence[Slice]) -> PendingGroup | None:
        """Return the group that was decided for exactly this sequence; any other is dropped."""
        group, self._group = self._group, None
        return group if group is not None and group.slices is slices else None

    def start(self, group: PendingGroup) -> None:
        """Begin to decide a group whose book is complete."""
        self._task = asyncio.create_task(self._decide(group))

    async def finish(self) -> None:
        """Wait until the started group is decided. The group before it was committed."""
        task, self._task = self._task, None
        self._group = await task if task is not None else None

    def discard(self) -> None:
        """Drop the started group: the one before it may not have been committed."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _decide(self, group: PendingGroup) -> PendingGroup | None:
        try:
            group.rows = await decide(group, self._policies)
        except Exception as error:  # noqa: BLE001  # raised again when decided alone
            logger.debug("a group could not be decided ahead: %s", error)
            return None
        return group


async def decide(group: PendingGroup, policies: Mapping[str, LedgerPolicy]) -> CopyRows:
    """Decide a group's events in order and return their rows.

    Raises UnbookableEvent for the first that cannot be decided.
    """
    book, events, rows = group.book, group.events, CopyRows()
    for start in range(0, len(events), _EVENTS_PER_TURN):
        decisions, transfers = len(book.decisions), len(book.new_transfers)
        for log_event in events[start : start + _EVENTS_PER_TURN]:
            _post(book, log_event, policies.get(log_event.event.provider, DEFAULT_POLICY))
        rows.add(book.decisions[decisions:], book.new_transfers[transfers:])
        await asyncio.sleep(0)
    return rows


def _post(book: Book, log_event: LogEvent, policy: LedgerPolicy) -> None:
    try:
        post(book, log_event, policy)
    except MemoryError:
        raise
    except Exception as error:
        # The rules are pure: what they raise about an event, they raise in every process.
        detail = str(error) if isinstance(error, PitbossError) else f"{log_event}: {error!r}"
        raise UnbookableEvent(log_event.source, detail) from error


def carry_over(book: Book, before: Book, event_ids: set[str], players: Mapping[str, int]) -> None:
    """Add the changes of the group decided just before, which the tables did not hold yet.

    `event_ids` and `players` are those that the book's own group reads.
    """
    for event_id in event_ids.intersection(before.entries):
        entries = before.entries[event_id]
        if len(entries) > len(book.entries.get(event_id, ())):
            book.entries[event_id] = entries[:]
            keys = [(event_id, entry.decision) for entry in entries]
            book.transfers_of.update(
                {key: before.transfers_of[key] for key in keys if key in before.transfers_of}
            )
    book.repeats.update(before.repeats)
    for key, (_, closing) in before.new_closings.items():
        book.closings[key] = closing
    for proposal in before.new_proposals:
        book.proposals[proposal.event_id] = proposal
    for opened in before.new_opened_deposits:
        book.opened_deposits[opened.event_id] = opened
    for key, wallet in before.changed_wallets.items():
        if key[0] in players:
            book.add_wallet(copy(wallet))
    for player_id, state in before.changed_states.items():
        if player_id in players:
            book.states[player_id] = state
