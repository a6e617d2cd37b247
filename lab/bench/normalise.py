"""`pitboss bench normalise`: our normalising worker against a plain Faust agent.

Both do the same mapping, in turns. Ours is the worker that `pitboss run normalise` starts, as it
is. Signatures are not checked on either side: an RSA verification costs both the same, and would
only hide the difference; `with_signature_per_s` is ours with it. The cost of mapping and Avro
encoding alone is measured too: a normaliser in a loop, without Kafka, Faust or asyncio.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from statistics import median
from typing import Any, Final

from aiokafka.structs import ConsumerRecord

from lab.bench.broker import BrokerView
from lab.bench.kafka_streams import StreamsFigures, StreamsPeer, StreamsRun, measure_streams
from lab.bench.machine import this_commit, this_machine
from lab.bench.observation import MeasuredSubject, load, measure, observe
from lab.bench.progress import BenchProgress
from lab.bench.rates import Pair, Rate, Spread
from lab.bench.report import (
    BenchEnvironment,
    FigureRow,
    pair_as_json,
    range_text,
    rate_as_json,
    spread_as_json,
)
from runtime.kafka.producer import BatchProducer, OutRecord, ProducerSettings
from runtime.security import BrokerAddress
from schemas.topics import raw_topic
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser
from streams.providers.registry import DIALECTS

TARGET_RATIO: Final = 15.0

EVENTS: Final = 450_000
"""About ten seconds of ours on two cores of 2025."""

PEER_SHARE: Final = 18
"""The peer gets so many times fewer events, and so runs about as long."""

EVENTS_MIN: Final = 20_000
"""Fewer are through before they can be timed."""

SIGNATURES_SHARE: Final = 10
"""Making a signature costs more than checking one: so few are made, and their records appended
several times.
"""

SIGNED_SHARE: Final = 2
"""Some eight seconds of ours, too."""

_SIGNATURES_MIN: Final = 2_000
_WARM_UP_SHARE: Final = 6
_MAPPING_PASSES: Final = 5

RecordChunks = Iterator[Sequence[OutRecord]]
"""Raw records without end, some thousands at a time, so that they never have to be in memory all at
once.
"""

MeasureOnce = Callable[[MeasuredSubject], Awaitable[Rate]]

OTHER_PEERS: Final = {
    "quix_streams": "Quix Streams",
    "bytewax": "Bytewax",
    "confluent_loop": "bare confluent-kafka loop",
}
"""Keys in the JSON, and names, of the peers that run only if asked for."""


@dataclass(frozen=True)
class NormaliseBenchPlan:
    """Subjects of a measurement: our command without keys, our command with a key, and the peer's.

    All of `records` and `signed_records` must be valid Hub88 calls; only the signatures of the
    latter must be true.
    """

    broker: BrokerAddress
    ours: MeasuredSubject
    signed: MeasuredSubject
    peer: MeasuredSubject
    records: RecordChunks
    signed_records: RecordChunks
    pairs: int
    events: int
    partitions: int
    servers_origin: str
    others: Mapping[str, MeasuredSubject] = field(default_factory=dict)
    """More peers by their keys in the JSON, in the order of their turns; each gets `events`."""
    streams: StreamsPeer = field(default_factory=lambda: StreamsPeer(None))

    @property
    def peer_events(self) -> int:
        """Number of records that the peer gets."""
        return self.events // PEER_SHARE

    @property
    def signed_events(self) -> int:
        """Number of signed records that our worker gets."""
        return self.events // SIGNED_SHARE

    @property
    def signatures(self) -> int:
        """Number of signed records that differ."""
        return max(_SIGNATURES_MIN, self.events // SIGNATURES_SHARE)


@dataclass(frozen=True)
class NormaliseBenchFigures:
    """Figures of the pairs, of the run with signatures and of the mapping alone."""

    plan: NormaliseBenchPlan
    pairs: list[Pair]
    signed: Rate
    mapping_us: float
    environment: BenchEnvironment
    others: Mapping[str, Sequence[Rate]] = field(default_factory=dict)
    """Runs of the other peers, one after each pair."""
    streams_runs: Sequence[StreamsRun] = ()
    """Runs of Kafka Streams, one after each pair."""

    def ratio_to(self, peer: str) -> Spread | None:
        """Return our rate divided by another peer's, pair by pair; None if it did not run."""
        if peer not in self.others:
            return None
        both = zip(self.pairs, self.others[peer], strict=True)
        return Spread.of([pair.ours.per_s / rate.per_s for pair, rate in both])

    @property
    def streams(self) -> StreamsFigures:
        """How ours compares with Kafka Streams."""
        ours = [pair.ours for pair in self.pairs]
        return StreamsFigures(ours, self.streams_runs, self.plan.streams.missing)

    @property
    def ratio(self) -> Spread:
        """The pairs' ratios."""
        return Spread.of([pair.ratio for pair in self.pairs])

    @property
    def elsewhere(self) -> Spread:
        """Cores that were busy with something else during the pairs' runs."""
        return Spread.of(
            [rate.elsewhere_cores for pair in self.pairs for rate in (pair.ours, pair.peer)]
        )

    @property
    def holds(self) -> bool:
        """Whether the target is reached."""
        return self.ratio.median >= TARGET_RATIO

    def as_json(self) -> dict[str, Any]:
        """Return one JSON object.

        Rates are events a second, medians unless a name says otherwise.
        """
        plan = self.plan
        ours, peer = [pair.ours for pair in self.pairs], [pair.peer for pair in self.pairs]
        return {
            "bench": "normalise",
            "ours_per_s": round(Spread.of([rate.per_s for rate in ours]).median),
            "plain_faust_per_s": round(Spread.of([rate.per_s for rate in peer]).median),
            "ratio_plain_faust": round(self.ratio.median, 2),
            "ratio_plain_faust_spread": spread_as_json(self.ratio),
            "target_ratio_plain_faust": TARGET_RATIO,
            "holds": self.holds,
            "cpu_s_per_million_ours": round(
                Spread.of([rate.cpu_s_per_million for rate in ours]).median, 2
            ),
            "cpu_s_per_million_plain_faust": round(
                Spread.of([rate.cpu_s_per_million for rate in peer]).median, 2
            ),
            "elsewhere_cores": round(self.elsewhere.median, 2),
            "mapping_us_per_event": round(self.mapping_us, 2),
            "with_signature_per_s": round(self.signed.per_s),
            "with_signature": rate_as_json(self.signed),
            # A peer that did not run is null: its line is not shown to hold.
            **{
                f"ratio_{peer}": None if spread is None else round(spread.median, 2)
                for peer, spread in ((peer, self.ratio_to(peer)) for peer in OTHER_PEERS)
            },
            **self.streams.as_json(),
            "others": {
                peer: [rate_as_json(rate) for rate in rates] for peer, rates in self.others.items()
            },
            "pairs": [pair_as_json(pair, "plain_faust") for pair in self.pairs],
            "events": plan.events,
            "events_plain_faust": plan.peer_events,
            "events_with_signature": plan.signed_events,
            "partitions": plan.partitions,
            **self.environment.as_json(),
        }

    def rows(self) -> list[FigureRow]:
        """Return the figures as rows for a person."""
        ours, peer = [pair.ours for pair in self.pairs], [pair.peer for pair in self.pairs]
        ours_per_s = Spread.of([rate.per_s for rate in ours])
        peer_per_s = Spread.of([rate.per_s for rate in peer])
        ours_cpu = Spread.of([rate.cpu_s_per_million for rate in ours])
        peer_cpu = Spread.of([rate.cpu_s_per_million for rate in peer])
        verdict = "reached" if self.holds else "NOT reached"
        return [
            FigureRow(
                "normaliser",
                f"{ours_per_s.median:,.0f}/s",
                f"{range_text(ours_per_s)}; {self.plan.events:,} events",
            ),
            FigureRow(
                "plain Faust agent",
                f"{peer_per_s.median:,.0f}/s",
                f"{range_text(peer_per_s)}; {self.plan.peer_events:,} events",
            ),
            FigureRow(
                "ratio",
                f"{self.ratio.median:.1f}",
                f"{range_text(self.ratio, 1)}; target {TARGET_RATIO:g}: {verdict}",
            ),
            *self._rows_of_others(),
            FigureRow(
                "normaliser, CPU s a million", f"{ours_cpu.median:.1f}", range_text(ours_cpu, 1)
            ),
            FigureRow(
                "plain Faust, CPU s a million", f"{peer_cpu.median:.1f}", range_text(peer_cpu, 1)
            ),
            FigureRow(
                "mapping and encoding alone", f"{self.mapping_us:.1f} µs", "CPU an event, in a loop"
            ),
            FigureRow(
                "cores busy with anything else",
                f"{self.elsewhere.median:.1f}",
                f"{range_text(self.elsewhere, 1)} of {self.environment.machine.cores};"
                " the broker alone takes some 0.2",
            ),
            FigureRow(
                "normaliser checking signatures",
                f"{self.signed.per_s:,.0f}/s",
                f"RSA-2048; one run, {self.plan.signed_events:,} events",
            ),
        ]

    def _rows_of_others(self) -> list[FigureRow]:
        rows = []
        for peer, rates in self.others.items():
            per_s, ratio = Spread.of([rate.per_s for rate in rates]), self.ratio_to(peer)
            cpu = Spread.of([rate.cpu_s_per_million for rate in rates])
            assert ratio is not None
            remark = (
                f"{range_text(per_s)}; ours to it {ratio.median:.2f} ({range_text(ratio, 2)});"
                f" {cpu.median:.1f} CPU s a million"
            )
            rows.append(FigureRow(OTHER_PEERS[peer], f"{per_s.median:,.0f}/s", remark))
        return [*rows, *self.streams.rows()]


