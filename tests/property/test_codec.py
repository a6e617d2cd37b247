"""The compiled codec against fastavro: each byte it writes, each value it reads, and what it refuses.

fastavro is the reference for valid records only. For invalid ones the reference is Avro's specification: fastavro
reads past negative lengths and leaves trailing bytes unnoticed, which a ledger must not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import codec, events
from schemas.errors import RejectCode, Rejected
from schemas.events import DeadLetter, Header, Position
from schemas.registry import RECORDS as CLASSES
from schemas.registry import Registry, Schema, UnknownSchema, released_registry, subject_of
from tests.support.record_strategies import ANY_RECORD, RECORDS

RECORD_CLASSES = pytest.mark.parametrize(
    "record", list(CLASSES.values()), ids=lambda record: record.__name__
)


@cache
def parsed(record: type[msgspec.Struct]) -> Any:
    return fastavro.parse_schema(released_registry().latest(subject_of(record)).json)


def reference_bytes(event: msgspec.Struct) -> bytes:
    out = BytesIO()
    out.write(codec.frame_of(released_registry().latest(subject_of(type(event))).id))
    fastavro.schemaless_writer(
        out, parsed(type(event)), msgspec.to_builtins(event, builtin_types=(bytes,))
    )
    return out.getvalue()


def reference_event(record: type[msgspec.Struct], data: bytes) -> msgspec.Struct:
    return msgspec.convert(
        fastavro.schemaless_reader(BytesIO(data[5:]), parsed(record), None), record
    )


def read_or_reason(decode: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return decode(data)
    except Rejected as refusal:
        return refusal.reason


@RECORD_CLASSES
@given(st.data())
def test_bytes_are_those_of_fastavro_and_come_back_as_the_same_event(record, data):
    event = data.draw(RECORDS[record])
    written = codec.encoder(record)(event)
    assert written == reference_bytes(event)
    assert codec.decoder(record)(written) == event == reference_event(record, written)


@given(st.lists(ANY_RECORD, min_size=2, max_size=8))
def test_what_is_remembered_of_one_event_changes_no_other(drawn: list[msgspec.Struct]):
    for event in drawn + drawn:
        assert codec.encoder(type(event))(event) == reference_bytes(event)
        assert codec.decoder(type(event))(reference_bytes(event)) == event


@RECORD_CLASSES
@given(st.data())
def test_a_partial_decoder_returns_the_fields_of_the_whole_event_and_refuses_one_cut_short(
    record, data
):
    names = [field.name for field in msgspec.structs.fields(record)]
    nested = {
        f"{field.name}.{inner.name}"
        for field in msgspec.structs.fields(record)
        if field.type in {events.Attempt, events.Position}
        for inner in msgspec.structs.fields(field.type)
    }
    fields = tuple(
        data.draw(st.lists(st.sampled_from([*names, *sorted(nested)]), min_size=1, unique=True))
    )
    event = data.draw(RECORDS[record])
    expected = []
    for name in fields:
        value: Any = event
        for part in name.split("."):
            value = getattr(value, part)
        expected.append(value)
    written = codec.encoder(record)(event)
    assert codec.decoder(record, fields)(written) == tuple(expected)
    name = data.draw(st.sampled_from(names))
    cut = written[: data.draw(st.integers(0, len(written) - 1))]
    result = read_or_reason(codec.decoder(record, (name,)), cut)
    # Of a whole field nothing behind it is needed.
    assert result is RejectCode.BAD_CONTRACT or result == (getattr(event, name),)


@given(ANY_RECORD, st.data())
def test_a_record_cut_short_is_refused_wherever_it_is_cut(event: msgspec.Struct, data):
    written = codec.encoder(type(event))(event)
    cut = data.draw(st.integers(0, len(written) - 1))
    with pytest.raises(Rejected) as refusal:
        codec.decoder(type(event))(written[:cut])
    assert refusal.value.reason is RejectCode.BAD_CONTRACT


@given(ANY_RECORD, st.binary(min_size=1, max_size=20))
def test_bytes_after_the_end_are_refused(event: msgspec.Struct, more):
    with pytest.raises(Rejected, match="BAD_CONTRACT"):
        codec.decoder(type(event))(codec.encoder(type(event))(event) + more)


@RECORD_CLASSES
@given(st.data())
def test_garbage_is_refused_or_means_what_it_means_to_fastavro(record, data):
    """Never another error than Rejected, and never a value that the reference would not read."""
    body = bytearray(codec.encoder(record)(data.draw(RECORDS[record]))[5:])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=11))
    damaged = codec.frame_of(released_registry().latest(subject_of(record)).id) + bytes(body)
    event = read_or_reason(codec.decoder(record), damaged)
    assert event is RejectCode.BAD_CONTRACT or event == reference_event(record, damaged)


@RECORD_CLASSES
@given(st.binary(max_size=400))
def test_random_bytes_raise_nothing_but_rejected(record, noise):
    frame = codec.frame_of(released_registry().latest(subject_of(record)).id)
    fields = tuple(field.name for field in msgspec.structs.fields(record))[::3]
    for data in (noise, frame + noise):
        for decode in (codec.decoder(record), codec.decoder(record, fields)):
            result = read_or_reason(decode, data)
            assert isinstance(result, record | tuple) or result is RejectCode.BAD_CONTRACT


@pytest.mark.parametrize("count", [0, 1, 63, 64, 8192])
def test_arrays_of_every_length_are_read_whole_by_a_partial_decoder(count):
    # From 64 items on the count has more than one byte; it was once taken for an empty array's.
    letter = DeadLetter(
        Position("t", 0, 0), 0, None, None, [Header("", None)] * count, 0, "", "", "", "", None
    )
    written = codec.encoder(DeadLetter)(letter)
    decode = codec.decoder(DeadLetter, ("headers",))
    assert decode(written) == (letter.headers,)
    assert count < 64 or read_or_reason(decode, written[:12]) is RejectCode.BAD_CONTRACT


@given(ANY_RECORD, st.integers(0, 2**32 - 1), st.integers(1, 255))
def test_a_wrong_frame_is_refused(event: msgspec.Struct, schema_id, magic):
    decode = codec.decoder(type(event))
    body = codec.encoder(type(event))(event)[5:]
    with pytest.raises(Rejected, match="does not begin with 0x00"):
        decode(bytes([magic]) + schema_id.to_bytes(4, "big") + body)
    if schema_id not in {schema.id for schema in released_registry()}:
        with pytest.raises(UnknownSchema) as unknown:
            decode(codec.frame_of(schema_id) + body)
        assert unknown.value.schema_id == schema_id
        assert unknown.value.reason is RejectCode.BAD_CONTRACT
    for other in released_registry():
        if other.subject != subject_of(type(event)):
            with pytest.raises(Rejected, match="should be"):
                decode(codec.frame_of(other.id) + body)


@given(st.integers(-(2**70), 2**70), st.integers(-(2**40), 2**40))
def test_numbers_out_of_range_are_refused_not_cut(unscaled, scale):
    balance = events.WalletBalance(
        "p", "EUR", scale, unscaled, 0, 0, 0, 1, "e", events.Position("t", 0, 0)
    )
    if -(2**63) <= unscaled < 2**63 and -(2**31) <= scale < 2**31:
        written = codec.encoder(events.WalletBalance)(balance)
        assert codec.decoder(events.WalletBalance)(written) == balance
    else:
        with pytest.raises(Rejected, match="BAD_CONTRACT"):
            codec.encoder(events.WalletBalance)(balance)


def varint(number: int) -> bytes:
    number = number << 1 ^ number >> 63
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out + bytes([number]))


@given(
    st.lists(st.lists(st.text(st.characters(codec="utf-8"), max_size=5), min_size=1), max_size=5),
    st.booleans(),
)
def test_arrays_in_any_number_of_blocks_are_read(blocks, sized):
    """Other writers cut arrays into blocks, with a negative count and the block's size before it."""
    alert = events.FraudAlert(
        "a", "D01", 1, "info", "k", None, "t", 0, 0, 1, 2, 3, "bets", 4, [], [], {"a": "b"}
    )
    written = codec.encoder(events.FraudAlert)(alert)
    tail = b"\0\2\2a\2b\0\x08OPEN\2\0\0\0\x0cnormal"  # no samples, one piece of evidence, the rest by default
    assert written.endswith(b"\0" + tail)
    array = b""
    for block in blocks:
        items = b"".join(varint(len(item.encode())) + item.encode() for item in block)
        array += (varint(-len(block)) + varint(len(items)) if sized else varint(len(block))) + items
    data = written[: -len(tail)] + array + tail
    expected = msgspec.structs.replace(
        alert, sample_event_ids=[item for block in blocks for item in block]
    )
    assert (
        codec.decoder(events.FraudAlert)(data)
        == expected
        == reference_event(events.FraudAlert, data)
    )


