"""The sandbox's bytes against what is public: vectors, field names and types of the vendors' samples, exact forms."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from random import Random

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from lxml import etree
from msgspec.structs import replace

from lab.conformance.intents import Game, GameSession, Intent, Verb
from lab.conformance.writers import adyen, house, hub88, playngo
from lab.conformance.writers.encoding import amount_text, json_body, xml_body
from lab.sandbox.actions import Delivery, IntentRequest
from lab.sandbox.keys import SandboxKeys
from lab.sandbox.players import Player, Purse
from lab.sandbox.records import Origin
from lab.sandbox.seats import make_intent
from lab.sandbox.writing import write_record

SAMPLES = Path(__file__).parents[2] / ".." / "shared" / "samples"
AT_MS = 1_792_664_130_123  # 2026-10-22T10:15:30.123Z

KEYS = SandboxKeys(
    {
        "hub88": hub88.WRITER.new_secrets(),
        "playngo": {"access_token": "tok"},
        "adyen": {"hmac_hex": "DFB1EB5485895CFA84146406857104ABB4CBCABDC8AAF103A624C8F6A3EAAB00"},
        "house": {"hmac_hex": "0b" * 20},
    }
)
GAMES = {"hub88": hub88.WRITER, "playngo": playngo.WRITER}


def player_of(currency: str = "EUR", *, brand: str = "aurora", region: str = "MT") -> Player:
    return Player("p-1001", brand, region, Purse(currency, (150,), (1_000,)))


def game(
    provider: str,
    verb: Verb = Verb.BET,
    *,
    player: Player | None = None,
    tx_id: str | None = None,
    amount_minor: int = 150,
    round_closed: bool = False,
    bet_tx_id: str | None = None,
) -> Intent:
    writer, is_hub88 = GAMES[provider], provider == "hub88"
    session = GameSession(
        provider, "t-1", 9001, Game("acme_demo" if is_hub88 else "100210", 100210)
    )
    owner = player or player_of()
    bet = (owner.brand, provider, writer.says[Verb.BET], bet_tx_id or "")
    return make_intent(
        writer,
        verb,
        owner,
        tx_id or ("0b1e2d3c-0000-4000-8000-000000000001" if is_hub88 else "550001"),
        AT_MS,
        amount_minor,
        round_id="R-77" if is_hub88 else "77001",
        session=session,
        round_closed=round_closed,
        reference=bet if bet_tx_id else None,
    )


def record(*intents: Intent, **changed):
    request = IntentRequest(AT_MS, intents)
    return write_record(replace(Delivery(request, AT_MS, 1, nonce=0xAA), **changed), KEYS)


def test_hub88_bet():
    raw = record(game("hub88"))
    assert raw.value == (
        b'{"user":"p-1001","transaction_uuid":"0b1e2d3c-0000-4000-8000-000000000001","token":"t-1",'
        b'"supplier_user":"hub88_p-1001","round":"R-77","round_closed":false,'
        b'"request_uuid":"00000000-0000-4000-8000-0000000000aa","game_id":100210,"game_code":"acme_demo",'
        b'"currency":"EUR","amount":150000,"is_free":false,"reward_uuid":null,"bet":"main","meta":null}'
    )
    assert raw.headers[:-1] == (
        ("content-type", b"application/json"),
        ("http-method", b"POST"),
        ("http-path", b"/transaction/bet"),
        ("http-query", b""),
        ("received-at", b"1792664130123"),
        ("connector", b"sandbox-hub88"),
        ("brand", b"aurora"),
        ("region", b"MT"),
    )
    assert (raw.provider, raw.key, raw.event_time_ms, raw.phase) == ("hub88", b"p-1001", AT_MS, 1)


@pytest.mark.parametrize(
    ("currency", "minor", "amount"),
    [("EUR", 150, 150_000), ("JPY", 150, 15_000_000), ("KWD", 1_505, 150_500)],
)
def test_hub88_counts_in_hundred_thousandths_of_the_unit(currency, minor, amount):
    raw = record(game("hub88", player=player_of(currency), amount_minor=minor))
    assert json.loads(raw.value)["amount"] == amount


def test_hub88_rollback_has_neither_amount_nor_currency_and_names_the_bet():
    body = json.loads(
        record(game("hub88", Verb.ROLLBACK, bet_tx_id="bet-1", round_closed=True)).value
    )
    assert body["reference_transaction_uuid"] == "bet-1"
    assert not {"amount", "currency", "is_free"} & set(body)


def test_hub88_signature_is_rsa_sha256_over_the_exact_body():
    raw = record(game("hub88"), origin=Origin.RETRY)
    signature = base64.b64decode(dict(raw.headers)["x-hub88-signature"], validate=True)
    public = serialization.load_pem_public_key(KEYS.keyring()["hub88"]["public_key_pem"].encode())
    assert isinstance(public, rsa.RSAPublicKey)
    public.verify(signature, raw.value, padding.PKCS1v15(), hashes.SHA256())
    with pytest.raises(InvalidSignature):
        public.verify(signature, raw.value + b" ", padding.PKCS1v15(), hashes.SHA256())


def test_playngo_reserve():
    raw = record(game("playngo"))
    assert raw.value == (
        b"<reserve><externalId>p-1001</externalId><productId>1</productId><transactionId>550001</transactionId>"
        b"<real>1.50</real><currency>EUR</currency><gameId>100210</gameId><gameSessionId>9001</gameSessionId>"
        b"<externalGameSessionId>t-1</externalGameSessionId><contextId/><accessToken>tok</accessToken>"
        b"<roundId>77001</roundId><channel>1</channel><actualValue>1.50</actualValue><freegameExternalId/>"
        b"<freegameFinished/><turnover/></reserve>"
    )
    assert ("http-path", b"/playngo") in raw.headers


def test_playngo_cancel_bears_the_id_of_its_reserve_and_a_release_its_own():
    cancel = etree.fromstring(record(game("playngo", Verb.ROLLBACK, bet_tx_id="550001")).value)
    assert cancel.tag == "cancelReserve"
    assert cancel.findtext("transactionId") == "550001"
    assert cancel.find("gameSessionId") is None
    release = etree.fromstring(
        record(game("playngo", Verb.WIN, tx_id="550009", bet_tx_id="550001")).value
    )
    assert release.tag == "release"
    assert (release.findtext("transactionId"), release.findtext("roundId")) == ("550009", "77001")


@pytest.mark.parametrize(
    ("amount_minor", "closed", "state"), [(0, True, "1"), (300, True, "0"), (0, False, "0")]
)
def test_playngo_state_1_never_carries_money(amount_minor, closed, state):
    win = game("playngo", Verb.WIN, amount_minor=amount_minor, round_closed=closed)
    assert etree.fromstring(record(win).value).findtext("state") == state


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [(150, "EUR", "1.50"), (150, "JPY", "150.00"), (1_505, "KWD", "1.505"), (5, "KWD", "0.005")],
)
def test_playngo_prints_major_units(minor, currency, text):
    assert amount_text(minor, currency, 2) == text


def test_adyen_hmac_vector_of_the_vendors_libraries():
    # HMACValidatorTest of Adyen/adyen-java-api-library and its sisters in other languages: key, data and signature.
    data = "pspReference:originalReference:merchantAccount:reference:1000:EUR:EVENT:true"
    assert adyen.signature(data, KEYS.of("adyen")) == "ipnxGCaUZ4l8TUW75a71/ghd2Fe5ffvX0pV4TLTntIc="


def notice(
    verb: Verb = Verb.DEPOSIT, tx_id: str = "PSP-2", original: str = "", reason: str = ""
) -> Intent:
    payment = ("aurora", "adyen", "AUTHORISATION", original)
    return make_intent(
        adyen.WRITER,
        verb,
        player_of(),
        tx_id,
        AT_MS,
        1_500,
        reference=payment if original else None,
        deposit_id="dep-1",
        details=(("reason", reason),),
        region="",
    )


def adyen_item(intent: Intent):
    return adyen.WRITER.item(intent, KEYS.of("adyen"))


def test_adyen_signs_the_eight_fields_in_their_order():
    refund = notice(Verb.REFUND_REFUSED, original="PSP-1")
    assert adyen.signed_text(refund) == "PSP-2:PSP-1:AuroraECOM:dep-1:1500:EUR:REFUND:false"
    assert adyen.signed_text(notice()) == "PSP-2::AuroraECOM:dep-1:1500:EUR:AUTHORISATION:true"


def test_adyen_batch():
    raw = record(notice(Verb.REFUND, original="PSP-1"), notice(tx_id="PSP-3"))
    body = json.loads(raw.value)
    first, second = [entry["NotificationRequestItem"] for entry in body["notificationItems"]]
    assert (body["live"], first["success"]) == ("true", "true")
    assert first["amount"] == {"currency": "EUR", "value": 1_500}
    assert first["eventDate"] == "2026-10-22T11:15:30+01:00"
    assert first["originalReference"] == "PSP-1"
    assert "originalReference" not in second
    assert raw.key == b"dep-1"
    assert "region" not in dict(raw.headers)


def test_adyen_chargeback_comes_signed():
    chargeback = adyen_item(notice(Verb.CHARGEBACK, original="PSP-1"))
    assert "hmacSignature" in chargeback["additionalData"]


@pytest.mark.parametrize(
    ("sample", "item"),
    [
        ("authorisation-true", notice()),
        ("capture-true", notice(Verb.CAPTURE, original="PSP-1")),
        ("refund-true", notice(Verb.REFUND, original="PSP-1")),
        (
            "refund-false",
            notice(Verb.REFUND_REFUSED, original="PSP-1", reason="Insufficient"),
        ),
        ("chargeback", notice(Verb.CHARGEBACK, original="PSP-1")),
    ],
)
def test_adyen_items_have_the_fields_and_types_of_the_public_samples(sample, item):
    path = SAMPLES / "adyen" / f"{sample}.json"
    if not path.exists():
        pytest.skip(f"the public sample {path.name} is not on this machine")
    theirs = json.loads(path.read_bytes())["notificationItems"][0]["NotificationRequestItem"]
    ours = adyen_item(item)
    optional = {"operations", "additionalData"}
    assert set(theirs) - optional == set(ours) - optional
    for name in set(ours) - optional:
        assert type(ours[name]) is type(theirs[name]), name
    # The public chargeback is older than its signature; an unsigned one is a dead letter.
    is_signed = sample == "chargeback" or "hmacSignature" in theirs["additionalData"]
    assert ("hmacSignature" in ours["additionalData"]) == is_signed


def test_house_withdrawal():
    raw = record(
        make_intent(house.WRITER, Verb.WITHDRAWAL_REQUESTED, player_of(), "w-1", AT_MS, 500)
    )
    assert raw.value == (
        b'{"operation":"withdrawal.requested","id":"w-1","player_id":"p-1001","at":"2026-10-22T10:15:30.123Z",'
        b'"amount":"5.00","currency":"EUR"}'
    )
    assert len(dict(raw.headers)["x-house-signature"]) == 64


def test_house_signature_is_hmac_sha256_in_hex():
    # RFC 4231 test case 1.
    expected = b"b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    assert house.signature(b"Hi There", KEYS.of("house")) == expected


def test_an_unnamed_brand_and_region_leave_their_headers_out():
    raw = record(game("playngo", player=player_of("JPY", brand="default", region="")))
    assert not {"brand", "region"} & set(dict(raw.headers))


@pytest.mark.parametrize("nonce", range(40))
def test_a_restyled_body_says_the_same(nonce):
    content = {
        "a": "x/y",
        "b": None,
        "n": 15,
        "list": [{"k": "ü", "f": False}, {"k": ""}],
        "o": {"p": "q"},
    }
    assert json.loads(json_body(content, Random(nonce))) == content
    elements = {"externalId": "p<&>1", "contextId": "", "real": "1.50"}
    root = etree.fromstring(xml_body("reserve", elements.items(), Random(nonce)))
    assert {child.tag: child.text or "" for child in root} == elements
    assert [child.tag for child in root] == list(elements)


def test_restyling_has_many_forms():
    content = {"a": "x/y", "b": None, "n": 15}
    elements = {"externalId": "p", "contextId": ""}
    assert len({json_body(content, Random(nonce)) for nonce in range(60)}) > 30
    assert len({xml_body("reserve", elements.items(), Random(nonce)) for nonce in range(60)}) > 10
