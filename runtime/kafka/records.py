"""A record as every reader of a topic sees it, and the one that the intake's client returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import methodcaller
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from schemas.errors import RejectCode, Rejected

if TYPE_CHECKING:
    from confluent_kafka import Message

Headers: TypeAlias = Sequence[tuple[str, bytes | None]]
"""Headers in their order; a name may occur more than once."""


class RawRecord(Protocol):
    """A record of a topic, as its sender appended it; aiokafka's ConsumerRecord is one, too."""

    @property
    def topic(self) -> str:
        """Name of the topic on the broker."""

    @property
    def partition(self) -> int:
        """Number of the partition."""

    @property
    def offset(self) -> int:
        """Offset in the partition."""

    @property
    def timestamp(self) -> int:
        """The broker's time of the append, epoch ms."""

    @property
    def key(self) -> bytes | None:
        """Key, by which the record was partitioned."""

    @property
    def value(self) -> bytes | None:
        """Body, byte for byte as the sender wrote it."""

    @property
    def headers(self) -> Headers:
        """Headers; raises Rejected if they cannot be read."""


class FetchedRecord:
    """A record over librdkafka's message, which is read when it is asked for.

    Most readers look at a part of a record only, and decoding the headers costs more than the rest.
    """

    __slots__ = ("_headers", "_message", "offset", "partition", "topic")

    def __init__(self, topic: str, partition: int, offset: int, message: Message) -> None:
        """Take the message, and what the intake knows of it already."""
        self.topic: Final = topic
        self.partition: Final = partition
        self.offset: Final = offset
        self._message: Final = message
        self._headers: Headers | None = None

    @property
    def timestamp(self) -> int:
        """The record's time, epoch ms: of the append or of the sender, as its topic says."""
        return self._message.timestamp()[1]

    @property
    def key(self) -> bytes | None:
        """Key, by which the record was partitioned."""
        return self._message.key()

    @property
    def value(self) -> bytes | None:
        """Body, byte for byte as the sender wrote it."""
        return self._message.value()

    @property
    def headers(self) -> Headers:
        """Headers; raises Rejected if the name of one is not UTF-8, which brokers do not check."""
        if self._headers is None:
            found = decode_headers(self._message)
            self._headers = _UNREADABLE if found is None else found
        if self._headers is _UNREADABLE:
            raise Rejected(RejectCode.BAD_HEADER, "the name of a header is not UTF-8")
        return self._headers

    def __repr__(self) -> str:
        """Return `topic-partition@offset`."""
        return f"FetchedRecord({self.topic}-{self.partition}@{self.offset})"


_UNREADABLE: Final[Headers] = [("", None)]
"""Stands for headers that cannot be decoded; compared by identity."""


_read_headers: Final[Callable[[Message], Headers | None]] = methodcaller("headers")
"""Calls `Message.headers` with the check that it has not failed and returned something at once.

It does where a name is not UTF-8. CPython leaves that check out of a call in our own code once the
call is made often (PRECALL_NO_KW_METHOD_DESCRIPTOR_NOARGS): then the null pointer is taken for a
name, and the process ends with a segmentation fault.
"""


def decode_headers(message: Message) -> Headers | None:
    """Return a message's headers; None where the name of one is not UTF-8. To be called once."""
    # The first call fails with a SystemError around the UnicodeDecodeError (confluent-kafka
    # 2.16.0), and a second one would return a tuple with a null pointer: it must not be made.
    try:
        return _read_headers(message) or ()
    except (SystemError, UnicodeDecodeError):
        return None


def decode_all_headers(messages: Sequence[Message]) -> tuple[dict[int, Headers], list[int]]:
    """Return the headers of many messages by place, and the places where they cannot be decoded.

    A message without headers has no item. To be called once, as `decode_headers`.
    """
    found: list[Headers | None] = []
    failed: list[int] = []
    remaining = map(_read_headers, messages)
    while len(found) < len(messages):
        try:
            # What comes before a failure stays in the list, and the iterator is behind it.
            found.extend(remaining)
        except (SystemError, UnicodeDecodeError):
            failed.append(len(found))
            found.append(None)
    return {place: headers for place, headers in enumerate(found) if headers}, failed


def readable_headers(record: RawRecord) -> Headers:
    """Return a record's headers, or none where they cannot be read."""
    try:
        return record.headers
    except Rejected:
        return ()


def has_readable_headers(record: RawRecord) -> bool:
    """Return whether a record's headers can be read."""
    try:
        return record.headers is not None
    except Rejected:
        return False
