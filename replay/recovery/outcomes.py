"""The answers that were given before a restore, compared with those of the booking after it.

A connector has acted on the first answer to an attempt, so another one must not go out unseen. What
was given is on `wallet.outcomes.v1`, which keeps 30 days; of an older stretch nothing is compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

from ledger_sink.store.database import LedgerDatabase
from replay.log.blocks import LogSource
from replay.recovery.survey import SQL
from schemas import codec
from schemas.errors import Rejected
from schemas.events import Attempt, WalletOutcome

_OFFSETS_PER_READ: Final = 5_000
_BEFORE_MS: Final = 60_000
"""An answer is younger than its record in the log; clocks of brokers differ by less than this."""


class GivenAnswer(msgspec.Struct, frozen=True):
    """An answer to one attempt, as a connector reads it."""

    outcome: str
    reason: str
    currency: str | None
    balance_minor: int | None
    version: int | None


class OutcomeChange(StrEnum):
    """How an answer that was given and the booking disagree."""

    DIFFERENT = "DIFFERENT"
    NOT_IN_LOG = "NOT_IN_LOG"  # an answer was given to what the log does not hold any more


class OutcomeDifference(msgspec.Struct, frozen=True):
    """An attempt whose answer is another one now, or that is gone."""

    change: OutcomeChange
    place: str | None
    """Of its record in the log."""
    event_id: str
    provider: str
    operation: str
    provider_tx_id: str
    player_id: str | None
    attempt: Attempt
    given: GivenAnswer
    booked: GivenAnswer | None


class OutcomeComparison(msgspec.Struct, frozen=True):
    """Counts of attempts, and what differs."""

    same: int
    never_given: int
    """Booked, and not on the topic: given once the workers start."""
    differing: int
    not_in_log: int
    """Of the differing ones: given to what the log does not hold."""
    differences: list[OutcomeDifference]
    """The first ones, as many as asked for."""


Key = tuple[str, Attempt]


class OutcomeCheck:
    """Compares the answers of a booked stretch with those on the topic."""

    def __init__(self, database: LedgerDatabase, log_topic: str, limit: int = 1_000) -> None:
        """Prepare; `limit` bounds how many differences are kept."""
        self._database = database
        self._log_topic = log_topic
        self._limit = limit
        self._booked: dict[Key, tuple[str, GivenAnswer]] = {}
        self._given: set[Key] = set()
        self._elsewhere: dict[Key, WalletOutcome] = {}
        """Given, and not in the stretch: booked before it, or not in the log at all."""
        self._differences: list[OutcomeDifference] = []
        self._differing: set[Key] = set()

    async def load(self, starts: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """Read the answers that are booked for a stretch of the log. Raises Unavailable."""
        for partition, start in starts.items():
            for first in range(start, ends[partition], _OFFSETS_PER_READ):
                end = min(first + _OFFSETS_PER_READ, ends[partition])
                columns = {"part": partition, "first": first, "next": end}
                for offset, event_id, *row in await self._database.query(SQL["answers"], columns):
                    place = f"{self._log_topic}-{partition}@{offset}"
                    key = (event_id, Attempt(*row[3:7]))
                    # A record that came twice has two rows with one answer.
                    self._booked.setdefault(key, (place, GivenAnswer(*row[8:13])))

    async def compare(
        self, source: LogSource, outcomes_topic: str, since_ms: int | None
    ) -> OutcomeComparison:
        """Compare with every answer that was given since a moment (None: ever).

        Raises Unavailable, LogGap.
        """
        for outcome in _read(source, outcomes_topic, since_ms):
            self._take(outcome)
        await self._check_elsewhere()
        both = len(self._given & self._booked.keys())
        return OutcomeComparison(
            same=both - len(self._differing & self._booked.keys()),
            never_given=len(self._booked.keys() - self._given),
            differing=len(self._differing),
            not_in_log=len(self._differing - self._booked.keys()),
            differences=self._differences,
        )

    def _take(self, outcome: WalletOutcome) -> None:
        key = outcome.event_id, outcome.attempt
        booked = self._booked.get(key)
        self._given.add(key)
        if booked is None:
            self._elsewhere.setdefault(key, outcome)
            return
        if booked[1] != _answer(outcome):
            self._add(OutcomeChange.DIFFERENT, outcome, *booked)

    async def _check_elsewhere(self) -> None:
        keys = [*self._elsewhere]
        known: set[int] = set()
        for first in range(0, len(keys), _OFFSETS_PER_READ):
            some = keys[first : first + _OFFSETS_PER_READ]
            columns = {
                "places": [*range(first, first + len(some))],
                "event_ids": [event_id for event_id, _ in some],
                "topics": [attempt.topic for _, attempt in some],
                "parts": [attempt.partition for _, attempt in some],
                "offsets": [attempt.offset for _, attempt in some],
                "indexes": [attempt.record_index for _, attempt in some],
            }
            rows = await self._database.query(SQL["known_attempts"], columns)
            known.update(number for (number,) in rows)
        for number, key in enumerate(keys):
            if number not in known:
                self._add(OutcomeChange.NOT_IN_LOG, self._elsewhere[key], None, None)

    def _add(
        self,
        change: OutcomeChange,
        outcome: WalletOutcome,
        place: str | None,
        booked: GivenAnswer | None,
    ) -> None:
        key = outcome.event_id, outcome.attempt
        if key in self._differing:
            return
        self._differing.add(key)
        if len(self._differences) < self._limit:
            self._differences.append(
                OutcomeDifference(
                    change,
                    place,
                    outcome.event_id,
                    outcome.provider,
                    outcome.operation,
                    outcome.provider_tx_id,
                    outcome.player_id,
                    outcome.attempt,
                    _answer(outcome),
                    booked,
                )
            )


def _answer(outcome: WalletOutcome) -> GivenAnswer:
    return GivenAnswer(
        outcome.outcome,
        outcome.reason,
        outcome.currency,
        outcome.balance_minor,
        outcome.version,
    )


def _read(source: LogSource, topic: str, since_ms: int | None) -> Iterator[WalletOutcome]:
    decode: Any = codec.decoder(WalletOutcome)
    bounds = source.bounds(topic)
    firsts = {} if since_ms is None else source.first_at(topic, max(0, since_ms - _BEFORE_MS))
    for partition, (begin, end) in sorted(bounds.items()):
        for block in source.read(topic, partition, max(begin, firsts.get(partition, begin)), end):
            for value in block.values:
                try:
                    yield decode(value or b"")
                except Rejected:
                    continue  # written by something that is not a ledger
