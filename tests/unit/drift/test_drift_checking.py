"""Drift record by record: the schema that a record is compared with, what is published, and how often."""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from lab.conformance.adapters import all_adapters
from lab.conformance.examples.fill import Example, ExampleRecord, Fill, record
from runtime.kafka.batches import RecordBatch
from schemas import codec
from schemas.errors import RejectCode, SendFailed
from schemas.events import DeadLetter, Header, Position, SchemaDrift
from schemas.identity import drift_id
from schemas.topics import SAMPLES, raw_topic
from streams.drift.checking import SHAPES_MAX as SHAPES_OF_RECORD
from streams.drift.checking import DriftChecker
from streams.drift.drift_events import EXAMPLE_MAX, build_drift_events, redacted_example
from streams.drift.handler import DriftStats, create_handler, source_pattern
from streams.drift.published_shapes import SHAPES_MAX, PublishedShapes
from streams.drift.shapes import DriftKind, Shape
from streams.providers.fields import epoch_ms
from streams.providers.redaction import secrets_of
from streams.providers.registry import Dialects, dialect_of
from streams.providers.versions import read_rows
from streams.samples import write_sample

RENAMING = Path(__file__).parents[2] / "renaming"
SUBJECTS = {subject.dialect.provider: subject for subject in all_adapters()}
KEYRING = {
    name: subject.examples.keys for name, subject in SUBJECTS.items() if subject.examples.keys
}


@pytest.fixture(scope="module")
def checker() -> DriftChecker:
    return DriftChecker(keyring=KEYRING)


@pytest.fixture(scope="module")
def open_checker() -> DriftChecker:
    return DriftChecker()


def example(provider: str, name: str) -> Example:
    return next(
        one for one in SUBJECTS[provider].make_examples(Fill(1)) if one.name.startswith(name)
    )


def changed(made: Example, **fields: Any) -> Example:
    body = json.loads(made.value) | fields
    return replace(
        made,
        value=json.dumps(
            {name: value for name, value in body.items() if value is not ...}
        ).encode(),
    )


def shapes(checker: DriftChecker, provider: str, made: Example) -> list[Shape]:
    return [finding.shape for finding in checker.check(provider, record(made, provider))]


# --- one record -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", sorted(SUBJECTS))
def test_what_a_provider_sends_by_its_document_is_no_drift(checker, provider):
    """Its examples fulfil its schemas, and name no field that these leave out, but the ones that say so."""
    subject = SUBJECTS[provider]
    for fill in (Fill(1), Fill(2, subject.examples.currencies[-1])):
        for made in subject.make_examples(fill):
            if all(expected.code is not None for expected in made.expects):
                continue
            found = [
                shape for shape in shapes(checker, provider, made) if "novelty" not in shape.path
            ]
            assert found == [], made.name


def test_a_finding_says_which_message_of_which_version(checker):
    made = example("hundredhp", "a withdrawal whose decimals")
    [finding] = checker.check("hundredhp", record(made, "hundredhp"))
    assert (finding.provider, finding.version, finding.event) == ("hundredhp", "2.7", "withdrawal")
    assert finding.schema == "hundredhp/withdrawal/v1"
    assert finding.shape == (DriftKind.NEW_FIELD, "$.novelty", "")
    assert finding.rejected is None


def test_a_rejected_record_is_held_against_the_message_that_it_was_meant_to_be(open_checker):
    made = changed(example("hub88", "bet"), amount="1.50")
    [finding] = open_checker.check("hub88", record(made, "hub88"))
    assert (finding.event, finding.shape) == (
        "bet",
        (DriftKind.CHANGED_TYPE, "$.amount", "string instead of integer"),
    )
    assert finding.rejected is not None


def test_the_requests_path_says_more_than_likeness(open_checker):
    """Without its reference a win looks like a bet."""
    made = changed(example("hub88", "win"), reference_transaction_uuid=..., amount="1.50")
    found = open_checker.check("hub88", record(made, "hub88"))
    assert {finding.event for finding in found} == {"win"}
    nowhere = replace(made, headers={**made.headers, "http-path": b"/elsewhere"})
    likened, unknown = open_checker.check("hub88", record(nowhere, "hub88"))
    assert (likened.event, unknown.shape.what) == ("bet", DriftKind.NEW_MESSAGE)


