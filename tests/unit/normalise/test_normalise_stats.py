"""What a normalising worker's log tells of its counts."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from runtime.security import BrokerAddress
from schemas.topics import SIGNALS, TRANSACTIONS, UNRESOLVED
from streams.normalise.handler import create_worker
from streams.normalise.settings import NormaliseSettings
from streams.normalise.stats import NormaliseStats, StatsLogger, format_delta


def stats(records: int = 0, clamped: int = 0, **rejected: int) -> NormaliseStats:
    return NormaliseStats(records, clamped, rejected=Counter(rejected))


def test_a_line_says_what_came_since_the_last_one_and_the_most_first():
    before = stats(100, 3, BAD_AMOUNT=5)
    now = stats(1_334, 7, BAD_AMOUNT=7, MALFORMED=10, BAD_TIME=2)
    before.sent.update({TRANSACTIONS: 95})
    now.sent.update({TRANSACTIONS: 1_295, UNRESOLVED: 3, SIGNALS: 1})
    assert format_delta(now, before, 12) == (
        "1,234 records; sent 1,200 wallet.transactions.v1, 3 wallet.transactions.unresolved.v1, 1 risk.signals.v1; "
        "14 items rejected (10 MALFORMED, 2 BAD_AMOUNT, 2 BAD_TIME); 4 clocks not believed; 12 offsets without a record"
    )


@pytest.mark.parametrize(
    ("now", "gap_offsets", "line"),
    [
        (stats(7, 1, MALFORMED=1), 0, None),
        (stats(8, 1, MALFORMED=1), 0, "1 records"),
        (stats(7, 1, MALFORMED=2), 0, "1 items rejected (1 MALFORMED)"),
        (stats(7, 2, MALFORMED=1), 0, "1 clocks not believed"),
        (stats(7, 1, MALFORMED=1), 1, "1 offsets without a record"),
    ],
)
def test_only_what_was_counted_is_told(now, gap_offsets, line):
    assert format_delta(now, stats(7, 1, MALFORMED=1), gap_offsets) == line


async def test_the_log_has_a_line_while_something_comes_and_one_at_the_end(caplog):
    counted, gaps = NormaliseStats(), [2]
    service = StatsLogger(counted, lambda: gaps[-1], interval_s=3_600)

    def logged_lines() -> list[str]:
        lines = [
            record.getMessage() for record in caplog.records if record.msg.startswith("counted")
        ]
        caplog.clear()
        return lines

    with caplog.at_level(logging.INFO):
        service.log_delta()
        assert logged_lines() == ["counted: 2 offsets without a record"]
        service.log_delta()
        assert logged_lines() == []
        await service.start()
        counted.records += 3
        gaps.append(5)
        await service.stop()
        assert logged_lines() == ["counted: 3 records; 3 offsets without a record"]


def test_a_worker_tells_and_stops_telling_after_its_intake():
    worker = create_worker(NormaliseSettings(BrokerAddress("nowhere:1"), "t", "1", {}))
    services = worker.app._supervised
    [telling] = [
        place for place, service in enumerate(services) if isinstance(service, StatsLogger)
    ]
    assert telling < services.index(worker.intake), "services stop in the opposite order"
