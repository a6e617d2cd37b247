"""Which trace an event belongs to, and which traces are kept. Pure; loads nothing of OpenTelemetry.

A trace is that of the `traceparent` header (W3C Trace Context) of its raw record, which the
normaliser hands on to the log and the unresolved topic, the resolver from there to the log, and the
ledger to outcome and balance. Without that header it is the
event's own id, so that every role names the same trace without a word between them. Ids of spans
follow from the trace and the step: a step that is repeated after a crash is the same span again.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from schemas.events import Outcome

TRACEPARENT: Final = "traceparent"
SAMPLE_DEFAULT: Final = 0.01
LINKS_MAX: Final = 128
"""Members that the span of a batch links, as most of OpenTelemetry's exporters allow."""

_FORM: Final = re.compile(rb"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_RANDOM_BITS: Final = 56
"""W3C Trace Context level 2: the rightmost seven bytes of a trace id are random."""

_KEPT_OUTCOMES: Final[Mapping[str, str]] = {
    Outcome.EXISTS.value: "doubled",
    Outcome.CONFLICT.value: "doubled",
    Outcome.TOMBSTONED.value: "tombstoned",
    Outcome.UNRESOLVED.value: "unresolved",
    **{one.value: "refused" for one in Outcome if one.name.startswith("REFUSED_")},
}

_WINDOW: Final = 2_000
_SLOW_RANK: Final = 0.99


class TraceParent(NamedTuple):
    """The trace that a sender has begun, and its span."""

    trace_id: int
    span_id: int
    is_sampled: bool


def find_traceparent(headers: Iterable[tuple[str, bytes | None]]) -> bytes | None:
    """Return the valid `traceparent` of some headers; None where there is none."""
    for name, value in headers:
        if name == TRACEPARENT:
            return value if value is not None and _FORM.fullmatch(value) else None
    return None


def parse_traceparent(value: bytes) -> TraceParent:
    """Return the parts of a `traceparent`. Raises ValueError for another text."""
    match = _FORM.fullmatch(value)
    if match is None:
        message = f"{value!r} is not a traceparent"
        raise ValueError(message)
    return TraceParent(int(match[1], 16), int(match[2], 16), bool(int(match[3], 16) & 1))


def format_traceparent(trace_id: int, span_id: int, *, is_sampled: bool) -> bytes:
    """Return the `traceparent` of a span; neither id is 0."""
    return b"00-%032x-%016x-%02x" % (trace_id, span_id, is_sampled)


def kept_for_outcome(outcome: str) -> str:
    """Return why the trace of an attempt with this outcome is kept; empty where it need not be."""
    return _KEPT_OUTCOMES.get(outcome, "")


def trace_id_of(event_id: str) -> int:
    """Return the trace of an event that brings none."""
    return int(event_id.replace("-", ""), 16)


def trace_id_of_place(place: str) -> int:
    """Return the trace of a record that no event was made of: `topic-partition@offset`."""
    return int.from_bytes(hashlib.blake2b(place.encode(), digest_size=16).digest())


def span_id_of(trace_id: int, step: str) -> int:
    """Return the id of the span of a step in a trace, never 0."""
    text = f"{trace_id:032x} {step}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) or 1


def is_sampled(trace_id: int, share: float) -> bool:
    """Return whether a trace is of the share that is always kept: the same in every role."""
    return (trace_id & ((1 << _RANDOM_BITS) - 1)) < share * (1 << _RANDOM_BITS)


class SlowLimit:
    """Duration above which an event is slow: the 99th percentile of those before it.

    It is computed anew every 2,000 durations, from the last 4,000 or so; before the first time no
    duration is slow.
    """

    _BOUNDS: Final = tuple(0.001 * 1.1**n for n in range(140))
    """Seconds: from a millisecond to ten minutes, each a tenth more than the one before."""

    def __init__(self) -> None:
        """Begin without durations."""
        self.seconds = float("inf")
        self._counts = [0] * (len(self._BOUNDS) + 1)
        self._before = list(self._counts)
        self._count = 0

    def add(self, seconds: float) -> bool:
        """Count a duration, and return whether it is slow."""
        self._counts[bisect_left(self._BOUNDS, seconds)] += 1
        self._count += 1
        is_slow = seconds > self.seconds
        if self._count >= _WINDOW:
            self._renew()
        return is_slow

    def _renew(self) -> None:
        both = [sum(pair) for pair in zip(self._counts, self._before, strict=True)]
        left = sum(both) * _SLOW_RANK
        for bound, count in zip((*self._BOUNDS, float("inf")), both, strict=True):
            left -= count
            if left <= 0:
                self.seconds = bound
                break
        self._before, self._counts, self._count = self._counts, [0] * len(both), 0
