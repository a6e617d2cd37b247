"""Compares what the normaliser read in a message with what its example expects."""

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


class AdapterFaultKind(StrEnum):
    """Kind of violation, as `pitboss providers fuzz` counts it.

    EXCEPTION: code failed with an error other than a rejection. UNACCOUNTED: an item came out
    neither as an event nor as a dead letter, or twice. INEXACT: an event differs from its message
    in money, identity or player.
    """

    EXCEPTION = "exceptions"
    UNACCOUNTED = "unaccounted"
    INEXACT = "inexact"


class AdapterFault(NamedTuple):
    """One violation, in words for a person."""

    kind: AdapterFaultKind
    detail: str


OutputEvent = WalletTransaction | PlayerEvent | MarketSettlement

_DECODERS: Final[dict[type, Callable[[bytes], Any]]] = {}


def event_of(item: AcceptedTransaction | AcceptedEvent) -> OutputEvent:
    """Return the event that goes out."""
    return item.transaction if isinstance(item, AcceptedTransaction) else item.event


def check_soundness(results: Sequence[ItemResult]) -> list[AdapterFault]:
    """Return what is wrong with these results of any message.

    Every item is accounted for, its event can be read again, and its money can be booked.
    """
    if not results:
        return [AdapterFault(AdapterFaultKind.UNACCOUNTED, "nothing came out")]
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
                AdapterFaultKind.UNACCOUNTED, f"items {indices} instead of 0 to {len(results) - 1}"
            )
        )
    for item in results:
        faults += _check_item(item)
    return faults


def _index(item: ItemResult) -> int | None:
    return (
        item.record_index if isinstance(item, RejectedItem) else event_of(item).attempt.record_index
    )


def _check_item(item: ItemResult) -> list[AdapterFault]:
    if isinstance(item, RejectedItem):
        if item.code is RejectCode.DIALECT_FAILED:
            return [AdapterFault(AdapterFaultKind.EXCEPTION, item.detail)]
        return (
            []
            if item.detail.isprintable()
            else [AdapterFault(AdapterFaultKind.INEXACT, "a detail that cannot be shown")]
        )
    event = event_of(item)
    if _decode(event, item.value) != event:
        return [
            AdapterFault(
                AdapterFaultKind.INEXACT, f"encoded and read again, it is another event: {event}"
            )
        ]
    faults = []
    if isinstance(event, WalletTransaction):
        if not event.legs:
            faults.append(AdapterFault(AdapterFaultKind.INEXACT, "an event without legs"))
        faults += [fault for leg in event.legs for fault in _check_leg(leg)]
    return faults


def _check_leg(leg: Leg) -> list[AdapterFault]:
    if leg.amount is None or leg.currency is None:
        return []
    try:
        minor_units(leg.amount, leg.currency)
    except Rejected as error:
        return [AdapterFault(AdapterFaultKind.INEXACT, f"the ledger cannot book {leg}: {error}")]
    return []


def _decode(event: OutputEvent, value: bytes) -> object:
    kind = type(event)
    if kind not in _DECODERS:
        _DECODERS[kind] = codec.decoder(kind)
    return _DECODERS[kind](value)


