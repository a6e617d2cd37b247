from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

from schemas.errors import RejectCode, Rejected, UsageError
from streams.providers.dialect import Draft
from streams.providers.playngo import PlayNGo
from streams.providers.xml_body import CALL_MAX_BYTES, make_parser
from tests.support.dialect_records import raw_record

TOKEN = "s3cret-t0ken"
KEY = {"access_token": TOKEN}


def body(operation: str, **fields: str) -> bytes:
    elements = {
        "externalId": "p-1",
        "transactionId": "55",
        "real": "1.50",
        "currency": "EUR",
        "roundId": "R-1",
    }
    elements |= {"accessToken": TOKEN} | fields
    return f"<{operation}>{''.join(f'<{k}>{v}</{k}>' for k, v in elements.items())}</{operation}>".encode()


def read(
    value: bytes, dialect: PlayNGo | None = None, material: dict[str, str] | None = None
) -> Draft:
    [draft] = (dialect or PlayNGo()).reader(material)(raw_record("playngo", value), {})
    assert isinstance(draft, Draft)
    return draft


def reason(value: bytes, material: dict[str, str] | None = None) -> RejectCode:
    with pytest.raises(Rejected) as caught:
        PlayNGo().reader(material)(raw_record("playngo", value), {})
    assert TOKEN not in str(caught.value)
    assert caught.value.__cause__ is None or TOKEN not in str(caught.value.__cause__)
    return caught.value.reason


@pytest.mark.parametrize(
    ("operation", "waits"), [("reserve", True), ("release", False), ("cancelReserve", False)]
)
def test_only_a_reserve_awaits_our_answer(operation: str, waits: bool) -> None:
    assert read(body(operation)).decision_required is waits


def test_a_cancel_and_its_reserve_share_the_id_but_not_the_operation() -> None:
    cancel = read(body("cancelReserve"))
    assert cancel.reference is not None
    assert (cancel.reference.operation, cancel.reference.tx_id) == ("reserve", "55")
    assert (cancel.operation, cancel.provider_tx_id) == ("cancelReserve", "55")


def kinds(draft: Draft) -> list[tuple[str, int | None]]:
    return [(leg.kind, leg.amount.unscaled if leg.amount else None) for leg in draft.legs]


def test_whether_a_closing_release_pays_is_a_setting() -> None:
    closing = body("release", state="1")
    assert kinds(read(closing)) == [("WIN", 150)]
    assert kinds(read(closing, PlayNGo(pays_on_close=False))) == [("ROUND_CLOSE", None)]
    assert kinds(read(body("release", state="0"), PlayNGo(pays_on_close=False))) == [("WIN", 150)]
    assert read(closing).round_closed
    assert not read(body("release", state="0")).round_closed


def test_whether_a_jackpot_is_part_of_real_is_a_setting() -> None:
    won = body("release", real="5.00", jackpotGain="3.5")
    inside = read(won)
    assert kinds(inside) == [("WIN", 150), ("JACKPOT_WIN", 35)]
    beside = read(won, PlayNGo(jackpot_in_real=False))
    assert kinds(beside) == [("WIN", 500), ("JACKPOT_WIN", 35)]


def test_the_access_token() -> None:
    assert read(body("reserve")).signature == "NOT_CHECKED"
    assert read(body("reserve"), material=KEY).signature == "VALID"
    assert reason(body("reserve", accessToken="guess"), KEY) is RejectCode.BAD_SIGNATURE
    assert reason(body("reserve", accessToken=""), KEY) is RejectCode.MISSING_SIGNATURE
    assert reason(body("reserve", accessToken="tökén"), KEY) is RejectCode.BAD_SIGNATURE
    with pytest.raises(UsageError):
        PlayNGo().reader({})


@pytest.mark.parametrize(
    "value",
    [
        body("reserve"),
        body("reserve").replace(b"<accessToken>", b"<accessToken kind='x'>"),
        body("reserve").replace(b"<accessToken>", b"<accessToken kind='/>'>"),
        body("reserve").replace(b"<accessToken>", b"<accessToken "),
        body("reserve").replace(b"</accessToken>", b""),  # cut or broken bodies are shown too
        body("reserve")[: body("reserve").index(b"t0ken") + 5],
    ],
)
def test_a_body_can_be_shown_without_its_secret(value: bytes) -> None:
    shown = PlayNGo().redact(value)
    assert TOKEN.encode() in value or b"t0ken" in value
    assert b"t0ken" not in shown
    assert b"<externalId>p-1</externalId>" in shown


def test_text_around_values_is_cut_and_unknown_elements_are_let_by() -> None:
    plain = read(body("reserve"))
    spaced = read(
        body("reserve", real=" 1.50\n", novelty="1").replace(
            b"<reserve>", b"<reserve >\n<!-- x -->"
        )
    )
    assert spaced == plain


LAUGHS = (
    b'<!DOCTYPE lolz [<!ENTITY a "lol">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(12))
    + b"]><reserve><externalId>&m;</externalId></reserve>"
)


