"""The elements of a camt file: statements, entries, details.

Any version is read, in an envelope or without one; the namespace carries the version, and may be
missing. Each element is walked once and only as deep as something of it is used. White space in
texts is reduced to single spaces: files are printed with line breaks within long texts. References
that are only placeholders are read as missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

import msgspec
from lxml import etree

from schemas.errors import RejectCode, Rejected
from streams.providers.references import is_placeholder, reference_or_empty

_NAMESPACE: Final = re.compile(r"\{[^{}]*camt\.05[234]\.001\.\d\d[^{}]*\}", re.ASCII)
_ONCE: Final = frozenset({"Amt", "CdtDbtInd", "RvslInd", "Sts", "AcctSvcrRef", "Refs"})
"""Elements that decide to whom an amount belongs; if one occurs twice, it is unknown which is
meant.
"""
_MESSAGES: Final = {
    "BkToCstmrAcctRpt": ("camt.052", "Rpt"),
    "BkToCstmrStmt": ("camt.053", "Stmt"),
    "BkToCstmrDbtCdtNtfctn": ("camt.054", "Ntfctn"),
}
_RETURN_CODES: Final = frozenset({"RRTN", "RPCR", "ARET", "UPDD", "PRDD", "RCDD", "UPCQ"})
"""Sub-families of the domain PMNT that say that an earlier payment goes back (ISO 20022 external
code set, bank transaction codes): returned, cancelled, unpaid or reversed.
"""
_AMOUNTS: Final = {"InstdAmt": "", "TxAmt": "TxAmt", "CntrValAmt": "CntrValAmt"}
"""Kinds of `AmtDtls`. What the payer instructed is not what the account received."""


class Money(msgspec.Struct, frozen=True, gc=False):
    """An `Amt` as printed."""

    text: str
    currency: str


class Detail(msgspec.Struct, gc=False):
    """A `TxDtls`, one payment within an entry, or one `UndrlygAllcn` of one.

    `lines` are the free text of the payer and each of `texts` the lines of another text: a bank may
    cut lines in the middle of a word. `amounts` are by the element that they come from;
    `has_amount` is true also where none of them can be the account's. `is_returned`: the payment
    returns an earlier one.
    `repeated_element` is the name of an element that may be there once and is there twice.
    """

    element: etree._Element
    refs: dict[str, str]
    texts: list[Sequence[str]]
    amounts: dict[str, Money]
    lines: list[str] = []
    charges: list[Money] | None = None
    allocations: list[Detail] | None = None
    direction: str = ""
    has_amount: bool = False
    is_returned: bool = False
    repeated_element: str = ""


class BankEntry(msgspec.Struct, gc=False):
    """A `Ntry`: one entry of the account.

    `count` is the number of payments in it by its `Btch`, 0 where it states none.
    """

    element: etree._Element
    details: list[Detail]
    money: Money | None = None
    fields: dict[str, str] = {}
    """Texts of CdtDbtInd, RvslInd, Sts, AcctSvcrRef and NtryRef.

    BookgDt and ValDt are dates or times.
    """
    lines: Sequence[str] = ()
    """The lines of AddtlNtryInf."""
    charges: list[Money] | None = None
    count: int = 0
    has_further_message: bool = False
    is_returned: bool = False
    repeated_element: str = ""

    @property
    def when(self) -> str:
        """The booking, else the value date; empty where there is neither."""
        return self.fields.get("BookgDt") or self.fields.get("ValDt") or ""


class Statement(msgspec.Struct, frozen=True, gc=False):
    """The data that the entries of one statement have in common; `id` also holds its page."""

    element: etree._Element
    namespace: str
    message: str
    account: str
    id: str
    entries: list[etree._Element]


def text_of_element(element: etree._Element) -> str:
    """Return an element's text with single spaces."""
    words = (element.text or "").split()
    return words[0] if len(words) == 1 else " ".join(words)


def read_statements(root: etree._Element) -> Iterator[Statement]:
    """Return the file's statements.

    Raises Rejected for a file that is not a camt file, or that states no account or id.
    """
    bodies = [*_bodies(root)]
    if not bodies:
        what = str(root.tag)[:64]
        raise Rejected(
            RejectCode.UNKNOWN_OPERATION, f"element {what!r} is not camt.052, camt.053 or camt.054"
        )
    for namespace, local, body in bodies:
        message, container = _MESSAGES[local]
        statements = list(body.iterchildren(namespace + container))
        if not statements:
            raise Rejected(RejectCode.MISSING_FIELD, f"{container} is missing")
        for statement in statements:
            page = _find(statement, namespace, f"{container}Pgntn/PgNb") or _find(
                body, namespace, "GrpHdr/MsgPgntn/PgNb"
            )
            account = _account(statement, namespace)
            own_id = _find(statement, namespace, "Id")
            if not account or not own_id:
                raise Rejected(
                    RejectCode.MISSING_FIELD, "Acct/Id or Id of the statement is missing"
                )
            scope = own_id if page in {"", "1"} else f"{own_id} page {page}"
            entries = list(statement.iterchildren(namespace + "Ntry"))
            yield Statement(statement, namespace, message, account, scope, entries)


