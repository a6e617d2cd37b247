"""`pitboss bench adapters`: the cost of each adapter's mapping and Avro encoding on one core.

The signature's cost is reported beside it. No Kafka, no Faust, no asyncio: the normaliser in a loop
over the adapter's examples, as the conformance suite knows them. Every kind of message has the same
weight. CPU time counts, not the wall's: other work on the machine disturbs caches, but does not
count as ours.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lab.bench.machine import this_commit, this_machine
from lab.bench.rates import Spread
from lab.bench.report import BenchEnvironment, FigureRow, range_text, spread_as_json
from lab.conformance.examples.fill import Fill, record
from lab.conformance.examples.find import Examples, examples_of
from runtime.kafka.records import RawRecord
from streams.normalise.mapping.normaliser import Normaliser, RejectedItem
from streams.providers.dialect import Dialect
from streams.providers.registry import Version, by_provider

TARGET_PER_S: Final = 5_000
TARGET_JSON_WALLET_PER_S: Final = 40_000

ROUNDS: Final = 7
_FILLS: Final = 40
_ROUND_S: Final = 0.15
_US: Final = 1e6


@dataclass(frozen=True)
class AdapterFigures:
    """One adapter: µs of CPU an event, without signature.

    `signature_us` comes on top of it, None for an adapter without signatures.
    """

    adapter: str
    is_json_wallet: bool
    messages: int
    events: int
    us: Spread
    signature_us: Spread | None

    @property
    def per_s(self) -> float:
        """Events a second on one core."""
        return _US / self.us.median

    @property
    def target_per_s(self) -> int:
        """Events a second that it must reach."""
        return TARGET_JSON_WALLET_PER_S if self.is_json_wallet else TARGET_PER_S

    @property
    def holds(self) -> bool:
        """Whether it reaches its target."""
        return self.per_s >= self.target_per_s

    def as_json(self) -> dict[str, Any]:
        """Return one JSON object; µs are CPU time an event."""
        signature = self.signature_us
        return {
            "adapter": self.adapter,
            "json_wallet": self.is_json_wallet,
            "events_per_s": round(self.per_s),
            "us_per_event": round(self.us.median, 2),
            "us_per_event_spread": spread_as_json(self.us),
            "signature_us_per_event": None if signature is None else round(signature.median, 2),
            "with_signature_per_s": None
            if signature is None
            else round(_US / (self.us.median + signature.median)),
            "target_per_s": self.target_per_s,
            "holds": self.holds,
            "messages": self.messages,
            "events": self.events,
        }

    def row(self) -> FigureRow:
        """Return the figures as a row for a person."""
        signature = self.signature_us
        checked = (
            "nothing to check" if signature is None else f"signature {signature.median:.1f} µs"
        )
        verdict = "reached" if self.holds else "NOT reached"
        remark = (
            f"{self.us.median:.1f} µs an event ({range_text(self.us, 1)}), {checked}; "
            f"target {self.target_per_s:,}: {verdict}"
        )
        return FigureRow(self.adapter, f"{self.per_s:,.0f}/s", remark)


@dataclass(frozen=True)
class AdapterBenchFigures:
    """Figures of all adapters."""

    adapters: list[AdapterFigures]
    rounds: int
    environment: BenchEnvironment

    @property
    def holds(self) -> bool:
        """Whether every adapter reaches its target."""
        return all(adapter.holds for adapter in self.adapters)

    def as_json(self) -> dict[str, Any]:
        """Return the figures as one JSON object."""
        return {
            "bench": "adapters",
            "adapters": [adapter.as_json() for adapter in self.adapters],
            "holds": self.holds,
            "rounds": self.rounds,
            **self.environment.as_json(),
        }

    def rows(self) -> list[FigureRow]:
        """Return the figures as rows for a person."""
        return [adapter.row() for adapter in self.adapters]


def run(
    versions: Sequence[Version], rounds: int, report: Callable[[str], None]
) -> AdapterBenchFigures:
    """Measure one adapter after the other; in each round first without, then with its keys."""
    setting = BenchEnvironment(this_machine(), this_commit(), {})
    figures = []
    for version in versions:
        name = f"{version.row.provider}/{version.row.version}"
        report(name)
        figures.append(_measure(name, version.dialect, rounds))
    return AdapterBenchFigures(figures, rounds, setting)


def _measure(name: str, dialect: Dialect, rounds: int) -> AdapterFigures:
    examples = examples_of(dialect)
    records, is_json = _traffic(dialect.provider, examples)
    unkeyed = Normaliser(by_provider([dialect]), {})
    keyed = (
        Normaliser(by_provider([dialect]), {dialect.provider: examples.keys})
        if examples.keys
        else None
    )
    events = _events(unkeyed, records)
    if keyed is not None:
        assert _events(keyed, records) == events, (
            f"{dialect.provider}: other events where signatures are checked"
        )
    passes = max(1, round(_ROUND_S / _pass_s(unkeyed, records)))
    without, extra = [], []
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        plain_us = _us_per_event(unkeyed, records, passes, events)
        without.append(plain_us)
        if keyed is not None:
            extra.append(max(0.0, _us_per_event(keyed, records, passes, events) - plain_us))
    gc.unfreeze()
    return AdapterFigures(
        name,
        is_json and bool(dialect.decides),
        len(records),
        events,
        Spread.of(without),
        Spread.of(extra) if extra else None,
    )


def _traffic(provider: str, examples: Examples) -> tuple[list[RawRecord], bool]:
    """Write records of many rounds, in turns of the provider's currencies.

    Only examples that are accepted whole count. Also returns whether all of them are JSON.
    """
    records: list[RawRecord] = []
    types = set()
    for seed in range(_FILLS):
        fill = Fill(seed, examples.currencies[seed % len(examples.currencies)])
        for example in examples.make(fill):
            if all(expected.code is None for expected in example.expects):
                types.add(example.headers.get("content-type", b"").partition(b";")[0].strip())
                records.append(record(example, provider, offset=len(records)))
    return records, types == {b"application/json"}


def _events(normaliser: Normaliser, records: Sequence[RawRecord]) -> int:
    results = [item for each in records for item in normaliser.normalise(each)]
    rejected = [item for item in results if isinstance(item, RejectedItem)]
    assert not rejected, f"an example was rejected: {rejected[0]}"
    return len(results)


def _pass_s(normaliser: Normaliser, records: Sequence[RawRecord]) -> float:
    start_s = time.process_time()
    for each in records:
        normaliser.normalise(each)
    return max(1e-4, time.process_time() - start_s)


def _us_per_event(
    normaliser: Normaliser, records: Sequence[RawRecord], passes: int, events: int
) -> float:
    normalise = normaliser.normalise
    start_s = time.process_time()
    for _ in range(passes):
        for each in records:
            normalise(each)
    return (time.process_time() - start_s) * _US / (passes * events)
