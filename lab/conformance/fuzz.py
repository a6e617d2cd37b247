"""Runs the cases through the real normaliser and counts violations.

Each case is also answered, as a connector would ask for it.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from lab.conformance.adapters import AdapterUnderTest
from lab.conformance.cases import FuzzCase, Mode, adapter_at, make_case
from lab.conformance.oracle import (
    AdapterFault,
    AdapterFaultKind,
    check_expectations,
    check_soundness,
    event_of,
)
from schemas.errors import Rejected
from schemas.events import Outcome, SignatureVerdict, WalletOutcome, WalletTransaction
from schemas.money import EXPONENTS
from streams.normalise.mapping.normaliser import ItemResult, RejectedItem
from streams.providers.dialect import Reply

ACCEPTED_SHARE_MIN: Final = 0.1
"""Of each adapter's messages: a fuzzer whose traffic is all refused at the door tests the door."""

_FAILURES_KEPT: Final = 20
_REPORT_EVERY: Final = 500

REASONS: Final = (
    "",
    "INSUFFICIENT_FUNDS",
    "BET_NOT_FOUND",
    "BET_ROLLED_BACK",
    "BET_SETTLED",
    "SOMETHING_NEW",
)
BALANCE_MINOR: Final = 1_234_567_891
"""No digits that could be in an answer for another reason."""

ItemOutcome = WalletOutcome | Rejected

CountCases = Callable[[int], None]
"""Called with the number of cases sent, every few hundred."""


