"""Traces of calls: each begins here, with the request of a provider, and ends with its answer.

The ids are made here. A `traceparent` that a request brings is not passed on: the caller could
otherwise put its calls into a trace of ours, or have each of them kept. The record of a call has
the header, so that the spans of the ledger are children of the call's.

Whether a span is kept is decided when the answer is known, by what the ledger goes by too: what was
refused, doubled or not decided, what was slow, and a share of the rest.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Final

from gateway.decisions.call_trace import CallTrace, why_kept
from runtime.telemetry.traces import SlowLimit, is_sampled

if TYPE_CHECKING:
    from gateway.decisions.routes import Route
    from runtime.telemetry.spans import SpanQueue

_ERROR_FROM: Final = 500


class CallTraces:
    """Begins traces of calls, and makes the spans of those that are kept."""

    def __init__(self, queue: SpanQueue, share: float) -> None:
        """Keep `share` of what is not remarkable, as the ledger does."""
        self._queue = queue
        self._share = share
        self._slow = SlowLimit()

    def begin(self) -> CallTrace:
        """Begin the trace of a call."""
        trace_id = secrets.randbits(128) or 1
        span_id = secrets.randbits(64) or 1
        is_chosen = is_sampled(trace_id, self._share)
        return CallTrace(trace_id, span_id, time.time_ns(), is_sampled=is_chosen)

    def finish(self, trace: CallTrace, route: Route, status: int) -> None:
        """Note that a call was answered, and make its span if it is kept."""
        from runtime.telemetry.spans import FinishedSpan

        now_ns = time.time_ns()
        is_slow = self._slow.add(max(0, now_ns - trace.begin_ns) / 1e9)
        why = why_kept(trace, is_slow=is_slow)
        if not why:
            return
        first = trace.first
        attributes = {
            "http.request.method": "POST",
            "http.route": route.path,
            "http.response.status_code": status,
            "pitboss.provider": route.provider,
            "pitboss.ending": trace.ending,
            "pitboss.kept": why,
        }
        if trace.outcomes:
            attributes["pitboss.outcome"] = ", ".join(trace.outcomes)
        self._queue.add(
            FinishedSpan(
                f"POST {route.path}",
                trace.trace_id,
                trace.span_id,
                None,
                trace.begin_ns,
                now_ns,
                "server",
                attributes,
                () if first is None else ((first.trace_id, first.span_id, {}),),
                error=trace.ending if why == "not decided" or status >= _ERROR_FROM else "",
            )
        )
