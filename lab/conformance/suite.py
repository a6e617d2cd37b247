"""Conformance of each adapter as installed: its examples, read, answered and checked by schema.

The suite under tests/contract asks more; this is what can be asked of an installation without the
sources of the tests.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence

import msgspec

from lab.conformance.adapters import AdapterUnderTest
from lab.conformance.answers import check_answers
from lab.conformance.cases import FuzzCase, Mode
from lab.conformance.examples.fill import Example, Fill, record
from lab.conformance.examples.rsa_keys import RSA_OTHER_PUBLIC_PEM
from lab.conformance.fuzz import check_case, normalise_case, run_fuzz
from lab.conformance.oracle import AdapterFault, AdapterFaultKind, event_of
from lab.conformance.packing import check_packings
from runtime.kafka.records import RawRecord
from schemas.events import SignatureVerdict
from streams.drift.checking import DriftChecker
from streams.drift.shapes import DriftKind
from streams.normalise.mapping.normaliser import Normaliser, RejectedItem
from streams.providers.dialect import KeyMaterial
from streams.providers.registry import by_provider

FUZZED_EACH = 250
"""Messages of each adapter besides its examples: some seconds for all of them together."""

STORIES_EACH = 3
"""Stories of each adapter that are told again in another packing."""

_ODD_FILLS = 12
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
        faults += [fault for found in _check_odd_contents(adapter) for fault in found]
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


def find_fault(adapter: AdapterUnderTest, seed: int = 1, fuzzed: int = 150) -> str:
    """Return the first fault of an adapter, or an empty text; the cheapest checks come first."""
    for faults in (*_check_examples(adapter, DriftChecker()), *_check_odd_contents(adapter)):
        if faults:
            return faults[0]
    for failure in check_packings([adapter], seed, STORIES_EACH).failures:
        return f"story: {failure.what}: {failure.detail}"
    report = run_fuzz(seed, range(fuzzed), [adapter])
    return next((f"fuzzed: {failure.faults[0]}" for failure in report.failures), "")


def _check_examples(adapter: AdapterUnderTest, checker: DriftChecker) -> Iterator[list[str]]:
    """Yield what is wrong with each example in the provider's first and last currency."""
    currencies = dict.fromkeys((adapter.examples.currencies[0], adapter.examples.currencies[-1]))
    for currency in currencies:
        try:
            fill = Fill(1, currency)
            written = adapter.make_examples(fill)
            again = adapter.make_examples(fill.again())
        except Exception:  # noqa: BLE001 - unwritable examples are a fault like any other
            yield [f"{currency}: no examples: {traceback.format_exc(limit=-1)}"]
            continue
        for example, retry in zip(written, again, strict=True):
            try:
                faults = [
                    *_check_example(adapter, fill, example, retry),
                    *_check_schema(adapter, example, checker),
                ]
            except Exception:  # noqa: BLE001 - that nothing may raise is what is tested
                faults = [AdapterFault(AdapterFaultKind.EXCEPTION, traceback.format_exc(limit=-1))]
            yield [f"{currency} {example.name!r}: {fault.kind}: {fault.detail}" for fault in faults]


def _check_odd_contents(adapter: AdapterUnderTest) -> Iterator[list[str]]:
    """Yield what is wrong with examples of odd text and of amounts beyond 53 and 64 bits."""
    for seed in range(_ODD_FILLS):
        currencies = adapter.examples.currencies
        fill = Fill(seed, currencies[seed % len(currencies)], hostile=True)
        for example in adapter.make_examples(fill):
            raw = record(example, adapter.dialect.provider, appended_at_ms=fill.appended_at_ms)
            case = FuzzCase(0, adapter, Mode.HOSTILE, fill, example, raw, keyed=True)
            try:
                faults = check_case(case, normalise_case(case))
            except Exception:  # noqa: BLE001 - that nothing may raise is what is tested
                faults = [AdapterFault(AdapterFaultKind.EXCEPTION, traceback.format_exc(limit=-1))]
            yield [f"odd {example.name!r}: {fault.kind}: {fault.detail}" for fault in faults]


def _check_example(
    adapter: AdapterUnderTest, fill: Fill, example: Example, retry: Example
) -> Iterator[AdapterFault]:
    raw = record(example, adapter.dialect.provider, appended_at_ms=fill.appended_at_ms)
    again = record(
        retry, adapter.dialect.provider, offset=1, appended_at_ms=fill.appended_at_ms + 60_000
    )
    case = FuzzCase(0, adapter, Mode.VALID, fill, example, raw, keyed=True)
    results = normalise_case(case)
    yield from check_case(case, results)
    if _identities(adapter, again) != _identities(adapter, raw):
        yield AdapterFault(AdapterFaultKind.INEXACT, "sent again, it is something else")
    yield from check_answers(adapter, example, raw, results)
    yield from _check_forgery(adapter, example, raw)


def _check_forgery(
    adapter: AdapterUnderTest, example: Example, raw: RawRecord
) -> Iterator[AdapterFault]:
    """Check that the keys of another party make no signature of this provider's right."""
    keys = adapter.examples.keys
    if not keys:
        return
    others = adapter.examples.other_keys or alter_keys(keys)
    stranger = Normaliser(by_provider([adapter.dialect]), {adapter.dialect.provider: others})
    results = stranger.normalise(raw)
    is_whole = len(results) == 1 and len(example.expects) > 1
    expects = example.expects[:1] if is_whole else example.expects
    for item, expected in zip(results, expects, strict=False):
        is_signed = expected.signature == SignatureVerdict.VALID and expected.code is None
        if is_signed and not isinstance(item, RejectedItem):
            yield AdapterFault(AdapterFaultKind.INEXACT, "another party's signature is accepted")


def alter_keys(keys: KeyMaterial) -> dict[str, str]:
    """Return key material of another party: valid in form, and not the provider's."""
    return {entry: _alter_key(text) for entry, text in keys.items()}


def _alter_key(text: str) -> str:
    if text.startswith("-----BEGIN"):
        return RSA_OTHER_PUBLIC_PEM
    at = len(text) - 1
    return text[:at] + ("1" if text[at] != "1" else "2")


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