def find_document(root: etree._Element) -> etree._Element | None:
    """Return the first camt document of a file: the root, or within an envelope.

    Envelopes are the business message (`BizMsgEnvlp`), SWIFT's `DataPDU` and those that banks make.
    """
    return next((body.getparent() for _, _, body in _bodies(root)), None)


def _bodies(root: etree._Element) -> Iterator[tuple[str, str, etree._Element]]:
    """Return namespace, local name and element of each message body in the file."""
    is_bare = str(root.tag).endswith("Document")
    for document in [root] if is_bare else root.iter("{*}Document"):
        body = document[0] if len(document) else document
        before, brace, local = str(body.tag).rpartition("}")
        namespace = before + brace
        if local in _MESSAGES and (not namespace or _NAMESPACE.match(namespace)):
            yield namespace, local, body


def _account(statement: etree._Element, namespace: str) -> str:
    """Return the account's id; since version 9 it may be known by a proxy only."""
    iban = _find(statement, namespace, "Acct/Id/IBAN")
    if iban:
        return iban.replace(" ", "").upper()
    own_id = _find(statement, namespace, "Acct/Id/Othr/Id")
    if own_id:
        return own_id
    proxy = _find(statement, namespace, "Acct/Prxy/Id")
    if not proxy:
        return ""
    kind = _find(statement, namespace, "Acct/Prxy/Tp/Cd") or _find(
        statement, namespace, "Acct/Prxy/Tp/Prtry"
    )
    return f"{kind}:{proxy}"


def _find(element: etree._Element, namespace: str, path: str) -> str:
    found = element.findtext(_qualify(namespace, path))
    return " ".join(found.split()) if found else ""


@lru_cache(maxsize=256)
def _qualify(namespace: str, path: str) -> str:
    return "/".join(namespace + name for name in path.split("/"))


def read_entry(element: etree._Element, namespace: str) -> BankEntry:
    """Read an entry with its details."""
    skip = len(namespace)
    names, children, repeated = _children(element, skip)
    entry = BankEntry(element, [], fields={}, repeated_element=repeated)
    fields = entry.fields
    for name, child in zip(names, children, strict=True):
        reader = _ENTRY_READERS.get(name)
        if reader is not None:
            reader(entry, child, skip)
        elif not len(child):
            fields[name] = text_of_element(child)
    return entry


def _read_choice(entry: BankEntry, element: etree._Element, skip: int) -> None:
    """Read a date, a choice of Dt and DtTm, or a status, a choice of codes since version 7."""
    leaf = element[0] if len(element) else element
    entry.fields[element.tag[skip:]] = text_of_element(leaf)


def _read_reference(entry: BankEntry, element: etree._Element, skip: int) -> None:
    entry.fields[element.tag[skip:]] = reference_or_empty(text_of_element(element))


def _read_entry_amount(entry: BankEntry, element: etree._Element, _: int) -> None:
    entry.money = _money(element)


def _read_further_message(entry: BankEntry, _: etree._Element, __: int) -> None:
    entry.has_further_message = True


def _read_entry_code(entry: BankEntry, element: etree._Element, _: int) -> None:
    entry.is_returned = _is_return_code(element)


def _read_entry_charges(entry: BankEntry, element: etree._Element, skip: int) -> None:
    entry.charges = entry.charges or []
    entry.charges += _charges(element, skip)


def _read_entry_text(entry: BankEntry, element: etree._Element, _: int) -> None:
    entry.lines = _lines(element)


def _read_details(entry: BankEntry, element: etree._Element, skip: int) -> None:
    count, before = 0, len(entry.details)
    for child in element:
        name = child.tag[skip:]
        if name == "TxDtls":
            entry.details.append(_detail_of(child, skip))
        elif name == "Btch":
            text = next(
                (text_of_element(leaf) for leaf in child if leaf.tag[skip:] == "NbOfTxs"), ""
            )
            count = int(text) if text.isdecimal() and len(text) < 16 else 0
    if entry.count or count:
        # An entry may hold several batches, and payments that are in none.
        entry.count = (entry.count or before) + (count or len(entry.details) - before)


def _detail_of(element: etree._Element, skip: int) -> Detail:
    names, children, repeated = _children(element, skip)
    detail = Detail(element, {}, [], {}, repeated_element=repeated)
    for name, child in zip(names, children, strict=True):
        reader = _DETAIL_READERS.get(name)
        if reader is not None:
            reader(detail, child, skip)
    return detail


def _read_refs(detail: Detail, element: etree._Element, skip: int) -> None:
    detail.refs = {
        ref.tag[skip:]: text
        for ref in element
        if not len(ref) and not is_placeholder(text := text_of_element(ref))
    }
    if "RtrId" in detail.refs:  # the id of a return, since version 14
        detail.is_returned = True


