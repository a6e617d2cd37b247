"""Raw records for the whole pipeline: the casino's games, signed, on disk.

Bets, wins and rollbacks of two providers, one with RSA signatures and XML beside JSON; each record
is one event. Every player gets money first, by a record of the cashier, so that every bet can be
booked whatever the order in which a backlog's topics are read. Signing takes longer than reading,
so records are made once, by several processes, and every run is filled from the same files.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import count, groupby
from operator import itemgetter
from pathlib import Path
from typing import Final

import msgspec
from aiokafka.structs import ConsumerRecord

from lab.bench.progress import BenchProgress
from lab.bench.raw_records import opening_record
from lab.conformance.intents import Intent
from lab.sandbox.actions import HOUSE, HUB88, PLAYNGO, IntentRequest
from lab.sandbox.keys import SandboxKeys
from lab.sandbox.scenario import Scenario, deliveries_of
from lab.sandbox.writing import write_all
from runtime.kafka.producer import OutRecord
from schemas.topics import TRANSACTIONS, raw_topic
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser
from streams.providers.registry import DIALECTS

PROVIDERS: Final = (HUB88, PLAYNGO)
KEYRING_PROVIDERS: Final = (*PROVIDERS, HOUSE)
"""An older revision may not know more, and refuses keys of providers that it does not know."""

_CHUNK_EVENTS: Final = 20_000
_PAST_MS: Final = 10 * 60 * 1000
"""A chunk is some minutes of play, which must be over by now: a connector's clock ahead of ours is
not believed.
"""
_PROCESSES: Final = 2
_SEND_AT_ONCE: Final = 1_000


class TrafficRecord(msgspec.Struct, array_like=True, gc=False):
    """A raw record and its provider, as it lies on disk."""

    provider: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]

    def to_out(self) -> OutRecord:
        """Return it as a producer takes it."""
        return self.key, self.value, self.headers, None


class TrafficChunk(msgspec.Struct):
    """Some minutes of play of some hundred players, and the money that they need."""

    opening: list[TrafficRecord]
    play: list[TrafficRecord]


@dataclass(frozen=True)
class PipelineTraffic:
    """Files with chunks; together they hold at least `records` records of play."""

    files: Sequence[Path]
    records: int

    def opening(self, records: int | None = None) -> list[TrafficRecord]:
        """Return the records that give money to the players of the first `records` of play."""
        return [record for chunk in self._chunks(records) for record in chunk.opening]

    def play(self, records: int | None = None) -> Iterator[list[TrafficRecord]]:
        """Yield the first records of play, as many at a time as are to be appended together."""
        for chunk in self._chunks(records):
            for start in range(0, len(chunk.play), _SEND_AT_ONCE):
                yield chunk.play[start : start + _SEND_AT_ONCE]

    def _chunks(self, records: int | None) -> Iterator[TrafficChunk]:
        left = self.records if records is None else min(records, self.records)
        for file in self.files:
            if left <= 0:
                return
            chunk = msgspec.msgpack.decode(file.read_bytes(), type=TrafficChunk)
            chunk.play = chunk.play[:left]
            left -= len(chunk.play)
            yield chunk


def by_provider(records: Sequence[TrafficRecord]) -> dict[str, list[OutRecord]]:
    """Return the records of each provider, in order."""
    named = sorted(((record.provider, record) for record in records), key=itemgetter(0))
    return {
        provider: [record.to_out() for _, record in group]
        for provider, group in groupby(named, key=itemgetter(0))
    }


def make_traffic(folder: Path, records: int, progress: BenchProgress) -> PipelineTraffic:
    """Write and sign so many records of play, in several processes.

    Files that an earlier run has left in the folder are used, with their keys (`load_keys`).
    """
    load_keys(folder)
    start_ms = time.time_ns() // 1_000_000 - _PAST_MS
    files = sorted(folder.glob("*.chunk"))
    made = sum(map(_count_play, files))
    # Not forked: the parent has threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(_PROCESSES, mp_context=context) as pool:
        pending: dict[Future[int], Path] = {}
        seeds = count(len(files) + 1)
        while made < records:
            while len(pending) < _PROCESSES:
                seed = next(seeds)
                file = folder / f"{seed:05d}.chunk"
                pending[pool.submit(write_chunk, folder, seed, start_ms, file)] = file
            done = next(as_completed(pending))
            made += done.result()
            files.append(pending.pop(done))
            progress.update(min(made, records), records)
        files += [file for left, file in pending.items() if left.result()]
    return PipelineTraffic(sorted(files), records)


def load_keys(folder: Path) -> SandboxKeys:
    """Return the keys that the records of a folder are signed with; make them for a new folder."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "secrets.json"
    if not file.exists():
        SandboxKeys.generate().save(file)
    return SandboxKeys.load(file)


