from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord

from runtime.dead_letters import sink as dead_letters
from runtime.dead_letters.sink import BYTES_AT_ONCE, KafkaDeadLetterSink, Rejection
from runtime.kafka.producer import TooLarge
from runtime.kafka.records import FetchedRecord
from schemas import codec
from schemas.errors import InvariantBroken, RejectCode
from schemas.events import DeadLetter, Header, Position


class Producer:
    def __init__(self, limit: int = 1 << 30) -> None:
        self.limit = limit
        self.sent: list[tuple[str, list]] = []

    async def send_keyed(self, topic, records) -> None:
        for index, (_, value, _, _) in enumerate(records):
            if len(value) > self.limit:
                raise TooLarge("too large", index)
        self.sent.append((topic, list(records)))


def record(
    offset=7,
    value=b"{broken",
    topic="provider.hub88.raw.v1",
    headers=(("content-type", b"application/json"),),
):
    return ConsumerRecord(
        topic, 2, offset, 1_700_000_000_000, 1, b"player-1", value, None, 8, len(value), headers
    )


async def test_a_dead_letter_keeps_every_byte_and_says_where_and_why():
    producer: Any = Producer()
    letters = KafkaDeadLetterSink(producer, "normalise", "0.1.0")
    await letters.publish(
        record(headers=(("x", b"\xff\x00"), ("none", None))),
        RejectCode.MALFORMED,
        "not JSON",
        record_index=3,
        player_id="p1",
    )
    ((topic, [(key, value, headers, timestamp)]),) = producer.sent
    assert topic == "provider.hub88.raw.v1.dlt"
    assert key == b"player-1"
    assert timestamp is None
    assert dict(headers) == {
        "code": b"MALFORMED",
        "stage": b"normalise",
        "source": b"provider.hub88.raw.v1-2@7",
    }
    assert codec.decoder(DeadLetter)(value) == DeadLetter(
        source=Position("provider.hub88.raw.v1", 2, 7),
        record_index=3,
        key=b"player-1",
        value=b"{broken",
        headers=[Header("x", b"\xff\x00"), Header("none", None)],
        source_timestamp=1_700_000_000_000,
        code="MALFORMED",
        detail="not JSON",
        stage="normalise",
        code_version="0.1.0",
        player_id="p1",
    )


async def test_a_record_whose_headers_cannot_be_read_has_a_letter_without_them():
    class Broken:
        def headers(self):
            raise SystemError("returned a result with an exception set")

        def key(self) -> bytes:
            return b"player-1"

        def value(self) -> bytes:
            return b"{}"

        def timestamp(self) -> tuple[int, int]:
            return 1, 1_700_000_000_000

    producer: Any = Producer()
    message: Any = Broken()
    await KafkaDeadLetterSink(producer, "normalise", "0.1.0").publish(
        FetchedRecord("provider.hub88.raw.v1", 2, 7, message), RejectCode.BAD_HEADER, "not UTF-8"
    )
    ((_, [(_, value, _, _)]),) = producer.sent
    letter = codec.decoder(DeadLetter)(value)
    assert (letter.key, letter.value, letter.headers) == (b"player-1", b"{}", [])


async def test_records_of_several_topics_go_to_their_own_topics():
    producer: Any = Producer()
    await KafkaDeadLetterSink(producer, "s", "v").publish_all(
        [Rejection(record(topic=topic, offset=i), "X", "d") for i, topic in enumerate("abab")]
    )
    assert [(topic, len(records)) for topic, records in producer.sent] == [
        ("a.dlt", 2),
        ("b.dlt", 2),
    ]


async def test_a_letter_that_no_batch_can_hold_is_written_without_the_bytes():
    producer: Any = Producer(limit=2_000)
    await KafkaDeadLetterSink(producer, "s", "v").publish_all(
        [
            Rejection(record(1), "X", "a"),
            Rejection(record(2, value=b"x" * 3_000), "X", "b"),
            Rejection(record(3), "X", "c"),
        ]
    )
    ((_, sent),) = producer.sent
    found = [codec.decoder(DeadLetter)(value) for _, value, _, _ in sent]
    assert [letter.value for letter in found] == [b"{broken", None, b"{broken"]
    assert "provider.hub88.raw.v1-2@2" in found[1].detail
    assert found[1].detail.endswith(" b")


async def test_a_detail_is_bounded():
    producer: Any = Producer()
    await KafkaDeadLetterSink(producer, "s", "v").publish(record(), "X", "long" * 10_000)
    ((_, [(_, value, _, _)]),) = producer.sent
    assert len(codec.decoder(DeadLetter)(value).detail) == 2_000