@pytest.mark.parametrize(
    "value",
    [
        LAUGHS,
        b'<!DOCTYPE reserve SYSTEM "http://127.0.0.1:9/x.dtd"><reserve/>',
        b"<!DOCTYPE reserve><reserve/>",
        b'<!DOCTYPE r [<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]><reserve/>',
        '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE r [<!ENTITY x "1">]><reserve/>'.encode(
            "utf-16"
        ),
        b"<reserve>&undefined;</reserve>",
        b"<a>" * 10_000,
        b"\xff\xfe\x00",
        b"{}",
        b"<reserve></release>",
        b"<reserve/><reserve/>",
    ],
    ids=[
        "laughs",
        "external-dtd",
        "bare-doctype",
        "parameter",
        "utf-16",
        "undefined",
        "deep",
        "noise",
        "json",
        "mismatch",
        "two-roots",
    ],
)
def test_xml_that_could_do_harm_is_malformed(value: bytes) -> None:
    assert reason(value) is RejectCode.MALFORMED


def test_a_body_longer_than_any_call_is_not_parsed() -> None:
    fits = body("reserve", novelty="x" * (CALL_MAX_BYTES - len(body("reserve", novelty=""))))
    assert len(fits) == CALL_MAX_BYTES
    assert read(fits) == read(body("reserve"))
    assert reason(fits.replace(b"<novelty>", b"<novelty> ")) is RejectCode.TOO_LARGE
    with pytest.raises(Rejected):  # nor does the drift worker parse it
        PlayNGo().payload(fits + b" ")


def test_deep_nesting_is_refused_even_when_it_is_closed() -> None:
    nested = b"<extra>" * 1_000 + b"</extra>" * 1_000
    assert reason(body("reserve").replace(b"<real>", nested + b"<real>")) is RejectCode.MALFORMED


def test_the_parser_itself_expands_nothing_and_reads_no_file(tmp_path: Path) -> None:
    # The document type is refused after parsing; so parsing must be harmless by itself.
    canary = tmp_path / "canary"
    canary.write_text("p-from-file")
    for entity in (f'SYSTEM "{canary.as_uri()}"', '"p-from-entity"'):
        root = etree.fromstring(
            f"<!DOCTYPE r [<!ENTITY x {entity}>]><r><a>&x;</a></r>".encode(), make_parser()
        )
        assert "p-from" not in "".join(map(str, root.itertext(tag=etree.Element)))


def test_no_file_is_read(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("p-from-file")
    value = f'<!DOCTYPE reserve [<!ENTITY x SYSTEM "{canary.as_uri()}">]>'.encode() + body(
        "reserve", externalId="&x;"
    )
    with pytest.raises(Rejected) as caught:
        PlayNGo().reader(None)(raw_record("playngo", value), {})
    assert "p-from-file" not in str(caught.value)


def test_names_that_only_look_like_ours() -> None:
    assert reason(b'<x:reserve xmlns:x="u"/>') is RejectCode.UNKNOWN_OPERATION
    assert reason(b"<balance/>") is RejectCode.UNKNOWN_OPERATION
    assert reason(
        body("reserve").replace(b"<real>", b"<Real>").replace(b"</real>", b"</Real>")
    ) is (RejectCode.MISSING_FIELD)
    assert reason(body("reserve", transactionId="x" * 129)) is RejectCode.BAD_FIELD


@pytest.mark.parametrize("real", ["1<x/>.50", "1<x>2</x>.50", "<x/>1.50", "1.50<real>9</real>"])
def test_an_amount_with_another_element_in_it_is_no_amount(real: str) -> None:
    assert reason(body("reserve", real=real)) is RejectCode.BAD_FIELD


@pytest.mark.parametrize("real", ["1<!-- one -->.50", "<![CDATA[1]]>.50", "1&#46;50", "1<?x?>.50"])
def test_an_amount_may_be_written_as_xml_allows(real: str) -> None:
    assert kinds(read(body("reserve", real=real))) == [("BET", 150)]


@pytest.mark.parametrize(
    "token", [f"<![CDATA[{TOKEN}]]>", f"<!-- x -->{TOKEN}", f"{TOKEN}<x/>", TOKEN]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-7"])
def test_no_spelling_of_the_access_token_is_shown(token: str, encoding: str) -> None:
    value = f'<?xml version="1.0" encoding="{encoding}"?>{body("reserve", accessToken=token).decode()}'.encode(
        encoding
    )
    shown = PlayNGo().redact(value)
    assert TOKEN not in shown.replace(b"\0", b"").decode(
        "utf-7" if encoding == "utf-7" else "latin-1"
    )
    assert (b"p-1" in shown) is (encoding == "utf-8")


def test_what_is_cut_off_in_the_access_token_is_not_shown_either() -> None:
    value = body("reserve", real=f"<accessToken>{TOKEN}")
    assert TOKEN.encode() not in PlayNGo().redact(value[: value.index(b"</real>")])
    assert b"<real>1.50</real>" in PlayNGo().redact(
        b"<reserve><accessToken/><real>1.50</real></reserve>"
    )
