"""Events of the log that no ledger can book, and the people who quarantine them sooner or later.

They are appended to the log itself: no adapter makes them. What they must lead to is worked out
from what was appended, without looking into the records.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Final
from zlib import crc32

from lab.simulator.broker import SimulatedRecord
from runtime.kafka.partitioner import partition_for
from schemas import codec
from schemas.events import (
    Amount,
    Attempt,
    Cause,
    Group,
    Leg,
    Reference,
    WalletTransaction,
)
from schemas.identity import event_id, group_id
from schemas.registry import released_registry
from schemas.topics import TRANSACTIONS

if TYPE_CHECKING:
    from lab.simulator.simulation import Simulation

FOREIGN_OFFSET: Final = 10**9
"""Attempts of these events name offsets from here on, which no raw topic reaches."""

_PEOPLE: Final = ("ann", "bob", "cy")
_PLAYERS: Final = 40
_LONG: Final = 3_000
"""Characters of a text that no index takes."""


@dataclass(frozen=True, slots=True)
class QuarantineStep:
    """A proposal (or approval) of a quarantine in the log; `record` is the name that it gives."""

    is_approval: bool
    record: str
    actor: str


class UnbookableEvents:
    """What was appended of them, by place in the log."""

    def __init__(self, simulation: Simulation, rng: Random) -> None:
        self.stuck: dict[tuple[int, int], str] = {}
        """Records that cannot be booked, with their names."""
        self.repeats: dict[tuple[int, int], tuple[int, int]] = {}
        """Records that repeat one of those."""
        self.steps: dict[tuple[int, int], QuarantineStep] = {}
        self._simulation = simulation
        self._rng = rng
        self._numbers = count(FOREIGN_OFFSET)
        self._encode = codec.encoder(WalletTransaction)

    def append_one(self) -> None:
        """Append an unbookable event, and plan its repeats and the steps that lead past it."""
        rng, number = self._rng, next(self._numbers)
        draw = rng.choice(
            (_of_unknown_kind, _below_zero, _of_unknown_currency, _of_no_group, _long)
        )
        player = f"stuck-{rng.randrange(_PLAYERS)}"
        event = draw(player, number)
        value = self._encode(event)
        is_newer = rng.random() < 0.2
        if is_newer:
            newer = max(schema.id for schema in released_registry()) + 1
            value = b"\0" + newer.to_bytes(4, "big") + value[5:]
        record = self._append(player.encode(), value)
        place = (record.partition, record.offset)
        name = _name_of(record)
        self.stuck[place] = name
        if not is_newer and draw is not _long and rng.random() < 0.5:
            # Kept under its own id, so that a copy of it is known.
            self._later(rng.uniform(0, 8), lambda: self._repeat(record))
        self._plan_steps(record.partition, name)

    def _repeat(self, record: SimulatedRecord) -> None:
        again = self._append(record.key or b"", record.value or b"")
        self.repeats[again.partition, again.offset] = (record.partition, record.offset)

    def _plan_steps(self, partition: int, name: str) -> None:
        """Plan steps of two people, some of them in vain."""
        rng = self._rng
        proposer, approver = rng.sample(_PEOPLE, 2)
        at_s = rng.uniform(0.1, 6.0)
        if rng.random() < 0.3:
            self._plan(at_s - 0.05, partition, QuarantineStep(True, name, approver))
        self._plan(at_s, partition, QuarantineStep(False, name, proposer))
        if rng.random() < 0.3:
            self._plan(at_s + 0.1, partition, QuarantineStep(True, name, proposer.upper()))
        if rng.random() < 0.3:
            wrong = f"{name[:-8]}{rng.randrange(2**32):08x}"
            self._plan(at_s + 0.1, partition, QuarantineStep(True, wrong, approver))
        for _ in range(rng.randint(1, 2)):
            at_s += rng.uniform(0.2, 6.0)
            self._plan(at_s, partition, QuarantineStep(True, name, approver))

    def _plan(self, after_s: float, partition: int, step: QuarantineStep) -> None:
        self._later(after_s, lambda: self._append_step(partition, step))

    def _later(self, after_s: float, act: Callable[[], object]) -> None:
        self._simulation.plan(after_s, act)

    def _append_step(self, partition: int, step: QuarantineStep) -> None:
        number = next(self._numbers)
        tx_id = next(
            tx_id
            for tx_id in (f"q-{number}-{n}" for n in count())
            if partition_for(tx_id.encode(), self._simulation.broker.partitions) == partition
        )
        operation = "quarantine.approved" if step.is_approval else "quarantine.proposed"
        event = _event(
            "house",
            operation,
            tx_id,
            number,
            [Leg("QUARANTINE")],
            reference=Reference("quarantined", step.record),
            cause=Cause("quarantine", step.record, step.actor, "stuck"),
        )
        record = self._append(tx_id.encode(), self._encode(event))
        self.steps[record.partition, record.offset] = step

    def append_vain_steps(self) -> None:
        """Append a whole quarantine of a record that is booked, or of none."""
        rng = self._rng
        partition = rng.randrange(self._simulation.broker.partitions)
        log = self._simulation.broker.topics[TRANSACTIONS][partition]
        if log.records:
            name = _name_of(rng.choice(log.records))
            if name not in self.stuck.values():
                self._append_step(partition, QuarantineStep(False, name, "ann"))
                self._append_step(partition, QuarantineStep(True, name, "bob"))

    def _append(self, key: bytes, value: bytes) -> SimulatedRecord:
        simulation = self._simulation
        return simulation.broker.append(TRANSACTIONS, key, value, (), simulation.now_ms())

    def __contains__(self, place: tuple[int, int]) -> bool:
        return place in self.stuck or place in self.repeats or place in self.steps

    def expected_answers(self) -> Iterator[tuple[tuple[int, int], tuple[str, str]]]:
        """Yield the place and the answer of each record that was appended here."""
        effective: dict[str, tuple[int, int]] = {}
        for place, name in self.stuck.items():
            found = self._find_approval(place, name)
            if found is not None:
                effective[name] = found
        for place in (*self.stuck, *self.repeats):
            yield place, ("UNRESOLVED", "QUARANTINED")
        for place, step in self.steps.items():
            if step.record not in effective:
                yield place, ("REFUSED_REFERENCE", "RECORD_NOT_WAITING")
            elif not step.is_approval:
                yield place, ("INFORMATIONAL", "NOTED")
            elif effective[step.record] == place:
                yield place, ("POSTED", "RECORD_QUARANTINED")
            else:
                yield place, ("POSTED", "ALREADY_CLOSED")

    def _find_approval(self, place: tuple[int, int], name: str) -> tuple[int, int] | None:
        """Return where the first approval behind another person's proposal lies."""
        proposers: defaultdict[str, set[str]] = defaultdict(set)
        for at, step in sorted(self.steps.items()):
            if at[0] != place[0] or at < place or step.record != name:
                continue
            if not step.is_approval:
                proposers[name].add(step.actor.lower())
            elif proposers[name] - {step.actor.lower()}:
                return at
        return None