def test_without_a_path_it_is_the_message_that_it_is_closest_to(open_checker):
    made = changed(example("hub88", "rollback"), reference_transaction_uuid=["x"])
    nowhere = replace(made, headers={**made.headers, "http-path": b"/elsewhere"})
    finding, unknown = open_checker.check("hub88", record(nowhere, "hub88"))
    assert (finding.event, finding.shape.path) == ("rollback", "$.reference_transaction_uuid")
    assert finding.rejected is RejectCode.UNKNOWN_OPERATION
    assert (unknown.event, unknown.shape.what) == ("", DriftKind.NEW_MESSAGE)


def test_an_unknown_message_is_reported_as_a_whole(open_checker):
    made = example("hub88", "bet")
    unknown = replace(made, headers={**made.headers, "http-path": b"/transaction/jackpot"})
    [finding] = open_checker.check("hub88", record(unknown, "hub88"))
    assert (finding.event, finding.schema, finding.shape.what) == ("", "", DriftKind.NEW_MESSAGE)


def adyen_record(*items: dict[str, object]) -> ExampleRecord:
    body = {
        "live": "true",
        "notificationItems": [
            {
                "NotificationRequestItem": {
                    "eventCode": "AUTHORISATION",
                    "success": "true",
                    "pspReference": f"D{number}",
                    "originalReference": "A1",
                    "merchantAccountCode": "ACC",
                    "merchantReference": "dep-1",
                    "eventDate": "2026-11-20T10:00:00+01:00",
                    "amount": {"currency": "EUR", "value": 10000},
                    **item,
                }
            }
            for number, item in enumerate(items)
        ],
    }
    return ExampleRecord(raw_topic("adyen"), 0, 0, 0, None, json.dumps(body).encode(), ())


def test_an_unknown_code_is_told_beside_what_else_is_new(open_checker):
    """The codes are invented: of the vendor's list each may be mapped some day."""
    sent = adyen_record(
        {"eventCode": "TEA_SPILT", "disputeMood": "Lost"}, {"eventCode": "TEA_DRUNK"}
    )
    told = [finding.shape for finding in open_checker.check("adyen", sent)]
    new = [shape.path for shape in told if shape.what is DriftKind.NEW_FIELD]
    codes = [shape.detail for shape in told if shape.what is DriftKind.NEW_MESSAGE]
    assert [path.rpartition(".")[2] for path in new] == ["disputeMood"]
    assert len(codes) == 2
    assert "TEA_SPILT" in codes[0]
    assert "TEA_DRUNK" in codes[1]


def test_an_unknown_code_is_told_behind_an_item_that_is_wrong_otherwise(open_checker):
    sent = adyen_record({"eventDate": "soon"}, {"eventCode": "TEA_SPILT"})
    told = [finding.shape for finding in open_checker.check("adyen", sent)]
    assert [s.detail for s in told if s.what is DriftKind.NEW_MESSAGE and "TEA_SPILT" in s.detail]


def test_many_new_fields_do_not_push_an_unknown_code_out(open_checker):
    sent = adyen_record({"eventCode": "TEA_SPILT"} | {f"field{number}": 1 for number in range(200)})
    told = [finding.shape for finding in open_checker.check("adyen", sent)]
    assert len(told) == SHAPES_OF_RECORD
    assert DriftKind.NEW_MESSAGE in {shape.what for shape in told}


def test_xml_and_avro_are_held_against_theirs(open_checker):
    made = example("playngo", "reserve")
    more = replace(made, value=made.value.replace(b"</reserve>", b"<mood>good</mood></reserve>"))
    assert shapes(open_checker, "playngo", more) == [(DriftKind.NEW_FIELD, "/reserve/mood", "")]
    flight = SUBJECTS["skylift"].make_examples(Fill(1))[0]
    [shape] = shapes(
        open_checker,
        "skylift",
        replace(flight, value=b"\xc3\x01" + b"\x01" * 8 + flight.value[10:]),
    )
    assert shape.what is DriftKind.UNREADABLE
    assert "0101010101010101" in shape.detail


