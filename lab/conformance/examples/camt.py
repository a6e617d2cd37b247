"""A day of the casino's bank in a notification and a statement.

They hold deposits, a return, a payout, twins, and nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from html import escape
from typing import Final

from lab.conformance.examples.fill import Example, Expected, Fill, plain, units
from schemas.events import SignatureVerdict
from schemas.money import AMOUNT_MAX, EXPONENTS
from streams.providers.dialect import KeyMaterial
from streams.providers.references import reference_or_empty

KEYS: Final[KeyMaterial] = {}
# ISO 20022 knows currencies of three letters, and five decimals.
CURRENCIES: Final = ("EUR", "JPY", "KWD", "CLF", "CHF")

_ACCOUNT: Final = "CH5604835012345678009"
_UNSIGNED: Final = SignatureVerdict.NOT_CHECKED.value
_ROOTS: Final = {
    "camt.053": ("BkToCstmrStmt", "Stmt"),
    "camt.054": ("BkToCstmrDbtCdtNtfctn", "Ntfctn"),
}

_NAMESPACE: Final = "urn:iso:std:iso:20022:tech:xsd"
_BALANCE: Final = "<Bal><Tp><CdOrPrtry><Cd>CLBD</Cd></CdOrPrtry></Tp></Bal>"

_Entry = tuple[str, tuple[Expected, ...]]


def examples(fill: Fill) -> list[Example]:
    """Return a camt.054 of version 8, a camt.053 of version 2, and a statement without entries."""
    return [
        _file(fill, "camt.054", "08", "N1", _notification_entries(fill)),
        _file(fill, "camt.053", "02", "S1", [_single(fill), _pending(fill)]),
        _file(fill, "camt.053", "02", "S2", []),
    ]


def rebatch(fill: Fill) -> list[Example]:
    """Return an entry per file, the last one first.

    Entries with the bank's reference need no statement around them.
    """
    files = [
        _file(fill, "camt.054", "08", f"N{n}", [entry])
        for n, entry in enumerate(_notification_entries(fill)[::-1], 5)
    ]
    rest = [
        _file(fill, "camt.053", "04", "S9", [_pending(fill), _single(fill)]),
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
    account = f"{_ACCOUNT}|{entry_ref}"
    named = _escape(reference_or_empty(payer))
    key = f"{account}|{_money(fill, amounts[1])}||{_instruction(fill, 13)}|{named}||"
    twins = f"{account}|{_money(fill, amounts[2])}||{_instruction(fill, 12)}|||"
    expects: tuple[Expected, ...] = (
        _deposit_expected(
            f"{_ACCOUNT}|UETR={transaction}|{_money(fill, amounts[0])}",
            amounts[0],
            _deposit(fill, 0),
        ),
        Expected(
            "CRDT", key, None, (("DEPOSIT", amounts[1]),), ("unmatched", key[:128]), _UNSIGNED
        ),
        _deposit_expected(twins, amounts[2], _deposit(fill, 2)),
        _deposit_expected(f"{twins}#2", amounts[2], _deposit(fill, 2)),
    )
    if units(total, fill.scale) > AMOUNT_MAX or fill.currency not in EXPONENTS:
        # An entry that no wallet can hold is one item, whatever it consists of.
        expects = (Expected("CRDT", key, None, (("DEPOSIT", total),), None, _UNSIGNED),)
    return _entry(
        fill, "CRDT", total, entry_ref, f"<Btch><NbOfTxs>4</NbOfTxs></Btch>{inner}"
    ), expects


def _return(fill: Fill) -> _Entry:
    """Return a deposit's direct debit that the player's bank took back."""
    amount, entry_ref = fill.amount(0), f"ACSR{fill.uuid(20)[:18]}"
    inner = (
        f"<TxDtls><Refs><EndToEndId>{_deposit(fill, 0)}</EndToEndId></Refs>"
        "<RtrInf><Rsn><Cd>MD06</Cd></Rsn></RtrInf></TxDtls>"
    )
    leg, reference = ("DEPOSIT_REVERSAL", amount), ("deposit.opened", _deposit(fill, 0))
    expected = Expected(
        "DBIT", f"{_ACCOUNT}|{entry_ref}|{_money(fill, amount)}", None, (leg,), reference, _UNSIGNED
    )
    return _entry(fill, "DBIT", amount, entry_ref, inner), (expected,)


def _payout(fill: Fill) -> _Entry:
    """Return money to a player: the cashier has booked it already."""
    amount, entry_ref = fill.amount(1), f"ACSR{fill.uuid(21)[:18]}"
    key = f"{_ACCOUNT}|{entry_ref}|{_money(fill, amount)}"
    return _entry(fill, "DBIT", amount, entry_ref, ""), (
        Expected("DBIT", key, None, (("INFORMATIONAL", amount),), None, _UNSIGNED),
    )


def _single(fill: Fill) -> _Entry:
    """Return a deposit as older versions have it: the status bare, the amount only at the entry."""
    amount, entry_ref = fill.amount(3), f"ACSR{fill.uuid(30)[:18]}"
    inner = f"<TxDtls><Refs><EndToEndId>{_deposit(fill, 3)}</EndToEndId></Refs></TxDtls>"
    key = f"{_ACCOUNT}|{entry_ref}|{_money(fill, amount)}"
    return _entry(fill, "CRDT", amount, entry_ref, inner, "<Sts>BOOK</Sts>"), (
        _deposit_expected(key, amount, _deposit(fill, 3)),
    )


def _pending(fill: Fill) -> _Entry:
    """Return the same payment a day before, when the bank only expected it."""
    text, expects = _single(fill)
    leg = (("INFORMATIONAL", fill.amount(3)),)
    expected = Expected("CRDT:PDNG", expects[0].tx_id, None, leg, expects[0].reference, _UNSIGNED)
    return text.replace("<Sts>BOOK</Sts>", "<Sts>PDNG</Sts>"), (expected,)


def _deposit_expected(tx_id: str, amount: Decimal, deposit: str) -> Expected:
    return Expected(
        "CRDT", tx_id, None, (("DEPOSIT", amount),), ("deposit.opened", deposit), _UNSIGNED
    )


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


def _print_amount(fill: Fill, amount: Decimal) -> str:
    """Print an amount with up to five decimals, of which those beyond the currency's are zeros."""
    return plain(amount) + (
        "0" * fill.pick(9, 6 - fill.scale) if amount.as_tuple().exponent else ""
    )