def _name_of(record: SimulatedRecord) -> str:
    checksum = crc32((record.key or b"") + (record.value or b""))
    return f"{TRANSACTIONS}-{record.partition}@{record.offset}#{checksum:08x}"


def _event(
    provider: str,
    operation: str,
    tx_id: str,
    number: int,
    legs: list[Leg],
    player: str | None = None,
    reference: Reference | None = None,
    cause: Cause | None = None,
    group: Group | None = None,
) -> WalletTransaction:
    return WalletTransaction(
        event_id=event_id("default", provider, operation, tx_id),
        brand="default",
        provider=provider,
        provider_version="1",
        region="MT",
        operation=operation,
        provider_tx_id=tx_id,
        attempt=Attempt(f"provider.{provider}.raw.v1", 0, number, 0),
        player_id=player,
        legs=legs,
        reference=reference,
        round_id=None,
        round_closed=False,
        game_id=None,
        occurred_at=1_790_000_000_000,
        time_source="BROKER",
        provider_at=None,
        received_at=None,
        appended_at=1_790_000_000_000,
        fingerprint=f"{number:032x}",
        fingerprint_version=1,
        signature="NOT_CHECKED",
        decision_required=False,
        cause=cause,
        group=group,
    )


def _of_unknown_kind(player: str, number: int) -> WalletTransaction:
    legs = [Leg("WIN", Amount(100, 2), "EUR"), Leg("TELEPORT", Amount(5, 2), "EUR")]
    return _event("hub88", "teleport", f"u-{number}", number, legs, player)


def _below_zero(player: str, number: int) -> WalletTransaction:
    legs = [Leg("WIN", Amount(100, 2), "EUR"), Leg("WIN", Amount(-5, 2), "EUR")]
    return _event("hub88", "win", f"u-{number}", number, legs, player)


def _of_unknown_currency(player: str, number: int) -> WalletTransaction:
    return _event("hub88", "win", f"u-{number}", number, [Leg("WIN", Amount(5, 2), "DOGE")], player)


def _of_no_group(player: str, number: int) -> WalletTransaction:
    id_ = group_id([f"first of {number}", f"u-{number}"])
    legs, group = [Leg("WIN", Amount(5, 2), "EUR")], Group(id_, 1, 2, [])
    return _event("hub88", "win", f"u-{number}", number, legs, player, group=group)


def _long(player: str, number: int) -> WalletTransaction:
    legs = [Leg("WIN", Amount(5, 2), "EUR")]
    return _event("hub88", "win", f"u-{number}".ljust(_LONG, "x"), number, legs, player)