class Sized(Producer):
    """Refuses what a batch cannot hold, as the real one does."""

    calls = 0

    async def send_keyed(self, topic, records) -> None:
        self.calls += 1
        assert self.calls < 100, "an endless loop: nothing in it waits"
        for index, (key, value, headers, _) in enumerate(records):
            size = (
                len(key or b"") + len(value) + sum(len(name) + len(held) for name, held in headers)
            )
            if size > self.limit:
                raise TooLarge(f"{size} bytes", index)
        self.sent.append((topic, list(records)))

    def letters(self) -> list[DeadLetter]:
        return [
            codec.decoder(DeadLetter)(value) for _, sent in self.sent for _, value, _, _ in sent
        ]

    def bytes_sent(self) -> list[int]:
        return [
            sum(len(key or b"") + len(value) for key, value, _, _ in sent) for _, sent in self.sent
        ]


async def test_the_bytes_of_a_record_are_in_its_first_letter_and_in_no_other():
    producer: Any = Sized()
    first, second = record(1, value=b"x" * 60_000), record(2, value=b"y" * 60_000)
    items = [Rejection(first, "X", f"item {n}", n, f"p{n}") for n in range(16)]
    await KafkaDeadLetterSink(producer, "s", "v").publish_all([*items, Rejection(second, "X", "d")])
    letters = producer.letters()
    assert [letter.value for letter in letters] == [first.value, *[None] * 15, second.value]
    assert [bool(letter.headers) for letter in letters] == [True, *[False] * 15, True]
    assert [(letter.record_index, letter.detail, letter.player_id) for letter in letters[:-1]] == [
        (n, f"item {n}", f"p{n}") for n in range(16)
    ]
    assert {(letter.key, letter.code) for letter in letters} == {(b"player-1", "X")}
    assert sum(producer.bytes_sent()) < 2 * 60_000 + 17 * 500


async def test_what_is_encoded_at_once_is_bounded():
    producer: Any = Sized()
    many = [Rejection(record(n, value=b"x" * 900_000), "X", "d") for n in range(50)]
    await KafkaDeadLetterSink(producer, "s", "v").publish_all(many)
    assert [letter.source.offset for letter in producer.letters()] == [*range(50)]
    assert len(producer.sent) == 13
    assert max(producer.bytes_sent()) < BYTES_AT_ONCE * 1.01
    few: Any = Sized()
    await KafkaDeadLetterSink(few, "s", "v").publish_all(
        [Rejection(record(n), "X", "d") for n in range(2_000)]
    )
    assert len(few.sent) == 1, "what is small goes out as before"


async def test_many_small_letters_are_bounded_too(monkeypatch):
    monkeypatch.setattr(dead_letters, "BYTES_AT_ONCE", 50_000)
    producer: Any = Sized()
    await KafkaDeadLetterSink(producer, "s", "v").publish_all(
        [Rejection(record(n), "X", "") for n in range(500)]
    )
    assert max(producer.bytes_sent()) < 50_000
    assert len(producer.letters()) == 500


@pytest.mark.parametrize(
    "huge",
    [
        replace(record(), key=b"k" * 1_040_000),
        replace(record(), key=b"k" * 600_000),
        replace(record(), headers=(("h", b"v" * 1_040_000),)),
        replace(record(), headers=tuple(("name" * 10, b"") for _ in range(25_000))),
        replace(record(), value=b"v" * 1_040_000),
    ],
    ids=["key", "key twice", "header", "headers", "value"],
)
async def test_whatever_is_too_large_of_a_record_it_has_one_letter(huge):
    producer: Any = Sized(limit=1_000_000)
    await KafkaDeadLetterSink(producer, "s", "v").publish_all(
        [Rejection(record(1), "X", "a"), Rejection(huge, "X", "b")]
    )
    small, letter = producer.letters()
    assert small.value == b"{broken"
    assert (letter.value, letter.headers) == (None, [])
    # By its key a drop releases the records that wait behind it; one that long is not an id.
    assert letter.key == (b"player-1" if huge.key == b"player-1" else None)
    assert "read them at provider.hub88.raw.v1-2@7" in letter.detail
    assert producer.bytes_sent()[0] < 2_000


async def test_the_other_letters_of_a_record_do_not_repeat_a_long_key():
    producer: Any = Sized(limit=1_000_000)
    long = replace(record(), key=b"k" * 400_000)
    await KafkaDeadLetterSink(producer, "s", "v").publish_all(
        [Rejection(long, "X", "d", n) for n in range(16)]
    )
    assert [letter.key and len(letter.key) for letter in producer.letters()] == [
        400_000,
        *[None] * 15,
    ]
    assert sum(producer.bytes_sent()) < 3 * 400_000


async def test_a_letter_that_does_not_fit_without_the_bytes_either_ends_the_process():
    producer: Any = Sized(limit=10)
    with pytest.raises(
        InvariantBroken, match=r"provider\.hub88\.raw\.v1-2@7 is too large although"
    ):
        await KafkaDeadLetterSink(producer, "s", "v").publish(record(), "X", "d")
