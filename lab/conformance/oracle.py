"""What the normaliser made of a message, held against what its example says must be read there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, NamedTuple

from lab.conformance.examples.fill import Example, Expected, Fill, market_id_text
from schemas import codec
from schemas.errors import RejectCode, Rejected
from schemas.events import Leg, MarketSettlement, PlayerEvent, WalletTransaction
from schemas.money import minor_units
from streams.normalise.mapping.normaliser import (
    AcceptedEvent,
    AcceptedTransaction,
    ItemResult,
    RejectedItem,
)


class FaultKind(StrEnum):
    """What may never happen, as `pitboss providers fuzz` counts it."""

    EXCEPTION = "exceptions"  # code failed: an error that is no rejection
    UNACCOUNTED = (
        "unaccounted"  # an item came out neither as an event nor as a dead letter, or twice
    )
    INEXACT = "inexact"  # an event says something else than the message: its money, its identity, whose it is


class AdapterFault(NamedTuple):
    """One thing that is wrong, for a person."""

    kind: FaultKind
    detail: str


OutputEvent = WalletTransaction | PlayerEvent | MarketSettlement

_DECODERS: Final[dict[type, Callable[[bytes], Any]]] = {}


def event_of(item: AcceptedTransaction | AcceptedEvent) -> OutputEvent:
    """The event that goes out."""
    return item.transaction if isinstance(item, AcceptedTransaction) else item.event


def check_soundness(results: Sequence[ItemResult]) -> list[AdapterFault]:
    """What is wrong with these results whatever the message was: accounted for, readable again,
    money that fits.
    """
    if not results:
        return [AdapterFault(FaultKind.UNACCOUNTED, "nothing came out")]
    faults = []
    whole = (
        len(results) == 1
        and isinstance(results[0], RejectedItem)
        and results[0].record_index is None
    )
    indices = [_index(item) for item in results]
    if not whole and indices != list(range(len(results))):
        faults.append(
            AdapterFault(
                FaultKind.UNACCOUNTED, f"items {indices} instead of 0 to {len(results) - 1}"
            )
        )
    for item in results:
        faults += _unsound_item(item)
    return faults


def _index(item: ItemResult) -> int | None:
    return (
        item.record_index if isinstance(item, RejectedItem) else event_of(item).attempt.record_index
    )


def _unsound_item(item: ItemResult) -> list[AdapterFault]:
    if isinstance(item, RejectedItem):
        if item.code is RejectCode.DIALECT_FAILED:
            return [AdapterFault(FaultKind.EXCEPTION, item.detail)]
        return (
            []
            if item.detail.isprintable()
            else [AdapterFault(FaultKind.INEXACT, "a detail that cannot be shown")]
        )
    said = event_of(item)
    if _decoded(said, item.value) != said:
        return [
            AdapterFault(FaultKind.INEXACT, f"encoded and read again, it is another event: {said}")
        ]
    faults = []
    if isinstance(said, WalletTransaction):
        if not said.legs:
            faults.append(AdapterFault(FaultKind.INEXACT, "an event without legs"))
        faults += [fault for leg in said.legs for fault in _unsound_leg(leg)]
    return faults


def _unsound_leg(leg: Leg) -> list[AdapterFault]:
    if leg.amount is None or leg.currency is None:
        return []
    try:
        minor_units(leg.amount, leg.currency)
    except Rejected as error:
        return [AdapterFault(FaultKind.INEXACT, f"the ledger cannot book {leg}: {error}")]
    return []


def _decoded(said: OutputEvent, value: bytes) -> object:
    kind = type(said)
    if kind not in _DECODERS:
        _DECODERS[kind] = codec.decoder(kind)
    return _DECODERS[kind](value)


def check_expectations(
    example: Example, fill: Fill, results: Sequence[ItemResult], verdict: str | None = None
) -> list[AdapterFault]:
    """Where the results are not what the example expects. In a hostile fill any item may be
    rejected instead.

    `verdict` stands for the signatures' expected ones: NOT_CHECKED where no key is configured.
    """
    may_reject = fill.hostile
    if (
        len(results) == 1
        and isinstance(results[0], RejectedItem)
        and results[0].record_index is None
    ):
        if may_reject or all(expected.code is results[0].code for expected in example.expects):
            return []
        return [
            AdapterFault(
                FaultKind.INEXACT, f"rejected as a whole: {results[0].code}: {results[0].detail}"
            )
        ]
    if len(results) != len(example.expects):
        return [
            AdapterFault(
                FaultKind.UNACCOUNTED,
                f"{len(example.expects)} items went in, {len(results)} came out",
            )
        ]
    faults = []
    for number, (item, expected) in enumerate(zip(results, example.expects, strict=True)):
        wrong = _difference(item, expected, fill, verdict)
        if wrong:
            faults.append(AdapterFault(FaultKind.INEXACT, f"item {number}: {wrong}"))
    return faults


def _difference(item: ItemResult, expected: Expected, fill: Fill, verdict: str | None) -> str:
    if isinstance(item, RejectedItem):
        if fill.hostile or item.code is expected.code:
            return ""
        return f"rejected: {item.code}: {item.detail}"
    if expected.code is not None:
        return f"accepted, and {expected.code} was to be the answer"
    said = event_of(item)
    found, wanted = _facts(said), _wanted(expected)
    for name, want in wanted.items():
        if found[name] != want:
            return f"{name} is {found[name]!r}, the example says {want!r}"
    if said.signature != (verdict or expected.signature):
        return f"the signature's verdict is {said.signature}, the example says {verdict or expected.signature}"
    return _wrong_currency(said, expected.currency or fill.currency.upper()) or _wrong_time(
        said, expected, fill
    )


def _wrong_currency(said: OutputEvent, wanted: str) -> str:
    if not isinstance(said, WalletTransaction):
        return ""
    others = {leg.currency for leg in said.legs if leg.amount is not None} - {wanted, None}
    return f"currencies {sorted(map(str, others))}, the message says {wanted}" if others else ""


def _wrong_time(said: OutputEvent, expected: Expected, fill: Fill) -> str:
    if said.provider_at is None:
        return (
            "" if expected.at_ms is None else f"no time was read; the message says {expected.at_ms}"
        )
    if expected.at_ms is not None:
        told = {expected.at_ms}
    else:
        told = {at - at % unit for at in (fill.first_at_ms, fill.at_ms) for unit in (1, 1_000)}
    return (
        ""
        if said.provider_at in told
        else f"the time read is {said.provider_at}, the message says {sorted(told)}"
    )


def _facts(said: OutputEvent) -> dict[str, object]:
    if isinstance(said, WalletTransaction):
        reference = (
            None if said.reference is None else (said.reference.operation, said.reference.tx_id)
        )
        return {
            "operation": said.operation,
            "transaction id": said.provider_tx_id,
            "player": said.player_id,
            "legs": tuple((leg.kind, amount_of_leg(leg)) for leg in said.legs),
            "reference": reference,
        }
    if isinstance(said, PlayerEvent):
        return {
            "operation": said.operation,
            "transaction id": said.provider_event_id,
            "player": said.player_id,
        }
    name = market_id_text(said.match_id, said.market_id, said.specifiers, said.outcome_id)
    return {"operation": said.operation, "transaction id": name, "player": None}


def _wanted(expected: Expected) -> dict[str, object]:
    facts: dict[str, object] = {
        "operation": expected.operation,
        "transaction id": expected.tx_id,
        "player": expected.player_id,
    }
    if not expected.is_event:
        facts |= {"legs": expected.legs, "reference": expected.reference}
    return facts


def amount_of_leg(leg: Leg) -> Decimal | None:
    """The leg's amount in major units, exactly."""
    return None if leg.amount is None else Decimal(leg.amount.unscaled).scaleb(-leg.amount.scale)
