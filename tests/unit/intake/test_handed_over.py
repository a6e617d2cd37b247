"""What the client has handed over and is in no batch yet: who has something, and whose turn it is."""

from __future__ import annotations

from typing import Any, cast

from aiokafka.structs import TopicPartition
from confluent_kafka import KafkaError

from runtime.kafka.intake.handed_over import HandedOver
from runtime.kafka.intake.listener import Fetch

A, B, C = (TopicPartition("t", number) for number in range(3))


def fetched(tp, *messages, error=None, stream=1):
    return Fetch(tp, stream, cast("Any", list(messages)), error=error)


def filled(*fetches):
    handed_over = HandedOver()
    handed_over.restart([A, B, C], 1)
    for fetch in fetches:
        assert handed_over.add(fetch)
    return handed_over


def test_only_what_has_records_is_looked_at_and_the_longest_wait_comes_first():
    handed_over = filled(fetched(B, 1, 2), fetched(A, 3), fetched(C), fetched(B, 4))
    assert list(handed_over.with_records()) == [B, A]
    assert handed_over[B].take(2)[0] == [1, 2]
    handed_over.move_back(B)
    assert list(handed_over.with_records()) == [A, B]
    assert handed_over[A].take(9)[0] == [3]
    handed_over.move_back(A)
    assert list(handed_over.with_records()) == [B]
    assert not handed_over.is_empty
    assert handed_over[B].take(9)[0] == [4]
    handed_over.move_back(B)
    assert handed_over.is_empty
    assert handed_over.add(fetched(A, 5))
    assert list(handed_over.with_records()) == [A]


def test_an_error_behind_records_shows_once_they_are_taken_and_stays_until_it_is_read_anew():
    error = KafkaError(KafkaError._ALL_BROKERS_DOWN)
    handed_over = filled(fetched(A, 1, error=error))
    assert handed_over.failed() == []
    handed_over[A].take(1)
    handed_over.move_back(A)
    assert handed_over.failed() == [(A, error)]
    assert not handed_over.is_empty
    handed_over.restart([A], 2)
    assert handed_over.failed() == []
    assert handed_over.is_empty
    assert not handed_over.add(fetched(A, 1))
    assert handed_over.add(fetched(A, 1, stream=2))


def test_nothing_is_left_of_an_assignment_that_is_over():
    handed_over = filled(fetched(A, 1), fetched(B, 2, 3))
    assert handed_over.clear() == 3
    assert handed_over.is_empty
    assert not handed_over.add(fetched(A, 1))
