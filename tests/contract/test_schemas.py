"""The released contract: ids, files, golden bytes, and classes that equal their schemas."""

from __future__ import annotations

import json
import shutil
from importlib.resources import as_file, files
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pytest

from schemas import codec, topics
from schemas.compatibility import checksum, problems, released_checksums
from schemas.compiler.avro_types import BadSchema, parse
from schemas.compiler.binding import bind
from schemas.registry import (
    RECORDS,
    BadRegistry,
    Schema,
    UnknownSchema,
    load,
    released_registry,
    subject_of,
)

SUBJECTS = sorted(RECORDS)
GOLDEN = [
    (schema, example)
    for schema in released_registry()
    for example in json.loads(
        (files("schemas") / "golden" / f"{schema.subject}.v{schema.version}.json").read_text(
            encoding="utf-8"
        )
    )["examples"]
]
AS_GOLDEN = pytest.mark.parametrize(
    ("schema", "example"),
    GOLDEN,
    ids=[f"{schema.name}: {example['about']}" for schema, example in GOLDEN],
)


@pytest.fixture
def avro(tmp_path: Path) -> Path:
    """A copy of the released schema files that a test may spoil."""
    with as_file(files("schemas") / "avro") as released_folder:
        return Path(shutil.copytree(released_folder, tmp_path / "avro"))


def edit_lock(avro: Path, **changes: Any) -> None:
    lock = json.loads((avro / "ids.lock.json").read_text())
    lock["ids"].update(
        {name.replace("_", "-").replace("-v", "/v"): id_ for name, id_ in changes.items()}
    )
    lock["ids"] = {name: id_ for name, id_ in lock["ids"].items() if id_ is not None}
    (avro / "ids.lock.json").write_text(json.dumps(lock))


@AS_GOLDEN
def test_golden_bytes_are_written_and_read(schema, example):
    record = RECORDS[schema.subject]
    event = msgspec.json.decode(json.dumps(example["event"]), type=record)
    value = bytes.fromhex(example["value_hex"])
    assert codec.decoder(record)(value) == event
    if schema == released_registry().latest(schema.subject):
        assert codec.encoder(record)(event) == value


@AS_GOLDEN
def test_golden_bytes_are_those_of_the_reference(schema, example):
    record = RECORDS[schema.subject]
    event = msgspec.json.decode(json.dumps(example["event"]), type=record)
    value = bytes.fromhex(example["value_hex"])
    parsed = fastavro.parse_schema(schema.json)
    values = msgspec.to_builtins(event, builtin_types=(bytes,))
    body = BytesIO()
    fastavro.schemaless_writer(
        body, parsed, {field["name"]: values[field["name"]] for field in schema.json["fields"]}
    )
    assert value == b"\0" + schema.id.to_bytes(4, "big") + body.getvalue()
    assert (
        msgspec.convert(fastavro.schemaless_reader(BytesIO(value[5:]), parsed, None), record)
        == event
    )


def test_every_released_version_has_golden_examples():
    assert {schema.name for schema, _ in GOLDEN} == {schema.name for schema in released_registry()}


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_class_has_the_fields_of_its_schema_in_order(subject):
    schema = released_registry().latest(subject)
    names = [field["name"] for field in schema.json["fields"]]
    assert [field.name for field in msgspec.structs.fields(RECORDS[subject])] == names
    bind(parse(schema.json), RECORDS[subject])


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_file_is_avro_to_the_reference_and_documents_every_field(subject):
    for schema in released_registry().versions(subject):
        fastavro.parse_schema(schema.json)
        assert schema.json["doc"]
        assert all(field.get("doc") for field in schema.json["fields"])


def test_ids_are_those_that_others_have_stored():
    assert {schema.name: schema.id for schema in released_registry()} == {
        "wallet-transaction/v1": 810001,
        "wallet-transaction/v2": 810002,
        "wallet-balance/v1": 810101,
        "wallet-outcome/v1": 810201,
        "wallet-outcome/v2": 810202,
        "player-event/v1": 810301,
        "player-event/v2": 810302,
        "fraud-alert/v1": 810401,
        "fraud-alert/v2": 810402,
        "fraud-alert/v3": 810403,
        "dead-letter/v1": 810501,
        "market-settlement/v1": 810601,
        "market-settlement/v2": 810602,
        "risk-signal/v1": 810701,
        "schema-drift/v1": 810801,
        "game-result/v1": 810901,
        "rule-change/v1": 811001,
    }


