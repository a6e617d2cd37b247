from __future__ import annotations

from aiokafka.structs import ConsumerRecord

from schemas import codec
from schemas.errors import RejectCode
from schemas.events import DeadLetter, Header, Position
from streams.kafka.dead_letters import Burial, DeadLetters
from streams.kafka.producer import TooLarge


class Producer:
    def __init__(self, limit: int = 1 << 30) -> None:
        self.limit = limit
        self.sent: list[tuple[str, list]] = []

    async def send_keyed(self, topic, records) -> None:
        for index, (_, value, _, _) in enumerate(records):
            if len(value) > self.limit:
                raise TooLarge("too large", index)
        self.sent.append((topic, list(records)))


def record(offset=7, value=b"{broken", topic="provider.hub88.raw.v1", headers=(("content-type", b"application/json"),)):
    return ConsumerRecord(topic, 2, offset, 1_700_000_000_000, 1, b"player-1", value, None, 8, len(value), headers)


async def test_a_dead_letter_keeps_every_byte_and_says_where_and_why():
    producer = Producer()
    letters = DeadLetters(producer, "normalise", "0.1.0")
    await letters.bury(
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


async def test_records_of_several_topics_go_to_their_own_graves():
    producer = Producer()
    await DeadLetters(producer, "s", "v").bury_all(
        [Burial(record(topic=topic, offset=i), "X", "d") for i, topic in enumerate("abab")]
    )
    assert [(topic, len(records)) for topic, records in producer.sent] == [("a.dlt", 2), ("b.dlt", 2)]


async def test_a_letter_that_no_batch_can_hold_is_written_without_the_bytes():
    producer = Producer(limit=2_000)
    await DeadLetters(producer, "s", "v").bury_all(
        [Burial(record(1), "X", "a"), Burial(record(2, value=b"x" * 3_000), "X", "b"), Burial(record(3), "X", "c")]
    )
    ((_, sent),) = producer.sent
    found = [codec.decoder(DeadLetter)(value) for _, value, _, _ in sent]
    assert [letter.value for letter in found] == [b"{broken", None, b"{broken"]
    assert "provider.hub88.raw.v1-2@2" in found[1].detail
    assert found[1].detail.endswith(" b")


async def test_a_detail_is_bounded():
    producer = Producer()
    await DeadLetters(producer, "s", "v").bury(record(), "X", "long" * 10_000)
    ((_, [(_, value, _, _)]),) = producer.sent
    assert len(codec.decoder(DeadLetter)(value).detail) == 2_000
