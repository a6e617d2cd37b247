"""Tables of a topic's records: mixed versions, erased keys, foreign bytes, headers and masks."""

from __future__ import annotations

import msgspec
import pytest

from replay.columns.masking import mask_fields, mask_headers
from replay.columns.topic_table import TableStats, TopicTable
from replay.log.blocks import LogBlock
from schemas import codec
from schemas.compiler.avro_types import Array, Map, Nullable, Primitive, RecordType, parse
from schemas.events import Cause, WalletTransaction
from schemas.registry import RECORDS, released_registry
from schemas.tags import PLAIN_HEADERS, field_tags, sensitive_fields
from tests.support.ledger_events import bet, deposit, house, leg

encode = codec.encoder(WalletTransaction)


def block_of(*values: bytes | None, **parts) -> LogBlock:
    count = len(values)
    return LogBlock(
        "ns.wallet.transactions.v1",
        3,
        list(range(100, 100 + count)),
        [1_764_000_000_000 + index for index in range(count)],
        parts.get("keys", [b"p-1"] * count),
        list(values),
        parts.get("headers", {}),
    )


def test_rows_say_where_they_are_from():
    stats = TableStats()
    headers = {1: [("brand", b"acme"), ("traceparent", None)]}
    block = block_of(
        encode(bet("b", 150)), encode(deposit("d", 7)), keys=[b"p-1", b"\xff"], headers=headers
    )
    [first, second] = TopicTable("wallet-transaction").build(block, stats).to_pylist()
    assert first["_topic"] == "ns.wallet.transactions.v1"
    assert (first["_partition"], first["_offset"], second["_offset"]) == (3, 100, 101)
    assert (second["_append_at"] - first["_append_at"]).microseconds == 1_000
    assert (first["_key"], second["_key"]) == ("p-1", "\\xff")
    assert first["_headers"] == []
    assert second["_headers"] == [
        {"name": "brand", "value": b"acme"},
        {"name": "traceparent", "value": None},
    ]
    assert first["provider_tx_id"] == "b"
    assert stats.schema_ids == {810002}
    assert stats.unreadable == []


def test_a_record_without_a_value_is_a_row_without_fields_and_a_foreign_one_is_named():
    stats = TableStats()
    balance = codec.frame_of(810101) + b"\x00"
    values = [
        None,
        encode(bet("b", 150)),
        b"{}",
        balance,
        encode(bet("c", 1))[:-1],
        encode(bet("d", 2)),
    ]
    table = TopicTable("wallet-transaction").build(block_of(*values), stats)
    assert table.column("_offset").to_pylist() == [100, 101, 105]
    assert table.column("provider_tx_id").to_pylist() == [None, "b", "d"]
    assert [place.partition("@")[2] for place, _ in stats.unreadable] == ["102", "103", "104"]
    assert "wallet-balance" in stats.unreadable[1][1]


def test_a_topic_without_a_schema_keeps_its_bytes():
    table = TopicTable(None).build(block_of(b"\x00\xff", None), TableStats())
    assert table.column("value").to_pylist() == [b"\x00\xff", None]


def test_a_mask_empties_fields_inside_of_records_and_lists_and_keeps_the_rest():
    events = [
        house("adjustment", "a", leg("ADJUSTMENT", 5)),
        bet("b", 150),
    ]
    events[0] = msgspec.structs.replace(events[0], cause=Cause("operator", "1", "ann", "goodwill"))
    table = TopicTable("wallet-transaction").build(block_of(*map(encode, events)), TableStats())
    masked = mask_fields(
        table, ["cause.actor", "legs.kind", "group.members.cause.actor", "round_id"]
    )
    masked.validate(full=True)
    assert masked.schema == table.schema
    first, second = masked.to_pylist()
    assert first["cause"] == {"type": "operator", "id": "1", "actor": None, "reason": "goodwill"}
    assert second["cause"] is None
    assert [item["kind"] for item in first["legs"]] == [None]
    assert first["legs"][0]["amount_unscaled"] == 5
    with pytest.raises(KeyError):
        mask_fields(table, ["cause.nothing"])


def test_headers_keep_their_names_and_only_the_plain_ones_their_values():
    headers = {0: [("brand", b"acme"), ("x-signature", b"s3cret")], 2: [("region", None)]}
    table = TopicTable(None).build(block_of(b"1", b"2", b"3", headers=headers), TableStats())
    masked = mask_headers(table.column("_headers").chunk(0), PLAIN_HEADERS)
    assert masked.to_pylist() == [
        [{"name": "brand", "value": b"acme"}, {"name": "x-signature", "value": None}],
        [],
        [{"name": "region", "value": None}],
    ]


def leaves(type_, path=""):
    match type_:
        case Nullable(inner):
            yield from leaves(inner, path)
        case Array(items):
            yield from leaves(items, path)
        case RecordType():
            for field in type_.fields:
                yield from leaves(field.type, f"{path}.{field.name}" if path else field.name)
        case Map() | Primitive("string" | "bytes"):
            yield path


@pytest.mark.parametrize("subject", RECORDS)
def test_every_field_that_can_hold_text_has_a_tag(subject):
    record = parse(released_registry().latest(subject).json)
    assert list(field_tags(subject)) == list(leaves(record))


@pytest.mark.parametrize("subject", [*RECORDS, None])
def test_every_sensitive_field_can_be_masked(subject):
    table = TopicTable(subject).build(block_of(None), TableStats())
    mask_fields(table, sensitive_fields(subject))
