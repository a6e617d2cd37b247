"""Adapters with one fault each, which the conformance suite must find.

A mutant changes what an adapter reads or answers in one way that loses or moves money, or tells a
provider something false. It applies to an adapter where it changes anything in its examples. What
the suite does not kill is a fault that a new adapter could have unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace as replace_field
from functools import partial
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from lab.conformance.adapters import AdapterUnderTest
from lab.conformance.examples.fill import Fill, record
from lab.conformance.fuzz import ItemOutcome, outcomes_for
from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import Amount, Kind, Leg, Outcome, Reference, SignatureVerdict, WalletOutcome
from streams.normalise.mapping.normaliser import Normaliser
from streams.providers.dialect import Dialect, Draft, Headers, Item, KeyMaterial, Reader, Reply
from streams.providers.registry import by_provider

Change = Callable[[list[Item], RawRecord], list[Item]]
Answer = Callable[[Dialect, RawRecord, Sequence[WalletOutcome | Rejected]], Reply]

_HOUR_MS: Final = 3_600_000
_SEEDS: Final = range(4)


class Mutant(NamedTuple):
    """One fault: of the items read, of the signature's check, of the answer, or of redaction."""

    name: str
    change: Change | None = None
    answer: Answer | None = None
    ignores_keys: bool = False
    shows_secrets: bool = False


def apply_mutant(mutant: Mutant, adapter: AdapterUnderTest) -> AdapterUnderTest:
    """Return the adapter with the fault."""
    right = adapter.dialect

    def reader(_: Dialect, material: KeyMaterial | None) -> Reader:
        read = right.reader(None if mutant.ignores_keys else material)
        return read if mutant.change is None else partial(_read_and_change, read, mutant.change)

    def answer(
        _: Dialect, request: RawRecord, results: Sequence[WalletOutcome | Rejected]
    ) -> Reply:
        if mutant.answer is None:
            return right.answer(request, results)
        return mutant.answer(right, request, results)

    def redact(_: Dialect, value: bytes) -> bytes:
        return value if mutant.shows_secrets else right.redact(value)

    base = type(right)
    methods = {"reader": reader, "answer": answer, "redact": redact}
    # Its writer and examples are found by the module's name.
    faulty = type("Mutated", (base,), {**methods, "__module__": base.__module__})
    dialect: Dialect = object.__new__(faulty)
    dialect.__dict__.update(right.__dict__)
    among, keys = by_provider([dialect]), adapter.examples.keys
    keyed = Normaliser(among, {right.provider: keys} if keys else {})
    return replace_field(
        adapter,
        dialect=dialect,
        version=right.version,
        keyed=keyed,
        unkeyed=Normaliser(among, {}),
        among=among,
    )


def _read_and_change(read: Reader, change: Change, raw: RawRecord, headers: Headers) -> list[Item]:
    return change(read(raw, headers), raw)


def applies(mutated: AdapterUnderTest, adapter: AdapterUnderTest) -> bool:
    """Return whether the fault changes what the adapter reads, answers or shows of its examples."""
    currencies = adapter.examples.currencies
    for seed in _SEEDS:
        fill = Fill(seed, currencies[seed % len(currencies)], hostile=seed % 2 == 1)
        made = [*adapter.make_examples(fill), *adapter.make_examples(fill.again())]
        for offset, example in enumerate(made):
            raw = record(example, adapter.dialect.provider, offset=offset)
            if _outputs(mutated, adapter, raw) != _outputs(adapter, adapter, raw):
                return True
    return False


def _outputs(shown: AdapterUnderTest, adapter: AdapterUnderTest, raw: RawRecord) -> list[object]:
    """Return all that a dialect makes of a record, with what `adapter` reads as its results."""
    headers, keys, value = dict(raw.headers), adapter.examples.keys, raw.value or b""
    dialect, results = shown.dialect, adapter.unkeyed.normalise(raw)
    forged: list[ItemOutcome] = [Rejected(RejectCode.BAD_SIGNATURE, "") for _ in results[1:]]
    answered: list[Sequence[ItemOutcome]] = [
        outcomes_for(results, outcome)
        for outcome in (Outcome.POSTED, Outcome.REFUSED_FUNDS, Outcome.CONFLICT)
    ]
    answered += [[*outcomes_for(results[:1], Outcome.POSTED), *forged][::-1]]
    answered += [[Rejected(RejectCode.BAD_FIELD, "")]]
    read = dialect.reader(keys or None)
    visible = dialect.redact(value)
    return [
        _try(lambda: repr(read(raw, headers))),
        *(_try(partial(dialect.answer, raw, outcomes)) for outcomes in answered),
        # What else a redaction hides is its provider's own.
        [secret for secret in keys.values() if secret.encode() in visible],
    ]


