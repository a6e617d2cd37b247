"""The outcomes of a recorded slice, kept beside it: what the same records are to come to again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from replay.archive.archived_log import ArchivedLog
from replay.archive.manifest import FileManifest
from replay.log.blocks import LogSource
from schemas import codec
from schemas.errors import Rejected
from schemas.events import Attempt, WalletOutcome, WalletTransaction
from schemas.topics import TRANSACTIONS, provider_of

_BEFORE_MS: Final = 60_000
"""An outcome is appended after its record; clocks of brokers differ by less than this."""


class ExpectedOutcome(msgspec.Struct, frozen=True, order=True):
    """The outcome of one attempt; `attempt` names the raw topic without a namespace."""

    attempt: Attempt
    event_id: str
    outcome: str
    reason: str


def outcomes_file(folder: Path) -> Path:
    """Return where the outcomes of a slice are: beside its folder, which is an archive."""
    return folder.with_name(f"{folder.name}.outcomes.jsonl")


def collect_outcomes(
    source: LogSource,
    outcomes_topic: str,
    prefix: str,
    made: list[FileManifest],
    recorded: ArchivedLog,
) -> list[ExpectedOutcome]:
    """Return the outcomes of the attempts in a slice of a raw topic or of the log, in their order.

    Other topics have none. Raises LogGap, Unavailable.
    """
    is_wanted = _attempts_of(made, recorded)
    times = [one.first_append_ms for one in made if one.first_append_ms is not None]
    if is_wanted is None or not times:
        return []
    found = set()
    firsts = source.first_at(outcomes_topic, max(0, min(times) - _BEFORE_MS))
    for partition, (_, end) in source.bounds(outcomes_topic).items():
        for outcome in _read(source, outcomes_topic, partition, firsts[partition], end):
            topic = outcome.attempt.topic.removeprefix(prefix)
            attempt = msgspec.structs.replace(outcome.attempt, topic=topic)
            if is_wanted(attempt):
                found.add(
                    ExpectedOutcome(attempt, outcome.event_id, outcome.outcome, outcome.reason)
                )
    return sorted(found, key=order_of)


def order_of(one: ExpectedOutcome) -> tuple[Any, ...]:
    """Return what outcomes are sorted by: the place of the attempt."""
    attempt = one.attempt
    return attempt.topic, attempt.partition, attempt.offset, attempt.record_index, one.event_id


def _read(
    source: LogSource, topic: str, partition: int, begin: int, end: int
) -> Iterator[WalletOutcome]:
    decode = codec.decoder(WalletOutcome)
    for block in source.read(topic, partition, begin, end):
        for value in block.values:
            try:
                yield decode(value or b"")
            except Rejected:
                continue


def _attempts_of(
    made: list[FileManifest], recorded: ArchivedLog
) -> Callable[[Attempt], bool] | None:
    topics = {one.topic for one in made}
    if topics == {TRANSACTIONS}:
        attempts = {_place(each) for each in _events_attempts(recorded)}
        return lambda attempt: _place(attempt) in attempts
    if not topics or not all(map(_is_raw, topics)):
        return None
    ranges: Mapping[tuple[str, int], list[tuple[int, int]]] = {
        (one.topic, one.partition): [
            (each.from_offset, each.to_offset)
            for each in made
            if (each.topic, each.partition) == (one.topic, one.partition)
        ]
        for one in made
    }
    return lambda attempt: any(
        begin <= attempt.offset < end
        for begin, end in ranges.get((attempt.topic, attempt.partition), ())
    )


def _is_raw(topic: str) -> bool:
    try:
        return bool(provider_of(topic))
    except ValueError:
        return False


def _place(attempt: Attempt) -> tuple[int, int, int]:
    return attempt.partition, attempt.offset, attempt.record_index


def _events_attempts(recorded: ArchivedLog) -> Iterator[Attempt]:
    decode = codec.decoder(WalletTransaction)
    for partition, (begin, end) in recorded.bounds(TRANSACTIONS).items():
        for block in recorded.read(TRANSACTIONS, partition, begin, end):
            for value in block.values:
                try:
                    yield decode(value or b"").attempt
                except Rejected:
                    continue


def write_outcomes(file: Path, outcomes: list[ExpectedOutcome]) -> None:
    """Write outcomes as JSON lines."""
    file.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in outcomes))


def read_outcomes(file: Path) -> list[ExpectedOutcome]:
    """Return the outcomes of a file."""
    lines = file.read_bytes().splitlines()
    return [msgspec.json.decode(line, type=ExpectedOutcome) for line in lines]
