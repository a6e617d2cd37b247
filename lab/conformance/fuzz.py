"""Sends the cases through the real normaliser, asks for an answer to each, and counts what may
never happen.
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
    FaultKind,
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


@dataclass
class Tally:
    """Messages of one adapter. Accepted: every item became an event.

    Rejected: at least one became a dead letter.
    """

    count: int = 0
    accepted: int = 0
    rejected: int = 0
    exceptions: int = 0
    unaccounted: int = 0
    inexact: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing happened that may never happen."""
        return not (self.exceptions or self.unaccounted or self.inexact)

    def as_json(self) -> dict[str, int]:
        """The counts by name."""
        return dict(vars(self))


@dataclass(frozen=True)
class FuzzFailure:
    """A case that went wrong; `pitboss providers fuzz --seed S --only INDEX` sends it again."""

    index: int
    adapter: str
    mode: str
    example: str
    faults: list[str]


@dataclass
class FuzzReport:
    """What came of a run."""

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
        """Adapters of whose messages less than a tenth was accepted: the run has not shown much of
        them.
        """
        return [
            name
            for name, tally in self.by_adapter.items()
            if tally.accepted < ACCEPTED_SHARE_MIN * tally.count
        ]

    def as_json(self) -> dict[str, Any]:
        """One object."""
        return {
            **self.total.as_json(),
            "seed": self.seed,
            "by_adapter": {
                name: tally.as_json() for name, tally in sorted(self.by_adapter.items())
            },
            "failures": [vars(failure) for failure in self.failures],
        }


CountCases = Callable[[int], None]
"""Called with the number of cases done, every few hundred."""

_TELL_EVERY: Final = 500


def run_fuzz(
    seed: int,
    indices: Sequence[int],
    among: Sequence[AdapterUnderTest],
    progress: CountCases | None = None,
) -> FuzzReport:
    """Send these cases; the first failures are kept with their indices."""
    report = FuzzReport(seed, {subject.name: Tally() for subject in among})
    for done, index in enumerate(indices, start=1):
        subject, example, mode, results, faults = _tried(seed, index, among)
        tally = report.by_adapter[subject]
        tally.count += 1
        if results:
            rejected = any(isinstance(item, RejectedItem) for item in results)
            tally.rejected += rejected
            tally.accepted += not rejected
        for kind in {fault.kind for fault in faults}:
            setattr(tally, kind.value, getattr(tally, kind.value) + 1)
        if faults and len(report.failures) < _FAILURES_KEPT:
            texts = [f"{fault.kind}: {fault.detail}" for fault in faults]
            report.failures.append(FuzzFailure(index, subject, mode, example, texts))
        if progress is not None and done % _TELL_EVERY == 0:
            progress(done)
    return report


def _tried(
    seed: int, index: int, among: Sequence[AdapterUnderTest]
) -> tuple[str, str, str, list[ItemResult], list[AdapterFault]]:
    try:
        case = make_case(seed, index, among)
    except Exception:
        subject = adapter_at(index, among)
        return (
            subject.name,
            "examples",
            "making",
            [],
            [AdapterFault(FaultKind.EXCEPTION, traceback.format_exc(limit=-3))],
        )
    results: list[ItemResult] = []
    try:
        results = normalise_case(case)
        faults = check_case(case, results)
    except Exception:
        faults = [AdapterFault(FaultKind.EXCEPTION, traceback.format_exc(limit=-3))]
    return case.adapter.name, case.example.name, case.mode.value, results, faults


def normalise_case(case: FuzzCase) -> list[ItemResult]:
    """What the normaliser makes of the case."""
    normaliser = case.adapter.keyed if case.keyed else case.adapter.unkeyed
    return normaliser.normalise(case.record)


def _misrouted(case: FuzzCase, results: list[ItemResult]) -> list[AdapterFault]:
    wanted = case.adapter.version
    read_as = {
        event_of(item).provider_version for item in results if not isinstance(item, RejectedItem)
    }
    return [
        AdapterFault(FaultKind.INEXACT, f"read as version {other}, not as {wanted}")
        for other in read_as - {wanted}
    ]


def check_case(case: FuzzCase, results: list[ItemResult]) -> list[AdapterFault]:
    """What is wrong with it, the answer included."""
    faults = check_soundness(results)
    if case.mode is not Mode.MUTATED:
        keyed = case.keyed and bool(case.adapter.examples.keys)
        verdict = None if keyed else SignatureVerdict.NOT_CHECKED.value
        faults += check_expectations(case.example, case.fill, results, verdict)
        faults += _misrouted(case, results)
    dialect = case.adapter.dialect
    reply = dialect.answer(case.record, random_outcomes(results, Random(case.index)))
    if type(reply) is not Reply or type(reply.body) is not bytes:
        faults.append(AdapterFault(FaultKind.EXCEPTION, f"the answer is {reply!r}"))
    shown = dialect.redact(case.example.value)
    if case.mode is not Mode.MUTATED:
        secrets = [
            secret for secret in case.adapter.examples.keys.values() if secret.encode() in shown
        ]
        faults += [AdapterFault(FaultKind.INEXACT, "a secret is shown") for _ in secrets]
    return faults


REASONS: Final = (
    "",
    "INSUFFICIENT_FUNDS",
    "BET_NOT_FOUND",
    "BET_ROLLED_BACK",
    "BET_SETTLED",
    "SOMETHING_NEW",
)
BALANCE_MINOR: Final = 1_234_567_891
"""No digits that could stand in an answer for another reason."""

ItemOutcome = WalletOutcome | Rejected


def outcomes_for(
    results: Sequence[ItemResult], outcome: Outcome, reason: str = "", *, with_balance: bool = True
) -> list[ItemOutcome]:
    """One outcome for each accepted item, and the rejections as they are; `knows`: whether it tells
    a balance.
    """
    return [_answered(item, outcome, reason, with_balance) for item in results]


def random_outcomes(results: Sequence[ItemResult], rng: Random) -> list[ItemOutcome]:
    """Any outcome with any reason."""
    return outcomes_for(
        results, rng.choice(tuple(Outcome)), rng.choice(REASONS), with_balance=rng.random() < 0.8
    )


def _answered(item: ItemResult, outcome: Outcome, reason: str, knows: bool) -> ItemOutcome:
    if isinstance(item, RejectedItem):
        return Rejected(item.code, item.detail)
    said = event_of(item)
    if not isinstance(said, WalletTransaction):
        # What moves no money is in no ledger and has no outcome; to its provider it has arrived.
        return WalletOutcome(
            said.event_id,
            said.brand,
            said.provider,
            said.operation,
            said.provider_event_id,
            said.attempt,
            None,
            Outcome.INFORMATIONAL.value,
            "",
            "",
            None,
            None,
            None,
            None,
        )
    currency = next((leg.currency for leg in said.legs if leg.currency is not None), "EUR")
    tells = knows and said.player_id is not None
    return WalletOutcome(
        said.event_id,
        said.brand,
        said.provider,
        said.operation,
        said.provider_tx_id,
        said.attempt,
        said.player_id,
        outcome.value,
        reason,
        "for people",
        currency if tells else None,
        EXPONENTS.get(currency, 2) if tells else None,
        BALANCE_MINOR if tells else None,
        7 if tells else None,
    )