def _count_play(file: Path) -> int:
    return len(msgspec.msgpack.decode(file.read_bytes(), type=TrafficChunk).play)


def write_chunk(folder: Path, seed: int, start_ms: int, file: Path) -> int:
    """Play one scenario, keep the games of `PROVIDERS`, and return how many records they are."""
    chunk = make_chunk(load_keys(folder), seed, start_ms)
    whole = file.with_suffix(".part")
    whole.write_bytes(msgspec.msgpack.encode(chunk))
    whole.rename(file)
    return len(chunk.play)


def make_chunk(keys: SandboxKeys, seed: int, start_ms: int) -> TrafficChunk:
    """Return the games of one scenario with the money that they need."""
    scenario = Scenario(
        seed=seed,
        start_ms=start_ms,
        events=_CHUNK_EVENTS,
        poison=0,
        speeders=0,
        retry_share=0,
        reorder_share=0,
    )
    games = [
        delivery
        for delivery in deliveries_of(scenario)
        if isinstance(delivery.request, IntentRequest)
        and delivery.request.intents[0].provider in PROVIDERS
    ]
    wallets: dict[tuple[str, str], Intent] = {}
    for delivery in games:
        assert isinstance(delivery.request, IntentRequest)
        for intent in delivery.request.intents:
            for leg in intent.legs:
                if intent.player is not None and leg.currency is not None:
                    wallets.setdefault((intent.player, leg.currency), intent)
    records = [
        TrafficRecord(record.provider, record.key, record.value, list(record.headers))
        for record in write_all(games, keys)
    ]
    opening = [
        opening_record(keys, f"{player}-{currency}", player, currency, intent)
        for (player, currency), intent in sorted(wallets.items())
    ]
    return TrafficChunk(
        [
            TrafficRecord(HOUSE, key or b"", value or b"", [(n, v or b"") for n, v in headers])
            for key, value, headers, _ in opening
        ],
        _one_event_each(records),
    )


def _one_event_each(records: Sequence[TrafficRecord]) -> list[TrafficRecord]:
    """Keep the records that are one event of the log: every outcome is counted afterwards."""
    normaliser = Normaliser(DIALECTS, {})
    kept = []
    for offset, record in enumerate(records):
        items = normaliser.normalise(_to_consumer_record(record, offset))
        first = items[0] if len(items) == 1 else None
        if isinstance(first, AcceptedTransaction) and first.topic == TRANSACTIONS:
            kept.append(record)
    return kept


def _to_consumer_record(record: TrafficRecord, offset: int) -> ConsumerRecord[bytes, bytes]:
    return ConsumerRecord(
        topic=raw_topic(record.provider),
        partition=0,
        offset=offset,
        timestamp=int(dict(record.headers)["received-at"]),
        timestamp_type=1,
        key=record.key,
        value=record.value,
        checksum=None,
        serialized_key_size=len(record.key),
        serialized_value_size=len(record.value),
        headers=tuple(record.headers),
    )