@given(st.integers(0, 2**40), st.integers(1, 3))
def test_numbers_with_more_bytes_than_needed_are_read(number, padding):
    """Wasteful but well-formed; and 11 bytes are too many for any number."""
    balance = events.WalletBalance(
        "p", "EUR", 2, 0, 0, 0, 0, number, "e", events.Position("t", 0, 0)
    )
    written = codec.encoder(events.WalletBalance)(balance)
    plain = varint(number)
    padded = plain[:-1] + bytes([plain[-1] | 0x80]) + b"\x80" * (padding - 1) + b"\0"
    data = written.replace(b"\0\0\0\0" + plain + b"\2e", b"\0\0\0\0" + padded + b"\2e")
    assert data != written
    if len(padded) <= 10:
        assert codec.decoder(events.WalletBalance)(data) == balance
    else:
        with pytest.raises(Rejected):
            codec.decoder(events.WalletBalance)(data)


class Small(msgspec.Struct):
    flag: bool
    number: int
    choice: str
    maybe: str | None
    items: list[str]
    last: int


SMALL = Schema(
    "small",
    1,
    7,
    {
        "type": "record",
        "name": "Small",
        "fields": [
            {"name": "flag", "type": "boolean"},
            {"name": "number", "type": "int"},
            {
                "name": "choice",
                "type": {"type": "enum", "name": "Choice", "symbols": ["A", "B"], "default": "A"},
            },
            {"name": "maybe", "type": ["null", "string"]},
            {"name": "items", "type": {"type": "array", "items": "string"}},
            {"name": "last", "type": "long"},
        ],
    },
)
decode_small = codec.build_decoder(Small, Registry({7: SMALL}), "small")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\2\2\2\2\2a\2\2b\0\2", "flag, near byte 5: 2 is not a boolean"),
        (b"\1\xfe\xff\xff\xff\x7f\2\0\0\2", "number, near byte 6: a number of more than 32 bits"),
        (b"\1\2\1\0\0\2", "choice, near byte 7: an enum has no symbol -1"),
        (b"\1\2\2\1\0\2", "maybe, near byte 8: a union has no branch -1"),
        (b"\1\2\2\0\2\1\0\2", "items, near byte 10: a negative length"),
        (b"\1\2\2\0\2\4a", "items, near byte 10: the data ends too early"),
        (
            b"\1\2\2\0\0" + b"\x80" * 10 + b"\0",
            "last, near byte 10: a number of more than 10 bytes",
        ),
        (b"\1\2\2\0\0\2\2", "the end, near byte 11: 1 bytes too many"),
    ],
)
def test_what_fastavro_lets_by_and_avro_does_not_is_refused_and_named(body, message):
    with pytest.raises(Rejected, match=f"small/v1: {message}"):
        decode_small(codec.frame_of(7) + body)


