"""A day of the casino's bank in a notification and a statement.

They hold deposits, a return, a payout, twins, and nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from html import escape
from typing import Any, Final

from msgspec.structs import replace

from lab.conformance.examples.fill import Example, Expected, Fill, plain, units
from lab.conformance.examples.written import ExampleWriter, sending_of
from lab.conformance.intents import Intent, Verb
from lab.conformance.writers.camt import (
    ACCOUNT,
    CREDIT,
    NOTIFICATION,
    STATEMENT,
    WRITER,
    Form,
    print_entry,
    print_file,
)
from schemas.events import SignatureVerdict
from schemas.money import AMOUNT_MAX, EXPONENTS
from streams.providers.dialect import KeyMaterial
from streams.providers.references import reference_or_empty

KEYS: Final[KeyMaterial] = {}
# ISO 20022 knows currencies of three letters, and five decimals.
CURRENCIES: Final = ("EUR", "JPY", "KWD", "CLF", "CHF")

_NOT_CHECKED: Final = SignatureVerdict.NOT_CHECKED
_UNSIGNED: Final = _NOT_CHECKED.value
_CAMT: Final = ExampleWriter(WRITER, KEYS, _NOT_CHECKED)

_Entry = tuple[str, tuple[Expected, ...]]


def examples(fill: Fill) -> list[Example]:
    """Return a camt.054 of version 8, a camt.053 of version 2, and a statement without entries."""
    return [
        _file(fill, NOTIFICATION, "N1", _notification_entries(fill)),
        _file(fill, STATEMENT, "S1", [_single(fill), _pending(fill)]),
        _file(fill, STATEMENT, "S2", []),
    ]


def rebatch(fill: Fill) -> list[Example]:
    """Return an entry per file, the last one first.

    Entries with the bank's reference need no statement around them.
    """
    files = [
        _file(fill, NOTIFICATION, f"N{n}", [entry])
        for n, entry in enumerate(_notification_entries(fill)[::-1], 5)
    ]
    rest = [
        _file(fill, Form("camt.053", "04"), "S9", [_pending(fill), _single(fill)]),
        *examples(fill)[2:],
    ]
    return files + rest


def _notification_entries(fill: Fill) -> list[_Entry]:
    return [_batch(fill), _return(fill), _payout(fill)]


def _batch(fill: Fill) -> _Entry:
    """Return four payments under one booking.

    One has an id of its own, one names no deposit, two are alike in everything.
    """
    amounts = [fill.amount(n) for n in range(3)]
    entry_ref, transaction = f"ACSR{fill.uuid(10)[:18]}", fill.uuid(11)
    payer = _single_spaced(fill.tx(1))
    twin = (
        _order(fill, 12, "NOTPROVIDED"),
        amounts[2],
        f"<Ustrd>deposit {_deposit(fill, 2)}, thank you</Ustrd>",
    )
    own = (
        f"<UETR>{transaction}</UETR>",
        amounts[0],
        f"<Strd><CdtrRefInf><Ref>{_deposit(fill, 0)}</Ref></CdtrRefInf></Strd>",
    )
    nameless = (_order(fill, 13, payer), amounts[1], "<Ustrd>for the game</Ustrd>")
    inner = "".join(_detail(fill, *payment) for payment in (own, nameless, twin, twin))
    total = sum(amounts, amounts[2])
    account = f"{ACCOUNT}|{entry_ref}"
    named = _escape(reference_or_empty(payer))
    key = f"{account}|{_money(fill, amounts[1])}||{_instruction(fill, 13)}|{named}||"
    twins = f"{account}|{_money(fill, amounts[2])}||{_instruction(fill, 12)}|||"
    expects: tuple[Expected, ...] = (
        _deposit_expected(
            f"{ACCOUNT}|UETR={transaction}|{_money(fill, amounts[0])}",
            amounts[0],
            _deposit(fill, 0),
        ),
        Expected(
            "CRDT", key, None, (("DEPOSIT", amounts[1]),), ("unmatched", key[:128]), _UNSIGNED
        ),
        _deposit_expected(twins, amounts[2], _deposit(fill, 2)),
        _deposit_expected(f"{twins}#2", amounts[2], _deposit(fill, 2)),
        _division_expected(f"{account}|{_money(fill, total)}", total),
    )
    if units(total, fill.scale) > AMOUNT_MAX or fill.currency not in EXPONENTS:
        # An entry that no wallet can hold is one item, whatever it consists of.
        expects = (Expected("CRDT", key, None, (("DEPOSIT", total),), None, _UNSIGNED),)
    amount = _amount_element(fill, total)
    details = f"<Btch><NbOfTxs>4</NbOfTxs></Btch>{inner}"
    status = NOTIFICATION.status("BOOK")
    return print_entry(CREDIT, amount, status, fill.first_at_ms, entry_ref, details), expects


def _return(fill: Fill) -> _Entry:
    """Return a deposit's direct debit that the player's bank took back."""
    deposit = _deposit(fill, 0)
    intent = _intent(fill, Verb.CHARGEBACK, 20, fill.amount(0), deposit_id=deposit)
    return _written(intent, NOTIFICATION, deposit)


def _payout(fill: Fill) -> _Entry:
    """Return money to a player: the cashier has booked it already."""
    intent = _intent(fill, Verb.PAYOUT, 21, fill.amount(1))
    return _written(intent, NOTIFICATION, None)


def _single(fill: Fill) -> _Entry:
    """Return a deposit as older versions have it: the status bare, the amount only at the entry."""
    deposit = _deposit(fill, 3)
    intent = _intent(fill, Verb.DEPOSIT, 30, fill.amount(3), deposit_id=deposit)
    return _written(intent, STATEMENT, deposit)


def _pending(fill: Fill) -> _Entry:
    """Return the same payment a day before, when the bank only expected it."""
    deposit = _deposit(fill, 3)
    intent = _intent(fill, Verb.DEPOSIT, 30, fill.amount(3), deposit_id=deposit)
    _, [booked] = _single(fill)
    leg = (("INFORMATIONAL", fill.amount(3)),)
    expected = replace(booked, operation="CRDT:PDNG", legs=leg)
    return WRITER.entry(intent, STATEMENT, code="PDNG"), (expected,)


def _intent(fill: Fill, verb: Verb, n: int, amount: Decimal, **more: Any) -> Intent:
    return _CAMT.intent(fill, verb, f"ACSR{fill.uuid(n)[:18]}", amount, **more)


def _written(intent: Intent, form: Form, deposit: str | None) -> _Entry:
    """Return the entry of an intent; it names a deposit, never a player."""
    [leg] = intent.legs
    key = f"{ACCOUNT}|{intent.tx_id}|{leg.minor}{leg.currency}"
    reference = None if deposit is None else ("deposit.opened", deposit)
    expected = replace(_CAMT.expect(intent), tx_id=key, player_id=None, reference=reference)
    return WRITER.entry(intent, form), (expected,)


def _deposit_expected(tx_id: str, amount: Decimal, deposit: str) -> Expected:
    return Expected(
        "CRDT", tx_id, None, (("DEPOSIT", amount),), ("deposit.opened", deposit), _UNSIGNED
    )


def _division_expected(key: str, total: Decimal) -> Expected:
    """Return what takes the entry back where another message stated it as a whole."""
    return Expected("CRDT:DTLS", key, None, (("ROLLBACK", total),), ("CRDT", key), _UNSIGNED)


def _deposit(fill: Fill, n: int) -> str:
    return f"dep-{fill.uuid(n)}"


def _instruction(fill: Fill, n: int) -> str:
    return fill.uuid(n)[:18]


def _order(fill: Fill, n: int, end_to_end_id: str) -> str:
    instruction = f"<InstrId>{_instruction(fill, n)}</InstrId>"
    return f"{instruction}<EndToEndId>{escape(end_to_end_id)}</EndToEndId>"


def _money(fill: Fill, amount: Decimal) -> str:
    return f"{units(amount, fill.scale)}{fill.currency}"


def _single_spaced(text: str) -> str:
    return " ".join(text.split())


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("|", "%7C")


def _amount_element(fill: Fill, amount: Decimal) -> str:
    """Print an amount with up to five decimals, of which those beyond the currency's are zeros."""
    zeros = "0" * fill.pick(9, 6 - fill.scale) if amount.as_tuple().exponent else ""
    return f'<Amt Ccy="{fill.currency}">{plain(amount)}{zeros}</Amt>'


def _detail(fill: Fill, refs: str, amount: Decimal, remittance: str) -> str:
    return (
        f"<TxDtls><Refs>{refs}</Refs>{_amount_element(fill, amount)}"
        f"<CdtDbtInd>CRDT</CdtDbtInd><RmtInf>{remittance}</RmtInf></TxDtls>"
    )


def _file(fill: Fill, form: Form, statement: str, entries: Sequence[_Entry]) -> Example:
    own_id = f"{statement}-{fill.uuid(40)[:18]}"
    texts = [text for text, _ in entries]
    message = print_file(form, own_id, texts, sending_of(fill), is_copy=fill.sending > 0)
    nothing = Expected(
        form.message, f"{ACCOUNT}|{own_id}", None, (("INFORMATIONAL", None),), None, _UNSIGNED
    )
    expects = tuple(expected for _, several in entries for expected in several) or (nothing,)
    name = f"{form.message} {statement}"
    return _CAMT.wrap(fill, message, *expects, name=name, schema=form.message)