def test_released_schemas_are_unedited_and_compatible():
    assert problems(released_registry(), released_checksums()) == []


def test_every_topic_with_a_schema_names_a_subject():
    assert {topic.schema for topic in topics.catalogue(["hub88"])} - {None} == set(RECORDS)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_schema_is_found_by_id_subject_and_class(subject):
    schema = released_registry().latest(subject)
    assert released_registry().by_id(schema.id) is schema
    assert released_registry().get(subject, schema.version) is schema
    assert subject_of(RECORDS[subject]) == subject
    assert codec.writer_schema(codec.frame_of(schema.id)) is schema


def test_an_unknown_id_says_which():
    with pytest.raises(UnknownSchema, match="schema id 7 is not one of ours"):
        released_registry().by_id(7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wallet_balance_v1": None}, "wallet-balance/v1 lacks an id"),
        ({"wallet_balance_v2": 810102}, "wallet-balance/v2 lacks its .avsc file"),
        ({"wallet_balance_v1": 810001}, "share the id 810001"),
        ({"wallet_balance_v1": 820000}, "outside the reserved range"),
        ({"wallet_balance_v1": 0}, "outside the reserved range"),
    ],
)
def test_a_lock_file_that_does_not_fit_the_files_is_refused(avro, changes, message):
    edit_lock(avro, **changes)
    with pytest.raises(BadRegistry, match=message):
        load(avro)


@pytest.mark.parametrize("name", ["v01.avsc", "latest.avsc", "v1.json"])
def test_a_file_that_is_no_version_is_refused(avro, name):
    shutil.copy(avro / "wallet-balance" / "v1.avsc", avro / "wallet-balance" / name)
    with pytest.raises(BadRegistry, match="is not named"):
        load(avro)


def test_an_edit_of_a_released_file_is_noticed_but_not_one_of_its_words(avro):
    file = avro / "wallet-balance" / "v1.avsc"
    schema = json.loads(file.read_text())
    schema["doc"] = "A better description."
    file.write_text(json.dumps(schema))
    assert problems(load(avro), released_checksums()) == []
    schema["fields"][2]["type"] = "long"
    file.write_text(json.dumps(schema))
    [problem] = problems(load(avro), released_checksums())
    assert (problem.schema, "was edited" in problem.detail) == ("wallet-balance/v1", True)


def test_a_version_without_a_checksum_is_noticed(avro):
    checksums = released_checksums()
    del checksums["dead-letter/v1"]
    [problem] = problems(load(avro), checksums)
    assert problem.schema == "dead-letter/v1"
    assert checksum(released_registry().get("dead-letter", 1).json) in problem.detail


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "double"}, "outside the part of Avro"),
        ({"type": ["null", "string", "long"]}, "outside the part of Avro"),
        ({"type": ["string", "null"]}, "outside the part of Avro"),
        ({"type": {"type": "long", "logicalType": "timestamp-millis"}}, "outside the part of Avro"),
        ({"type": "Money"}, "outside the part of Avro"),
        ({"aliases": ["amount"]}, "aliases is not used"),
        ({"default": "zero"}, "not a default of its type"),
        ({"default": True}, "not a default of its type"),
        ({"type": ["null", "long"], "default": 0}, "not a default of its type"),
    ],
)
def test_what_our_contracts_do_not_use_is_refused(change, message):
    field = {"name": "balance_minor", "type": "long", **change}
    with pytest.raises(BadSchema, match=message):
        parse({"type": "record", "name": "WalletBalance", "fields": [field]})


def test_a_class_with_other_fields_than_its_schema_is_refused():
    schema = released_registry().latest("wallet-balance")
    with pytest.raises(BadSchema, match="has the fields"):
        bind(parse(schema.json), RECORDS["wallet-outcome"])
    as_text = json.loads(
        json.dumps(schema.json).replace('"scale", "type": "int"', '"scale", "type": "string"')
    )
    with pytest.raises(BadSchema, match="scale cannot hold"):
        bind(parse(as_text), RECORDS["wallet-balance"])


def test_the_schema_of_a_name_is_readable():
    assert Schema("wallet-balance", 1, 810101, {}).name == "wallet-balance/v1"
