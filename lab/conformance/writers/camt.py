"""Bank statements and notifications of ISO 20022, camt.053 and camt.054: XML files of entries.

Sources: the message definitions on iso20022.org; the samples of genkgo/camt. The intent's id is the
bank's reference of the entry (`AcctSvcrRef`). Nothing is signed. The status is bare text before
version 7, and amounts have up to five decimals.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from random import Random
from typing import ClassVar, Final, NamedTuple

from lab.conformance.intents import Intent, Verb
from lab.conformance.writers.encoding import amount_text
from lab.conformance.writers.ids import Ids, uuid_of
from lab.conformance.writers.writer import XML, Message, Secrets, Sending, Writer

ACCOUNT: Final = "CH5604835012345678009"
CREDIT: Final = "CRDT"
DEBIT: Final = "DBIT"

_NAMESPACE: Final = "urn:iso:std:iso:20022:tech:xsd"
_BALANCE: Final = "<Bal><Tp><CdOrPrtry><Cd>CLBD</Cd></CdOrPrtry></Tp></Bal>"
_CODED_STATUS_SINCE: Final = 7


class Form(NamedTuple):
    """Message and version in which a bank tells its entries."""

    message: str
    version: str

    @property
    def elements(self) -> tuple[str, str]:
        """Names of the root's child and of the statement in it."""
        if self.message == "camt.053":
            return "BkToCstmrStmt", "Stmt"
        return "BkToCstmrDbtCdtNtfctn", "Ntfctn"

    def status(self, code: str) -> str:
        """Return an entry's status element."""
        coded = f"<Cd>{code}</Cd>" if int(self.version) >= _CODED_STATUS_SINCE else code
        return f"<Sts>{coded}</Sts>"


NOTIFICATION: Final = Form("camt.054", "08")
STATEMENT: Final = Form("camt.053", "02")
_FORMS: Final = (NOTIFICATION, STATEMENT, Form("camt.053", "08"), Form("camt.054", "04"))


class CamtWriter(Writer):
    """Writes booked entries: deposits, direct debits that were returned, payouts."""

    provider = "camt"
    says: ClassVar = {Verb.DEPOSIT: CREDIT, Verb.CHARGEBACK: DEBIT, Verb.PAYOUT: DEBIT}
    decimals_max = 5
    batch_max = 6

    def write(self, items: Sequence[Intent], sending: Sending, secrets: Secrets | None) -> Message:
        """Write one file; a bank may tell the same entries in another message or version."""
        del secrets
        style = sending.style
        form = NOTIFICATION if style is None else style.choice(_FORMS)
        entries = [self.entry(intent, form, style) for intent in items]
        return print_file(form, uuid_of(sending.nonce)[:18], entries, sending, is_copy=bool(style))

    def entry(
        self, intent: Intent, form: Form, style: Random | None = None, code: str = "BOOK"
    ) -> str:
        """Write the entry of one payment: the deposit that it is for is its end-to-end id."""
        inner = ""
        if intent.deposit_id is not None:
            inner = f"<Refs><EndToEndId>{escape(intent.deposit_id)}</EndToEndId></Refs>"
        if intent.verb is Verb.CHARGEBACK:
            inner += "<RtrInf><Rsn><Cd>MD06</Cd></Rsn></RtrInf>"
        details = f"<TxDtls>{inner}</TxDtls>" if inner else ""
        direction = intent.operation.partition(":")[0]
        [leg] = intent.legs
        amount = money_element(leg.minor or 0, leg.currency or "", style)
        return print_entry(
            direction, amount, form.status(code), intent.at_ms, intent.tx_id, details
        )

    def draw_id(self, ids: Ids, verb: Verb, at_ms: int) -> str:
        """Draw a bank's reference."""
        del verb, at_ms
        return f"ACSR{ids.number()}"

    def shape_deposit_id(self, id_: str) -> str:
        """Return the id with the prefix by which it is found in a payer's text."""
        return f"dep-{id_}"


def money_element(minor: int, currency: str, style: Random | None = None) -> str:
    """Return the element of an amount; a style may add zeros."""
    text = amount_text(minor, currency, style=style)
    return f'<Amt Ccy="{currency}">{text}</Amt>'


def print_entry(
    direction: str, amount: str, status: str, booked_at_ms: int, ref: str, details: str
) -> str:
    """Return an entry of the account with the details within it."""
    at = f"{datetime.fromtimestamp(booked_at_ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}+00:00"
    inner = f"<NtryDtls>{details}</NtryDtls>" if details else ""
    return (
        f"<Ntry>{amount}<CdtDbtInd>{direction}</CdtDbtInd>{status}"
        f"<BookgDt><DtTm>{at}</DtTm></BookgDt><ValDt><Dt>{at[:10]}</Dt></ValDt>"
        f"<AcctSvcrRef>{ref}</AcctSvcrRef><BkTxCd><Prtry><Cd>NTRF</Cd></Prtry></BkTxCd>"
        f"{inner}</Ntry>"
    )


def print_file(
    form: Form, id_: str, entries: Sequence[str], sending: Sending, *, is_copy: bool = False
) -> Message:
    """Return the file that tells these entries of the account."""
    at = f"{datetime.fromtimestamp(sending.at_ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}Z"
    root, container = form.elements
    copy = "<CpyDplctInd>DUPL</CpyDplctInd>" if is_copy else ""
    balance = _BALANCE if form.message == "camt.053" else ""
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<Document xmlns="{_NAMESPACE}:{form.message}.001.{form.version}">'
        f"<{root}><GrpHdr><MsgId>{uuid_of(sending.nonce)[-18:]}</MsgId><CreDtTm>{at}</CreDtTm>"
        f"</GrpHdr><{container}><Id>{id_}</Id><CreDtTm>{at}</CreDtTm>{copy}"
        f"<Acct><Id><IBAN>{ACCOUNT}</IBAN></Id></Acct>"
        f"{balance}{''.join(entries)}</{container}></{root}></Document>"
    )
    return Message(ACCOUNT, text.encode(), f"/files/{form.message}", XML)


WRITER: Final = CamtWriter()
