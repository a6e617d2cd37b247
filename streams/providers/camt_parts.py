"""Division of an entry into its payments, and references that identify nothing.

An entry says what the account received. Its details divide that amount where each has an amount in
the entry's currency and all of them add up to the entry; then each is a payment. Where they have no
amounts the entry is a sum, which another message divides. Where they have amounts that do not add
up it is unknown whose the money is: it stays whole, and refers to no deposit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import product
from operator import mul
from typing import Final, NamedTuple, TypeAlias

from schemas.errors import Rejected
from schemas.events import Amount
from schemas.money import amount_from_text, amount_of, exponent_of, minor_units
from streams.providers.camt_file import BankEntry, Detail, Money, Statement
from streams.providers.fields import currency_of

_ORDERS: Final = (
    ("Amt", "TxAmt", "CntrValAmt"),
    ("CntrValAmt", "TxAmt", "Amt"),
    ("TxAmt", "CntrValAmt", "Amt"),
)
"""The elements that may hold a detail's amount in the account's currency, in the orders tried."""

_UNIQUE: Final = ("AcctSvcrRef", "TxId", "UETR")

_MinorAmount: TypeAlias = tuple[Amount, int]
"""An amount as printed, and in minor units."""


class Part(NamedTuple):
    """One payment of an entry, with its amount in the entry's currency, also in minor units."""

    detail: Detail
    amount: Amount
    minor: int


class Division(NamedTuple):
    """What an entry consists of: `parts`, or one whole if there are none.

    `detail` is the only payment of a whole that is one. `is_sum`: another message divides the
    whole. `is_unclear`: its details contradict it.
    """

    parts: Sequence[Part] = ()
    detail: Detail | None = None
    is_sum: bool = False
    is_unclear: bool = False


_SUM: Final = Division(is_sum=True)
_UNCLEAR: Final = Division(is_unclear=True)


def divide(entry: BankEntry, total: int, currency: str) -> Division:
    """Return the payments of an entry of this total, in minor units."""
    direction = entry.fields.get("CdtDbtInd", "")
    details = entry.details
    if len(details) < 2 and entry.count < 2:
        return _divide_single(entry, total, currency, direction)
    if not any(detail.has_amount for detail in details):
        return _SUM if entry.count > 1 or entry.has_further_message else _UNCLEAR
    if len(details) == 1:
        # A detail that repeats the sum of several payments is not one of them.
        return _SUM if total in _minors_of(details[0], currency) else _UNCLEAR
    amounts = _add_up(details, (), total, currency, direction)
    if amounts is None:
        return _UNCLEAR
    parts: list[Part] = []
    for detail, (amount, minor) in zip(details, amounts, strict=True):
        part = Part(detail, amount, minor)
        if not detail.allocations:
            parts.append(part)
            continue
        own = _allocate(part, currency, detail.direction or direction)
        if own is None:
            return _UNCLEAR
        parts += own
    return Division(parts)


def _divide_single(entry: BankEntry, total: int, currency: str, direction: str) -> Division:
    if not entry.details:
        return _SUM if entry.has_further_message else Division()
    [detail] = entry.details
    if detail.allocations:
        whole = Part(detail, amount_of(total, exponent_of(currency)), total)
        own = _allocate(whole, currency, direction)
        return _UNCLEAR if own is None else Division(own)
    minors = _minors_of(detail, currency)
    if not minors or total in minors or detail.repeated_element:
        return Division(detail=detail)
    if _add_up([detail], entry.charges, total, currency, detail.direction or direction) is None:
        return _UNCLEAR
    return Division(detail=detail)


def _allocate(payment: Part, currency: str, direction: str) -> Sequence[Part] | None:
    """Return the allocations of a payment, which are known by its references and their own.

    None where they do not add up to the payment.
    """
    detail, _, total = payment
    allocations = detail.allocations or []
    amounts = _add_up(allocations, (), total, currency, direction)
    if amounts is None:
        return None
    for part in allocations:
        part.refs = {**detail.refs, "Ref": part.refs.get("Ref", "")}
        part.refs.pop("EndToEndId", None)
        part.direction, part.is_returned = part.direction or detail.direction, detail.is_returned
    return [Part(part, *one) for part, one in zip(allocations, amounts, strict=True)]


def _add_up(
    details: Sequence[Detail],
    entry_charges: Sequence[Money] | None,
    total: int,
    currency: str,
    direction: str,
) -> list[_MinorAmount] | None:
    """Return the details' amounts if they add up to the total, else None.

    A detail of the other direction, a fee, counts against it. Where only the charges that a detail
    states are missing, its amount is what was left of it, and the same for charges of the entry
    with one detail.
    """
    signs = [1 if detail.direction in {"", direction} else -1 for detail in details]
    first: list[_MinorAmount] = []
    for order in _ORDERS:
        known: list[_MinorAmount] = []
        for detail in details:
            amount = _first_amount(detail, order, currency)
            if amount is None or detail.repeated_element:
                return None
            known.append(amount)
        if _is_sum([minor for _, minor in known], signs, total):
            return known
        first = first or known
    charges = [_sum_of(detail.charges, currency) for detail in details]
    if len(details) == 1:
        charges[0] = charges[0] or _sum_of(entry_charges, currency)
    for way in (-1, 1):
        net = [minor + way * charge for (_, minor), charge in zip(first, charges, strict=True)]
        if any(charges) and min(net) >= 0 and _is_sum(net, signs, total):
            return [(amount_of(minor, exponent_of(currency)), minor) for minor in net]
    return None