def _try(make: Callable[[], object]) -> object:
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - a mutant may raise anything
        return repr(error)


def _each(change: Callable[[Draft, RawRecord], Item]) -> Change:
    return lambda items, raw: [
        change(item, raw) if isinstance(item, Draft) else item for item in items
    ]


def _draft(**fields: Callable[[Draft, RawRecord], Any]) -> Change:
    """Return a change of some fields of each draft."""
    return _each(
        lambda draft, raw: replace(
            draft, **{name: make(draft, raw) for name, make in fields.items()}
        )
    )


def _legs(change: Callable[[Leg], Leg]) -> Change:
    return _draft(legs=lambda draft, _: [change(leg) for leg in draft.legs])


def _amounts(change: Callable[[Amount], Amount]) -> Change:
    return _legs(lambda leg: leg if leg.amount is None else replace(leg, amount=change(leg.amount)))


def _swap_legs(draft: Draft, _: RawRecord) -> list[Leg]:
    swapped = {Kind.BET.value: Kind.WIN.value, Kind.WIN.value: Kind.BET.value}
    if len(draft.legs) < 2:
        return draft.legs
    return [replace(leg, kind=swapped.get(leg.kind, leg.kind)) for leg in draft.legs]


def _kinds(**kinds: Kind) -> Change:
    return _legs(lambda leg: replace(leg, kind=kinds.get(leg.kind, leg.kind)))


def _of_digest(draft: Draft, raw: RawRecord) -> str:
    digest = blake2b(raw.value or b"", digest_size=4).hexdigest()
    return f"{draft.provider_tx_id}-{digest}"


def _of_receipt(draft: Draft, raw: RawRecord) -> str:
    received_at = dict(raw.headers).get("received-at") or b""
    return f"{draft.provider_tx_id}-{received_at.decode()}"


def _keep_payment(draft: Draft, _: RawRecord) -> list[Leg]:
    """Note what comes back to a payment instead of giving it."""
    reference = draft.reference
    if reference is None or reference.operation == "deposit.opened":
        return draft.legs
    noted = Kind.INFORMATIONAL.value
    return [replace(leg, kind=noted) if leg.kind == Kind.DEPOSIT else leg for leg in draft.legs]


def _other_reference(draft: Draft, _: RawRecord) -> Reference | None:
    reference = draft.reference
    return None if reference is None else replace(reference, operation=f"{reference.operation}x")


def _reject_zero(draft: Draft, _: RawRecord) -> Item:
    zero = any(leg.amount is not None and not leg.amount.unscaled for leg in draft.legs)
    return Rejected(RejectCode.BAD_AMOUNT, "zero") if zero else draft


def _raise_when_odd(items: list[Item], raw: RawRecord) -> list[Item]:
    if raw.offset % 2:
        raise KeyError(raw.offset)
    return items


def _change_outcomes(change: Callable[[WalletOutcome], WalletOutcome]) -> Answer:
    return lambda dialect, request, results: dialect.answer(
        request,
        [change(each) if isinstance(each, WalletOutcome) else each for each in results],
    )


def _times_ten(outcome: WalletOutcome) -> WalletOutcome:
    if outcome.balance_minor is None:
        return outcome
    return replace(outcome, balance_minor=outcome.balance_minor * 10)


def _answer_or_fail(
    dialect: Dialect, request: RawRecord, results: Sequence[WalletOutcome | Rejected]
) -> Reply:
    if any(isinstance(each, Rejected) for each in results):
        raise KeyError(len(results))
    return dialect.answer(request, results)


_VALID: Final = SignatureVerdict.VALID.value


def _shift_time(draft: Draft, _: RawRecord) -> int | None:
    return None if draft.provider_at is None else draft.provider_at + _HOUR_MS


def _time_in_seconds(draft: Draft, _: RawRecord) -> int | None:
    return None if draft.provider_at is None else draft.provider_at // 1_000


def _of_offset(draft: Draft, raw: RawRecord) -> str:
    return f"{draft.provider_tx_id}-{raw.offset}"


def _cut(draft: Draft, _: RawRecord) -> str:
    return draft.provider_tx_id[:6]


def _lower(draft: Draft, _: RawRecord) -> str:
    return draft.provider_tx_id.lower()


def _as_float(amount: Amount) -> Amount:
    return Amount(int(float(amount.unscaled)), amount.scale)


