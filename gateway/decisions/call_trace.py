"""What is noted of one call for its trace, and whether its span is kept."""

from __future__ import annotations

from typing import Final

from runtime.telemetry.traces import format_traceparent, kept_for_outcome

DECIDED: Final = "decided"
KEPT: Final = "kept"
JOINED: Final = "joined"
_ORDINARY: Final = frozenset({DECIDED, KEPT, JOINED})
"""Endings that say nothing remarkable: the outcomes of the call may."""


class CallTrace:
    """The trace of one call, and what is noted of it until it is answered."""

    __slots__ = ("begin_ns", "ending", "first", "is_sampled", "outcomes", "span_id", "trace_id")

    def __init__(self, trace_id: int, span_id: int, begin_ns: int, *, is_sampled: bool) -> None:
        """Begin at an epoch time; neither id is 0."""
        self.trace_id: Final = trace_id
        self.span_id: Final = span_id
        self.is_sampled: Final = is_sampled
        self.begin_ns: Final = begin_ns
        self.ending = ""
        """How the call ended, as it is counted."""
        self.outcomes: list[str] = []
        """The outcomes that it was answered with."""
        self.first: CallTrace | None = None
        """The trace of the call that it waited with, where the same one was under way."""

    @property
    def traceparent(self) -> bytes:
        """The header of the call's record."""
        return format_traceparent(self.trace_id, self.span_id, is_sampled=self.is_sampled)


def why_kept(trace: CallTrace, *, is_slow: bool) -> str:
    """Return why the span of a call is kept; empty where it is not."""
    for outcome in trace.outcomes:
        if why := kept_for_outcome(outcome):
            return why
    if trace.ending not in _ORDINARY:
        return "refused" if trace.ending.startswith("refused, ") else "not decided"
    if is_slow:
        return "slow"
    return "sampled" if trace.is_sampled else ""
