"""Bank statements: what moves money, how much, when and whose, and files that are none."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from schemas.errors import RejectCode, Rejected, UsageError
from schemas.events import Amount, Reference
from streams.providers.camt import Camt
from streams.providers.dialect import Draft
from tests.support.camt_entries import (
    ACCOUNT,
    DEPOSIT,
    RETURN,
    detail,
    entry,
    file,
    ids,
    one,
    read,
    read_payments,
)
from tests.support.dialect_records import SAMPLES, raw_record
from tests.support.examples import examples
from tests.support.payload_schemas import ROOT

# --- what moves money -------------------------------------------------------------------------------------------------

REVERSAL = "<RvslInd>true</RvslInd>"

MEANINGS = [
    ("CRDT", "", "", "", "DEPOSIT"),
    ("CRDT", "", "CRDT", "", "DEPOSIT"),
    ("CRDT", REVERSAL, "", "", "INFORMATIONAL"),  # a payout came back: the cashier's business
    ("CRDT", "", "", RETURN, "INFORMATIONAL"),
    ("CRDT", "", "DBIT", "", "INFORMATIONAL"),  # a fee within a batch
    ("DBIT", "", "", "", "INFORMATIONAL"),  # a payout, a fee
    ("DBIT", REVERSAL, "", "", "DEPOSIT_REVERSAL"),
    ("DBIT", "<RvslInd>false</RvslInd>", "", "", "INFORMATIONAL"),
    ("DBIT", "", "DBIT", RETURN, "DEPOSIT_REVERSAL"),
    ("DBIT", "", "CRDT", RETURN, "INFORMATIONAL"),  # the entry says what the account saw
]


@pytest.mark.parametrize(("direction", "more", "own", "returned", "kind"), MEANINGS)
def test_what_moves_money(direction: str, more: str, own: str, returned: str, kind: str) -> None:
    draft = one(entry(detail(direction=own, more=returned), direction=direction, more=more))
    assert (draft.legs[0].kind, draft.operation) == (kind, direction)
    assert (draft.reference, draft.player_id, draft.decision_required) == (DEPOSIT, None, False)


@pytest.mark.parametrize("spelt", ["<Sts>{}</Sts>", "<Sts><Cd>{}</Cd></Sts>"])
@pytest.mark.parametrize("status", ["PDNG", "INFO", "FUTR"])
def test_what_is_not_booked_is_noted_and_does_not_stand_in_the_booking_s_way(
    spelt: str, status: str
) -> None:
    waiting, booked = (one(entry(detail(), status=spelt.format(code))) for code in (status, "BOOK"))
    assert (waiting.operation, waiting.legs[0].kind) == (f"CRDT:{status}", "INFORMATIONAL")
    assert (booked.operation, booked.legs[0].kind) == ("CRDT", "DEPOSIT")
    assert waiting.provider_tx_id == booked.provider_tx_id


def test_an_intraday_report_and_an_excluded_message_move_nothing() -> None:
    assert one(entry(detail()), message="052").operation == "camt.052:CRDT"
    only = Camt(money_in=frozenset({"camt.054"}))
    text = one(entry(detail()), message="053", dialect=only)
    assert (text.operation, text.legs[0].kind) == ("camt.053:CRDT", "INFORMATIONAL")
    assert one(entry(detail()), dialect=only).legs[0].kind == "DEPOSIT"


def test_a_sum_that_another_message_divides_moves_nothing() -> None:
    batch = "<Btch><NbOfTxs>{}</NbOfTxs></Btch>"
    assert one(entry(batch=batch.format(3))).operation == "CRDT:BTCH"
    assert (
        one(entry(more="<AddtlInfInd><MsgNmId>camt.054</MsgNmId></AddtlInfInd>")).legs[0].kind
        == "INFORMATIONAL"
    )
    assert one(entry(batch=batch.format(1))).legs[0].kind == "DEPOSIT"


def test_details_without_amounts_do_not_divide_the_entry() -> None:
    draft = one(entry(detail(amount=None), detail("dep-2", amount=None), amount="10.00"))
    assert draft.legs[0].amount == Amount(1000, 2)
    assert draft.reference == Reference("unmatched", draft.provider_tx_id)
    both = read_payments(file(entry(detail(amount="4"), detail("dep-2", amount="6"))))
    assert [item.legs[0].amount for item in both] == [Amount(4, 0), Amount(6, 0)]


def test_older_versions_keep_a_detail_s_amount_elsewhere() -> None:
    def old(amount: str, deposit: str) -> str:
        inner = f'<AmtDtls><TxAmt><Amt Ccy="EUR">{amount}</Amt></TxAmt></AmtDtls>'
        return detail(deposit, None, inner)

    items = read_payments(file(entry(old("4", "dep-1"), old("6", "dep-2")), version="02"))
    assert [item.legs[0].amount for item in items] == [Amount(4, 0), Amount(6, 0)]


# --- money and time ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "currency", "amount"),
    [
        ("8.85000", "EUR", Amount(885000, 5)),
        ("100", "JPY", Amount(100, 0)),
        ("1.234", "KWD", Amount(1234, 3)),
    ],
)
def test_amounts_are_as_printed(text: str, currency: str, amount: Amount) -> None:
    assert one(entry(amount=text, currency=currency)).legs[0].amount == amount


@pytest.mark.parametrize(
    ("text", "currency", "reason"),
    [
        ("8.855", "EUR", RejectCode.AMOUNT_SCALE),
        ("-1", "EUR", RejectCode.BAD_AMOUNT),
        ("1,50", "EUR", RejectCode.BAD_AMOUNT),
        ("", "EUR", RejectCode.BAD_AMOUNT),
        ("1", "", RejectCode.BAD_CURRENCY),
        ("1", "XQQ", RejectCode.BAD_CURRENCY),
    ],
)
def test_an_amount_that_does_not_fit_spoils_its_entry_only(
    text: str, currency: str, reason: RejectCode
) -> None:
    bad, good = read(file(entry(amount=text, currency=currency), entry(ref="ACSR2")))
    assert isinstance(bad, Rejected)
    assert bad.reason is reason
    assert good.legs[0].amount == Amount(1000, 2)


@pytest.mark.parametrize(
    ("zone", "text", "at"),
    [
        ("UTC", "<Dt>2026-11-20</Dt>", 1_795_132_800_000),
        ("Europe/Malta", "<Dt>2026-11-20</Dt>", 1_795_132_800_000 - 3_600_000),
        ("Europe/Malta", "<Dt>2026-07-20</Dt>", 1_784_505_600_000 - 7_200_000),
        ("Europe/Malta", "<DtTm>2026-11-20T00:00:00Z</DtTm>", 1_795_132_800_000),
        ("Europe/Malta", "<DtTm>2026-11-20T02:30:00.5+02:30</DtTm>", 1_795_132_800_500),
        ("Asia/Tokyo", "<DtTm>2026-11-20T09:00:00</DtTm>", 1_795_132_800_000),
        ("UTC", "<DtTm>2026-11-20T00:00:00.123456789Z</DtTm>", 1_795_132_800_123),
    ],
)
def test_a_day_begins_in_the_bank_s_zone_and_a_time_is_what_it_says(
    zone: str, text: str, at: int
) -> None:
    assert one(entry(when=f"<BookgDt>{text}</BookgDt>"), dialect=Camt(zone=zone)).provider_at == at


def test_the_value_date_stands_in_and_nothing_is_nothing() -> None:
    assert one(entry(when="<ValDt><Dt>2026-11-20</Dt></ValDt>")).provider_at == 1_795_132_800_000
    assert one(entry(when="")).provider_at is None
    [bad] = read(file(entry(when="<BookgDt><Dt>2026-11-31</Dt></BookgDt>")))
    assert bad.reason is RejectCode.BAD_TIME


# --- whose ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        detail("NOTPROVIDED", more="<RmtInf><Ustrd>my deposit dep-1, thanks</Ustrd></RmtInf>"),
        detail("NOTPROVIDED", more="<RmtInf><Ustrd>my deposit\n   dep-1</Ustrd></RmtInf>"),
        detail(
            "X", more="<RmtInf><Strd><CdtrRefInf><Tp/><Ref>dep-1</Ref></CdtrRefInf></Strd></RmtInf>"
        ),
        detail("X", more="<RmtInf><Ustrd>dep-1</Ustrd><Ustrd>again dep-1</Ustrd></RmtInf>"),
        detail("X", more="<AddtlTxInf>dep-1</AddtlTxInf>"),
        detail("dep-1"),
    ],
)
def test_the_payer_may_name_the_deposit_anywhere(text: str) -> None:
    assert one(entry(text)).reference == DEPOSIT


@pytest.mark.parametrize("text", ["hello", "dep-2, dep-1", "dep-", "xdep-1"])
def test_money_that_names_no_deposit_or_two_refers_to_nothing_there_is(text: str) -> None:
    draft = one(entry(detail("NOTPROVIDED", more=f"<RmtInf><Ustrd>{text}</Ustrd></RmtInf>")))
    assert draft.legs[0].kind == "DEPOSIT"
    shown = "dep-1 or dep-2" if text == "dep-2, dep-1" else None
    assert draft.reference == Reference("unmatched", shown or draft.provider_tx_id)


def test_the_pattern_is_a_setting() -> None:
    draft = one(entry(detail("RF18 5390")), dialect=Camt(deposit_pattern=r"RF\d\d \d{4}"))
    assert draft.reference == Reference("deposit.opened", "RF18 5390")


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_statement_in_which_nothing_happened_is_an_item() -> None:
    draft = one(message="053", statement="S7")
    assert (draft.operation, draft.provider_tx_id, draft.legs[0].kind) == (
        "camt.053",
        f"{ACCOUNT}|S7",
        "INFORMATIONAL",
    )


def test_several_statements_in_one_file() -> None:
    body = file(entry(detail()))
    statement = re.search("<Ntfctn>.*</Ntfctn>", body)
    assert statement is not None
    both = body.replace(
        statement[0], statement[0] + statement[0].replace("S1", "S2").replace("ACSR1", "ACSR2")
    )
    assert len(set(ids(both))) == 2


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("<Document/>", RejectCode.UNKNOWN_OPERATION),
        (
            "<Document xmlns='urn:iso:std:iso:20022:tech:xsd:pain.001.001.03'><A/></Document>",
            RejectCode.UNKNOWN_OPERATION,
        ),
        (
            file()
            .replace("<BkToCstmrDbtCdtNtfctn>", "<Other>")
            .replace("</BkToCstmrDbtCdtNtfctn>", "</Other>"),
            RejectCode.UNKNOWN_OPERATION,
        ),
        (file().replace("Ntfctn>", "Stmt>"), RejectCode.UNKNOWN_OPERATION),
        (file().replace(ACCOUNT, ""), RejectCode.MISSING_FIELD),
        (file(statement=""), RejectCode.MISSING_FIELD),
        (file()[:-5], RejectCode.MALFORMED),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]>" + file(), RejectCode.MALFORMED),
    ],
)
def test_a_file_that_is_none_is_rejected_whole(body: str, reason: RejectCode) -> None:
    with pytest.raises(Rejected) as caught:
        read(body)
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (entry().replace("<CdtDbtInd>CRDT</CdtDbtInd>", ""), RejectCode.MISSING_FIELD),
        (entry(direction="BOTH"), RejectCode.BAD_FIELD),
        (entry(status="<Sts>MAYB</Sts>"), RejectCode.BAD_FIELD),
        (entry(status=""), RejectCode.MISSING_FIELD),
        (re.sub("<Amt .*</Amt>", "", entry()), RejectCode.MISSING_FIELD),
        (entry(ref="xy" * 65), RejectCode.BAD_FIELD),
    ],
)
def test_an_entry_that_is_none_is_rejected_alone(text: str, reason: RejectCode) -> None:
    bad, good = read(file(text, entry(ref="GOOD")))
    assert isinstance(bad, Rejected)
    assert bad.reason is reason
    assert isinstance(good, Draft)


WHOLE = file(
    entry(detail(), detail(refs="<TxId>T</TxId>"), detail("X", more=RETURN)), entry(ref=None)
).encode()


@examples(400)
@given(st.data())
def test_no_bytes_raise(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(WHOLE) - 1))
    end = data.draw(st.integers(start, min(len(WHOLE), start + 30)))
    middle = data.draw(
        st.binary(max_size=12)
        | st.sampled_from([b"<Amt/>", b"<Refs/>", b"&amp;", b"<!--x-->", b"<?x?>"])
    )
    with suppress(Rejected):
        assert read(WHOLE[:start] + middle + WHOLE[end:])


@pytest.mark.parametrize(
    "settings_", [{"zone": "Europe/Atlantis"}, {"zone": "../etc"}, {"deposit_pattern": "("}]
)
def test_a_setting_that_is_none_ends_the_start(settings_: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"Atlantis|etc|deposit_pattern"):
        Camt(**settings_).reader(None)  # type: ignore[arg-type]


# --- public samples (genkgo/camt, MIT) ----------------------------------------------------------------------------------


def _sample(name: str) -> bytes:
    path: Path = SAMPLES / "camt" / name
    if not path.exists():
        pytest.skip(f"public sample {path} is not on this machine")
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "schema", "text"),
    [
        (
            "camt053.v2.five.decimals.xml",
            "camt.053/v2.xsd",
            [("CRDT", "DEPOSIT", Amount(8850, 3), "EUR")],
        ),
        (
            "camt054.v2.xml",
            "camt.054/v2.xsd",
            [("DBIT", "INFORMATIONAL", Amount(200000, 0), "SEK")],
        ),
        (
            "camt054.v8.xml",
            "camt.054/v8.xsd",
            # Its details are in another currency and do not add up to it: it stays whole.
            [("DBIT", "INFORMATIONAL", Amount(200000, 0), "SEK")],
        ),
    ],
)
def test_the_samples(name: str, schema: str, text: list[Any]) -> None:
    body = _sample(name)
    items = read(body)
    assert [
        (item.operation, item.legs[0].kind, item.legs[0].amount, item.legs[0].currency)
        for item in items
    ] == text
    assert len(set(ids(body.decode()))) == len(items)
    assert ids(body.decode()) == ids(body.replace(b"CODU", b"DUPL").decode())
    assert etree.XMLSchema(etree.parse(ROOT / "camt" / schema)).validate(etree.fromstring(body))


def test_two_sample_payments_under_one_end_to_end_id_stay_two() -> None:
    body = _sample("camt054.v8.xml").replace(
        b"<CdtDbtInd>DBIT</CdtDbtInd>\n        <Sts>", b"<CdtDbtInd>CRDT</CdtDbtInd><Sts>"
    )
    body = body.replace(b'<Amt Ccy="SEK">200000</Amt>', b'<Amt Ccy="CHF">9.5</Amt>')
    items = read_payments(body)
    assert [item.legs[0].kind for item in items] == ["DEPOSIT"] * 3
    assert items[1].legs == items[2].legs
    assert len({item.provider_tx_id for item in items}) == 3


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("10.00</Amt>", '1.00</Amt><Amt Ccy="EUR">10.00</Amt>', RejectCode.BAD_FIELD),
        ("<CdtDbtInd>CRDT", "<CdtDbtInd>DBIT</CdtDbtInd><CdtDbtInd>CRDT", RejectCode.BAD_FIELD),
        ("<AcctSvcrRef>", "<AcctSvcrRef>OTHER</AcctSvcrRef><AcctSvcrRef>", RejectCode.BAD_FIELD),
        ("10.00</Amt>", "1<x/>0.00</Amt>", RejectCode.BAD_AMOUNT),
    ],
)
def test_of_two_amounts_or_directions_none_is_taken(old: str, new: str, code: RejectCode) -> None:
    value = file(entry())
    assert value.count(old) == 1
    [item] = Camt().reader(None)(raw_record("camt", value.replace(old, new)), {})
    assert isinstance(item, Rejected)
    assert item.reason is code


def test_of_two_amounts_of_a_detail_none_is_taken() -> None:
    doubled = detail("dep-2", amount="4", more='<Amt Ccy="EUR">5</Amt>')
    draft = one(entry(detail(), doubled, amount="7.2"))
    assert draft.legs[0].amount == Amount(72, 1)
    assert draft.reference == Reference("unmatched", draft.provider_tx_id)
