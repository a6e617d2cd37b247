"""The conformance of each adapter as it runs here: its own examples, read, answered and held
against its schemas.

The suite under tests/contract asks more; this is what can be asked of an installation without the
tests' sources.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence

import msgspec

from lab.conformance.adapters import AdapterUnderTest
from lab.conformance.cases import FuzzCase, Mode
from lab.conformance.examples.fill import Example, Fill, record
from lab.conformance.fuzz import check_case, normalise_case, run_fuzz
from lab.conformance.oracle import AdapterFault, FaultKind, event_of
from streams.drift.checking import DriftChecker
from streams.drift.shapes import DriftKind
from streams.normalise.mapping.normaliser import RejectedItem

FUZZED_EACH = 250
"""Messages of each adapter besides its examples: some seconds for all of them together."""

_FAULTS_KEPT = 10


class Conformance(msgspec.Struct, frozen=True):
    """What came of one adapter: examples that were read, messages that were fuzzed, and what was
    wrong (the first).
    """

    adapter: str
    examples: int
    fuzzed: int
    faults: list[str]

    @property
    def has_passed(self) -> bool:
        """Whether nothing was wrong."""
        return not self.faults


def run_suite(among: Sequence[AdapterUnderTest], seed: int = 1) -> list[Conformance]:
    """Each adapter with what is wrong with it. Raises nothing, whatever an adapter does."""
    checker = DriftChecker()
    fuzzed = run_fuzz(seed, range(FUZZED_EACH * len(among)), among)
    results = []
    for subject in among:
        examples, faults = 0, []
        for number, fault in enumerate(_tried(subject, checker)):
            examples = number + 1
            faults += fault
        failures = [failure for failure in fuzzed.failures if failure.adapter == subject.name]
        faults += [
            f"fuzzed {failure.mode} {failure.example!r}: {failure.faults[0]}"
            for failure in failures
        ]
        tally = fuzzed.by_adapter[subject.name]
        if not tally.is_clean and not failures:
            faults.append(
                f"fuzzed: {tally.exceptions + tally.unaccounted + tally.inexact} messages went wrong"
            )
        results.append(Conformance(subject.name, examples, tally.count, faults[:_FAULTS_KEPT]))
    return results


def _tried(subject: AdapterUnderTest, checker: DriftChecker) -> Iterator[list[str]]:
    """For each example in the first and the last of the provider's currencies what is wrong with
    it.
    """
    currencies = dict.fromkeys((subject.examples.currencies[0], subject.examples.currencies[-1]))
    for currency in currencies:
        try:
            fill = Fill(1, currency)
            made = subject.make_examples(fill)
        except Exception:
            yield [f"{currency}: no examples: {traceback.format_exc(limit=-1)}"]
            continue
        for example in made:
            try:
                faults = [*_faults(subject, fill, example), *_undeclared(subject, example, checker)]
            except Exception:
                faults = [AdapterFault(FaultKind.EXCEPTION, traceback.format_exc(limit=-1))]
            yield [f"{currency} {example.name!r}: {fault.kind}: {fault.detail}" for fault in faults]


def _faults(subject: AdapterUnderTest, fill: Fill, example: Example) -> Iterator[AdapterFault]:
    place = record(example, subject.dialect.provider, appended_at_ms=fill.appended_at_ms)
    again = record(
        example, subject.dialect.provider, offset=1, appended_at_ms=fill.appended_at_ms + 60_000
    )
    case = FuzzCase(0, subject, Mode.VALID, fill, example, place, keyed=True)
    results = normalise_case(case)
    yield from check_case(case, results)
    if _identities(subject, again) != _identities(subject, place):
        yield AdapterFault(FaultKind.INEXACT, "sent again, it is something else")


def _identities(subject: AdapterUnderTest, place: object) -> list[str]:
    items = subject.keyed.normalise(place)  # type: ignore[arg-type]
    return [
        item.code.value if isinstance(item, RejectedItem) else event_of(item).event_id
        for item in items
    ]


def _undeclared(
    subject: AdapterUnderTest, example: Example, checker: DriftChecker
) -> Iterator[AdapterFault]:
    if all(expected.code is not None for expected in example.expects):
        return
    for finding in checker.check(
        subject.dialect.provider, record(example, subject.dialect.provider)
    ):
        if finding.shape.what is not DriftKind.NEW_FIELD:
            what, path, detail = finding.shape
            yield AdapterFault(
                FaultKind.INEXACT, f"against its payload schema: {what} {path} {detail}".rstrip()
            )
