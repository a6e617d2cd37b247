"""Bank statements of any version and packing, printed from the same facts."""

from __future__ import annotations

from typing import NamedTuple

ROOTS = {
    "052": ("BkToCstmrAcctRpt", "Rpt"),
    "053": ("BkToCstmrStmt", "Stmt"),
    "054": ("BkToCstmrDbtCdtNtfctn", "Ntfctn"),
}
VERSIONS = tuple(f"{number:02}" for number in range(2, 15))
ACCOUNT = "NL26VAYB8060476890"
HEAD = '<AppHdr xmlns="urn:iso:std:iso:20022:tech:xsd:head.001.001.02"><BizMsgIdr>B1</BizMsgIdr></AppHdr>'


class Packing(NamedTuple):
    """How a file is printed; none of it changes what it says."""

    message: str = "054"
    version: str = "08"
    statement: str = "S1"
    account: str = f"<Id><IBAN>{ACCOUNT}</IBAN></Id>"
    namespace: bool = True
    envelope: str = "{}"
    before: str = ""


PLAIN = Packing()


def print_money(name: str, amount: str, currency: str = "EUR") -> str:
    return f'<{name} Ccy="{currency}">{amount}</{name}>'


def print_detail(
    *,
    end_to_end: str = "",
    amount: str | None = None,
    currency: str = "EUR",
    refs: str = "",
    lines: tuple[str, ...] = (),
    more: str = "",
    version: str = "08",
) -> str:
    """A TxDtls; before version 3 its amount is in AmtDtls."""
    e2e = f"<EndToEndId>{end_to_end}</EndToEndId>" if end_to_end else ""
    references = f"<Refs>{refs}{e2e}</Refs>" if refs or e2e else ""
    money = ""
    if amount is not None:
        inner = print_money("Amt", amount, currency)
        money = f"<AmtDtls><TxAmt>{inner}</TxAmt></AmtDtls>" if version == "02" else inner
    free = "".join(f"<Ustrd>{line}</Ustrd>" for line in lines)
    remittance = f"<RmtInf>{free}</RmtInf>" if free else ""
    return f"<TxDtls>{references}{money}{remittance}{more}</TxDtls>"


def print_entry(
    *details: str,
    amount: str,
    ref: str | None = None,
    direction: str = "CRDT",
    status: str = "BOOK",
    count: int | None = None,
    day: str = "<Dt>2026-11-20</Dt>",
    currency: str = "EUR",
    more: str = "",
    text: str = "",
    version: str = "08",
) -> str:
    """A Ntry; until version 6 its status is a plain code."""
    code = f"<Sts>{status}</Sts>" if version < "07" else f"<Sts><Cd>{status}</Cd></Sts>"
    own = f"<AcctSvcrRef>{ref}</AcctSvcrRef>" if ref is not None else ""
    batch = f"<Btch><NbOfTxs>{count}</NbOfTxs></Btch>" if count is not None else ""
    inner = f"<NtryDtls>{batch}{''.join(details)}</NtryDtls>" if details or batch else ""
    info = f"<AddtlNtryInf>{text}</AddtlNtryInf>" if text else ""
    return (
        f"<Ntry>{print_money('Amt', amount, currency)}<CdtDbtInd>{direction}</CdtDbtInd>{code}"
        f"<BookgDt>{day}</BookgDt>{own}{more}{inner}{info}</Ntry>"
    )


def print_file(*statements: tuple[str, ...], packing: Packing = PLAIN) -> str:
    """A file of one or more statements, each its entries."""
    root, container = ROOTS[packing.message]
    namespace = f"urn:iso:std:iso:20022:tech:xsd:camt.{packing.message}.001.{packing.version}"
    declared = f' xmlns="{namespace}"' if packing.namespace else ""
    inner = "".join(
        f"<{container}><Id>{packing.statement}{number or ''}</Id><Acct>{packing.account}</Acct>"
        f"{''.join(entries)}</{container}>"
        for number, entries in enumerate(statements)
    )
    document = (
        f"<Document{declared}><{root}><GrpHdr><MsgId>M1</MsgId></GrpHdr>{inner}</{root}></Document>"
    )
    return packing.before + packing.envelope.format(document)
