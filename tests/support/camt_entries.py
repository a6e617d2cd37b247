"""Entries and files of camt messages as tests write them, and what the dialect reads of them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from schemas.events import Reference
from streams.providers.camt import Camt
from streams.providers.dialect import Draft
from tests.support.dialect_records import raw_record

ROOTS = {
    "052": ("BkToCstmrAcctRpt", "Rpt"),
    "053": ("BkToCstmrStmt", "Stmt"),
    "054": ("BkToCstmrDbtCdtNtfctn", "Ntfctn"),
}
ACCOUNT = "NL26VAYB8060476890"
DEPOSIT = Reference("deposit.opened", "dep-1")
RETURN = "<RtrInf><Rsn><Cd>MD06</Cd></Rsn></RtrInf>"


def detail(
    end_to_end: str = "dep-1",
    amount: str | None = "3.2",
    more: str = "",
    *,
    refs: str = "",
    direction: str = "",
) -> str:
    text = f'<Amt Ccy="EUR">{amount}</Amt>' if amount is not None else ""
    way = f"<CdtDbtInd>{direction}</CdtDbtInd>" if direction else ""
    return f"<TxDtls><Refs>{refs}<EndToEndId>{end_to_end}</EndToEndId></Refs>{text}{way}{more}</TxDtls>"


def entry(
    *details: str,
    amount: str | None = None,
    direction: str = "CRDT",
    ref: str | None = "ACSR1",
    status: str = "<Sts><Cd>BOOK</Cd></Sts>",
    more: str = "",
    when: str = "<BookgDt><Dt>2026-11-20</Dt></BookgDt>",
    batch: str = "",
    currency: str = "EUR",
) -> str:
    amount = _sum_of(details) if amount is None else amount
    inner = f"<NtryDtls>{batch}{''.join(details)}</NtryDtls>" if details or batch else ""
    own = f"<AcctSvcrRef>{ref}</AcctSvcrRef>" if ref else ""
    return f'<Ntry><Amt Ccy="{currency}">{amount}</Amt><CdtDbtInd>{direction}</CdtDbtInd>{more}{status}{when}{own}{inner}</Ntry>'


def _sum_of(details: tuple[str, ...]) -> str:
    """The sum of the details' amounts, which an entry states unless a test says otherwise."""
    amounts = [re.search(r'<Amt Ccy="EUR">([0-9.]+)</Amt>', text) for text in details]
    return str(sum(Decimal(found[1]) for found in amounts if found)) if any(amounts) else "10.00"


def file(
    *entries: str,
    message: str = "054",
    version: str = "08",
    statement: str = "S1",
    more: str = "",
    head: str = "M1",
) -> str:
    root, container = ROOTS[message]
    return (
        f'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.{message}.001.{version}"><{root}>'
        f"<GrpHdr><MsgId>{head}</MsgId></GrpHdr><{container}><Id>{statement}</Id>{more}"
        f"<Acct><Id><IBAN>{ACCOUNT}</IBAN></Id></Acct>{''.join(entries)}</{container}></{root}></Document>"
    )


def read(body: str | bytes, dialect: Camt | None = None) -> list[Any]:
    return (dialect or Camt()).reader(None)(raw_record("camt", body), {})


def one(*entries: str, dialect: Camt | None = None, **how: Any) -> Draft:
    [draft] = read(file(*entries, **how), dialect)
    assert isinstance(draft, Draft), draft
    return draft


def kinds(body: str, dialect: Camt | None = None) -> list[str]:
    return [item.legs[0].kind for item in read(body, dialect)]


def ids(body: str, dialect: Camt | None = None) -> list[tuple[str, str]]:
    return [(item.operation, item.provider_tx_id) for item in read(body, dialect)]


def facts(body: str, dialect: Camt | None = None) -> list[Any]:
    """What a retry must not change: who each item is and what it says."""
    items = read(body, dialect)
    return sorted(
        (item.operation, item.provider_tx_id, repr(item.legs), repr(item.reference))
        for item in items
    )


PAYMENTS = st.tuples(
    st.sampled_from(["dep-1", "dep-2", "NOTPROVIDED"]),
    st.sampled_from(["1", "1.00", "2.5"]),
    st.sampled_from(
        ["", "<RmtInf><Ustrd>for dep-3</Ustrd></RmtInf>", "<RmtInf><Ustrd>hello</Ustrd></RmtInf>"]
    ),
    st.sampled_from(["", "<TxId>T1</TxId>", "<UETR>U1</UETR>"]),
)
BATCHES = st.lists(st.lists(PAYMENTS, min_size=2, max_size=5), min_size=1, max_size=4)


def plain_fact(fact: Any) -> str:
    """One payment's fact; 1 and 1.00 are one amount, and which of two like ones has which text is not identity."""
    return repr(fact).replace("unscaled=100, scale=2", "unscaled=1, scale=0")