def test_the_usual_form_and_any_other_give_the_same():
    usual = b"\1\2\2\2\2a\4\2b\2c\0\2"
    blocks = b"\1\2\2\2\2a\1\4\2b\2\2c\0\2"  # two blocks, the first with its size
    expected = Small(True, 1, "B", "a", ["b", "c"], 1)
    assert decode_small(codec.frame_of(7) + usual) == expected
    assert decode_small(codec.frame_of(7) + blocks) == expected
    fields = ("items", "choice")
    decode = codec.build_decoder(Small, Registry({7: SMALL}), "small", fields)
    for body in (usual, blocks):
        assert decode(codec.frame_of(7) + body) == (["b", "c"], "B")
        assert decode(codec.frame_of(7) + body[:-1]) == (["b", "c"], "B")  # `last` is not read


@pytest.mark.parametrize("size", [0, 3, 5, 60, -1])
def test_a_block_whose_size_is_wrong_is_refused_whether_its_field_is_wanted_or_not(size):
    """fastavro skips an unwanted block by its size, and would read the next fields elsewhere."""
    body = b"\1\2\2\2\2a\1" + varint(size) + b"\2b\2c\0\2"
    skipping = codec.build_decoder(Small, Registry({7: SMALL}), "small", ("last",))
    for decode in (decode_small, skipping):
        with pytest.raises(Rejected, match=r"small/v1: items, .*: a block of 2 bytes"):
            decode(codec.frame_of(7) + body)


def test_a_nested_field_is_named_with_its_path():
    written = codec.encoder(events.WalletTransaction)(a_bet())
    attempt = written.index(b"provider.hub88.raw.v1")
    with pytest.raises(Rejected, match=r"attempt\.topic, near byte"):
        codec.decoder(events.WalletTransaction)(written[: attempt + 3])


