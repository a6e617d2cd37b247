"""Conformance of each adapter as installed: its examples, read, answered and checked by schema.

The suite under tests/contract asks more; this is what can be asked of an installation without the
sources of the tests.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence

import msgspec

from lab.conformance.adapters import AdapterUnderTest
from lab.conformance.cases import FuzzCase, Mode
from lab.conformance.examples.fill import Example, Fill, record
from lab.conformance.fuzz import check_case, normalise_case, run_fuzz
from lab.conformance.oracle import AdapterFault, AdapterFaultKind, event_of
from lab.conformance.packing import check_packings
from runtime.kafka.records import RawRecord
from streams.drift.checking import DriftChecker
from streams.drift.shapes import DriftKind
from streams.normalise.mapping.normaliser import RejectedItem

FUZZED_EACH = 250
"""Messages of each adapter besides its examples: some seconds for all of them together."""

STORIES_EACH = 3
"""Stories of each adapter that are told again in another packing."""

_FAULTS_KEPT = 10


class Conformance(msgspec.Struct, frozen=True):
    """Result of one adapter: examples read, messages fuzzed, and the first faults."""

    adapter: str
    examples: int
    fuzzed: int
    faults: list[str]

    @property
    def has_passed(self) -> bool:
        """Whether nothing was wrong."""
        return not self.faults


def run_suite(adapters: Sequence[AdapterUnderTest], seed: int = 1) -> list[Conformance]:
    """Check each adapter and return what is wrong with it.

    Raises nothing, whatever an adapter does.
    """
    checker = DriftChecker()
    fuzzed = run_fuzz(seed, range(FUZZED_EACH * len(adapters)), adapters)
    packings = check_packings(adapters, seed, STORIES_EACH)
    results = []
    for adapter in adapters:
        examples, faults = 0, []
        for number, fault in enumerate(_check_examples(adapter, checker)):
            examples = number + 1
            faults += fault
        failures = [failure for failure in fuzzed.failures if failure.adapter == adapter.name]
        faults += [
            f"fuzzed {failure.mode} {failure.example!r}: {failure.faults[0]}"
            for failure in failures
        ]
        faults += [
            f"story {failure.seed}: {failure.what}: {failure.detail}"
            for failure in packings.failures
            if failure.adapter == adapter.name
        ]
        tally = fuzzed.by_adapter[adapter.name]
        if not tally.is_clean and not failures:
            faults.append(
                f"fuzzed: {tally.exceptions + tally.unaccounted + tally.inexact} messages"
                " went wrong"
            )
        results.append(Conformance(adapter.name, examples, tally.count, faults[:_FAULTS_KEPT]))
    return results


def _check_examples(adapter: AdapterUnderTest, checker: DriftChecker) -> Iterator[list[str]]:
    """Yield what is wrong with each example in the provider's first and last currency."""
    currencies = dict.fromkeys((adapter.examples.currencies[0], adapter.examples.currencies[-1]))
    for currency in currencies:
        try:
            fill = Fill(1, currency)
            written = adapter.make_examples(fill)
        except Exception:  # noqa: BLE001 - unwritable examples are a fault like any other
            yield [f"{currency}: no examples: {traceback.format_exc(limit=-1)}"]
            continue
        for example in written:
            try:
                faults = [
                    *_check_example(adapter, fill, example),
                    *_check_schema(adapter, example, checker),
                ]
            except Exception:  # noqa: BLE001 - that nothing may raise is what is tested
                faults = [AdapterFault(AdapterFaultKind.EXCEPTION, traceback.format_exc(limit=-1))]
            yield [f"{currency} {example.name!r}: {fault.kind}: {fault.detail}" for fault in faults]


def _check_example(
    adapter: AdapterUnderTest, fill: Fill, example: Example
) -> Iterator[AdapterFault]:
    raw = record(example, adapter.dialect.provider, appended_at_ms=fill.appended_at_ms)
    again = record(
        example, adapter.dialect.provider, offset=1, appended_at_ms=fill.appended_at_ms + 60_000
    )
    case = FuzzCase(0, adapter, Mode.VALID, fill, example, raw, keyed=True)
    results = normalise_case(case)
    yield from check_case(case, results)
    if _identities(adapter, again) != _identities(adapter, raw):
        yield AdapterFault(AdapterFaultKind.INEXACT, "sent again, it is something else")


def _identities(adapter: AdapterUnderTest, raw: RawRecord) -> list[str]:
    items = adapter.keyed.normalise(raw)
    return [
        item.code.value if isinstance(item, RejectedItem) else event_of(item).event_id
        for item in items
    ]


def _check_schema(
    adapter: AdapterUnderTest, example: Example, checker: DriftChecker
) -> Iterator[AdapterFault]:
    if all(expected.code is not None for expected in example.expects):
        return
    for finding in checker.check(
        adapter.dialect.provider, record(example, adapter.dialect.provider)
    ):
        if finding.shape.what is not DriftKind.NEW_FIELD:
            what, path, detail = finding.shape
            yield AdapterFault(
                AdapterFaultKind.INEXACT,
                f"against its payload schema: {what} {path} {detail}".rstrip(),
            )
