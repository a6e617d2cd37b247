"""Sealing what is booked, and comparing the tables with what was sealed.

Everything runs on a connection of its own. The sealer follows the ledger: in one snapshot it reads
how far a partition is booked, and then the rows up to there. It needs to read entries and transfers
and to add seals, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import psycopg

from ledger_sink.proof.seals import (
    DIGEST_BYTES,
    FORM,
    FORMS,
    GENESIS_HASH,
    Checkpoint,
    Seal,
    SealReference,
    new_seal,
    row_digest,
    seal_hash,
)
from ledger_sink.store.groups import CONSUMER
from ledger_sink.store.statements import statements
from schemas.errors import Unavailable, UsageError

OFFSETS_PER_SEAL: Final = 2_000
_SQL: Final = statements("seals")

Connection = psycopg.Connection[Any]


class SealFault(msgspec.Struct, frozen=True):
    """Something that differs from what was sealed: where it begins, and what it is."""

    where: str
    what: str


class _Row(msgspec.Struct, frozen=True):
    table: str
    offset: int
    name: str
    digest: bytes


def seal_partitions(
    connection: Connection, topic: str, *, offsets_max: int = OFFSETS_PER_SEAL
) -> list[Seal]:
    """Seal everything that is booked and not sealed yet, and return the new seals.

    Raises Unavailable while another sealer is at work.
    """
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        _lock_sealing(connection)
        last = {seal.partition: seal for seal in _seals(connection.execute(_SQL["last_seals"]))}
        new: list[Seal] = []
        for partition, booked in _positions(connection, topic).items():
            seal = last.get(partition)
            while (begin := seal.next_offset if seal else 0) < booked:
                end = min(begin + offsets_max, booked)
                rows = _rows(connection, FORM, partition, begin, end)
                seal = new_seal(seal, partition, end, (row.digest for row in rows))
                columns = msgspec.to_builtins(seal, builtin_types=(bytes,))
                connection.execute(_SQL["insert_seal"], columns)
                new.append(seal)
    return new


def _lock_sealing(connection: Connection) -> None:
    [(is_ours,)] = connection.execute(_SQL["only_one"]).fetchall()
    if not is_ours:
        raise Unavailable("another sealer is at work on this ledger: one is enough")


def _positions(connection: Connection, topic: str) -> dict[int, int]:
    """Return how far each partition is booked, in the order of partitions."""
    columns = {"consumer": CONSUMER, "topic": topic}
    return dict(connection.execute(_SQL["positions"], columns).fetchall())


def last_seals(connection: Connection) -> tuple[SealReference, ...]:
    """Return the last seal of each partition, for a checkpoint."""
    return tuple(
        SealReference(seal.partition, seal.number, seal.next_offset, seal.hash.hex())
        for seal in _seals(connection.execute(_SQL["last_seals"]))
    )


def cluster_of(connection: Connection) -> str:
    """Return the cluster whose log this ledger books; empty before the first worker has started."""
    [(cluster_id,)] = connection.execute(_SQL["cluster"]).fetchall() or [("",)]
    return str(cluster_id)


def find_lost_seals(connection: Connection, references: Iterable[SealReference]) -> list[str]:
    """Return the seals of a checkpoint that are gone or differ, in words."""
    named = list(references)
    rows = connection.execute(_SQL["hashes"], {"parts": [one.partition for one in named]})
    hashes = {(partition, number): bytes(digest).hex() for partition, number, digest in rows}
    lost = []
    for one in named:
        found = hashes.get((one.partition, one.number))
        if found != one.hash:
            what = "is gone" if found is None else "is another one"
            lost.append(f"seal {one.partition}#{one.number} {what}")
    return lost


def find_unsealed(
    connection: Connection, topic: str, references: Iterable[SealReference], older_than_ms: int
) -> Iterator[SealFault]:
    """Yield the partitions with rows behind a checkpoint that were booked before a time."""
    covered = {one.partition: one.next_offset for one in references}
    for partition, booked in _positions(connection, topic).items():
        begin = covered.get(partition, 0)
        columns = {"part": partition, "next": begin}
        [(oldest_ms,)] = connection.execute(_SQL["oldest_from"], columns).fetchall()
        if begin < booked and oldest_ms is not None and oldest_ms < older_than_ms:
            at = datetime.fromtimestamp(oldest_ms / 1000, UTC).isoformat(timespec="seconds")
            what = f"{booked - begin} offsets are under no checkpoint, the first booked at {at}"
            yield SealFault(f"{topic}-{partition}@{begin}", what)


def has_booked(connection: Connection, topic: str) -> bool:
    """Return whether the ledger has booked anything of its log."""
    return any(_positions(connection, topic).values())


def find_seal_faults(
    connection: Connection, topic: str, checkpoints: Iterable[Checkpoint]
) -> Iterator[SealFault]:
    """Yield what differs from what was sealed, by partition, in the order of the log.

    Reads everything once. Raises UsageError for seals of another release's form.
    """
    positions = _positions(connection, topic)
    seals: dict[tuple[int, int], Seal] = {}
    for (partition,) in connection.execute(_SQL["sealed_parts"]).fetchall():
        previous: Seal | None = None
        for seal in _seals(connection.execute(_SQL["seals"], {"part": partition})):
            seals[partition, seal.number] = seal
            fault = _broken_seal(seal, previous) or _changed_rows(connection, seal)
            if fault is not None:
                yield fault
                break  # what follows in this partition depends on it
            previous = seal
        booked = positions.get(partition, 0)
        if previous is not None and previous.next_offset > booked:
            where = f"{topic}-{partition}@{booked}"
            what = f"the position was set back: it was sealed up to {previous.next_offset}"
            yield SealFault(where, what)
    yield from _rows_beyond_positions(connection, topic, positions)
    yield from _closing_faults(connection, topic)
    yield from _checkpoint_faults(topic, seals, checkpoints)


def _broken_seal(seal: Seal, previous: Seal | None) -> SealFault | None:
    where = f"seal {seal.partition}#{seal.number}"
    number, begin = (previous.number + 1, previous.next_offset) if previous else (1, 0)
    if (seal.number, seal.from_offset) != (number, begin):
        before = f"seal {seal.partition}#{number - 1}"
        return SealFault(where, f"it does not continue {before}, which ends at {begin}")
    if seal.form not in FORMS:
        raise UsageError(
            f"{where} has the form {seal.form}, this release knows {', '.join(map(str, FORMS))}:"
            " verify with the release that sealed it"
        )
    if seal.hash != seal_hash(seal, previous.hash if previous else GENESIS_HASH):
        return SealFault(where, "its hash is not that of its digests: the seal itself was changed")
    return None


def _changed_rows(connection: Connection, seal: Seal) -> SealFault | None:
    """Return the first row of a seal that was changed, deleted or added."""
    rows = list(_rows(connection, seal.form, seal.partition, seal.from_offset, seal.next_offset))
    starts = range(0, len(seal.digests), DIGEST_BYTES)
    digests = [seal.digests[start : start + DIGEST_BYTES] for start in starts]
    if [row.digest for row in rows] == digests:
        return None
    count = min(len(rows), len(digests))
    first = next((n for n in range(count) if rows[n].digest != digests[n]), count)
    present = {row.digest for row in rows}
    seal_text = f"seal {seal.partition}#{seal.number} ({seal.from_offset} to {seal.next_offset})"
    missing = len(digests) - len(rows)
    if first < len(digests) and missing > 0 and digests[first] not in present:
        behind = rows[first - 1].name if first else f"the beginning of {seal_text}"
        what = f"{missing} of {len(digests)} sealed rows are gone; {seal_text}"
        return SealFault(f"behind {behind}", what)
    row = rows[first]
    if row.digest not in digests and missing < 0:
        return SealFault(row.name, f"it was not there when it was sealed; {seal_text}")
    return SealFault(row.name, f"it is not as it was sealed; {seal_text}")


def _rows_beyond_positions(
    connection: Connection, topic: str, positions: dict[int, int]
) -> Iterator[SealFault]:
    """Yield rows that claim to be from offsets or partitions that the ledger has not booked."""
    for partition, booked in positions.items():
        columns = {"part": partition, "next": booked}
        for table, event_id, offset in connection.execute(_SQL["beyond"], columns).fetchall():
            where = f"{table} of event {event_id}"
            what = f"it is from {topic}-{partition}@{offset}, booked is up to {booked}"
            yield SealFault(where, what)
    columns_of_all = {"parts": list(positions)}
    rows = connection.execute(_SQL["strangers"], columns_of_all).fetchall()
    for table, event_id, partition, offset in rows:
        what = f"it is from {topic}-{partition}@{offset}, which is not this ledger's"
        yield SealFault(f"{table} of event {event_id}", what)


def _closing_faults(connection: Connection, topic: str) -> Iterator[SealFault]:
    """Yield closings that differ from what the sealed entries state that they have closed."""
    rows = connection.execute(_SQL["open_again"]).fetchall()
    for event_id, by_event_id, partition, offset in rows:
        yield SealFault(
            f"closing of event {event_id}",
            f"it is gone, or no longer ends it: event {by_event_id} at"
            f" {topic}-{partition}@{offset} says it is closed",
        )
    rows = connection.execute(_SQL["closed_by_nothing"]).fetchall()
    for event_id, action, partition, offset in rows:
        what = f"no entry of {topic}-{partition}@{offset} has closed it as {action}"
        yield SealFault(f"closing of event {event_id}", what)


def _checkpoint_faults(
    topic: str, seals: dict[tuple[int, int], Seal], checkpoints: Iterable[Checkpoint]
) -> Iterator[SealFault]:
    """Yield the first seal of each partition that is gone or has another hash than a checkpoint."""
    reported: set[int] = set()
    for checkpoint in checkpoints:
        for reference in checkpoint.seals:
            partition, number = reference.partition, reference.number
            seal = seals.get((partition, number))
            is_same = seal is not None and seal.hash.hex() == reference.hash
            if partition in reported or is_same:
                continue
            reported.add(partition)
            named = f"checkpoint {checkpoint.number} of {checkpoint.at}"
            what = f"is gone: {named} names it"
            if seal is not None:
                what = f"differs from that in {named}"
            where = f"{topic}-{partition}@{reference.next_offset}"
            yield SealFault(where, f"seal {partition}#{number} {what}")


def _seals(rows: Iterable[Sequence[Any]]) -> Iterator[Seal]:
    for partition, number, form, first, after, digests, digest in rows:
        yield Seal(partition, number, form, first, after, bytes(digests), bytes(digest))


def _rows(
    connection: Connection, form: int, partition: int, first: int, after: int
) -> Iterator[_Row]:
    """Yield the rows of a range with their digests in a form of seals."""
    columns = {"part": partition, "first": first, "next": after}
    entries = [
        _Row("entry", row[19], f"entry {row[0]} decision {row[1]}", row_digest("entry", row))
        for row in connection.execute(_SQL[f"entries_of_form_{form}"], columns)
    ]
    transfers = [
        _Row("transfer", row[12], _transfer_name(row), row_digest("transfer", row))
        for row in connection.execute(_SQL["transfers"], columns)
    ]
    yield from sorted((*entries, *transfers), key=lambda row: (row.offset, row.table))


def _transfer_name(row: Sequence[Any]) -> str:
    wallet = "between house accounts" if row[0] is None else f"{row[0]}:{row[1]} v{row[2]}"
    return f"transfer {wallet} of event {row[9]}"
