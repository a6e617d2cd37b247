"""What the errors of librdkafka mean for an intake.

Codes of the client itself, as opposed to the broker's, begin with an underscore; they are public.
"""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaError

END_OF_LOG: Final = KafkaError._PARTITION_EOF
"""Not an error, but a mark: the client has read a partition up to the end of its log."""

OUT_OF_LOG: Final = frozenset(
    {KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION, KafkaError.OFFSET_OUT_OF_RANGE}
)
"""The log does not hold the offset."""

DAMAGED: Final = frozenset(
    {KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError.MSG_SIZE_TOO_LARGE}
)
"""The answer is damaged, or too large for the client."""

_TRANSIENT: Final = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._MAX_POLL_EXCEEDED,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._TRANSPORT,
        KafkaError._WAIT_COORD,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)


def is_transient(error: KafkaError) -> bool:
    """Return whether the client goes on by itself, so that the error is only to be logged."""
    return not error.fatal() and (error.retriable() or error.code() in _TRANSIENT)
