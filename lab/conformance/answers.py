"""What holds for the answers of every adapter, whatever they look like.

A provider that waits for a decision must hear a refusal as something else than a success, and the
balance exactly. Of a message with several items no item's result may be left out of the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Final

from lab.conformance.adapters import AdapterUnderTest
from lab.conformance.examples.fill import Example
from lab.conformance.fuzz import BALANCE_MINOR, ItemOutcome, outcomes_for
from lab.conformance.oracle import AdapterFault, AdapterFaultKind
from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import Outcome
from streams.normalise.mapping.normaliser import AcceptedTransaction, ItemResult

_REFUSALS: Final = (Outcome.REFUSED_FUNDS, Outcome.REFUSED_BLOCKED, Outcome.CONFLICT)
_NUMBER: Final = re.compile(rb"-?\d+(?:\.\d+)?")
_FORGED: Final = Rejected(RejectCode.BAD_SIGNATURE, "")


def check_answers(
    adapter: AdapterUnderTest, example: Example, request: RawRecord, results: Sequence[ItemResult]
) -> Iterator[AdapterFault]:
    """Yield what is wrong with the answers to one message."""
    for code in (RejectCode.MALFORMED, RejectCode.BAD_FIELD):
        reply = adapter.dialect.answer(request, [Rejected(code, 'a detail <&" of ours')])
        if not 200 <= reply.status <= 999:
            yield _fault(f"{code} is answered with the status {reply.status}")
    transactions = [item for item in results if isinstance(item, AcceptedTransaction)]
    if any(item.transaction.decision_required for item in transactions):
        yield from _check_decisions(adapter, request, results)
        yield from _check_balance(adapter, example, request, results, transactions[0])
    yield from _check_each_result_counts(adapter, request, results)


def _check_decisions(
    adapter: AdapterUnderTest, request: RawRecord, results: Sequence[ItemResult]
) -> Iterator[AdapterFault]:
    answer = adapter.dialect.answer
    success = answer(request, outcomes_for(results, Outcome.POSTED))
    for outcome in _REFUSALS:
        if answer(request, outcomes_for(results, outcome)) == success:
            yield _fault(f"{outcome} is answered as a success is")
    if answer(request, [_FORGED]) == success:
        yield _fault("a forged message is answered as a success is")


def _check_balance(
    adapter: AdapterUnderTest,
    example: Example,
    request: RawRecord,
    results: Sequence[ItemResult],
    first: AcceptedTransaction,
) -> Iterator[AdapterFault]:
    examples = adapter.examples
    if not examples.has_balance:
        yield _fault("it waits for decisions: its examples must say BALANCE_DECIMALS")
        return
    if examples.balance_decimals is None:
        return
    legs = first.transaction.legs
    currency = next((leg.currency for leg in legs if leg.currency is not None), None)
    if currency is None:
        return
    expected: Decimal | None = examples.balance_in_units(BALANCE_MINOR, currency)
    reply = adapter.dialect.answer(request, outcomes_for(results, Outcome.POSTED))
    if examples.read_balance is not None:
        numbers = {examples.read_balance(reply.body)}
    else:
        numbers = {Decimal(text.decode()) for text in _NUMBER.findall(reply.body)}
    if expected not in numbers:
        yield _fault(f"{example.name!r}: the balance {expected} is not in {reply.body[:200]!r}")


def _check_each_result_counts(
    adapter: AdapterUnderTest, request: RawRecord, results: Sequence[ItemResult]
) -> Iterator[AdapterFault]:
    """Check that an answer to several items does not go by the first one's result alone."""
    if len(results) < 2:
        return
    posted = outcomes_for(results, Outcome.POSTED)
    others: list[list[ItemOutcome]] = [
        outcomes_for(results, outcome) for outcome in (Outcome.REFUSED_FUNDS, Outcome.UNRESOLVED)
    ]
    others.append([_FORGED] * len(results))
    answer = adapter.dialect.answer
    success = answer(request, posted)
    for other in others:
        if answer(request, other) == success:
            continue
        is_rest_counted = answer(request, [posted[0], *other[1:]]) != success
        is_first_alone = answer(request, [other[0], *posted[1:]]) == answer(request, other)
        if is_first_alone and not is_rest_counted:
            yield _fault("the answer goes by the first result alone")


def _fault(detail: str) -> AdapterFault:
    return AdapterFault(AdapterFaultKind.INEXACT, detail)
