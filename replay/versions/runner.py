"""One version of the code over recorded raw records: run as a file, with that version's packages.

    python -P runner.py RECORDS RESULT

It uses what every version has (`replay.explain`, the detectors) and nothing of the version that
calls it. RECORDS is a msgpack list of `[topic, partition, offset, timestamp, key, value, headers]`
in the order in which they are read; RESULT is the JSON that `comparison.VersionOutput` describes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.partition import PartitionDetectors
from replay.explain import MessageExplanation, RawBody, explain


def main(arguments: list[str]) -> None:
    """Read the records, and write what this version makes of them."""
    records_file, result_file = arguments
    records = msgspec.msgpack.decode(Path(records_file).read_bytes())
    laps_ns: list[int] = []
    cpu_ns = time.process_time_ns()
    explanation = explain(_timed(_bodies(records), laps_ns))
    alerts, detectors_ns = _detect(explanation)
    cpu_ns = time.process_time_ns() - cpu_ns
    result = {
        "records": len(records),
        "cpu_ns": cpu_ns,
        "detectors_ns": detectors_ns,
        "latencies_ns": _percentiles(laps_ns),
        "events": [msgspec.to_builtins(row.event) for row in explanation.events],
        "outcomes": [
            {
                "event_id": row.event.event_id,
                "attempt": msgspec.to_builtins(row.event.attempt),
                **msgspec.to_builtins(row.answer),
            }
            for row in explanation.events
        ],
        "balances": [
            {"player_id": player, "currency": currency, "total": total}
            for player, wallets in explanation.balances().items()
            for currency, total in wallets.items()
        ],
        "alerts": [msgspec.to_builtins(alert) for alert in alerts],
        "rejected": [
            {"place": place, "index": item.record_index, "code": str(item.code)}
            for place, item in explanation.rejected
        ],
    }
    Path(result_file).write_bytes(msgspec.json.encode(result))


def _bodies(records: Iterable[Any]) -> Iterator[RawBody]:
    for topic, partition, offset, timestamp, key, value, headers in records:
        yield RawBody(
            file=f"{topic}-{partition}@{offset}",
            topic=topic,
            value=value,
            headers=[(name, content) for name, content in headers],
            offset=offset,
            timestamp=timestamp,
            key=key,
            partition=partition,
        )


def _timed(bodies: Iterable[RawBody], laps_ns: list[int]) -> Iterator[RawBody]:
    """Yield bodies, and note how long each was worked on: until the next one is wanted."""
    for body in bodies:
        began_ns = time.perf_counter_ns()
        yield body
        laps_ns.append(time.perf_counter_ns() - began_ns)


def _detect(explanation: MessageExplanation) -> tuple[list[Any], int]:
    detectors = PartitionDetectors(DEFAULT_RULES, 0)
    alerts: list[Any] = []
    began_ns = time.process_time_ns()
    for offset, row in enumerate(explanation.events):
        alerts += detectors.observe(row.event, offset)
    return alerts, time.process_time_ns() - began_ns


def _percentiles(laps_ns: list[int]) -> dict[str, int]:
    ordered = sorted(laps_ns)
    if not ordered:
        return {"p50": 0, "p99": 0}
    last = len(ordered) - 1
    return {"p50": ordered[last // 2], "p99": ordered[last * 99 // 100]}


if __name__ == "__main__":
    main(sys.argv[1:])