def test_no_bytes_stop_it(checker):
    for provider, subject in SUBJECTS.items():
        made = subject.make_examples(Fill(1))[0]
        for value in (
            b"",
            b"\x00",
            b"[" * 50_000,
            b"<" * 5_000,
            made.value[:-3],
            made.value + b"}",
            None,
        ):
            assert isinstance(
                checker.check(provider, replace(record(made, provider), value=value)), list
            )


@pytest.mark.timeout(240)
def test_huge_bodies_are_read_once_and_reported_in_short(open_checker):
    fields = json.dumps({f"f{n}": n for n in range(60_000)}).encode()
    deep = b'{"meta":' * 480 + b"1" + b"}" * 480
    outcome = b'<outcome id="1" result="7" void_factor="9" dead_heat_factor="x"/>'
    markets = b'<market id="1">' + outcome * 12_000 + b"</market>"
    settled = (
        b'<bet_settlement product="1" timestamp="1" event_id="e"><outcomes>'
        + markets
        + b"</outcomes></bet_settlement>"
    )
    for provider, value in (("hub88", fields), ("hub88", deep), ("uof", settled), ("stripe", deep)):
        found = open_checker.check(
            provider, ExampleRecord(raw_topic(provider), 0, 0, 0, None, value, ())
        )
        assert 0 < len(found) <= SHAPES_OF_RECORD
        assert build_drift_events(
            ExampleRecord(raw_topic(provider), 0, 0, 0, None, value, ()), found
        )


def test_headers_of_any_kind_stop_nothing(open_checker):
    made = example("hub88", "bet")
    for name in ("received-at", "content-type", "http-path", "brand", "redrive-of"):
        for value in (b"", b"\xff\xfe", b"9" * 400, None):
            odd = replace(made, headers={**made.headers, name: value})
            assert isinstance(
                open_checker.check("hub88", record(odd, "hub88", appended_at_ms=1)), list
            )
            assert isinstance(renamed().check("acme", record(odd, "acme", appended_at_ms=1)), list)


def renamed() -> DriftChecker:
    rows = read_rows((RENAMING / "after.toml").read_text(), "after.toml")
    return DriftChecker(Dialects(lambda: rows, dialect_of))


def update(word: str, day: date) -> ExampleRecord:
    body = {word: {"id": "t-1", "player": "p-1", "amount": "1.50", "currency": "EUR"}}
    at_ms = epoch_ms(datetime(day.year, day.month, day.day, tzinfo=UTC))
    return ExampleRecord(raw_topic("acme"), 0, 0, at_ms, None, json.dumps(body).encode(), ())


def test_a_fallback_is_told_with_what_was_expected_and_what_could_read_it():
    checker = renamed()
    early, in_time = (
        update("funds_update", date(2026, 11, 30)),
        update("funds_update", date(2026, 12, 2)),
    )
    [finding] = checker.check("acme", early, is_verified=True)
    assert (finding.version, finding.shape) == (
        "1",
        (DriftKind.FALLBACK, "", "read as version 2: MISSING_FIELD"),
    )
    assert checker.check("acme", early) == [finding]
    assert checker.check("acme", in_time) == []


# --- what is published ------------------------------------------------------------------------------------------------


def finding_in(made: Example, provider: str = "hub88") -> tuple[ExampleRecord, SchemaDrift]:
    at = record(made, provider, partition=3, offset=77)
    [finding] = DriftChecker().check(provider, at)
    return at, build_drift_events(at, [finding])[0]


def test_an_event_names_its_record_and_shows_an_example():
    at, drift = finding_in(changed(example("hub88", "bet"), bonus_round="b-1"))
    assert drift.source == Position(at.topic, 3, 77)
    assert drift.seen_at == at.timestamp
    assert '"bonus_round": "b-1"' in drift.example
    assert drift.drift_id == drift_id("hub88", "1", "bet", "$.bonus_round", "NEW_FIELD", "")
    assert codec.decoder(SchemaDrift)(codec.encoder(SchemaDrift)(drift)) == drift


