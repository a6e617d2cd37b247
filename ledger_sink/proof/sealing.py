"""Sealing what is booked, and comparing what is in the tables with what was sealed. Works on its
own connection.

The sealer follows the ledger: in one snapshot it reads how far a partition is booked, and then the
rows up to there. It needs to read entries and transfers and to add seals, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
import psycopg

from ledger_sink.proof.seals import (
    DIGEST_BYTES,
    FORM,
    GENESIS_HASH,
    Checkpoint,
    Seal,
    SealReference,
    new_seal,
    row_digest,
    seal_hash,
)
from ledger_sink.store.ledger import CONSUMER
from ledger_sink.store.statements import statements
from schemas.errors import Unavailable, UsageError

OFFSETS_PER_SEAL: Final = 2_000
_SQL: Final = statements("seals")

Connection = psycopg.Connection[Any]


class SealFault(msgspec.Struct, frozen=True):
    """Something that is not as it was sealed: where it begins, and what it is."""

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
    """Seal everything that is booked and not sealed yet; the new seals.

    Raises Unavailable while another sealer is at work.
    """
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        _only_one(connection)
        last = {seal.part: seal for seal in _seals(connection.execute(_SQL["last_seals"]))}
        made: list[Seal] = []
        for part, booked in connection.execute(
            _SQL["positions"], {"consumer": CONSUMER, "topic": topic}
        ).fetchall():
            seal = last.get(part)
            while (begin := seal.next_offset if seal else 0) < booked:
                end = min(begin + offsets_max, booked)
                seal = new_seal(
                    seal, part, end, (row.digest for row in _rows(connection, part, begin, end))
                )
                connection.execute(
                    _SQL["insert_seal"], msgspec.to_builtins(seal, builtin_types=(bytes,))
                )
                made.append(seal)
    return made


def _only_one(connection: Connection) -> None:
    [(is_ours,)] = connection.execute(_SQL["only_one"]).fetchall()
    if not is_ours:
        raise Unavailable("another sealer is at work on this ledger: one is enough")


def last_seals(connection: Connection) -> tuple[SealReference, ...]:
    """The last seal of each partition, for a checkpoint."""
    return tuple(
        SealReference(seal.part, seal.number, seal.next_offset, seal.hash.hex())
        for seal in _seals(connection.execute(_SQL["last_seals"]))
    )


def cluster_of(connection: Connection) -> str:
    """The cluster whose log this ledger books; empty before the first worker has come."""
    [(cluster_id,)] = connection.execute(_SQL["cluster"]).fetchall() or [("",)]
    return str(cluster_id)


def find_seal_faults(
    connection: Connection, topic: str, checkpoints: Iterable[Checkpoint]
) -> Iterator[SealFault]:
    """What is not as it was sealed, partition by partition in the order of the log; reads
    everything once.
    """
    positions = dict(
        connection.execute(_SQL["positions"], {"consumer": CONSUMER, "topic": topic}).fetchall()
    )
    known: dict[tuple[int, int], Seal] = {}
    for (part,) in connection.execute(_SQL["sealed_parts"]).fetchall():
        previous: Seal | None = None
        for seal in _seals(connection.execute(_SQL["seals"], {"part": part})):
            known[part, seal.number] = seal
            fault = _broken_seal(seal, previous) or _changed_rows(connection, seal)
            if fault is not None:
                yield fault
                break  # what follows in this partition hangs on it
            previous = seal
        if previous is not None and previous.next_offset > positions.get(part, 0):
            where = f"{topic}-{part}@{positions.get(part, 0)}"
            yield SealFault(
                where, f"the position was set back: it was sealed up to {previous.next_offset}"
            )
    yield from _behind_positions(connection, topic, positions)
    yield from _closed_otherwise(connection, topic)
    yield from _not_as_witnessed(topic, known, checkpoints)


def _broken_seal(seal: Seal, previous: Seal | None) -> SealFault | None:
    where = f"seal {seal.part}#{seal.number}"
    number, begin = (previous.number + 1, previous.next_offset) if previous else (1, 0)
    if (seal.number, seal.from_offset) != (number, begin):
        return SealFault(
            where, f"it does not continue seal {seal.part}#{number - 1}, which ends at {begin}"
        )
    if seal.form != FORM:
        raise UsageError(
            f"{where} has the form {seal.form}, this release knows {FORM}: verify with the one that sealed"
        )
    if seal.hash != seal_hash(seal, previous.hash if previous else GENESIS_HASH):
        return SealFault(where, "its hash is not that of its digests: the seal itself was changed")
    return None


def _changed_rows(connection: Connection, seal: Seal) -> SealFault | None:
    rows = list(_rows(connection, seal.part, seal.from_offset, seal.next_offset))
    sealed = [
        seal.digests[at : at + DIGEST_BYTES] for at in range(0, len(seal.digests), DIGEST_BYTES)
    ]
    if [row.digest for row in rows] == sealed:
        return None
    same = next(
        (at for at, row in enumerate(rows[: len(sealed)]) if row.digest != sealed[at]),
        min(len(rows), len(sealed)),
    )
    there = {row.digest for row in rows}
    stretch = f"seal {seal.part}#{seal.number} ({seal.from_offset} to {seal.next_offset})"
    if same < len(sealed) and len(rows) < len(sealed) and sealed[same] not in there:
        behind = rows[same - 1].name if same else f"the beginning of {stretch}"
        return SealFault(
            f"behind {behind}",
            f"{len(sealed) - len(rows)} of {len(sealed)} sealed rows are gone; {stretch}",
        )
    row = rows[same]
    if row.digest not in sealed and len(rows) > len(sealed):
        return SealFault(row.name, f"it was not there when it was sealed; {stretch}")
    return SealFault(row.name, f"it is not as it was sealed; {stretch}")


def _behind_positions(
    connection: Connection, topic: str, positions: dict[int, int]
) -> Iterator[SealFault]:
    for part, booked in positions.items():
        for table, event_id, offset in connection.execute(
            _SQL["beyond"], {"part": part, "next": booked}
        ).fetchall():
            yield SealFault(
                f"{table} of event {event_id}",
                f"it is from {topic}-{part}@{offset}, booked is up to {booked}",
            )
    for table, event_id, part, offset in connection.execute(
        _SQL["strangers"], {"parts": list(positions)}
    ).fetchall():
        yield SealFault(
            f"{table} of event {event_id}",
            f"it is from {topic}-{part}@{offset}, which is not this ledger's",
        )


def _closed_otherwise(connection: Connection, topic: str) -> Iterator[SealFault]:
    """Where the closings are not what the entries, which are sealed, say that they have closed."""
    for event_id, by_event_id, part, offset in connection.execute(_SQL["open_again"]).fetchall():
        yield SealFault(
            f"closing of event {event_id}",
            f"it is gone, or ends nothing any more: event {by_event_id} at {topic}-{part}@{offset} says it is closed",
        )
    for event_id, action, part, offset in connection.execute(_SQL["closed_by_nothing"]).fetchall():
        yield SealFault(
            f"closing of event {event_id}",
            f"no entry of {topic}-{part}@{offset} has closed it as {action}",
        )


def _not_as_witnessed(
    topic: str, known: dict[tuple[int, int], Seal], checkpoints: Iterable[Checkpoint]
) -> Iterator[SealFault]:
    told: set[int] = set()
    for checkpoint in checkpoints:
        for sealed in checkpoint.seals:
            seal = known.get((sealed.part, sealed.number))
            if sealed.part in told or (seal is not None and seal.hash.hex() == sealed.hash):
                continue
            told.add(sealed.part)
            where = f"{topic}-{sealed.part}@{sealed.next_offset}"
            what = "is gone" if seal is None else "is another"
            yield SealFault(
                where,
                f"seal {sealed.part}#{sealed.number} {what} than in checkpoint {checkpoint.number} of {checkpoint.at}",
            )


def _seals(rows: Iterable[Sequence[Any]]) -> Iterator[Seal]:
    for part, number, form, first, after, digests, digest in rows:
        yield Seal(part, number, form, first, after, bytes(digests), bytes(digest))


def _rows(connection: Connection, part: int, first: int, after: int) -> Iterator[_Row]:
    stretch = {"part": part, "first": first, "next": after}
    entries = [
        _Row("entry", row[19], f"entry {row[0]} decision {row[1]}", row_digest("entry", row))
        for row in connection.execute(_SQL["entries"], stretch)
    ]
    transfers = [
        _Row("transfer", row[12], _transfer_name(row), row_digest("transfer", row))
        for row in connection.execute(_SQL["transfers"], stretch)
    ]
    yield from sorted((*entries, *transfers), key=lambda row: (row.offset, row.table))


def _transfer_name(row: Sequence[Any]) -> str:
    wallet = "between house accounts" if row[0] is None else f"{row[0]}:{row[1]} v{row[2]}"
    return f"transfer {wallet} of event {row[9]}"