def a_bet(**changes: Any) -> events.WalletTransaction:
    bet = events.WalletTransaction(
        event_id="e",
        brand="b",
        provider="hub88",
        provider_version="2",
        region="",
        operation="bet",
        provider_tx_id="t",
        attempt=events.Attempt("provider.hub88.raw.v1", 0, 1),
        player_id="p",
        legs=[events.Leg("BET", events.Amount(150, 2), "EUR")],
        reference=None,
        round_id=None,
        round_closed=False,
        game_id=None,
        occurred_at=1_772_366_400_000,
        time_source="BROKER",
        provider_at=None,
        received_at=None,
        appended_at=1_772_366_400_000,
        fingerprint="f",
        fingerprint_version=1,
        signature="VALID",
        decision_required=True,
        cause=None,
    )
    return msgspec.structs.replace(bet, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"event_id": None},
        {"event_id": 7},
        {"event_id": b"e"},
        {"event_id": "\ud800"},
        {"brand": None},
        {"brand": b"b"},
        {"brand": "half a pair \udfff"},
        {"player_id": 7},
        {"game_id": 7},
        {"legs": None},
        {"legs": [None]},
        {"legs": [events.Leg("BET", events.Amount(1.5, 2), "EUR")]},  # type: ignore[arg-type]
        {"legs": [events.Leg("BET", events.Amount(2**63, 2), "EUR")]},
        {"legs": [events.Leg("BET", events.Amount(1, 2**31), "EUR")]},
        {"attempt": None},
        {"attempt": events.Attempt("t", 2**31, 0)},
        {"occurred_at": None},
        {"occurred_at": 1.7e12},
        {"occurred_at": 2**63},
        {"provider_at": -(2**63) - 1},
        {"time_source": "SUNDIAL"},
        {"round_closed": None},
        {"decision_required": "yes"},
        {"cause": events.Reference("o", "t")},
    ],
    ids=str,
)
def test_what_a_schema_cannot_hold_is_refused_and_named(changes):
    with pytest.raises(
        Rejected, match=f"wallet-transaction/v2 cannot hold this event: {next(iter(changes))}"
    ) as refusal:
        codec.encoder(events.WalletTransaction)(a_bet(**changes))
    assert refusal.value.reason is RejectCode.BAD_CONTRACT


def test_what_is_wrong_is_said_with_its_place():
    legs = [events.Leg("WIN"), events.Leg("BET", events.Amount(2**63, 2), "EUR")]
    with pytest.raises(
        Rejected, match=r"legs\[1\]\.amount\.unscaled: 9223372036854775808 does not fit 64 bits"
    ):
        codec.encoder(events.WalletTransaction)(a_bet(legs=legs))
    with pytest.raises(Rejected, match=r"attributes\['a'\]: 7 is not of type string"):
        codec.encoder(events.PlayerEvent)(player_event(attributes={"a": 7}))
    with pytest.raises(Rejected, match=r"attributes key: 7 is not of type string"):
        codec.encoder(events.PlayerEvent)(player_event(attributes={7: "a"}))
    with pytest.raises(Rejected, match=r"event_id: None has no such field"):
        codec.encoder(events.PlayerEvent)(None)  # type: ignore[arg-type]  # no event, on purpose


def player_event(**changes: Any) -> events.PlayerEvent:
    event = events.PlayerEvent(
        "e",
        "b",
        "p",
        "1",
        "",
        "o",
        "x",
        events.Attempt("t", 0, 0),
        "p",
        "t",
        {},
        1,
        "BROKER",
        None,
        None,
        1,
        "VALID",
    )
    return msgspec.structs.replace(event, **changes)


def test_members_of_our_enums_are_written_as_their_words():
    event = a_bet(time_source=events.TimeSource.BROKER, signature=events.SignatureVerdict.VALID)
    assert codec.encoder(events.WalletTransaction)(event) == codec.encoder(
        events.WalletTransaction
    )(a_bet())


@pytest.mark.parametrize("value", [None, b"", b"\0", b"\0\0\x0c\\", b"{}"])
def test_what_is_too_short_for_a_frame_is_refused(value):
    for record in CLASSES.values():
        with pytest.raises(Rejected, match="BAD_CONTRACT"):
            codec.decoder(record)(value)


def test_a_refusal_names_the_field_and_the_place():
    written = codec.encoder(events.WalletTransaction)(a_bet())
    with pytest.raises(
        Rejected, match=r"wallet-transaction/v2: provider, near byte 9: the data ends too early"
    ):
        codec.decoder(events.WalletTransaction)(written[:12])


def test_a_field_that_does_not_exist_cannot_be_asked_for():
    for fields in (("playerid",), ("attempt.ofset",), ("player_id.first",), ("legs.kind",)):
        with pytest.raises(KeyError):
            codec.decoder(events.WalletTransaction, fields)


def test_functions_are_made_once():
    assert codec.encoder(events.WalletTransaction) is codec.encoder(events.WalletTransaction)
    assert codec.decoder(events.WalletTransaction) is codec.decoder(events.WalletTransaction)
    assert codec.decoder(events.FraudAlert, ("key",)) is codec.decoder(events.FraudAlert, ("key",))