def test_an_id_is_for_ever():
    namespace = uuid.uuid5(uuid.NAMESPACE_DNS, "drift.pitboss")
    expected = uuid.uuid5(namespace, "5:hub881:13:bet3:$.a9:NEW_FIELD0:")
    assert drift_id("hub88", "1", "bet", "$.a", "NEW_FIELD", "") == str(expected)
    assert str(expected) == "45dc851d-a08b-5b94-8a5c-ccb2cfefc17b"


def test_an_example_shows_no_secret_and_is_short():
    made = SUBJECTS["pgsoft"].make_examples(Fill(1))[0]
    value = made.value + b"&brand_new=1&long=" + b"y" * 10_000
    at = record(replace(made, value=value), "pgsoft")
    drift = build_drift_events(at, DriftChecker().check("pgsoft", at))[0]
    assert len(drift.example) <= EXAMPLE_MAX
    for secret in KEYRING["pgsoft"].values():
        assert secret.encode() in made.value
        assert secret not in drift.example
    flight = record(
        replace(SUBJECTS["skylift"].make_examples(Fill(1))[0], value=b"\xc3\x01" + b"\xff" * 20),
        "skylift",
    )
    assert build_drift_events(flight, DriftChecker().check("skylift", flight))[
        0
    ].example.startswith("hex:c301ff")


def test_a_key_that_we_hold_is_hidden_in_a_format_that_its_dialect_does_not_read():
    for secret in KEYRING["pgsoft"].values():
        body = b'{"secr\\u0065t": "' + secret.encode() + b'"}'
        assert secret in redacted_example("pgsoft", body)
        assert secret not in redacted_example("pgsoft", body, secrets_of(KEYRING))


def drift(n: int, **fields: Any) -> SchemaDrift:
    made = SchemaDrift(
        f"id-{n}", "p", "1", "bet", "", "NEW_FIELD", f"$.f{n}", "", "", Position("t", 0, n), 0, None
    )
    return replace(made, **fields)


def test_a_shape_is_told_once_and_not_without_end():
    known = PublishedShapes()
    assert known.take_new([drift(1), drift(1), drift(2)]) == [drift(1), drift(2)]
    assert known.take_new([drift(2)]) == []
    assert len(known.take_new(drift(n) for n in range(1_000))) == SHAPES_MAX - 2
    assert sum(known.over_budget.values()) == 1_000 - SHAPES_MAX
    assert known.take_new([drift(5_000, event="win")]), "another message has a budget of its own"


def test_strangers_cannot_use_up_a_providers_budget():
    known = PublishedShapes()
    known.take_new(drift(n, rejected="BAD_SIGNATURE") for n in range(1_000))
    assert known.take_new([drift(9_999)])
    assert known.take_new([drift(9_998, rejected="BAD_AMOUNT")])
    assert known.take_new([drift(9_997, rejected="MISSING_SIGNATURE")]) == []


# --- a batch ----------------------------------------------------------------------------------------------------------


class Sender:
    def __init__(self) -> None:
        self.sent: list[SchemaDrift] = []
        self.failure: Exception | None = None

    async def send_keyed(self, topic, records):
        if self.failure is not None:
            raise self.failure
        assert topic == "t.schema.drift.v1"
        for key, value, _, _ in records:
            drift = codec.decoder(SchemaDrift)(value)
            assert key == drift.drift_id.encode()
            self.sent.append(drift)


def sampled(raw: Any) -> Any:
    """The record of the topic of samples, as the drift worker fetches it."""
    written = write_sample(raw)
    assert written is not None
    key, value, headers, _ = written
    return ExampleRecord("t." + SAMPLES, 0, 0, 0, key, value, tuple(headers))


class Bench:
    def __init__(self) -> None:
        self.sender, self.known, self.stats = Sender(), PublishedShapes(), DriftStats()
        self.handle = create_handler(
            DriftChecker(), self.sender, "t.schema.drift.v1", self.known, self.stats
        )

    async def take(self, records: list[Any], topic: str = SAMPLES) -> list[tuple[str, str]]:
        before = len(self.sender.sent)
        if topic == SAMPLES:
            records = [sampled(one) for one in records]
        await self.handle(RecordBatch("t." + topic, 0, 0, len(records), records, 1))
        return [(drift.what, drift.path) for drift in self.sender.sent[before:]]


