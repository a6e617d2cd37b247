"""Generated records as lines of JSON, the bytes in base64: to look at, to keep, to feed by other
means.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from lab.sandbox.records import RawEvent


def json_lines(records: Iterable[RawEvent]) -> Iterator[bytes]:
    """One line a record, in feed order; key, value and header values are base64, header names are
    text.
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