def _cycle_first(chunks: RecordChunks, records: int) -> RecordChunks:
    """Yield the first `records` records over and over."""
    kept: list[Sequence[OutRecord]] = []
    while records > 0:
        kept.append(next(chunks)[:records])
        records -= len(kept[-1])
        yield kept[-1]
    yield from cycle(kept)


def _sources(
    plan: NormaliseBenchPlan,
) -> Iterator[tuple[MeasuredSubject, RecordChunks, int]]:
    """Yield each subject with the records of its source, and their number."""
    yield plan.ours, plan.records, plan.events
    yield plan.peer, plan.records, plan.peer_events
    yield plan.signed, _cycle_first(plan.signed_records, plan.signatures), plan.signed_events
    for subject in plan.others.values():
        yield subject, plan.records, plan.events
    if plan.streams.subject is not None:
        yield plan.streams.subject, plan.records, StreamsPeer.events(plan.events)


async def run(plan: NormaliseBenchPlan, progress: BenchProgress) -> NormaliseBenchFigures:
    """Load the three raw topics, warm up, run the pairs.

    Raises BenchFailed where a run is not what it should be.
    """
    machine = this_machine()
    producer = BatchProducer(ProducerSettings(plan.broker, "pitboss-bench"))
    await producer.start()
    try:
        for subject, chunks, events in _sources(plan):
            progress.begin(f"making records for {subject.name}")
            await load(producer, subject.source, chunks, events, progress.update)
    finally:
        await producer.stop()
    async with BrokerView(plan.broker) as broker:

        async def once(subject: MeasuredSubject) -> Rate:
            return await measure(broker, subject, progress.update)

        progress.begin("warming up the broker")
        await observe(
            broker, plan.peer, progress.update, at_most=plan.peer_events // _WARM_UP_SHARE
        )
        await observe(broker, plan.ours, progress.update, at_most=plan.events // _WARM_UP_SHARE)
        streams_runs: list[StreamsRun] = []

        async def run_streams(step: str) -> None:
            streams_runs.extend(
                await measure_streams(broker, plan.streams, plan.events, step, progress)
            )

        pairs, others = await run_pairs(
            plan.pairs, plan.ours, plan.peer, plan.others, once, progress, run_streams
        )
        progress.begin(plan.signed.name)
        signed_rate = await once(plan.signed)
        progress.end(f"{signed_rate.per_s:,.0f}/s")
        servers = {"origin": plan.servers_origin, "kafka": await broker.settings()}
    progress.begin("the mapping alone")
    mapping_us = mapping_us_per_event(next(plan.records))
    progress.end(f"{mapping_us:.1f} µs")
    environment = BenchEnvironment(machine, this_commit(), servers)
    return NormaliseBenchFigures(
        plan, pairs, signed_rate, mapping_us, environment, others, streams_runs
    )


def mapping_us_per_event(records: Sequence[OutRecord]) -> float:
    """Return the CPU time in µs for a raw Hub88 record.

    It is the median of some passes; the first one is not counted.
    """
    normaliser = Normaliser(DIALECTS, keyring={})
    inputs = [_to_consumer_record(record, offset) for offset, record in enumerate(records)]
    passes = []
    for _ in range(1 + _MAPPING_PASSES):
        start_s = time.process_time()
        outputs = [normaliser.normalise(record) for record in inputs]
        passes.append((time.process_time() - start_s) * 1e6 / len(inputs))
        assert all(isinstance(item, AcceptedTransaction) for items in outputs for item in items), (
            "a record was rejected"
        )
    return median(passes[1:])


def _to_consumer_record(record: OutRecord, offset: int) -> ConsumerRecord[bytes, bytes]:
    key, value, headers, _ = record
    return ConsumerRecord(
        topic=raw_topic("hub88"),
        partition=0,
        offset=offset,
        timestamp=int(dict(headers)["received-at"] or 0),
        timestamp_type=1,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=len(key or b""),
        serialized_value_size=len(value or b""),
        headers=tuple(headers),
    )


async def run_pairs(
    count: int,
    ours: MeasuredSubject,
    peer: MeasuredSubject,
    others: Mapping[str, MeasuredSubject],
    measure_once: MeasureOnce,
    progress: BenchProgress,
    after_pair: Callable[[str], Awaitable[None]] | None = None,
) -> tuple[list[Pair], dict[str, list[Rate]]]:
    """Run each side `count` times in turns: ours, the peer, the others, ours again.

    Disturbances of the machine affect all. `after_pair` gets the name of each pair.
    """
    pairs: list[Pair] = []
    rates_of_others: dict[str, list[Rate]] = {key: [] for key in others}

    async def run(number: int, subject: MeasuredSubject) -> Rate:
        progress.begin(f"pair {number} of {count}, {subject.name}")
        rate = await measure_once(subject)
        progress.end(f"{rate.per_s:,.0f}/s, {rate.cpu_s_per_million:.1f} CPU s a million")
        return rate

    for number in range(1, count + 1):
        pairs.append(Pair(await run(number, ours), await run(number, peer)))
        for key, subject in others.items():
            rates_of_others[key].append(await run(number, subject))
        if after_pair is not None:
            await after_pair(f"pair {number} of {count}")
    return pairs, rates_of_others
