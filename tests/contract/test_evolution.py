"""A made-up next version: old records under new code and new records under old code, compared with fastavro."""

from __future__ import annotations

import copy
import json
import shutil
from importlib.resources import as_file, files
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import codec, compatibility
from schemas.compiler.avro_types import parse
from schemas.compiler.binding import bind
from schemas.compiler.decode import DecoderSpec, compile_decoder
from schemas.errors import Rejected
from schemas.events import (
    Attempt,
    MarketSettlement,
    PlayerEvent,
    WalletOutcome,
    WalletTransaction,
)
from schemas.registry import Registry, Schema, UnknownSchema, load, released_registry
from tests.support.record_strategies import RECORDS

PLAYER_EVENT = released_registry().latest("player-event")


class NextAttempt(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    offset: int
    record_index: int
    connector: str


class NextPlayerEvent(msgspec.Struct, frozen=True):
    event_id: str
    brand: str
    provider: str
    provider_version: str
    device_id: str | None  # new, in the middle
    region: str
    operation: str
    provider_event_id: str
    attempt: NextAttempt
    player_id: str
    type: str
    attributes: dict[str, str]
    tags: list[str]  # new, a list by default
    occurred_at: int
    time_source: str
    received_at: int | None
    appended_at: int
    signature: str
    scope: str | None
    score: int  # new


def next_version() -> dict[str, Any]:
    """Fields added in the middle, at the end and in a nested record; one dropped; one symbol more."""
    schema = copy.deepcopy(PLAYER_EVENT.json)
    fields = schema["fields"] = [
        field for field in schema["fields"] if field["name"] != "provider_at"
    ]
    by_name = {field["name"]: field for field in fields}
    by_name["attempt"]["type"]["fields"].append(
        {"name": "connector", "type": "string", "default": "unknown"}
    )
    by_name["time_source"]["type"]["symbols"] = ["OPERATOR", "PROVIDER", "CONNECTOR", "BROKER"]
    fields.insert(4, {"name": "device_id", "type": ["null", "string"], "default": None})
    fields.insert(12, {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []})
    fields.append({"name": "score", "type": "long", "default": -1})
    return schema


NEXT = Schema("player-event", 3, 810303, next_version())
BOTH = Registry({PLAYER_EVENT.id: PLAYER_EVENT, NEXT.id: NEXT})
PARSED = fastavro.parse_schema(PLAYER_EVENT.json)
PARSED_NEXT = fastavro.parse_schema(NEXT.json)
EVENTS: st.SearchStrategy[PlayerEvent] = RECORDS[PlayerEvent]


@st.composite
def next_events(draw: st.DrawFn) -> NextPlayerEvent:
    old = msgspec.structs.asdict(draw(EVENTS))
    del old["provider_at"]
    old["attempt"] = NextAttempt(
        **msgspec.structs.asdict(old["attempt"]), connector=draw(st.text("abé", max_size=5))
    )
    old["time_source"] = draw(st.sampled_from(["OPERATOR", "PROVIDER", "CONNECTOR", "BROKER"]))
    return NextPlayerEvent(
        **old,
        device_id=draw(st.none() | st.text("abé", max_size=5)),
        tags=draw(st.lists(st.text("abé", max_size=5), max_size=3)),
        score=draw(st.integers(-(2**63), 2**63 - 1)),
    )


def resolved(data: bytes, writer: Any, reader: Any) -> Any:
    return fastavro.schemaless_reader(BytesIO(data[5:]), writer, reader)


def of_no_writer(data: bytes) -> Any:
    pytest.fail(repr(data))


encode = codec.encoder(PlayerEvent)
encode_next = codec.build_encoder(NextPlayerEvent, BOTH, "player-event")
decode_next = codec.build_decoder(NextPlayerEvent, BOTH, "player-event")


@given(EVENTS)
def test_old_records_are_read_by_new_code(event):
    data = encode(event)
    read = decode_next(data)
    assert read == msgspec.convert(resolved(data, PARSED, PARSED_NEXT), NextPlayerEvent)
    assert (read.event_id, read.device_id, read.tags, read.score) == (event.event_id, None, [], -1)
    assert read.attempt.connector == "unknown"


@given(next_events())
def test_new_code_reads_what_it_writes(event):
    assert decode_next(encode_next(event)) == event


@given(next_events())
def test_new_records_are_read_by_old_code(event):
    """As a release does that knows the next version and still works with the class of this one."""
    reader = parse(PLAYER_EVENT.json)
    frame = codec.frame_of(NEXT.id)
    decode = compile_decoder(
        DecoderSpec(NEXT.name, frame, parse(NEXT.json), reader, bind(reader, PlayerEvent)),
        of_no_writer,
    )
    data = encode_next(event)
    assert decode(data) == msgspec.convert(resolved(data, PARSED_NEXT, PARSED), PlayerEvent)
    if event.time_source == "OPERATOR":
        assert decode(data).time_source == "BROKER"
    with pytest.raises(Rejected, match="player-event/v3"):
        decode(data[:-1])


@given(EVENTS, next_events())
def test_a_partial_decoder_knows_both_versions(old, new):
    fields = (
        "player_id",
        "device_id",
        "attempt.connector",
        "attempt",
        "score",
        "tags",
        "attempt.offset",
    )
    decode = codec.build_decoder(NextPlayerEvent, BOTH, "player-event", fields)
    attempt = NextAttempt(**msgspec.structs.asdict(old.attempt), connector="unknown")
    assert decode(encode(old)) == (
        old.player_id,
        None,
        "unknown",
        attempt,
        -1,
        [],
        old.attempt.offset,
    )
    new_values = (
        new.device_id,
        new.attempt.connector,
        new.attempt,
        new.score,
        new.tags,
        new.attempt.offset,
    )
    assert decode(encode_next(new)) == (new.player_id, *new_values)


def an_event() -> PlayerEvent:
    attempt = Attempt("t", 0, 0)
    return PlayerEvent(
        "e",
        "b",
        "p",
        "1",
        "",
        "o",
        "x",
        attempt,
        "p",
        "t",
        {},
        1,
        "PROVIDER",
        None,
        None,
        1,
        "VALID",
    )


def test_a_default_list_belongs_to_one_event_only():
    data = encode(an_event())
    decode_next(data).tags.append("spoilt")
    assert decode_next(data).tags == []


def test_code_that_does_not_know_a_version_says_so():
    data = encode_next(
        msgspec.convert(resolved(encode(an_event()), PARSED, PARSED_NEXT), NextPlayerEvent)
    )
    with pytest.raises(UnknownSchema, match="810303"):
        codec.decoder(PlayerEvent)(data)


# --- player-event: version 1 and its successor, which names the aspect of the player that a verdict is about ------------------

V1, V2 = released_registry().get("player-event", 1), released_registry().get("player-event", 2)


class PlayerEventV1(msgspec.Struct, frozen=True):
    """The class that code of version 1 has."""

    event_id: str
    brand: str
    provider: str
    provider_version: str
    region: str
    operation: str
    provider_event_id: str
    attempt: Attempt
    player_id: str
    type: str
    attributes: dict[str, str]
    occurred_at: int
    time_source: str
    provider_at: int | None
    received_at: int | None
    appended_at: int
    signature: str


ONLY_V1 = Registry({V1.id: V1})
encode_v1 = codec.build_encoder(PlayerEventV1, ONLY_V1, "player-event")


def as_v1(event: PlayerEvent) -> PlayerEventV1:
    return PlayerEventV1(*msgspec.structs.astuple(event)[:-1])


@given(EVENTS)
def test_a_reader_of_version_1_reads_version_2(event):
    data = encode(event)
    assert codec.writer_schema(data) == V2
    writer, reader = parse(V2.json), parse(V1.json)
    decode = compile_decoder(
        DecoderSpec(V2.name, codec.frame_of(V2.id), writer, reader, bind(reader, PlayerEventV1)),
        of_no_writer,
    )
    assert decode(data) == as_v1(event)
    by_reference = resolved(data, fastavro.parse_schema(V2.json), fastavro.parse_schema(V1.json))
    assert msgspec.convert(by_reference, PlayerEventV1) == as_v1(event)


@given(EVENTS)
def test_a_reader_of_version_2_reads_version_1(event):
    data = encode_v1(as_v1(event))
    assert codec.writer_schema(data) == V1
    expected = msgspec.structs.replace(event, scope=None)
    assert codec.decoder(PlayerEvent)(data) == expected
    by_reference = resolved(data, fastavro.parse_schema(V1.json), fastavro.parse_schema(V2.json))
    assert msgspec.convert(by_reference, PlayerEvent) == expected


# --- wallet-transaction and wallet-outcome: what version 2 added, read by version 1, and the other way round -----------------


class ReferenceV1(msgspec.Struct, frozen=True):
    operation: str
    tx_id: str


def _without(record: type[msgspec.Struct], *names: str, **types: Any) -> type[msgspec.Struct]:
    """The class that code of version 1 has: fewer fields, some of another type."""
    kept = [field for field in msgspec.structs.fields(record) if field.name not in names]
    return msgspec.defstruct(
        f"{record.__name__}V1",
        [(field.name, types.get(field.name, field.type)) for field in kept],
        frozen=True,
    )


WALLET_V1 = [
    (
        WalletTransaction,
        _without(WalletTransaction, "group", "is_billable", reference=ReferenceV1 | None),
        "wallet-transaction",
    ),
    (WalletOutcome, _without(WalletOutcome, "decided_at"), "wallet-outcome"),
    (
        MarketSettlement,
        _without(MarketSettlement, "void_reason", "superseded_by"),
        "market-settlement",
    ),
]
OF_BOTH_VERSIONS = pytest.mark.parametrize(("record", "record_v1", "subject"), WALLET_V1)


@OF_BOTH_VERSIONS
@given(data=st.data())
def test_wallet_records_of_version_2_are_read_by_code_of_version_1(
    record, record_v1, subject, data
):
    v1, v2 = (released_registry().get(subject, version) for version in (1, 2))
    event = data.draw(RECORDS[record])
    value = codec.encoder(record)(event)
    assert codec.writer_schema(value) == v2
    reader = parse(v1.json)
    decode = compile_decoder(
        DecoderSpec(
            v2.name, codec.frame_of(v2.id), parse(v2.json), reader, bind(reader, record_v1)
        ),
        of_no_writer,
    )
    by_reference = resolved(value, fastavro.parse_schema(v2.json), fastavro.parse_schema(v1.json))
    assert decode(value) == msgspec.convert(by_reference, record_v1)
    assert decode(value).event_id == event.event_id


@OF_BOTH_VERSIONS
@given(data=st.data())
def test_wallet_records_of_version_1_are_read_by_code_of_version_2(
    record, record_v1, subject, data
):
    v1, v2 = (released_registry().get(subject, version) for version in (1, 2))
    plain = msgspec.to_builtins(data.draw(RECORDS[record]))
    old = msgspec.convert(plain, record_v1)
    value = codec.build_encoder(record_v1, Registry({v1.id: v1}), subject)(old)
    assert codec.writer_schema(value) == v1
    by_reference = resolved(value, fastavro.parse_schema(v1.json), fastavro.parse_schema(v2.json))
    read = codec.decoder(record)(value)
    assert read == msgspec.convert(by_reference, record)
    if record is WalletTransaction:
        assert (read.group, read.is_billable) == (None, True)


def reads(writer: dict[str, Any], reader: dict[str, Any]) -> str | None:
    return compatibility.incompatibility_text(
        Schema("made-up", 1, 1, writer), Schema("made-up", 2, 2, reader)
    )


def record(*fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "record",
        "name": "MadeUp",
        "fields": [{"name": "kept", "type": "string"}, *fields],
    }


AMOUNT = {"name": "amount", "type": "long"}
RECORD = {"type": "record", "name": "R", "fields": [AMOUNT]}
ENUM = {"type": "enum", "name": "E", "symbols": ["A", "B"]}


@pytest.mark.parametrize(
    ("writer", "reader", "forward", "backward"),
    [
        (record(), record(AMOUNT | {"default": 0}), True, True),
        (record(), record(AMOUNT), False, True),
        (record({"name": "n", "type": "int"}), record({"name": "n", "type": "long"}), True, False),
        (
            record({"name": "n", "type": "string"}),
            record({"name": "n", "type": ["null", "string"]}),
            True,
            False,
        ),
        (
            record({"name": "n", "type": "string"}),
            record({"name": "n", "type": "bytes"}),
            False,
            False,
        ),
        (
            record({"name": "n", "type": "long"}),
            record({"name": "n", "type": "boolean"}),
            False,
            False,
        ),
        (
            record({"name": "e", "type": ENUM}),
            record({"name": "e", "type": ENUM | {"symbols": ["A", "B", "C"]}}),
            True,
            False,
        ),
        (
            record({"name": "e", "type": ENUM | {"default": "A"}}),
            record({"name": "e", "type": ENUM | {"symbols": ["A", "C"], "default": "C"}}),
            True,
            True,
        ),
        (
            record({"name": "e", "type": ENUM}),
            record({"name": "e", "type": ENUM | {"name": "F"}}),
            False,
            False,
        ),
        (
            record({"name": "r", "type": RECORD}),
            record({"name": "r", "type": RECORD | {"name": "S"}}),
            False,
            False,
        ),
        (
            record({"name": "a", "type": {"type": "array", "items": "int"}}),
            record({"name": "a", "type": {"type": "array", "items": "long"}}),
            True,
            False,
        ),
        (
            record({"name": "m", "type": {"type": "map", "values": "string"}}),
            record({"name": "m", "type": {"type": "map", "values": "long"}}),
            False,
            False,
        ),
    ],
)
def test_compatibility_in_both_directions(writer, reader, forward, backward):
    assert (reads(writer, reader) is None, reads(reader, writer) is None) == (forward, backward)


def test_an_incompatible_version_is_reported_with_its_field(tmp_path: Path):
    with as_file(files("schemas") / "avro") as folder:
        avro = Path(shutil.copytree(folder, tmp_path / "avro"))
    schema = copy.deepcopy(released_registry().get("wallet-balance", 1).json)
    schema["fields"].append({"name": "limit_minor", "type": "long"})
    (avro / "wallet-balance" / "v2.avsc").write_text(json.dumps(schema))
    lock = json.loads((avro / "ids.lock.json").read_text())
    lock["ids"]["wallet-balance/v2"] = 810102
    (avro / "ids.lock.json").write_text(json.dumps(lock))
    registry = load(avro)
    checksums = {one.name: compatibility.checksum(one.json) for one in registry}
    found = [str(problem) for problem in compatibility.problems(registry, checksums)]
    assert len(found) == 2
    assert found[0].startswith("wallet-balance/v2: WalletBalance has the fields")
    assert found[1] == (
        "wallet-balance/v2: cannot read wallet-balance/v1: the record: the writer has no limit_minor, "
        "and the reader no default for it"
    )
