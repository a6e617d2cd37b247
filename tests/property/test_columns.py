"""Columns against the events they come from: every value, every released version, and what is refused."""

from __future__ import annotations

from decimal import Decimal, localcontext
from io import BytesIO
from typing import Any

import fastavro
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.columns import decimals
from replay.columns.avro_reader import compile_reader
from replay.columns.byte_batch import Malformed
from schemas import codec
from schemas.compiler.avro_types import TIMES, RecordType, parse
from schemas.compiler.resolution import ReadRecord, resolve
from schemas.registry import RECORDS as CLASSES
from schemas.registry import Schema, released_registry, subject_of
from tests.support.examples import examples
from tests.support.record_strategies import RECORDS

RECORD_CLASSES = pytest.mark.parametrize(
    "record", list(CLASSES.values()), ids=lambda record: record.__name__
)
OLD_VERSIONS = [
    schema
    for schema in released_registry()
    if schema.version < released_registry().latest(schema.subject).version
]


def reader_of(schema: Schema):
    latest = parse(released_registry().latest(schema.subject).json)
    plan = resolve(parse(schema.json), latest)
    assert isinstance(plan, ReadRecord)
    return compile_reader(plan, latest)


def exact(unscaled: Any, scale: Any) -> Decimal | None:
    """Return an amount as DECIMAL(38, 18), or None where that cannot hold it."""
    with localcontext(prec=100):
        if not 0 <= scale <= 36:
            return None
        value = Decimal(unscaled).scaleb(-scale)
        fixed = value.quantize(Decimal(1).scaleb(-18))
        return fixed if fixed == value else None


def expected(value: Any) -> dict[str, Any]:
    """Return a record's columns as the reader must give them, from its event."""
    columns: dict[str, Any] = {}
    scale = getattr(value, "scale", None)
    has_scale = hasattr(value, "scale") and type(value).__name__ != "Amount"
    for field in msgspec.structs.fields(type(value)):
        one = getattr(value, field.name)
        if field.name == "amount":
            known = one is not None
            columns["amount"] = exact(one.unscaled, one.scale) if known else None
            columns["amount_unscaled"] = one.unscaled if known else None
            columns["amount_scale"] = one.scale if known else None
            continue
        is_time = field.name in TIMES or field.name.endswith("_at")
        columns[field.name] = in_us(one) if is_time else plain(one)
        if has_scale and field.name.endswith("_minor"):
            known = one is not None and scale is not None
            columns[field.name.removesuffix("_minor")] = exact(one, scale) if known else None
    return columns


def in_us(ms: int | None) -> int | None:
    return None if ms is None or abs(ms) > (2**63 - 1) // 1000 else ms * 1000


def plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return expected(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return sorted(value.items())
    return value


def found(column: Any) -> list[Any]:
    """Return a column's values; times in microseconds, which Python's datetime cannot always hold."""
    return [raw(scalar) for scalar in column]


def raw(scalar: Any) -> Any:
    if not scalar.is_valid:
        return None
    kind = str(scalar.type)
    if kind.startswith("timestamp"):
        return scalar.value
    if kind.startswith("struct"):
        return {name: raw(scalar[name]) for name in scalar.type.names}
    if kind.startswith("map"):
        # A name that stands twice keeps its last value, as in the event.
        return sorted({raw(pair["key"]): raw(pair["value"]) for pair in scalar.values}.items())
    if kind.startswith("list"):
        return [raw(item) for item in scalar.values]
    return scalar.as_py()


@RECORD_CLASSES
@examples(30)  # of each class
@given(st.data())
def test_columns_hold_what_the_events_hold(record, data):
    drawn = data.draw(st.lists(RECORDS[record], max_size=6))
    encode = codec.encoder(record)
    columns = reader_of(released_registry().latest(subject_of(record)))(
        [encode(event) for event in drawn]
    )
    rows = [expected(event) for event in drawn]
    if rows:
        assert list(columns) == list(rows[0])
    for name, column in columns.items():
        column.validate(full=True)
        assert found(column) == [row[name] for row in rows], name


@pytest.mark.parametrize("schema", OLD_VERSIONS, ids=lambda schema: schema.name)
@given(st.data())
def test_an_older_version_gives_the_columns_of_the_latest(schema: Schema, data):
    record = CLASSES[schema.subject]
    drawn = data.draw(st.lists(RECORDS[record], min_size=1, max_size=4))
    tree = parse(schema.json)
    assert isinstance(tree, RecordType)
    values, parsed = [], fastavro.parse_schema(schema.json)
    for event in drawn:
        out = BytesIO()
        known = msgspec.to_builtins(event, builtin_types=(bytes,))
        kept = {field.name: known[field.name] for field in tree.fields}
        fastavro.schemaless_writer(out, parsed, kept)
        values.append(codec.frame_of(schema.id) + out.getvalue())
    columns = reader_of(schema)(values)
    decoded = [codec.decoder(record)(value) for value in values]
    rows = [expected(event) for event in decoded]
    for name, column in columns.items():
        assert found(column) == [row[name] for row in rows], name


@RECORD_CLASSES
@examples(30)  # of each class
@given(st.data())
def test_a_batch_with_a_record_cut_short_or_too_long_is_refused(record, data):
    encode = codec.encoder(record)
    values = [
        encode(event) for event in data.draw(st.lists(RECORDS[record], min_size=1, max_size=4))
    ]
    place = data.draw(st.integers(0, len(values) - 1))
    whole = values[place]
    values[place] = data.draw(
        st.integers(5, len(whole) - 1).map(lambda n: whole[:n])
        | st.binary(min_size=1, max_size=9).map(lambda more: whole + more)
    )
    with pytest.raises(Malformed):
        reader_of(released_registry().latest(subject_of(record)))(values)


@RECORD_CLASSES
@examples(30)  # of each class
@given(st.data())
def test_bytes_that_are_no_record_are_refused_or_read_as_the_decoder_reads_them(record, data):
    value = codec.frame_of(released_registry().latest(subject_of(record)).id)
    value += data.draw(st.binary(max_size=200))
    read = reader_of(released_registry().latest(subject_of(record)))
    try:
        columns = read([value])
    except Malformed:
        return
    row = expected(codec.decoder(record)(value))
    assert {name: found(column)[0] for name, column in columns.items()} == row


def test_a_list_in_several_blocks_with_sizes_is_read():
    value = codec.encoder(CLASSES["fraud-alert"])(
        msgspec.convert(
            {
                **dict.fromkeys(("alert_id", "rule_id", "severity", "key", "title", "unit"), "x"),
                **dict.fromkeys(("rule_version", "episode_start", "window_start", "window_end"), 1),
                **dict.fromkeys(("observed", "threshold", "occurred_at"), 1),
                "player_id": None,
                "sources": [],
                "sample_event_ids": ["one", "two", "three"],
                "evidence": {},
            },
            CLASSES["fraud-alert"],
        )
    )
    whole = b"\x06\x06one\x06two\x0athree\x00"
    assert whole in value
    # Two blocks: one item with the block's size in bytes (-1, 4), then two.
    blocks = b"\x01\x08\x06one\x04\x06two\x0athree\x00"
    read = reader_of(released_registry().latest("fraud-alert"))
    columns = read([value, value.replace(whole, blocks)])
    assert columns["sample_event_ids"].to_pylist() == [["one", "two", "three"]] * 2


@given(
    st.lists(
        st.tuples(st.integers(-(2**63), 2**63 - 1) | st.integers(-200, 200), st.integers(-3, 40)),
        min_size=1,
    )
)
def test_decimals_are_exact_or_null(amounts):
    unscaled = np.array([one for one, _ in amounts], dtype=np.int64)
    scale = np.array([two for _, two in amounts], dtype=np.int32)
    assert decimals.decimal_array(unscaled, scale).to_pylist() == [
        exact(*amount) for amount in amounts
    ]


@pytest.mark.parametrize(
    "other", [b"", b"\x00\x00", b"\x00\x00\x00\x00\x7f" + b"\x00" * 40, b"\x01" + b"\x00" * 44]
)
@examples(5)  # of each
@given(st.data())
def test_values_of_another_frame_are_refused_together(other, data):
    """Each schema has a reader of its own; what is shorter than a frame is none of any."""
    record = CLASSES["wallet-balance"]
    value = codec.encoder(record)(data.draw(RECORDS[record]))
    read = reader_of(released_registry().latest("wallet-balance"))
    assert read([value, value])
    for values in ([value, other], [other, value]):
        with pytest.raises(Malformed):
            read(values)
