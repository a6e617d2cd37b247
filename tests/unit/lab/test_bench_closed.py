"""The closed loop: what the generator sends and times, and what the figures say of it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from lab.bench.closed import (
    BetStock,
    ClosedBenchFigures,
    ClosedBenchPlan,
    LoopRun,
    LoopSide,
    check_outcomes,
    holds,
)
from lab.bench.load_generator import LoadGenerator
from lab.bench.machine import Machine
from lab.bench.processes import BenchFailed
from lab.bench.rates import Latencies
from lab.bench.report import BenchEnvironment, format_table
from lab.bench.server_cpu import ServerPids, parse_stat, read_stats, resident_mb, tree_cpu_ticks
from pitboss.cli.bench import bench
from runtime.security import BrokerAddress
from schemas.errors import UsageError

MACHINE = Machine("a CPU", 2, 8.0, "Linux 6", "CPython 3.11", {}, 0.5)


class RecordingProducer:
    """Keeps what was sent instead of sending it."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.sent: list[bytes] = []
        self.failure = failure

    async def send_keyed(self, topic, records):
        if self.failure is not None:
            raise self.failure
        self.sent += [record[0] for record in records]


def record(key: str):
    return key.encode(), b"", (), None


def message(key: str):
    return SimpleNamespace(key=key.encode, value=lambda: b"outcome")


def generator_of(producer, check=lambda: None) -> LoadGenerator:
    return LoadGenerator(BrokerAddress("kafka:1"), producer, "raw", "outcomes", check)


async def test_each_bet_that_comes_back_is_followed_by_the_next():
    producer = RecordingProducer()
    generator = generator_of(producer)
    generator.start_loop(2, iter(map(record, "abcde")))
    await asyncio.sleep(0)
    assert producer.sent == [b"a", b"b"]
    generator._take(10**20, [message("b")])
    await asyncio.sleep(0)
    assert producer.sent == [b"a", b"b", b"c"]
    assert generator.in_flight == 2
    generator._take(10**20, [message("a"), message("c")])
    await asyncio.sleep(0)
    assert producer.sent[3:] == [b"d", b"e"]
    assert [call.key for call in generator.calls] == [b"b", b"a", b"c"]
    assert all(call.arrived_ns == 10**20 > call.sent_ns for call in generator.calls)
    generator._take(10**20, [message("d")])
    assert generator.is_exhausted


async def test_two_bets_of_a_player_come_back_in_their_order_and_a_repetition_is_counted():
    generator = generator_of(RecordingProducer())
    generator.start_loop(1, iter([record("a")]))
    generator.start_loop(1, iter([record("a")]))
    generator._take(10**20, [message("a"), message("a"), message("a")])
    first, second = generator.calls
    assert first.sent_ns <= second.sent_ns
    assert generator.unexpected == 1
    assert generator.in_flight == 0


async def test_a_failed_send_and_an_ended_worker_end_the_measurement():
    generator = generator_of(RecordingProducer(OSError("no broker")))
    generator.start_loop(1, iter([record("a"), record("b")]))
    with pytest.raises(OSError, match="no broker"):
        await generator.run_for(5)

    def check() -> None:
        raise BenchFailed("the measured process ended with code 1")

    generator = generator_of(RecordingProducer(), check)
    generator.start_loop(1, iter([record("a"), record("b")]))
    with pytest.raises(BenchFailed, match="ended with code 1"):
        await generator.await_first()


async def test_calls_that_do_not_come_back_are_an_error(monkeypatch):
    monkeypatch.setattr("lab.bench.load_generator.RETURN_WITHIN_S", 0.0)
    generator = generator_of(RecordingProducer())
    generator.start_loop(1, iter([record("a"), record("b")]))
    with pytest.raises(BenchFailed, match="1 calls did not come back from raw"):
        await generator.drain()
    with pytest.raises(BenchFailed, match="nothing came back from raw"):
        await generator.await_first()


def test_outcomes_that_answer_no_bet_are_an_error():
    generator = generator_of(RecordingProducer())
    generator._take(1, [message("a")])
    with pytest.raises(BenchFailed, match="1 outcomes of Pitboss answer no bet"):
        check_outcomes(generator, side("Pitboss"))


async def test_a_stock_gives_what_was_signed_ahead_and_no_more():
    stock = BetStock(iter(map(record, "abcdef")))
    await stock.fill(2, lambda _done, _total: None)
    assert [key for key, *_ in stock] == [b"a", b"b"]
    assert list(stock) == []
    await stock.fill(1, lambda _done, _total: None)
    assert next(iter(stock))[0] == b"c"


def test_a_cancel_ends_the_signing_as_ctrl_c_does():
    """The process waits for its threads: one that signs all bets would hold it up for a minute."""
    cancelled, total = threading.Event(), 3_000

    def bets():
        for number in range(total):
            if number > 1_000:
                cancelled.wait(30)
            yield record(str(number))

    async def fill_and_cancel() -> None:
        signing = threading.Event()
        filling = asyncio.create_task(stock.fill(total, lambda _done, _total: signing.set()))
        await asyncio.to_thread(signing.wait, 30)
        filling.cancel()
        with suppress(asyncio.CancelledError):
            await filling
        cancelled.set()

    stock = BetStock(bets())
    asyncio.run(fill_and_cancel())
    assert 500 <= len(list(stock)) < total


