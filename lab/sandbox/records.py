"""The sandbox's output: a raw record as a connector would append it, and its origin."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any, Final

import msgspec
import orjson

from schemas.errors import RejectCode

PHASE_DEPOSITS: Final = 0
PHASE_PLAY: Final = 1


class Origin(StrEnum):
    """Origin of a record in the stream.

    FIRST: its business content is sent for the first time, unless a batch carries some of it again.
    RETRY: the provider sent the same content again, with another request id, time, style and
    signature. DUPLICATE: the same bytes again, headers included, from a connector that was not sure
    of its append. POISON: unusable; to be rejected with `expected_reject`.
    """

    FIRST = "FIRST"
    RETRY = "RETRY"
    DUPLICATE = "DUPLICATE"
    POISON = "POISON"


class RawEvent(msgspec.Struct, frozen=True):
    """One record of `provider.<provider>.raw.v1`.

    `event_time_ms` is the connector's simulated clock, the same as its `received-at` header. The
    records of a phase all come before those of the next. `origin` and `expected_reject` are for
    tests; a topic does not get them.
    """

    provider: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    event_time_ms: int
    phase: int
    origin: Origin = Origin.FIRST
    expected_reject: RejectCode | None = None


def json_lines(records: Iterable[RawEvent]) -> Iterator[bytes]:
    """Encode the records as lines of JSON, in feed order.

    Key, value and header values are base64, header names are text.
    """
    return (orjson.dumps(_line(record)) + b"\n" for record in records)


def _line(record: RawEvent) -> dict[str, Any]:
    return {
        "provider": record.provider,
        "phase": record.phase,
        "event_time_ms": record.event_time_ms,
        "origin": record.origin.value,
        "expected_reject": None if record.expected_reject is None else record.expected_reject.value,
        "key": b64encode(record.key).decode(),
        "value": b64encode(record.value).decode(),
        "headers": [[name, b64encode(value).decode()] for name, value in record.headers],
    }