def _upper_player(draft: Draft, _: RawRecord) -> str | None:
    return None if draft.player_id is None else draft.player_id.upper()


def _own_reference(draft: Draft, _: RawRecord) -> Reference | None:
    return None if draft.reference is None else Reference(draft.operation, draft.provider_tx_id)


def _euro(leg: Leg) -> Leg:
    return leg if leg.currency is None else replace(leg, currency="EUR")


def _free(leg: Leg) -> Leg:
    return leg if leg.amount is None else replace(leg, is_free=True)


def _answer_first(
    dialect: Dialect, request: RawRecord, results: Sequence[WalletOutcome | Rejected]
) -> Reply:
    return dialect.answer(request, results[:1])


def _posted(outcome: WalletOutcome) -> WalletOutcome:
    return replace(outcome, outcome=Outcome.POSTED.value, reason="")


def _without_balance(outcome: WalletOutcome) -> WalletOutcome:
    return replace(outcome, currency=None, scale=None, balance_minor=None)


def _always(value: object) -> Callable[[Draft, RawRecord], object]:
    return lambda _draft, _raw: value


MUTANTS: Final = (
    Mutant("a lost item", lambda items, _: items[:-1] if len(items) > 1 else items),
    Mutant("a doubled item", lambda items, _: [*items, items[-1]] if items else items),
    Mutant("items in reverse", lambda items, _: items[::-1]),
    Mutant("swapped legs", _draft(legs=_swap_legs)),
    Mutant("a lost leg", _draft(legs=lambda draft, _: draft.legs[:1])),
    Mutant("a tenth of each amount", _amounts(lambda each: Amount(each.unscaled, each.scale + 1))),
    Mutant("hundredths of every currency", _amounts(lambda each: Amount(each.unscaled, 2))),
    Mutant("amounts as floats", _amounts(_as_float)),
    Mutant("amounts without a sign", _amounts(lambda each: Amount(abs(each.unscaled), each.scale))),
    Mutant("every currency is the euro", _legs(_euro)),
    Mutant("no currency", _legs(lambda leg: replace(leg, currency=None))),
    Mutant("time in another zone", _draft(provider_at=_shift_time)),
    Mutant("time in seconds", _draft(provider_at=_time_in_seconds)),
    Mutant("an identity with the offset", _draft(provider_tx_id=_of_offset)),
    Mutant("an identity with the receipt", _draft(provider_tx_id=_of_receipt)),
    Mutant("an identity with the bytes", _draft(provider_tx_id=_of_digest)),
    Mutant("an identity cut short", _draft(provider_tx_id=_cut)),
    Mutant(
        "an identity in lower case",
        _draft(provider_tx_id=_lower),
    ),
    Mutant("another operation", _draft(operation=lambda draft, _: f"{draft.operation}x")),
    Mutant("no player", _draft(player_id=_always(None))),
    Mutant("a player in upper case", _draft(player_id=_upper_player)),
    Mutant("a win not tied to its bet", _draft(reference=_always(None))),
    Mutant("a reference to another operation", _draft(reference=_other_reference)),
    Mutant("a reference to itself", _draft(reference=_own_reference)),
    Mutant("a free leg that is paid", _legs(lambda leg: replace(leg, is_free=False))),
    Mutant("a paid leg that is free", _legs(_free)),
    Mutant("a decision not awaited", _draft(decision_required=_always(False))),
    Mutant("every decision awaited", _draft(decision_required=_always(True))),
    Mutant("a round that never ends", _draft(round_closed=_always(False))),
    Mutant("a refund that gives", _kinds(DEPOSIT_REVERSAL=Kind.DEPOSIT)),
    Mutant("what comes back is noted", _draft(legs=_keep_payment)),
    Mutant("a rollback that is noted", _kinds(ROLLBACK=Kind.INFORMATIONAL)),
    Mutant("a jackpot as a win", _kinds(JACKPOT_WIN=Kind.WIN)),
    Mutant("zero is refused", _each(_reject_zero)),
    Mutant("raises now and then", _raise_when_odd),
    Mutant("signatures not checked", ignores_keys=True),
    Mutant("signatures called valid", _draft(signature=_always(_VALID)), ignores_keys=True),
    Mutant("shows its secrets", shows_secrets=True),
    Mutant("answers from the first result", answer=_answer_first),
    Mutant("answers success always", answer=_change_outcomes(_posted)),
    Mutant("answers without a balance", answer=_change_outcomes(_without_balance)),
    Mutant("a balance in another unit", answer=_change_outcomes(_times_ten)),
    Mutant("no answer to a rejection", answer=_answer_or_fail),
)
