"""Golden slices: raw records as `pitboss replay record` keeps them, with the outcomes they come to.

    python -m tests.support.golden_slices

writes those of Hub88 anew, after a change that is meant: read the difference of the outcomes first.
The others are recorded from real workers: see `recorded_slices`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from replay.archive.archived_log import ArchivedLog
from replay.archive.manifest import spans_of
from replay.archive.outcomes import ExpectedOutcome, order_of, outcomes_file, write_outcomes
from replay.archive.record import in_time_order, record_slice
from replay.archive.store import LocalStore
from replay.explain import RawBody, explain
from replay.export.plan import plan_export
from replay.export.request import ExportRequest
from schemas.topics import raw_topic
from tests.support.memory_log import MemoryLog, MemoryRecord

FOLDER = Path(__file__).parents[1] / "slices"
HUB88, HOUSE = raw_topic("hub88"), raw_topic("house")
START_MS = 1_790_000_000_000
PATHS = {"bet": "/transaction/bet", "win": "/transaction/win", "rollback": "/transaction/rollback"}


def money(minor: int) -> tuple[str, bytes]:
    """A bonus of the house, which players can bet."""
    body = {
        "operation": "bonus.granted",
        "id": f"bonus-{minor}",
        "player_id": "p-1",
        "amount": f"{minor / 100:.2f}",
        "currency": "EUR",
        "at": "2026-09-21T14:13:19Z",
        "campaign_id": "C-1",
    }
    return "", json.dumps(body).encode()


def request(operation: str, tx: str, amount: int | None = None, **more) -> tuple[str, bytes]:
    body: dict[str, object] = {
        "user": "p-1",
        "transaction_uuid": tx,
        "round": "r-1",
        "game_code": "slot",
    }
    if amount is not None:
        body |= {"amount": amount, "currency": "EUR"}
    return PATHS[operation], json.dumps(body | more).encode()


def stories() -> dict[str, list[tuple[str, bytes]]]:
    """Requests by the name of a slice."""
    bet = request("bet", "b-1", 400_000)
    return {
        "hub88-bets": [
            request("bet", "b-0", 100_000),  # no money yet
            money(1_000),
            request("bet", "b-0a", 200_000),
            request("win", "w-0a", 300_000, reference_transaction_uuid="b-0a"),
            bet,
            bet,  # sent again
            request("bet", "b-1", 500_000),  # the same id, another amount
            request("bet", "b-2", 900_000),  # more than there is
            request("bet", "b-3", 600_000),
        ],
        "hub88-rollbacks": [
            money(1_000),
            bet,
            request("rollback", "rb-1", reference_transaction_uuid="b-1"),
            request("rollback", "rb-2", reference_transaction_uuid="b-9"),  # before its bet
            request("bet", "b-9", 100_000),
            ("/transaction/bet", b"{"),  # a dead letter
        ],
    }


def write(name: str, requests: list[tuple[str, bytes]]) -> None:
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    records: dict[str, dict[int, list[MemoryRecord]]] = {HUB88: {0: []}, HOUSE: {0: []}}
    for number, (path, body) in enumerate(requests):
        rows = records[HUB88 if path else HOUSE][0]
        headers = (("http-path", path.encode()),) if path else ()
        rows.append(MemoryRecord(len(rows), START_MS + number * 1_000, b"p-1", body, headers))
    log = MemoryLog(records, append_time=True)
    for topic in records:
        record_slice(log, plan_export(log, ExportRequest(topic), topic), LocalStore(folder))
    write_outcomes(outcomes_file(folder), outcomes_now(folder))


def outcomes_now(folder: Path) -> list[ExpectedOutcome]:
    """The outcomes that a slice's records come to with this code."""
    store = LocalStore(folder)
    log = ArchivedLog(store)
    bodies = [
        RawBody(
            f"{topic}-{one.partition}@{one.offset}",
            topic,
            one.value,
            [*one.headers],
            one.offset,
            one.timestamp_ms,
            one.key,
            one.partition,
        )
        for topic in sorted({span.topic for span in spans_of(store.list())})
        for one in in_time_order(log, topic)
    ]
    bodies.sort(key=lambda body: body.timestamp)
    found = []
    for row in explain(bodies).events:
        answer = row.answer
        assert answer is not None
        event = row.event
        found.append(ExpectedOutcome(event.attempt, event.event_id, answer.outcome, answer.reason))
    return sorted(found, key=order_of)


if __name__ == "__main__":
    for name, requests in stories().items():
        write(name, requests)