def side(name: str) -> LoopSide:
    return LoopSide(name, {}, "raw", "outcomes", iter(()))


def loop_run(calls: int, p50_ms: float, **cpu_s: float) -> LoopRun:
    return LoopRun(calls, 2.0, Latencies(p50_ms, 3 * p50_ms, 99.0), cpu_s)


def figures(servers: ServerPids) -> ClosedBenchFigures:
    plan = ClosedBenchPlan(
        BrokerAddress("kafka:1"),
        (side("Pitboss"), side("bare hops")),
        (16, 200),
        3,
        2,
        servers,
        "embedded stack",
        {"raw_topics": 14, "raw": 336, "log": 24},
    )
    ours = [
        loop_run(calls, ms, ledger=1.0, broker=0.5)
        for calls, ms in ((1_000, 12.0), (2_000, 11.0), (500, 30.0))
    ]
    peer = [loop_run(2_000, 10.0, hop_1=0.5, broker=0.5)] * 3
    runs = {16: [ours, peer], 200: [ours, peer]}
    return ClosedBenchFigures(plan, runs, BenchEnvironment(MACHINE, "abc1234", {}))


def test_the_object_has_medians_of_ours_and_of_the_bare_hops():
    output = json.loads(json.dumps(figures(ServerPids(1, 2)).as_json()))
    at_16 = output["closed"]["16"]
    keys = ("calls_per_s", "p50_ms", "p99_ms", "cpu_ms_a_call")
    assert [at_16[key] for key in keys] == [500, 12, 36, 1.5]
    assert [at_16["bare_hops"][key] for key in keys] == [1_000, 10, 30, 0.5]
    assert at_16["ratios"] == {"calls_per_s": 0.5, "p50_ms": 1.2, "cpu_ms_a_call": 3}
    assert at_16["holds"] is False
    assert output["closed"]["200"]["holds"] is None
    assert at_16["cpu_ms_a_call_by_part"] == {"ledger": 1, "broker": 0.5}
    assert output["partitions"] == {"raw_topics": 14, "raw": 336, "log": 24}
    result = figures(ServerPids(1, 2))
    assert "targets NOT reached" in format_table("closed", result.rows(), result.environment)


def test_cpu_is_null_where_the_servers_are_of_another_machine():
    result = figures(ServerPids())
    at_16 = result.as_json()["closed"]["16"]
    assert at_16["cpu_ms_a_call"] is None
    assert at_16["bare_hops"]["cpu_ms_a_call"] is None
    assert at_16["holds"] is None
    assert "CPU unknown" in format_table("closed", result.rows(), result.environment)


@pytest.mark.parametrize(
    ("in_flight", "ratios", "expected"),
    [
        (16, {"calls_per_s": 0.7, "p50_ms": 1.4, "cpu_ms_a_call": 1.5}, True),
        (16, {"calls_per_s": 0.69, "p50_ms": 1.0, "cpu_ms_a_call": 1.0}, False),
        (16, {"calls_per_s": 0.9, "p50_ms": 1.41, "cpu_ms_a_call": 1.0}, False),
        (16, {"calls_per_s": 0.9, "p50_ms": 1.0, "cpu_ms_a_call": 1.6}, False),
        (64, {"calls_per_s": 0.7, "p50_ms": 9.0, "cpu_ms_a_call": 9.0}, True),
        (32, {"calls_per_s": 0.1, "p50_ms": 9.0, "cpu_ms_a_call": 9.0}, None),
    ],
)
def test_the_targets(in_flight, ratios, expected):
    assert holds(in_flight, ratios) is expected


def test_the_cpu_time_of_a_server_is_that_of_its_tree_and_of_those_that_have_ended():
    line = "{pid} (a (strange) name) S {parent} 1 1 0 -1 0 0 0 0 0 {cpu} 20 0 1 0 5 100 {pages} 0"
    stats = {
        stat.pid: stat
        for stat in (
            parse_stat(line.format(pid=pid, parent=parent, cpu=cpu, pages=pid))
            for pid, parent, cpu in (
                (10, 1, "1 2 30 40"),
                (11, 10, "5 0 0 0"),
                (12, 11, "7 0 0 0"),
                (13, 1, "1000 0 0 0"),
            )
        )
    }
    assert tree_cpu_ticks(10, stats) == 73 + 5 + 7
    assert stats[12].resident_pages == 12
    with pytest.raises(BenchFailed, match="pid 9 has ended"):
        tree_cpu_ticks(9, stats)


def test_this_process_is_read_from_proc():
    assert read_stats()[os.getpid()].parent == os.getppid()
    rss_kb = int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0])
    assert resident_mb([os.getpid()]) == pytest.approx(rss_kb * 1024 / 1e6, rel=0.2)
    assert ServerPids(broker=os.getpid()).cpu_s()["broker"] > 0
    assert not ServerPids(broker=1).are_known


@pytest.mark.parametrize("text", ["16,many", "0", "", "5000"])
def test_a_list_that_holds_no_numbers_in_flight_is_refused(text):
    result = CliRunner().invoke(bench, ["latency", "--closed", text])
    assert result.exit_code == 2
    assert "write it as 16,64,200" in result.output


def test_two_measurements_at_once_and_a_provider_too_few_are_refused():
    for options in (["--closed", "1", "--rate", "5"], ["--hops", "--provider", "hub88"]):
        assert isinstance(CliRunner().invoke(bench, ["latency", *options]).exception, UsageError)
