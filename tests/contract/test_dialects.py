"""What the dialects make of bytes: our vectors, the vendors' public samples, and the sandbox as a second writer."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from lxml import etree

from lab.sandbox.poison import CATALOGUE
from lab.sandbox.records import Origin
from lab.sandbox.scenario import Scenario, generate
from schemas import codec
from schemas.errors import RejectCode
from schemas.events import WalletTransaction
from schemas.topics import TRANSACTIONS, UNRESOLVED
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser, RejectedItem
from streams.providers.adyen import Adyen
from streams.providers.hub88 import Hub88
from streams.providers.registry import DIALECTS, by_provider, policies
from streams.providers.signatures import HmacSha256, RsaSha256
from tests.support.dialect_records import (
    PROVIDERS,
    SAMPLES,
    Vector,
    as_vector_result,
    keyring,
    raw_record,
    vectors,
)
from tests.support.sandbox_keys import shared_keys


@pytest.fixture(scope="module")
def normaliser() -> Normaliser:
    return Normaliser(DIALECTS, keyring())


def _case_name(vector: Vector) -> str:
    return f"{vector.provider}: {vector.name}"


@pytest.mark.parametrize("vector", vectors(), ids=_case_name)
def test_a_vector_comes_out_as_written(normaliser: Normaliser, vector: Vector) -> None:
    assert [
        as_vector_result(item) for item in normaliser.normalise(vector.record)
    ] == vector.results


@pytest.mark.parametrize("vector", vectors(), ids=_case_name)
def test_what_goes_out_reads_back_as_the_event(normaliser: Normaliser, vector: Vector) -> None:
    decode = codec.decoder(WalletTransaction)
    for item in normaliser.normalise(vector.record):
        if isinstance(item, AcceptedTransaction):
            assert decode(item.value) == item.transaction


def test_retries_in_the_vectors_are_one_event() -> None:
    of_event: dict[str, set[str]] = defaultdict(set)
    times_seen: dict[str, int] = defaultdict(int)
    for vector in vectors():
        for result in vector.results:
            if "event" in result:
                of_event[result["event"]["event_id"]].add(result["event"]["fingerprint"])
                times_seen[result["event"]["event_id"]] += 1
    assert all(len(fingerprints) == 1 for fingerprints in of_event.values())
    assert sum(count > 1 for count in times_seen.values()) >= 2  # the vectors do hold retries


def test_every_code_that_a_raw_record_can_earn_has_a_vector() -> None:
    seen = {
        result["rejected"]
        for vector in vectors()
        for result in vector.results
        if "rejected" in result
    }
    elsewhere = {
        RejectCode.UNKNOWN_PROVIDER,
        RejectCode.UNKNOWN_BRAND,
        RejectCode.TOO_LARGE,
        RejectCode.BAD_HEADER,
        RejectCode.BAD_CONTRACT,
        RejectCode.DIALECT_FAILED,
        RejectCode.PARK_FULL,
    }
    assert seen == set(RejectCode) - elsewhere


def _schema_file(provider: str, event: str, name: str) -> Path:
    return Path(str(files("schemas"))) / "providers" / provider / event / name


@cache
def _json_schema(provider: str, event: str) -> jsonschema.Draft202012Validator:
    document = json.loads(_schema_file(provider, event, "v1.schema.json").read_bytes())
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


@cache
def _xml_schema(event: str) -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(_schema_file("playngo", event, "v1.xsd")))


def _fulfils(provider: str, event: str, body: bytes) -> bool:
    if provider == "playngo":
        return _xml_schema(event).validate(etree.fromstring(body))
    try:
        _json_schema(provider, event).validate(json.loads(body))
    except jsonschema.ValidationError:
        return False
    return True


@pytest.mark.parametrize("vector", [v for v in vectors() if v.schema is not None], ids=_case_name)
def test_a_vector_fulfils_its_payload_schema(vector: Vector) -> None:
    assert vector.schema is not None
    assert vector.record.value is not None
    assert _fulfils(vector.provider, vector.schema, vector.record.value)


_SHAPE_CODES = {"MISSING_FIELD", "BAD_AMOUNT", "BAD_TIME", "UNKNOWN_OPERATION"}


def _broken_shapes() -> list[Vector]:
    """Whole JSON bodies whose shape the reader refuses; their schema refuses them as well."""
    found = []
    for vector in vectors():
        codes = {result.get("rejected") for result in vector.results}
        if vector.provider in {"adyen", "house"} and vector.schema is None and codes & _SHAPE_CODES:
            found.append(vector)
    return found


@pytest.mark.parametrize("vector", _broken_shapes(), ids=_case_name)
def test_a_body_of_a_wrong_shape_fulfils_no_schema(vector: Vector) -> None:
    assert vector.record.value is not None
    root = Path(str(files("schemas"))) / "providers" / vector.provider
    events = [folder.name for folder in root.iterdir() if folder.is_dir()]
    assert len(events) >= {"adyen": 1, "house": 13}[vector.provider]
    assert not any(_fulfils(vector.provider, event, vector.record.value) for event in events)


def test_every_operation_of_the_vectors_has_a_payload_schema() -> None:
    root = Path(str(files("schemas"))) / "providers"
    have = {
        (path.parts[-3], path.parts[-2])
        for path in root.glob("*/*/v1.*")
        if path.parts[-3] in PROVIDERS
    }
    used = {
        (vector.provider, vector.schema)
        for vector in vectors()
        if vector.schema and vector.results[0].get("event")
    }
    assert used == have


def test_the_registry_names_each_provider_once() -> None:
    assert set(PROVIDERS) <= set(DIALECTS) == set(policies())
    with pytest.raises(ValueError, match="hub88"):
        by_provider([Hub88(), Hub88()])


# --- the vendors' own samples ---------------------------------------------------------------------------------------


def _sample(*parts: str) -> bytes:
    path = SAMPLES.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"public sample {path} is not on this machine")
    return path.read_bytes()


def test_hub88_signs_as_its_public_vectors_do() -> None:
    key = RsaSha256(_sample("hub88", "public.pem").decode())
    rows = _sample("hub88", "signatures.csv").decode().splitlines()[1:]
    pairs = [row.rpartition(";") for row in rows if row]
    assert len(pairs) >= 3
    for data, _, signature in pairs:
        assert key.matches(data.encode(), signature.encode()), data
        assert not key.matches(data.encode() + b" ", signature.encode()), data


_ADYEN_SAMPLES = {
    "authorisation-true.json": (
        UNRESOLVED,
        "AUTHORISATION",
        "DEPOSIT",
        10100,
        "EUR",
        "8313842560770001",
    ),
    "cancellation-true.json": (
        UNRESOLVED,
        "CANCELLATION",
        "DEPOSIT_REVERSAL",
        500,
        "EUR",
        "8313547924770610",
    ),
    "capture-false.json": (
        TRANSACTIONS,
        "CAPTURE:false",
        "INFORMATIONAL",
        23623,
        "USD",
        "00000001",
    ),
    "capture-true.json": (TRANSACTIONS, "CAPTURE", "INFORMATIONAL", 23623, "USD", "00000001"),
    "chargeback.json": (
        UNRESOLVED,
        "CHARGEBACK",
        "DEPOSIT_REVERSAL",
        1000,
        "EUR",
        "9913333333333333",
    ),
    "refund-false.json": (
        TRANSACTIONS,
        "REFUND:false",
        "INFORMATIONAL",
        1500,
        "EUR",
        "payment-2017-1-17-11-refund",
    ),
    "refund-true.json": (UNRESOLVED, "REFUND", "DEPOSIT_REVERSAL", 1500, "EUR", "ORIGINAL_PSP"),
}


# The samples are of the test environment, and the chargeback has no signature.
_ADYEN_OF_TESTS = by_provider([Adyen(accept_test=True, unsigned_allowed=frozenset({"CHARGEBACK"}))])


@pytest.mark.parametrize("name", sorted(_ADYEN_SAMPLES))
def test_adyens_samples(name: str) -> None:
    topic, operation, kind, value, currency, referred = _ADYEN_SAMPLES[name]
    body = _sample("adyen", name)
    [item] = Normaliser(_ADYEN_OF_TESTS, {}).normalise(raw_record("adyen", body))
    assert isinstance(item, AcceptedTransaction)
    event = item.transaction
    assert (item.topic, event.operation, event.player_id, event.signature) == (
        topic,
        operation,
        None,
        "NOT_CHECKED",
    )
    [leg] = event.legs
    assert leg.amount is not None
    assert (leg.kind, leg.amount.unscaled, leg.amount.scale, leg.currency) == (
        kind,
        value,
        2,
        currency,
    )
    assert event.reference is not None
    assert event.reference.tx_id == referred
    assert event.provider_at is not None
    assert item.clamped  # the samples are years older than the append
    assert _fulfils("adyen", "notification", body)


def test_adyens_samples_under_a_foreign_key_are_wrong_or_missing_never_valid() -> None:
    # Their keys are unknown and references in them are replaced: only a missing signature of a chargeback may pass.
    verdicts = {}
    normaliser = Normaliser(_ADYEN_OF_TESTS, {"adyen": keyring()["adyen"]})
    for name in _ADYEN_SAMPLES:
        [item] = normaliser.normalise(raw_record("adyen", _sample("adyen", name)))
        assert isinstance(item, AcceptedTransaction | RejectedItem)
        verdicts[name] = item.code if isinstance(item, RejectedItem) else item.transaction.signature
    assert verdicts.pop("chargeback.json") == "MISSING_ALLOWED"
    assert verdicts.pop("cancellation-true.json") == RejectCode.MISSING_SIGNATURE
    assert set(verdicts.values()) == {RejectCode.BAD_SIGNATURE}


# Facts of HMACValidatorTest in Adyen/adyen-java-api-library and of the unit tests in adyen-python-api-library (MIT).
_ADYEN_PUBLIC_VECTORS = [
    (
        "74F490DD33F7327BAECC88B2947C011FC02D014A473AAA33A8EC93E4DC069174",
        "CZErGCNQaSsxbaQfZaJlakqo7KPP+mIa8a+wx3yNs9A=",
        ("AUTHORISATION", "ZVWN7D3WSMK2WN82", "AntoniStroinski", r"\:/\/slashes are fun", 1000),
    ),
    (
        "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056",
        "coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0=",
        ("AUTHORISATION", "7914073381342284", "TestMerchant", "TestPayment-1407325143704", 1130),
    ),
]


@pytest.mark.parametrize(("key", "signature", "signed_text"), _ADYEN_PUBLIC_VECTORS)
@pytest.mark.parametrize("tampered", [False, True])
def test_adyens_public_signature_vectors(
    key: str, signature: str, signed_text: tuple[Any, ...], tampered: bool
) -> None:
    code, psp, account, merchant, value = signed_text
    item = {
        "eventCode": code,
        "success": "true",
        "pspReference": psp,
        "merchantAccountCode": account,
        "merchantReference": merchant,
        "amount": {"currency": "EUR", "value": value + tampered},
        "additionalData": {"hmacSignature": signature},
    }
    body = json.dumps({"live": "true", "notificationItems": [{"NotificationRequestItem": item}]})
    [result] = Normaliser(DIALECTS, {"adyen": {"hmac_hex": key}}).normalise(
        raw_record("adyen", body)
    )
    if tampered:
        assert isinstance(result, RejectedItem)
        assert result.code is RejectCode.BAD_SIGNATURE
    else:
        assert isinstance(result, AcceptedTransaction)
        assert result.transaction.signature == "VALID"


def test_adyens_public_vector_of_a_report() -> None:
    # The same class's other vector; its event code is none of ours, so only the signature is repeated.
    key = HmacSha256("9064450A8892A093D9E97EFCC9639DE31B74F3A7803135555A3C96F5A57915D6")
    text = b"test_REPORT_AVAILABLE::Magento2Rik:testMerchantRef1:0:EUR:REPORT_AVAILABLE:true"
    assert key.matches_base64(text, b"NuEkADFmlCC6VgX+wcoPAegIWxVPNBPCuKlM4Hzo5qc=")


# --- the sandbox, which writes the same four dialects by another hand -----------------------------------------------


def test_the_sandbox_and_the_dialects_agree() -> None:
    keys = shared_keys()
    scenario = Scenario(
        seed=7, start_ms=1_790_000_000_000, events=1_200, poison=len(CATALOGUE), retry_share=0.05
    )
    normaliser = Normaliser(DIALECTS, keys.keyring())
    fingerprints: dict[str, set[str]] = defaultdict(set)
    seen: set[tuple[str, Origin]] = set()
    for offset, raw in enumerate(generate(scenario, keys)):
        record = raw_record(
            raw.provider,
            raw.value,
            dict(raw.headers),
            offset=offset,
            timestamp=raw.event_time_ms + 5,
        )
        items = normaliser.normalise(record)
        if raw.origin is Origin.POISON:
            assert [item.code for item in items if isinstance(item, RejectedItem)] == [
                raw.expected_reject
            ]
            continue
        seen.add((raw.provider, raw.origin))
        for item in items:
            assert isinstance(item, AcceptedTransaction), (raw, item)
            assert item.transaction.signature == "VALID"
            assert not item.clamped
            fingerprints[item.transaction.event_id].add(item.transaction.fingerprint)
    assert all(len(of_event) == 1 for of_event in fingerprints.values())
    assert {(provider, Origin.RETRY) for provider in ("hub88", "playngo")} <= seen