@dataclass
class Tally:
    """Messages of one adapter.

    Accepted: every item became an event. Rejected: at least one became a dead letter.
    """

    count: int = 0
    accepted: int = 0
    rejected: int = 0
    exceptions: int = 0
    unaccounted: int = 0
    inexact: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether there was no violation."""
        return not (self.exceptions or self.unaccounted or self.inexact)

    def as_json(self) -> dict[str, int]:
        """Return the counts by name."""
        return dict(vars(self))


@dataclass(frozen=True)
class FuzzFailure:
    """A case that went wrong.

    `pitboss providers fuzz --seed S --only INDEX` sends it again.
    """

    index: int
    adapter: str
    mode: str
    example: str
    faults: list[str]


@dataclass
class FuzzReport:
    """Result of a run: counts by adapter, and the first failures."""

    seed: int
    by_adapter: dict[str, Tally] = field(default_factory=dict)
    failures: list[FuzzFailure] = field(default_factory=list)

    @property
    def total(self) -> Tally:
        """All adapters together."""
        tallies = self.by_adapter.values()
        return Tally(
            **{name: sum(getattr(tally, name) for tally in tallies) for name in vars(Tally())}
        )

    @property
    def too_few_accepted(self) -> list[str]:
        """Adapters of whose messages less than a tenth was accepted.

        The run has not shown much of them.
        """
        return [
            name
            for name, tally in self.by_adapter.items()
            if tally.accepted < ACCEPTED_SHARE_MIN * tally.count
        ]

    def as_json(self) -> dict[str, Any]:
        """Return the report as one JSON object."""
        return {
            **self.total.as_json(),
            "seed": self.seed,
            "by_adapter": {
                name: tally.as_json() for name, tally in sorted(self.by_adapter.items())
            },
            "failures": [vars(failure) for failure in self.failures],
        }


def run_fuzz(
    seed: int,
    indices: Sequence[int],
    adapters: Sequence[AdapterUnderTest],
    progress: CountCases | None = None,
) -> FuzzReport:
    """Send the cases `indices` of `seed`; the first failures are kept with their indices."""
    report = FuzzReport(seed, {adapter.name: Tally() for adapter in adapters})
    for sent, index in enumerate(indices, start=1):
        adapter, example, mode, results, faults = _send_case(seed, index, adapters)
        tally = report.by_adapter[adapter]
        tally.count += 1
        if results:
            rejected = any(isinstance(item, RejectedItem) for item in results)
            tally.rejected += rejected
            tally.accepted += not rejected
        for kind in {fault.kind for fault in faults}:
            setattr(tally, kind.value, getattr(tally, kind.value) + 1)
        if faults and len(report.failures) < _FAILURES_KEPT:
            texts = [f"{fault.kind}: {fault.detail}" for fault in faults]
            report.failures.append(FuzzFailure(index, adapter, mode, example, texts))
        if progress is not None and sent % _REPORT_EVERY == 0:
            progress(sent)
    return report


def _send_case(
    seed: int, index: int, adapters: Sequence[AdapterUnderTest]
) -> tuple[str, str, str, list[ItemResult], list[AdapterFault]]:
    try:
        case = make_case(seed, index, adapters)
    except Exception:  # noqa: BLE001 - an unwritable example is a failure like any other
        adapter = adapter_at(index, adapters)
        return (
            adapter.name,
            "examples",
            "making",
            [],
            [AdapterFault(AdapterFaultKind.EXCEPTION, traceback.format_exc(limit=-3))],
        )
    results: list[ItemResult] = []
    try:
        results = normalise_case(case)
        faults = check_case(case, results)
    except Exception:  # noqa: BLE001 - that nothing may raise is what is tested
        faults = [AdapterFault(AdapterFaultKind.EXCEPTION, traceback.format_exc(limit=-3))]
    return case.adapter.name, case.example.name, case.mode.value, results, faults


def normalise_case(case: FuzzCase) -> list[ItemResult]:
    """Normalise the message of a case."""
    normaliser = case.adapter.keyed if case.keyed else case.adapter.unkeyed
    return normaliser.normalise(case.record)


def _check_version(case: FuzzCase, results: list[ItemResult]) -> list[AdapterFault]:
    wanted = case.adapter.version
    read_as = {
        event_of(item).provider_version for item in results if not isinstance(item, RejectedItem)
    }
    return [
        AdapterFault(AdapterFaultKind.INEXACT, f"read as version {other}, not as {wanted}")
        for other in read_as - {wanted}
    ]


def check_case(case: FuzzCase, results: list[ItemResult]) -> list[AdapterFault]:
    """Return what is wrong with the results of a case, its answer included."""
    faults = check_soundness(results)
    if case.mode is not Mode.MUTATED:
        keyed = case.keyed and bool(case.adapter.examples.keys)
        verdict = None if keyed else SignatureVerdict.NOT_CHECKED.value
        faults += check_expectations(case.example, case.fill, results, verdict)
        faults += _check_version(case, results)
    dialect = case.adapter.dialect
    reply = dialect.answer(case.record, random_outcomes(results, Random(case.index)))
    if type(reply) is not Reply or type(reply.body) is not bytes:
        faults.append(AdapterFault(AdapterFaultKind.EXCEPTION, f"the answer is {reply!r}"))
    shown = dialect.redact(case.example.value)
    if case.mode is not Mode.MUTATED:
        secrets = [
            secret for secret in case.adapter.examples.keys.values() if secret.encode() in shown
        ]
        faults += [AdapterFault(AdapterFaultKind.INEXACT, "a secret is shown") for _ in secrets]
    return faults


def outcomes_for(
    results: Sequence[ItemResult], outcome: Outcome, reason: str = "", *, with_balance: bool = True
) -> list[ItemOutcome]:
    """Return one outcome for each accepted item, and the rejections as they are.

    These are what a connector has when it asks for the answer; without `with_balance` they carry no
    balance.
    """
    return [_outcome_of(item, outcome, reason, with_balance) for item in results]


def random_outcomes(results: Sequence[ItemResult], rng: Random) -> list[ItemOutcome]:
    """Draw one outcome with one reason for all items."""
    return outcomes_for(
        results, rng.choice(tuple(Outcome)), rng.choice(REASONS), with_balance=rng.random() < 0.8
    )


def _outcome_of(item: ItemResult, outcome: Outcome, reason: str, with_balance: bool) -> ItemOutcome:
    if isinstance(item, RejectedItem):
        return Rejected(item.code, item.detail)
    event = event_of(item)
    if not isinstance(event, WalletTransaction):
        # What moves no money is in no ledger and has no outcome; to its provider it has arrived.
        return WalletOutcome(
            event.event_id,
            event.brand,
            event.provider,
            event.operation,
            event.provider_event_id,
            event.attempt,
            None,
            Outcome.INFORMATIONAL.value,
            "",
            "",
            None,
            None,
            None,
            None,
        )
    currency = next((leg.currency for leg in event.legs if leg.currency is not None), "EUR")
    has_balance = with_balance and event.player_id is not None
    return WalletOutcome(
        event.event_id,
        event.brand,
        event.provider,
        event.operation,
        event.provider_tx_id,
        event.attempt,
        event.player_id,
        outcome.value,
        reason,
        "for people",
        currency if has_balance else None,
        EXPONENTS.get(currency, 2) if has_balance else None,
        BALANCE_MINOR if has_balance else None,
        7 if has_balance else None,
    )
