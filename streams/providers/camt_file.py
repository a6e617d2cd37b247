"""The elements of a camt file: statements, entries, details.

Any version is read; the namespace carries it. Each element is walked once and only as deep as
something of it is used. White space in texts is reduced to single spaces: files are printed with
line breaks within long texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec
from lxml import etree

from schemas.errors import RejectCode, Rejected

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


class Money(msgspec.Struct, frozen=True, gc=False):
    """An `Amt` as printed."""

    text: str
    currency: str


class Detail(msgspec.Struct, gc=False):
    """A `TxDtls`: one payment within an entry.

    `texts` is what the payer wrote; `is_returned` says whether it has `RtrInf`. `repeated_element`
    is the name of an element that may be there once and is there twice.
    """

    element: etree._Element
    refs: dict[str, str]
    texts: list[str]
    money: Money | None = None
    direction: str = ""
    is_returned: bool = False
    repeated_element: str = ""


class BankEntry(msgspec.Struct, gc=False):
    """A `Ntry`: one entry of the account. `count` is the number of payments in it by its `Btch`."""

    element: etree._Element
    details: list[Detail]
    money: Money | None = None
    fields: dict[str, str] = {}
    """Texts of CdtDbtInd, RvslInd, Sts, AcctSvcrRef, NtryRef and AddtlNtryInf.

    BookgDt and ValDt are dates or times.
    """
    count: str = ""
    has_further_message: bool = False
    repeated_element: str = ""

    @property
    def is_divided(self) -> bool:
        """Whether its details divide its amount.

        They do where there are several of them, or one of several, each with its own amount.
        """
        several = len(self.details) > 1 or (bool(self.details) and self.count not in {"", "1"})
        return several and all(detail.money is not None for detail in self.details)

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
    return " ".join((element.text or "").split())


def read_statements(root: etree._Element) -> Iterator[Statement]:
    """Return the file's statements.

    Raises Rejected for a file that is not a camt file, or that states no account or id.
    """
    match = _NAMESPACE.match(str(root.tag))
    body = root[0] if len(root) else None
    local = "" if match is None or body is None else str(body.tag).removeprefix(match[0])
    if match is None or body is None or local not in _MESSAGES:
        what = str(root.tag)[:64]
        raise Rejected(
            RejectCode.UNKNOWN_OPERATION, f"element {what!r} is not camt.052, camt.053 or camt.054"
        )
    namespace, (message, container) = match[0], _MESSAGES[local]
    statements = body.findall(namespace + container)
    if not statements:
        raise Rejected(RejectCode.MISSING_FIELD, f"{container} is missing")
    for statement in statements:
        account = _find(statement, namespace, "Acct/Id/IBAN") or _find(
            statement, namespace, "Acct/Id/Othr/Id"
        )
        page = _find(statement, namespace, f"{container}Pgntn/PgNb") or _find(
            body, namespace, "GrpHdr/MsgPgntn/PgNb"
        )
        own_id = _find(statement, namespace, "Id")
        if not account or not own_id:
            raise Rejected(RejectCode.MISSING_FIELD, "Acct/Id or Id of the statement is missing")
        scope = own_id if page in {"", "1"} else f"{own_id} page {page}"
        yield Statement(
            statement, namespace, message, account, scope, statement.findall(namespace + "Ntry")
        )


def _find(element: etree._Element, namespace: str, path: str) -> str:
    found = element.findtext("/".join(namespace + name for name in path.split("/")))
    return " ".join((found or "").split())


def read_entry(element: etree._Element, namespace: str) -> BankEntry:
    """Read an entry with its details."""
    skip = len(namespace)
    entry, fields = BankEntry(element, [], repeated_element=_repeated_element(element, skip)), {}
    for child in element:
        name = child.tag[skip:]
        if name in {"BookgDt", "ValDt", "Sts"}:
            # The first one has a choice of Dt and DtTm, the last one its code inside since version
            # 8.
            fields[name] = text_of_element(child[0] if len(child) else child)
        elif name == "Amt":
            entry.money = _money(child)
        elif name == "NtryDtls":
            _read_details(entry, child, skip)
        elif name == "AddtlInfInd":
            entry.has_further_message = True
        elif not len(child):
            fields[name] = text_of_element(child)
    entry.fields = fields
    return entry


def _read_details(entry: BankEntry, element: etree._Element, skip: int) -> None:
    for child in element:
        name = child.tag[skip:]
        if name == "TxDtls":
            entry.details.append(_detail_of(child, skip))
        elif name == "Btch":
            entry.count = next(
                (text_of_element(leaf) for leaf in child if leaf.tag[skip:] == "NbOfTxs"), ""
            )


def _detail_of(element: etree._Element, skip: int) -> Detail:
    detail = Detail(element, {}, [], repeated_element=_repeated_element(element, skip))
    older: Money | None = None
    for child in element:
        name = child.tag[skip:]
        if name == "Refs":
            detail.refs = {ref.tag[skip:]: text_of_element(ref) for ref in child if not len(ref)}
        elif name == "Amt":
            detail.money = _money(child)
        elif name == "AmtDtls":
            amounts = (
                leaf
                for kind in child
                if kind.tag[skip:] == "TxAmt"
                for leaf in kind
                if leaf.tag[skip:] == "Amt"
            )
            older = next((_money(leaf) for leaf in amounts), None)
        elif name == "CdtDbtInd":
            detail.direction = text_of_element(child)
        elif name == "RmtInf":
            _read_remittance(detail, child, skip)
        elif name == "AddtlTxInf":
            detail.texts.append(text_of_element(child))
        elif name == "RtrInf":
            detail.is_returned = True
    if detail.money is None:
        detail.money = older  # versions 2 and 3 have no Amt of a detail's own
    return detail


def _read_remittance(detail: Detail, element: etree._Element, skip: int) -> None:
    for child in element:
        if child.tag[skip:] == "Ustrd":
            detail.texts.append(text_of_element(child))
        else:
            detail.texts += [
                text_of_element(leaf) for leaf in child.iter() if leaf.tag[skip:] == "Ref"
            ]


def _repeated_element(element: etree._Element, skip: int) -> str:
    seen: set[str] = set()
    for child in element:
        name = child.tag[skip:]
        if name in _ONCE:
            if name in seen:
                return str(name)
            seen.add(name)
    return ""


def _money(element: etree._Element) -> Money:
    # Text that another element interrupts is not an amount: 1<x/>.50 is not 1.
    return Money("" if len(element) else (element.text or "").strip(), element.get("Ccy") or "")