def _detail(fill: Fill, refs: str, amount: Decimal, remittance: str) -> str:
    return (
        f'<TxDtls><Refs>{refs}</Refs><Amt Ccy="{fill.currency}">{_print_amount(fill, amount)}</Amt>'
        f"<CdtDbtInd>CRDT</CdtDbtInd><RmtInf>{remittance}</RmtInf></TxDtls>"
    )


def _entry(
    fill: Fill,
    direction: str,
    amount: Decimal,
    ref: str,
    details: str,
    status: str = "<Sts><Cd>BOOK</Cd></Sts>",
) -> str:
    at = f"{datetime.fromtimestamp(fill.first_at_ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}+00:00"
    inner = f"<NtryDtls>{details}</NtryDtls>" if details else ""
    return (
        f'<Ntry><Amt Ccy="{fill.currency}">{_print_amount(fill, amount)}</Amt>'
        f"<CdtDbtInd>{direction}</CdtDbtInd>"
        f"{status}<BookgDt><DtTm>{at}</DtTm></BookgDt><ValDt><Dt>{at[:10]}</Dt></ValDt>"
        f"<AcctSvcrRef>{ref}</AcctSvcrRef><BkTxCd><Prtry><Cd>NTRF</Cd></Prtry></BkTxCd>"
        f"{inner}</Ntry>"
    )


def _file(
    fill: Fill, message: str, version: str, statement: str, entries: Sequence[_Entry]
) -> Example:
    root, container = _ROOTS[message]
    own_id = f"{statement}-{fill.uuid(40)[:18]}"
    at = f"{datetime.fromtimestamp(fill.at_ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}Z"
    balance = _BALANCE if message == "camt.053" else ""
    copy = "<CpyDplctInd>DUPL</CpyDplctInd>" if fill.sending else ""
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<Document xmlns="{_NAMESPACE}:{message}.001.{version}">'
        f"<{root}><GrpHdr><MsgId>{fill.request_id()[:18]}</MsgId><CreDtTm>{at}</CreDtTm></GrpHdr>"
        f"<{container}><Id>{own_id}</Id><CreDtTm>{at}</CreDtTm>{copy}"
        f"<Acct><Id><IBAN>{_ACCOUNT}</IBAN></Id></Acct>"
        f"{balance}{''.join(text for text, _ in entries)}</{container}></{root}></Document>"
    )
    nothing = Expected(
        message, f"{_ACCOUNT}|{own_id}", None, (("INFORMATIONAL", None),), None, _UNSIGNED
    )
    expects = tuple(expected for _, several in entries for expected in several) or (nothing,)
    headers = fill.headers("application/xml", f"/files/{message}")
    return Example(
        f"{message} {statement}", headers, _ACCOUNT.encode(), body.encode(), expects, message
    )
