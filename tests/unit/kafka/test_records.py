"""A record over librdkafka's message: decoded when asked, and unreadable headers are asked for once."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import Message

from runtime.dead_letters.key_holds import Disposition, KeyHold, ParkLimits, PartitionHolds
from runtime.kafka.records import FetchedRecord, readable_headers
from schemas.errors import RejectCode, Rejected
from streams.normalise.mapping.normaliser import Normaliser, RejectedItem
from streams.providers.registry import DIALECTS

TOPIC = "provider.hub88.raw.v1"


class Unreadable:
    """As confluent-kafka 2.16.0: the first call fails, a second one would crash the process."""

    calls = 0

    def headers(self) -> Any:
        self.calls += 1
        assert self.calls == 1
        raise SystemError("<method 'headers'> returned a result with an exception set")

    def key(self) -> bytes:
        return b"p1"

    def value(self) -> bytes:
        return b"{}"

    def timestamp(self) -> tuple[int, int]:
        return 2, 1_700_000_000_000


def unreadable(offset: int = 7) -> FetchedRecord:
    message: Any = Unreadable()
    return FetchedRecord(TOPIC, 2, offset, message)


def test_a_record_is_its_message():
    headers: list[Any] = [("a", b"1"), ("a", None)]
    message = Message(key=b"k", value=b"v", headers=headers, timestamp=(2, 1_234))
    record = FetchedRecord("t", 1, 5, message)
    assert (record.key, record.value, record.timestamp) == (b"k", b"v", 1_234)
    assert record.headers == [("a", b"1"), ("a", None)]
    assert repr(record) == "FetchedRecord(t-1@5)"


def test_a_record_without_a_key_a_value_and_headers():
    record = FetchedRecord("t", 1, 5, Message(timestamp=(1, 0)))
    assert (record.key, record.value, record.headers) == (None, None, ())


def test_headers_that_cannot_be_read_are_rejected_each_time_and_asked_for_once():
    record = unreadable()
    for _ in range(2):
        with pytest.raises(Rejected, match="BAD_HEADER"):
            _ = record.headers
        assert readable_headers(record) == ()
    assert (record.key, record.value) == (b"p1", b"{}")


def test_the_normaliser_makes_a_dead_letter_of_it():
    [item] = Normaliser(DIALECTS, {}).normalise(unreadable())
    assert isinstance(item, RejectedItem)
    assert (item.code, item.record_index, item.player_id) == (RejectCode.BAD_HEADER, None, None)


def test_it_does_not_wait_behind_a_dead_letter_of_its_player():
    hold = KeyHold(b"p1", 3, 3, 3, 1_700_000_000_000, "BAD_FIELD")
    holds = PartitionHolds(ParkLimits(), [hold])
    assert holds.disposition(unreadable()) == (Disposition.READ, None)