def _read_amount(detail: Detail, element: etree._Element, _: int) -> None:
    """Read a detail's own amount, which is there since version 3; AmtDtls is there in all."""
    detail.amounts["Amt"], detail.has_amount = _money(element), True


def _read_direction(detail: Detail, element: etree._Element, _: int) -> None:
    detail.direction = text_of_element(element)


def _read_text(detail: Detail, element: etree._Element, _: int) -> None:
    detail.texts.append(_lines(element))


def _read_return(detail: Detail, _: etree._Element, __: int) -> None:
    detail.is_returned = True


def _read_code(detail: Detail, element: etree._Element, _: int) -> None:
    detail.is_returned = detail.is_returned or _is_return_code(element)


def _read_charges(detail: Detail, element: etree._Element, skip: int) -> None:
    detail.charges = detail.charges or []
    detail.charges += _charges(element, skip)


def _read_allocation(detail: Detail, element: etree._Element, skip: int) -> None:
    """Read a part of a payment that is meant for several things, since version 13."""
    names, children, repeated = _children(element, skip)
    part = Detail(element, {}, [], {}, repeated_element=repeated)
    for name, child in zip(names, children, strict=True):
        if name == "Amt":
            _read_amount(part, child, skip)
        elif name == "CdtDbtInd":
            _read_direction(part, child, skip)
        elif name == "Ref":
            part.refs[name] = reference_or_empty(text_of_element(child))
            part.texts.append([part.refs[name]])
    detail.allocations = detail.allocations or []
    detail.allocations.append(part)


def _read_amounts(detail: Detail, element: etree._Element, skip: int) -> None:
    for kind in element:
        source = _AMOUNTS.get(kind.tag[skip:])
        amount = next((leaf for leaf in kind if leaf.tag[skip:] == "Amt"), None)
        if source is not None and amount is not None:
            detail.has_amount = True
            if source:
                detail.amounts[source] = _money(amount)


def _read_remittance(detail: Detail, element: etree._Element, skip: int) -> None:
    for child in element:
        if child.tag[skip:] == "Ustrd":
            detail.lines += _lines(child)
        else:
            detail.texts += [_lines(leaf) for leaf in child.iter() if leaf.tag[skip:] == "Ref"]


def _lines(element: etree._Element) -> list[str]:
    """Return the lines of a text, which a bank may have cut anywhere."""
    text = element.text or ""
    if "\n" not in text and "\r" not in text:
        return [" ".join(text.split())]
    lines = (" ".join(line.split()) for line in text.splitlines())
    return [line for line in lines if line]


def _is_return_code(element: etree._Element) -> bool:
    if not len(element) or not str(element[0].tag).endswith("Domn"):
        return False
    texts = {(leaf.text or "").strip() for leaf in element.iter()}
    return "PMNT" in texts and not _RETURN_CODES.isdisjoint(texts)


def _charges(element: etree._Element, skip: int) -> list[Money]:
    """Return the charges of an entry or a detail: each one, not their total.

    Until version 3 each `Chrgs` is one; after that it holds a `Rcrd` for each.
    """
    records = [leaf for leaf in element if leaf.tag[skip:] == "Rcrd"] or [element]
    found = [_money(leaf) for record in records for leaf in record if leaf.tag[skip:] == "Amt"]
    return found or [_money(leaf) for leaf in element if leaf.tag[skip:] == "TtlChrgsAndTaxAmt"]


def _children(element: etree._Element, skip: int) -> tuple[list[str], list[etree._Element], str]:
    """Return the names of an element's children, these, and a name that must not be there twice."""
    children = list(element)
    names = [child.tag[skip:] for child in children]
    repeated = ""
    if len(set(names)) < len(names):
        repeated = next((name for name in names if name in _ONCE and names.count(name) > 1), "")
    return names, children, repeated


def _money(element: etree._Element) -> Money:
    # Text that another element interrupts is not an amount: 1<x/>.50 is not 1.
    return Money("" if len(element) else (element.text or "").strip(), element.get("Ccy") or "")


_ENTRY_READERS: Final = {
    "BookgDt": _read_choice,
    "ValDt": _read_choice,
    "Sts": _read_choice,
    "AcctSvcrRef": _read_reference,
    "NtryRef": _read_reference,
    "Amt": _read_entry_amount,
    "NtryDtls": _read_details,
    "AddtlInfInd": _read_further_message,
    "BkTxCd": _read_entry_code,
    "Chrgs": _read_entry_charges,
    "AddtlNtryInf": _read_entry_text,
}
_DETAIL_READERS: Final = {
    "Refs": _read_refs,
    "Amt": _read_amount,
    "AmtDtls": _read_amounts,
    "CdtDbtInd": _read_direction,
    "RmtInf": _read_remittance,
    "AddtlTxInf": _read_text,
    "RtrInf": _read_return,
    "BkTxCd": _read_code,
    "Chrgs": _read_charges,
    "UndrlygAllcn": _read_allocation,
}