def many(count: int, **fields: Any) -> list[Any]:
    made = changed(example("hub88", "bet"), **fields)
    return [record(made, "hub88", offset=offset) for offset in range(count)]


async def test_a_batch_tells_each_shape_once_and_a_further_one_nothing():
    bench = Bench()
    assert await bench.take(many(5, bonus=1)) == [("NEW_FIELD", "$.bonus")]
    assert await bench.take(many(5, bonus=2)) == []
    assert await bench.take(many(2, bonus=2, extra=1)) == [("NEW_FIELD", "$.extra")]
    assert bench.stats.checked["hub88"] == bench.stats.seen == 12
    assert bench.stats.published == 2


async def test_what_could_not_be_told_is_told_by_the_next_try():
    bench = Bench()
    bench.sender.failure = SendFailed("gone")
    with pytest.raises(SendFailed):
        await bench.take(many(1, bonus=1))
    bench.sender.failure = None
    assert await bench.take(many(1, bonus=1)) == [("NEW_FIELD", "$.bonus")]


async def test_of_dead_letters_all_are_looked_at():
    bench = Bench()
    source = many(1, amount="1.50")[0]
    letter = DeadLetter(
        Position("t." + source.topic, 7, 4711),
        None,
        source.key,
        source.value,
        [Header(name, value) for name, value in source.headers],
        source.timestamp,
        "BAD_AMOUNT",
        "no integer",
        "normalise",
        "1",
        None,
    )
    encode = codec.encoder(DeadLetter)
    other_item = replace(letter, record_index=1, value=None, headers=[])
    values = [encode(letter), encode(other_item), b"a stray"]
    letters = [replace(source, value=value) for value in values]
    assert await bench.take(letters, raw_topic("hub88") + ".dlt") == [("CHANGED_TYPE", "$.amount")]
    assert bench.sender.sent[0].source == letter.source
    assert bench.sender.sent[0].rejected is not None
    assert bench.stats.checked["hub88"] == 1, "the letters of other items hold no bytes"


async def test_marks_and_foreign_records_are_let_by():
    bench = Bench()
    mark = [replace(one, headers=(("drop-of", b"x"),), value=b"dropped") for one in many(1)]
    assert await bench.take(mark) == []
    unknown = [replace(one, topic=raw_topic("unknown")) for one in many(1, bonus=1)]
    assert await bench.take(unknown) == []
    elsewhere = [replace(one, topic="wallet.transactions.v1") for one in many(1, bonus=1)]
    assert await bench.take(elsewhere) == []
    foreign = RecordBatch("t." + SAMPLES, 0, 0, 1, many(1, bonus=1), 1)
    await bench.handle(foreign)
    assert bench.sender.sent == []


def test_a_sample_is_read_without_its_signature_and_a_dead_letter_with_it(checker):
    """Its signature was checked where it was sampled; of a dead letter the sender may be anyone."""
    made = example("hub88", "bet")
    forged = replace(made, headers={**made.headers, "x-hub88-signature": b"AAAA"})
    raw = record(forged, "hub88")
    [unverified] = {one.rejected for one in checker.check("hub88", changed_record(raw))}
    assert unverified is RejectCode.BAD_SIGNATURE
    [verified] = {
        one.rejected for one in checker.check("hub88", changed_record(raw), is_verified=True)
    }
    assert verified is None


def changed_record(raw: Any) -> Any:
    return replace(raw, value=raw.value.replace(b"{", b'{"bonus_round": 1, ', 1))


def test_the_worker_reads_samples_and_dead_letters_of_raw_topics_only():
    pattern = re.compile(source_pattern("t"))
    assert pattern.fullmatch("t.schema.samples.v1")
    assert pattern.fullmatch("t.provider.hub88.raw.v1.dlt")
    for other in (
        "t.provider.hub88.raw.v1",
        "schema.samples.v1",
        "t.wallet.transactions.v1.dlt",
        "t.provider.hub88.raw.v1.dlt.dlt",
    ):
        assert not pattern.fullmatch(other)
