"""Events without a player, after a restore: as the log says that they ended.

The resolver would look for their players again, and may find another one now than it did then: what
it had not found may have been booked since. But how each ended is in the log, as an event with the
same identity and attempt. So the stretch of its topic that the database lacks is parked again here,
with the ends that the log has; the resolver goes on behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import msgspec

from ledger_sink.booking.positions import claim_positions
from ledger_sink.resolve.resolver import CONSUMER, ParkedEvent, PipelineProgress, Resolver
from ledger_sink.store.database import LedgerDatabase
from replay.log.blocks import LogSource
from replay.recovery.order import OrderedLog
from replay.recovery.survey import SQL
from schemas import codec
from schemas.errors import InvariantBroken
from schemas.events import Attempt, WalletTransaction

_ROWS_PER_TRANSACTION: Final = 1_000

Place = tuple[int, int]


class ParkedCounts(msgspec.Struct, frozen=True):
    """Events without a player that were parked again or waited, by how they ended."""

    parked: int
    resolved: int
    final: int
    waiting: int


@dataclass
class ParkedStretch:
    """Waiting events, and those of the topic that the database lacks, with what the log says."""

    database: LedgerDatabase
    topic: str
    missing: dict[int, list[tuple[ParkedEvent, tuple[int, int]]]] = field(default_factory=dict)
    """By partition, with time and checksum of their records."""
    ends: dict[int, int] = field(default_factory=dict)
    _places: dict[tuple[str, Attempt], list[Place]] = field(default_factory=dict)
    _found: dict[Place, str | None] = field(default_factory=dict)
    """How they ended: under which player, or None for not found."""

    async def load(
        self, source: LogSource, starts: Mapping[int, int], ends: Mapping[int, int]
    ) -> None:
        """Read what waits and what is to be parked. Raises LogGap, Unavailable."""
        self.ends = dict(ends)
        decode, encode = codec.decoder(WalletTransaction), codec.encoder(WalletTransaction)
        for partition, offset, body in await self.database.query(SQL["waiting"]):
            self._note(decode(bytes(body)), (partition, offset))
        for record in OrderedLog(source, self.topic, starts, ends):
            if record.newer is not None:
                raise InvariantBroken(
                    f"{record.source}: {record.newer}: recover with the release that wrote it"
                )
            if record.event is None:
                continue
            place = record.source.partition, record.source.offset
            parked = ParkedEvent(place[1], record.event, encode(record.event))
            tie = record.timestamp_ms, record.checksum
            self.missing.setdefault(place[0], []).append((parked, tie))
            self._note(record.event, place)

    def _note(self, event: WalletTransaction, place: Place) -> None:
        self._places.setdefault((event.event_id, event.attempt), []).append(place)

    def observe(self, event: WalletTransaction) -> None:
        """Take an event of the log: it may be the end of one that was without a player."""
        for place in self._places.get((event.event_id, event.attempt), ()):
            self._found.setdefault(place, event.player_id)

    async def store(self) -> ParkedCounts:
        """Park what is missing, and note the ends that the log has. Raises Unavailable, Fenced."""
        resolver = Resolver(
            self.database,
            _append_nothing,
            cast("PipelineProgress", None),  # asked by sweeps only, and none runs here
            topic=self.topic,
            log_topic="",
            min_age_ms=0,
        )
        claims = await claim_positions(
            self.database, sorted(self.ends), consumer=CONSUMER, topic=self.topic
        )
        resolver.take_over({number: claim.epoch for number, claim in claims.items()})
        parked = 0
        for number, claim in claims.items():
            reached = claim.next_offset
            rows = [one for one in self.missing.get(number, ()) if one[0].offset >= reached]
            for first in range(0, len(rows), _ROWS_PER_TRANSACTION):
                some = rows[first : first + _ROWS_PER_TRANSACTION]
                after = some[-1][0].offset + 1
                await resolver.park(number, reached, after, [one for one, _ in some], some[-1][1])
                reached, parked = after, parked + len(some)
            if reached < self.ends[number]:
                await resolver.park(number, reached, self.ends[number], [])
        await self._note_ends()
        places = {place for some in self._places.values() for place in some}
        return ParkedCounts(
            parked,
            sum(player is not None for player in self._found.values()),
            sum(player is None for player in self._found.values()),
            len(places - self._found.keys()),
        )

    async def _note_ends(self) -> None:
        places = [*self._found]
        players = [self._found[place] for place in places]
        columns = {
            "parts": [partition for partition, _ in places],
            "offsets": [offset for _, offset in places],
            "states": ["FINAL" if player is None else "RESOLVED" for player in players],
            "players": players,
        }
        await self.database.query(SQL["note_appended"], columns)
        await self.database.query(SQL["drop_barriers"])


async def _append_nothing(_: object) -> None:
    raise InvariantBroken("a recovery appends nothing to the log")