def _is_sum(minors: Sequence[int], signs: Sequence[int], total: int) -> bool:
    # Details that are all of the other direction add up too; they move no money.
    total_of_parts: int = sum(map(mul, signs, minors))
    return abs(total_of_parts) == total


def _first_amount(detail: Detail, order: Iterable[str], currency: str) -> _MinorAmount | None:
    for name in order:
        money = detail.amounts.get(name)
        amount = None if money is None else _amount_in(money, currency)
        if amount is not None:
            return amount
    return None


def _minors_of(detail: Detail, currency: str) -> set[int]:
    amounts = (_amount_in(money, currency) for money in detail.amounts.values())
    return {amount[1] for amount in amounts if amount is not None}


def _sum_of(charges: Iterable[Money] | None, currency: str) -> int:
    amounts = (_amount_in(money, currency) for money in charges or ())
    return sum(amount[1] for amount in amounts if amount is not None)


def _amount_in(money: Money, currency: str) -> _MinorAmount | None:
    """Return an amount as printed; None in another currency, and where no wallet can hold it."""
    if money.currency != currency and money.currency.upper() != currency:
        return None
    try:
        amount = amount_from_text(money.text)
        minor = minor_units(amount, currency)
    except Rejected:
        return None
    return (amount, minor) if minor >= 0 else None


class _Mention(NamedTuple):
    """A place that states a reference: its day, its amount, and the payments in it."""

    day: str
    money: Money | None
    details: Sequence[Detail]


def _are_of_several_payments(mentions: Sequence[_Mention]) -> bool:
    """Return whether mentions of one reference cannot all be of one payment.

    Each tells some of it, and their order does not matter.
    """
    days = {mention.day for mention in mentions if mention.day}
    amounts = {_amount_text(mention.money) for mention in mentions if mention.money is not None}
    named = [names for mention in mentions if (names := _end_to_end_ids(mention.details))]
    return len(days) > 1 or len(amounts) > 1 or (bool(named) and not set.intersection(*named))


def _end_to_end_ids(details: Sequence[Detail]) -> set[str]:
    return {name for one in details if (name := one.refs.get("EndToEndId"))}


def drop_shared_references(entries: Sequence[tuple[Statement, BankEntry]]) -> set[tuple[str, str]]:
    """Empty references that a file gives to different payments, and return them with their names.

    A bank without references prints one word for all. Payments of different directions may share a
    reference: a payment and its fee, or its return. So may two mentions of one payment, in
    statements that overlap.
    """
    if not _has_repeated_reference(entries):
        return set()
    mentions: dict[tuple[str, ...], list[_Mention]] = defaultdict(list)
    for statement, entry in entries:
        fields = entry.fields
        scope = (fields.get("CdtDbtInd", ""), fields.get("RvslInd", ""), fields.get("Sts", ""))
        _add_mentions(mentions, (statement.account, *scope), entry)
    shared = {
        (name, value)
        for (name, value, *_), several in mentions.items()
        if len(several) > 1 and _are_of_several_payments(several)
    }
    if shared:
        for _, entry in entries:
            if ("Ntry", entry.fields.get("AcctSvcrRef", "")) in shared:
                entry.fields["AcctSvcrRef"] = ""
            for detail, name in product(entry.details, _UNIQUE):
                if (name, detail.refs.get(name, "")) in shared:
                    del detail.refs[name]
    return shared


def _has_repeated_reference(entries: Sequence[tuple[Statement, BankEntry]]) -> bool:
    values = [value for _, entry in entries if (value := entry.fields.get("AcctSvcrRef"))]
    values += [
        value
        for _, entry in entries
        for detail in entry.details
        for name in _UNIQUE
        if (value := detail.refs.get(name))
    ]
    return len(set(values)) < len(values)


def _add_mentions(
    mentions: dict[tuple[str, ...], list[_Mention]], scope: tuple[str, ...], entry: BankEntry
) -> None:
    own, day = entry.fields.get("AcctSvcrRef", ""), entry.when[:10]
    is_unclear = _is_unclear(entry)
    if own:
        mentions["Ntry", own, *scope].append(_Mention(day, entry.money, entry.details))
    for detail in entry.details:
        for name in _UNIQUE:
            value = detail.refs.get(name)
            if value and value != own:
                # Amounts that contradict their entry prove nothing of the reference.
                money = None if is_unclear else next(iter(detail.amounts.values()), None)
                mentions[name, value, *scope, detail.direction].append(
                    _Mention(day, money, [detail])
                )


def _is_unclear(entry: BankEntry) -> bool:
    if entry.money is None or len(entry.details) < 2:
        return False
    try:
        currency = currency_of(amount_from_text(entry.money.text), entry.money.currency)
        total = minor_units(amount_from_text(entry.money.text), currency)
    except Rejected:
        return False
    return divide(entry, total, currency).is_unclear


def _amount_text(money: Money) -> str:
    whole, _, decimals = money.text.partition(".")
    return f"{whole.lstrip('0')}.{decimals.rstrip('0')}{money.currency}"
