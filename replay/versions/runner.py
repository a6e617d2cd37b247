"""One version of the code over recorded records: run as a file, with that version's packages.

    python -P runner.py RECORDS RESULT

It uses what every version has (`replay.explain`, the detectors) and nothing of the version that
calls it. RECORDS is a msgpack list of `[topic, partition, offset, timestamp, key, value, headers]`
in the order in which they are read; RESULT is the JSON that `comparison.VersionOutput` describes.

Raw records go through the adapters and the ledger. Player events and game results that no adapter
has made, since the casino's own systems and game servers write them, are shown to the detectors.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.global_signals import GlobalDetectors, watermark_signal
from fraud_agents.detectors.ordered import GRACE_MS
from fraud_agents.detectors.shard import MERGED, WATCHED, ShardDetectors
from replay.explain import MessageExplanation, RawBody, explain
from schemas import codec
from schemas.errors import Rejected
from schemas.events import GameResult, PlayerEvent
from schemas.topics import GAME_RESULTS, PLAYER_EVENTS, SIGNALS, TRANSACTIONS

_RECORDED: Final[Mapping[str, Callable[[bytes], Any]]] = {
    PLAYER_EVENTS: codec.decoder(PlayerEvent),
    GAME_RESULTS: codec.decoder(GameResult),
}
"""Topics whose records are events already."""


def main(arguments: list[str]) -> None:
    """Read the records, and write what this version makes of them."""
    records_file, result_file = arguments
    records = msgspec.msgpack.decode(Path(records_file).read_bytes())
    laps_ns: list[int] = []
    cpu_ns = time.process_time_ns()
    split = split_records(records)
    explanation = explain(_timed(_bodies(split.raw), laps_ns))
    watched = _watched(explanation, split)
    began_ns = time.process_time_ns()
    alerts = detect(watched)
    detectors_ns = time.process_time_ns() - began_ns
    cpu_ns = time.process_time_ns() - cpu_ns
    rows = _rows(explanation)
    rows["rejected"] += split.unreadable
    result = {
        "records": len(records),
        "watched": sum(map(len, watched.values())),
        "cpu_ns": cpu_ns,
        "detectors_ns": detectors_ns,
        "latencies_ns": _percentiles(laps_ns),
        **rows,
        "alerts": [msgspec.to_builtins(alert) for alert in alerts],
    }
    Path(result_file).write_bytes(msgspec.json.encode(result))


class SplitRecords(msgspec.Struct):
    """Raw records, and the events of the recorded topics, with those that cannot be read."""

    raw: list[Any] = []
    watched: dict[str, list[Any]] = {}
    unreadable: list[dict[str, Any]] = []


def split_records(records: Iterable[Any]) -> SplitRecords:
    """Tell raw records from events.

    An event whose raw record is of a topic that is here as well is left out: its adapter makes it
    again, and the copy would hide that it makes another one now.
    """
    split = SplitRecords(watched={topic: [] for topic in _RECORDED})
    events = []
    for row in records:
        topic, partition, offset, *_, value, _ = row
        if topic not in _RECORDED:
            split.raw.append(row)
            continue
        try:
            events.append((topic, _RECORDED[topic](value or b"")))
        except Rejected as error:
            place = f"{topic}-{partition}@{offset}"
            split.unreadable.append({"place": place, "index": 0, "code": str(error.reason)})
    # On the broker, the name of a topic begins with its namespace.
    raw = tuple({row[0] for row in split.raw})
    for topic, event in events:
        if not event.attempt.topic.endswith(raw):
            split.watched[topic].append(event)
    return split


def _watched(explanation: MessageExplanation, split: SplitRecords) -> dict[str, list[Any]]:
    """Return what detectors read by topic, each in the order in which it was appended."""
    made = [event for _, event in explanation.player_events]
    player_events = sorted([*made, *split.watched[PLAYER_EVENTS]], key=lambda one: one.appended_at)
    return {
        TRANSACTIONS: [row.event for row in explanation.events],
        PLAYER_EVENTS: player_events,
        GAME_RESULTS: split.watched[GAME_RESULTS],
    }


def _rows(explanation: MessageExplanation) -> dict[str, list[dict[str, Any]]]:
    return {
        "events": [msgspec.to_builtins(row.event) for row in explanation.events],
        "player_events": [msgspec.to_builtins(event) for _, event in explanation.player_events],
        "settlements": [msgspec.to_builtins(event) for _, event in explanation.settlements],
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
        "rejected": [
            {"place": place, "index": item.record_index, "code": str(item.code)}
            for place, item in explanation.rejected
        ],
    }


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


def detect(watched: Mapping[str, Sequence[Any]]) -> list[Any]:
    """Return the alerts of all detectors of the worker over one partition of each topic.

    Topics are read one after the other: how they interleave changes no alert.
    """
    shard, everywhere = ShardDetectors(DEFAULT_RULES, 0), GlobalDetectors(DEFAULT_RULES, 0, 1)
    alerts: list[Any] = []
    signals: list[Any] = []
    for topic, events in watched.items():
        for offset, event in enumerate(events):
            alerts += shard.observe(topic, event, offset)
            signals += shard.take_signals(topic, offset + 1)
    # Nothing more comes on any topic, so what waits for others or for late records is due.
    end_ms = max(map(shard.newest_ms, WATCHED)) + 2 * GRACE_MS
    for topic in MERGED:
        alerts += shard.merged.beat((topic, 0), end_ms)
    signals += [
        watermark_signal((topic, 0, len(watched.get(topic, ()))), end_ms) for topic in WATCHED
    ]
    for offset, signal in enumerate(signals):
        alerts += everywhere.observe(SIGNALS, signal, offset)
    return alerts


def _percentiles(laps_ns: list[int]) -> dict[str, int]:
    ordered = sorted(laps_ns)
    if not ordered:
        return {"p50": 0, "p99": 0}
    last = len(ordered) - 1
    return {"p50": ordered[last // 2], "p99": ordered[last * 99 // 100]}


if __name__ == "__main__":
    main(sys.argv[1:])
