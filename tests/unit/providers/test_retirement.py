"""When a version goes, who is warned, and what `pitboss providers list` shows of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import date, timedelta

import pytest

from ledger_sink.queries.traffic import VersionTraffic
from pitboss.cli.providers_list import describe_versions
from pitboss.workers.retirement_watch import RetirementWatch
from streams.providers.retirement import find_retiring, format_warnings
from streams.providers.versions import VersionRow, VersionState

TODAY = date(2026, 11, 22)


def row(version: str, retires_in: int | None, provider: str = "acme") -> VersionRow:
    retires_on = None if retires_in is None else TODAY + timedelta(days=retires_in)
    return VersionRow(
        provider=provider,
        version=version,
        adapter="a:B",
        state=VersionState.DEPRECATED,
        source="there",
        retires_on=retires_on,
    )


def test_thirty_days_before_it_begins_and_never_ends():
    rows = [row("1", 31), row("2", 30), row("3", 0), row("4", -400), row("5", None)]
    assert [each.version for each in find_retiring(rows, TODAY)] == ["4", "3", "2"]


@pytest.mark.parametrize(
    ("days", "text"),
    [
        (
            30,
            "acme 1 is retired in 30 days (2026-12-22), and 1,234 events of it came in the last day",
        ),
        (1, "acme 1 is retired in 1 day (2026-11-23)"),
        (0, "acme 1 is retired today (2026-11-22)"),
        (-1, "acme 1 was retired 1 day ago (2026-11-21)"),
        (-9, "acme 1 was retired 9 days ago (2026-11-13)"),
    ],
)
def test_a_warning_says_when_how_much_and_what_to_do(days, text):
    [warning] = format_warnings([row("1", days), row("2", None)], {("acme", "1"): 1_234}, TODAY)
    assert warning.startswith(text)
    assert warning.endswith("have its connector speak version 2")


def test_a_version_without_traffic_is_not_warned_of():
    assert (
        format_warnings(
            [row("1", 3)], {("acme", "2"): 5, ("other", "1"): 5, ("acme", "1"): 0}, TODAY
        )
        == []
    )


def test_without_another_version_the_warning_says_so():
    [warning] = format_warnings(
        [row("1", 3), row("2", None, "other")], {("acme", "1"): 1}, TODAY, "since the start"
    )
    assert warning.endswith(
        "1 event of it came since the start: no other version of it is registered: see docs/tutorial/first-adapter.md"
    )


def test_no_traffic_and_unknown_traffic_are_distinguished():
    rows = [row("2", 12), row("1", None)]
    traffic = {("acme", "2"): VersionTraffic(7, "provider.acme.raw.v1-3@42", 1_795_183_400_123)}
    first, second = describe_versions(rows, traffic, TODAY)
    assert (first["version"], first["events_24h"], first["last_sample"]) == ("1", 0, None)
    assert (second["events_24h"], second["days_to_retirement"]) == (7, 12)
    assert second["last_sample"] == {
        "record": "provider.acme.raw.v1-3@42",
        "at": "2026-11-20T14:03:20Z",
    }
    assert {each["events_24h"] for each in describe_versions(rows, None, TODAY)} == {None}


def test_a_worker_warns_at_the_first_event_and_once_a_day(caplog):
    seen: Counter[tuple[str, str]] = Counter()
    days = [TODAY]
    watch = RetirementWatch([row("1", 3), row("2", None)], seen, lambda: days[-1])

    def warnings() -> list[str]:
        caplog.clear()
        watch.warn_new()
        return [record.getMessage() for record in caplog.records]

    assert warnings() == []
    seen["acme", "2"] += 5
    assert warnings() == []
    seen["acme", "1"] += 1
    [first] = warnings()
    assert first.startswith(
        "acme 1 is retired in 3 days (2026-11-25), and 1 event of it came to this worker"
    )
    seen["acme", "1"] += 1
    assert warnings() == []
    days.append(TODAY + timedelta(days=1))
    [second] = warnings()
    assert second.startswith("acme 1 is retired in 2 days")
    assert warnings() == []
    days.append(TODAY + timedelta(days=2))
    assert warnings() == [], "nothing came since yesterday"


async def test_the_watch_looks_as_soon_as_its_worker_runs(caplog):
    watch = RetirementWatch(
        [row("1", 3)], Counter({("acme", "1"): 2}), lambda: TODAY, interval_s=0.01
    )
    async with watch:
        async with asyncio.timeout(60):
            while not caplog.records:  # noqa: ASYNC110 - a list of log lines has nothing to wait on
                await asyncio.sleep(0.01)
    assert "acme 1 is retired in 3 days" in caplog.text
