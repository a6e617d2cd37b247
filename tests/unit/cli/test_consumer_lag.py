"""Sums of lag: the total, and by group and topic."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from fraud_agents.settings import GROUP as FRAUD
from ledger_sink.booking.settings import GROUP as LEDGER
from ledger_sink.resolve.settings import GROUP as RESOLVE
from pitboss.cli import topics
from pitboss.ops import consumer_lag, raw_topics
from pitboss.ops.consumer_lag import PartitionLag, sum_lags
from pitboss.ops.raw_topics import RawTopics
from pitboss.ops.role_topics import GROUPS
from pitboss.settings import runtime_of
from pitboss.workers import ROLES
from runtime.security import BrokerAddress
from streams.drift.settings import NAME as DRIFT
from streams.normalise.handler import NAME as NORMALISE

NOW = 1_795_342_530_000


def one(group="g", topic="t", partition=0, committed=2, start=0, end=5, oldest_ms=NOW - 1_500):
    return PartitionLag(group, topic, partition, committed, start, end, oldest_ms)


@pytest.mark.parametrize(
    ("committed", "start", "end", "records"),
    [(2, 0, 5, 3), (5, 0, 5, 0), (None, 0, 5, 5), (None, 3, 5, 2), (1, 3, 5, 2), (7, 0, 5, 0)],
)
def test_lag_counts_what_the_broker_still_has(committed, start, end, records):
    assert one(committed=committed, start=start, end=end).records == records


def test_a_clock_behind_the_brokers_gives_no_negative_age():
    assert one(oldest_ms=NOW + 50).age_ms(NOW) == 0
    assert one(oldest_ms=None).age_ms(NOW) is None


SOURCES = {
    "ns.normalise": r"^ns\.provider\.(hub88)\.raw\.v1$",
    "ns.ledger.post": r"^ns\.wallet\.transactions\.v1$",
    "ns.ledger.resolve": r"^ns\.wallet\.transactions\.unresolved\.v1$",
    "ns.fraud.detect": (
        r"^(ns\.wallet\.transactions\.v1|ns\.player\.events\.v1|ns\.game\.results\.v1"
        r"|ns\.risk\.signals\.v1)$"
    ),
    "ns.drift": r"^(ns\.schema\.samples\.v1|ns\.provider\.(hub88)\.raw\.v1\.dlt)$",
}

lags = st.builds(
    one,
    group=st.sampled_from("ab"),
    topic=st.sampled_from("xyz"),
    partition=st.integers(0, 5),
    committed=st.none() | st.integers(0, 9),
    start=st.integers(0, 9),
    end=st.integers(9, 20),
    oldest_ms=st.none() | st.integers(NOW - 9_999, NOW),
)


@given(found=st.lists(lags, max_size=20))
def test_the_sums_add_up_and_the_oldest_is_the_oldest(found):
    total, by_topic = sum_lags(found, NOW)
    assert total.lag == sum(row.lag for row in by_topic) == sum(part.records for part in found)
    assert total.partitions == sum(row.partitions for row in by_topic) == len(found)
    assert total.most == max((row.most for row in by_topic), default=0)
    ages = [NOW - part.oldest_ms for part in found if part.oldest_ms is not None]
    assert total.age_s == (max(ages) / 1000 if ages else None)
    keys = [(row.group, row.topic) for row in by_topic]
    assert keys == sorted({(part.group, part.topic) for part in found})


def test_each_role_has_its_group():
    assert set(GROUPS) == set(ROLES)
    assert set(GROUPS.values()) == {NORMALISE, LEDGER, RESOLVE, FRAUD, DRIFT}


@pytest.fixture
def lag(monkeypatch):
    """The command over measurements that are given, one after the other."""

    def run(measurements, *arguments):
        coming = iter(measurements)
        calls = []

        async def measure(_broker, namespace, groups, names, sources):
            assert sources == SOURCES
            calls.append((namespace, groups, names))
            return next(coming)

        monkeypatch.setattr(consumer_lag, "measure_lag", measure)
        runtime = runtime_of(BrokerAddress("b:1"), "postgresql://u@h/d", "ns")
        monkeypatch.setattr(topics, "list_pauses", lambda _runtime: [])
        monkeypatch.setattr(raw_topics, "read_stored", lambda *_: RawTopics(frozenset({"hub88"})))
        monkeypatch.setattr(topics, "resolve_runtime", lambda _settings: runtime)
        monkeypatch.setattr("pitboss.cli.topics.time.time_ns", lambda: NOW * 10**6)
        monkeypatch.setattr("pitboss.cli.topics.time.sleep", lambda _s: None)
        return CliRunner().invoke(topics.topics, ["lag", *arguments]), calls

    return run


BEHIND = [one(group="ns.ledger.post", topic="ns.t"), one(group="ns.drift", topic="ns.u", end=9)]


def test_the_table_ends_with_the_total(lag):
    done, _ = lag([BEHIND])
    assert done.exit_code == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines()]
    assert [row for row in rows if row and row[0] == "total"] == [
        ["total", "", "", "", "10", "", "1.5", "0"]
    ]
    assert ["ledger", "ns.ledger.post", "ns.t", "1", "3", "3", "1.5", "0"] in rows
    assert done.stderr == ""


def test_partitions_that_no_worker_reads_are_counted_and_named(lag):
    unread = replace(one(group="ns.normalise", topic="ns.u", committed=None), is_held=False)
    done, _ = lag([[*BEHIND, unread]], "--json")
    unheld = {(row["role"], row["topic"]): row["unheld"] for row in json.loads(done.stdout)["rows"]}
    assert unheld == {("normalise", "ns.u"): 1, ("drift", "ns.u"): 0, ("ledger", "ns.t"): 0}
    done, _ = lag([[one(group="ns.normalise", topic="ns.t"), unread]], "--max-lag", "3")
    assert done.exit_code == 1
    assert done.stderr == "normalise: no running worker reads 1 of 2 partitions: ns.u\n"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), 0),
        (("--max-lag", "10"), 0),
        (("--max-lag", "9"), 1),
        (("--max-age", "1.5"), 0),
        (("--max-age", "1.4"), 1),
    ],
)
def test_a_limit_that_is_passed_ends_with_1(lag, options, code):
    assert lag([BEHIND], *options)[0].exit_code == code


def test_nothing_unread_is_within_every_limit(lag):
    done, _ = lag([[one(end=2, oldest_ms=None)]], "--max-lag", "0", "--max-age", "0")
    assert done.exit_code == 0


def test_watching_with_json_prints_a_line_a_measurement_and_the_last_one_decides(lag):
    done, _ = lag([BEHIND, []], "--watch", "--count", "2", "--json", "--max-lag", "0")
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["total"] for one in shown] == [
        {"lag": 10, "age_s": 1.5},
        {"lag": 0, "age_s": None},
    ]
    assert [row["role"] for row in shown[0]["rows"]] == ["drift", "ledger"]
    assert done.exit_code == 0


def test_roles_and_topics_narrow_by_the_brokers_names(lag):
    _, calls = lag([[]], "--role", "fraud", "--topic", "hub88", "--topic", "wallet.balances.v1")
    names = ["ns.provider.hub88.raw.v1", "ns.wallet.balances.v1"]
    assert calls == [("ns", ["ns.fraud.detect"], names)]