def check_expectations(
    example: Example, fill: Fill, results: Sequence[ItemResult], verdict: str | None = None
) -> list[AdapterFault]:
    """Return where the results are not what the example expects.

    In a hostile fill any item may be rejected instead. `verdict` replaces the signature verdict
    that the example expects: NOT_CHECKED where no key is configured.
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
                AdapterFaultKind.INEXACT,
                f"rejected as a whole: {results[0].code}: {results[0].detail}",
            )
        ]
    if len(results) != len(example.expects):
        return [
            AdapterFault(
                AdapterFaultKind.UNACCOUNTED,
                f"{len(example.expects)} items went in, {len(results)} came out",
            )
        ]
    faults = []
    for number, (item, expected) in enumerate(zip(results, example.expects, strict=True)):
        wrong = _difference(item, expected, fill, verdict)
        if wrong:
            faults.append(AdapterFault(AdapterFaultKind.INEXACT, f"item {number}: {wrong}"))
    return faults


def _difference(item: ItemResult, expected: Expected, fill: Fill, verdict: str | None) -> str:
    if isinstance(item, RejectedItem):
        if fill.hostile or item.code is expected.code:
            return ""
        return f"rejected: {item.code}: {item.detail}"
    if expected.code is not None:
        return f"accepted, and {expected.code} was to be the answer"
    event = event_of(item)
    found, expected_facts = _facts(event), _expected_facts(expected)
    for name, expected_fact in expected_facts.items():
        if found[name] != expected_fact:
            return f"{name} is {found[name]!r}, the example says {expected_fact!r}"
    if event.signature != (verdict or expected.signature):
        return (
            f"the signature's verdict is {event.signature},"
            f" the example says {verdict or expected.signature}"
        )
    flags = _wrong_flags(event, expected, fill) if isinstance(event, WalletTransaction) else ""
    return (
        flags
        or _wrong_currency(
            event, fill.currency.upper() if expected.currency is None else expected.currency
        )
        or _wrong_time(event, expected, fill)
    )


def _wrong_flags(event: WalletTransaction, expected: Expected, fill: Fill) -> str:
    if fill.hostile:
        return ""  # odd text may stand for no campaign, and a bet of zero asks for no decision
    free_legs = tuple(leg.is_free for leg in event.legs)
    for name, found, expected_flag in (
        ("free legs", free_legs, expected.free_legs),
        ("decision required", event.decision_required, expected.decides),
        ("round closed", event.round_closed, expected.round_closed),
    ):
        if expected_flag is not None and found != expected_flag:
            return f"{name}: {found}, the example says {expected_flag}"
    return ""


def _wrong_currency(event: OutputEvent, currency: str) -> str:
    if not isinstance(event, WalletTransaction):
        return ""
    others = {leg.currency for leg in event.legs if leg.amount is not None} - {currency or None}
    if not others:
        return ""
    return f"currencies {sorted(map(str, others))}, the message says {currency}"


def _wrong_time(event: OutputEvent, expected: Expected, fill: Fill) -> str:
    if event.provider_at is None:
        return (
            "" if expected.at_ms is None else f"no time was read; the message says {expected.at_ms}"
        )
    if expected.at_ms is not None:
        expected_times = {expected.at_ms}
    else:
        expected_times = {
            at - at % unit for at in (fill.first_at_ms, fill.at_ms) for unit in (1, 1_000)
        }
    if event.provider_at in expected_times:
        return ""
    return f"the time read is {event.provider_at}, the message says {sorted(expected_times)}"


def _facts(event: OutputEvent) -> dict[str, object]:
    if isinstance(event, WalletTransaction):
        reference = (
            None if event.reference is None else (event.reference.operation, event.reference.tx_id)
        )
        return {
            "operation": event.operation,
            "transaction id": event.provider_tx_id,
            "player": event.player_id,
            "legs": tuple((leg.kind, amount_of_leg(leg)) for leg in event.legs),
            "reference": reference,
        }
    if isinstance(event, PlayerEvent):
        return {
            "operation": event.operation,
            "transaction id": event.provider_event_id,
            "player": event.player_id,
        }
    name = market_id_text(event.match_id, event.market_id, event.specifiers, event.outcome_id)
    return {"operation": event.operation, "transaction id": name, "player": None}


def _expected_facts(expected: Expected) -> dict[str, object]:
    facts: dict[str, object] = {
        "operation": expected.operation,
        "transaction id": expected.tx_id,
        "player": expected.player_id,
    }
    if not expected.is_event:
        facts |= {"legs": expected.legs, "reference": expected.reference}
    return facts


def amount_of_leg(leg: Leg) -> Decimal | None:
    """Return the leg's amount in major units, exactly."""
    return None if leg.amount is None else Decimal(leg.amount.unscaled).scaleb(-leg.amount.scale)
