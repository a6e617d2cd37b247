"""The figures of `pitboss bench gateway` from runs that are given, its plan, and its floor."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from lab.bench.closed import LoopRun
from lab.bench.gateway import DoorSide, GatewayBenchPlan, run
from lab.bench.gateway_figures import TARGETS, GatewayBenchFigures, OpenRun, SideRuns, compare
from lab.bench.machine import Machine
from lab.bench.peers.bare_door import BareDoor
from lab.bench.processes import BenchFailed, ProcessCommand
from lab.bench.rates import Latencies
from lab.bench.report import BenchEnvironment
from lab.bench.server_cpu import ServerPids
from pitboss.embedded.ports import choose_port

ENVIRONMENT = BenchEnvironment(Machine("cpu", 2, 4.0, "system", "3.11", {}, 0.0), "abc", {})
RATIOS = set(TARGETS)


def run_of(calls_per_s: int, p50_ms: float, cpu_ms: float) -> LoopRun:
    cpu_s = {"door": calls_per_s * cpu_ms / 1_000}
    return LoopRun(calls_per_s, 1.0, Latencies(p50_ms, 2 * p50_ms, 3 * p50_ms), cpu_s)


def side(runs: dict[int, LoopRun], open_p50_ms: float, unsent: int = 0) -> SideRuns:
    latencies = Latencies(open_p50_ms, 2 * open_p50_ms, 3 * open_p50_ms)
    opened = OpenRun(1_000, 1.0, latencies, {"door": 1.0}, unsent)
    return SideRuns({number: [run_] for number, run_ in runs.items()}, {1_000: [opened]})


OURS = side({16: run_of(1_000, 14.0, 2.0), 64: run_of(3_000, 20.0, 0.6)}, 4.0)
PEERS = {
    "one": side({16: run_of(1_250, 10.0, 1.0), 64: run_of(1_500, 40.0, 1.2)}, 5.0, unsent=7),
    "two": side({16: run_of(1_400, 11.0, 1.5), 64: run_of(1_450, 44.0, 1.3)}, 3.0),
}
FLOOR = side({16: run_of(1_600, 9.0, 0.9)}, 2.0)


def figures(
    peers: dict[str, SideRuns], floor: SideRuns | None = FLOOR, *, has_servers_cpu: bool = True
) -> GatewayBenchFigures:
    settings = {"rounds": 1, "seconds": 2}
    return GatewayBenchFigures(OURS, peers, floor, has_servers_cpu, settings, ENVIRONMENT)


def test_the_better_peer_counts():
    found = figures(PEERS).as_json()
    assert found["peer"] == found["peers"]["one"]
    assert found["ratio_p50_at_16"] == 1.4
    assert found["ratio_rate_at_16"] == 0.8
    assert found["ratio_cpu_at_16"] == 2.0
    assert found["ratio_max_rate"] == 2.0
    assert found["ratio_cpu"] == 0.5
    assert found["ratio_p99_at_1000"] == 0.8


def test_each_side_is_a_list_by_load():
    found = figures(PEERS).as_json()
    for loads in (found["ours"], found["peer"]):
        assert [(load["load"], load.get("in_flight")) for load in loads] == [
            ("closed", 16),
            ("closed", 64),
            ("open", None),
        ]
        assert loads[2]["offered_per_s"] == 1_000
    assert (found["ours"][2]["unsent"], found["peer"][2]["unsent"]) == ([0], [7])
    assert found["ours"][2]["p99_ms"] == 8.0
    assert found["floor"][0]["calls_per_s"] == 1_600


def test_targets_say_whether_they_hold():
    found = figures(PEERS).as_json()
    assert found["targets"]["ratio_p50_at_16"] == {"max": 1.4}
    assert found["targets"]["ratio_max_rate"] == {"min": 2.0}
    assert found["holds"] == dict.fromkeys(RATIOS, True) | {"ratio_cpu_at_16": False}


def test_without_a_peer_no_ratio_is_known():
    found = figures({}, None).as_json()
    assert found["peer"] is found["floor"] is None
    assert {found[name] for name in RATIOS} == {None}
    assert set(found["holds"].values()) == {None}


def test_without_the_cpu_of_the_servers_no_ratio_of_it_is_known():
    found = figures(PEERS, has_servers_cpu=False).as_json()
    assert found["ratio_cpu"] is found["ratio_cpu_at_16"] is None
    assert found["ratio_max_rate"] == 2.0


def test_without_the_loads_that_are_compared_their_ratios_are_null():
    ours = SideRuns({64: OURS.closed[64]}, {}).as_json(has_servers_cpu=True)
    peer = SideRuns({64: PEERS["one"].closed[64]}, {}).as_json(has_servers_cpu=True)
    found = compare(ours, peer)
    assert found["ratio_max_rate"] == 2.0
    assert found["ratio_p50_at_16"] is found["ratio_p99_at_1000"] is None
    assert set(compare([], []).values()) == {None}


def test_calls_that_we_were_too_slow_for_leave_their_p99_unknown():
    ours = side({16: run_of(1_000, 14.0, 2.0)}, 4.0, unsent=1).as_json(has_servers_cpu=True)
    assert compare(ours, PEERS["one"].as_json(has_servers_cpu=True))["ratio_p99_at_1000"] is None


def test_a_person_gets_a_row_a_load_and_one_a_target():
    rows = figures(PEERS).rows()
    assert [row.name for row in rows][:3] == [
        "ours, 16 in flight",
        "ours, 64 in flight",
        "ours, 1000/s offered",
    ]
    assert rows[0].value == "1,000/s"
    assert "bare hops, 16 in flight" in {row.name for row in rows}
    verdicts = {row.name: row.remark for row in rows if row.name in RATIOS}
    assert verdicts.keys() == RATIOS
    assert verdicts["ratio_cpu_at_16"] == "max 1.4, NOT reached"


def plan_of(sides: list[DoorSide], floor: DoorSide | None) -> GatewayBenchPlan:
    ours, *peers = sides
    return GatewayBenchPlan(
        ours, peers, floor, (16, 64), (200,), 3, 4, ServerPids(), "here", warm_up_s=8
    )


def test_a_plan_says_its_turns_and_how_long_its_loads_take():
    ours, one, floor = (DoorSide(name, {}, 1, iter(deque[bytes]())) for name in "abc")
    plan = plan_of([ours, one], floor)
    assert plan.sides == [ours, one, floor]
    assert plan_of([ours], None).sides == [ours]
    # Eight seconds of warm-up, and three rounds of two closed loops of 2 + 4 s and an open one.
    assert plan.loaded_s == 3 * (8 + 3 * (2 * 6 + 4))


DOOR = """
import asyncio, sys
from aiohttp import web

async def answer(request):
    await request.read()
    return web.Response(body=b'{"status":"RS_OK"}')

async def main():
    loop = asyncio.get_running_loop()
    await loop.create_server(web.Server(answer, access_log=None), "127.0.0.1", int(sys.argv[1]))
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Progress:
    def __init__(self) -> None:
        self.ended: list[str] = []

    def begin(self, step: str) -> None:
        pass

    def update(self, count: int, total: int) -> None:
        pass

    def end(self, result: str) -> None:
        self.ended.append(result)


def door_side(name: str, folder: Path, script: str = DOOR) -> DoorSide:
    port = choose_port()
    command = ProcessCommand((sys.executable, "-c", script, str(port)), os.environ, folder / name)
    request = b"POST /bet HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx"
    return DoorSide(name, {"door": command}, port, repeat(request))


async def test_a_run_has_every_load_of_every_side_in_each_round(monkeypatch, tmp_path):
    monkeypatch.setattr("lab.bench.gateway.WARM_UP_S", 0.05)
    monkeypatch.setattr("lab.bench.gateway._CALLS_PER_S_FIRST", 50_000)
    ours, peer, floor = (door_side(name, tmp_path) for name in ("ours", "peer", "floor"))
    plan = GatewayBenchPlan(
        ours, [peer], floor, (1, 16), (50,), 2, 0.2, ServerPids(), "here", warm_up_s=0.1
    )
    progress = Progress()
    found = (await run(plan, progress)).as_json()
    for side_ in (found["ours"], found["peer"], found["floor"]):
        assert [load["load"] for load in side_] == ["closed", "closed", "open"]
        assert all(len(load["calls"]) == 2 and min(load["calls"]) > 0 for load in side_)
        open_load = side_[2]
        for answered, unsent in zip(open_load["calls"], open_load["unsent"], strict=True):
            assert answered + unsent == 10
        assert set(side_[0]["cpu_ms_a_call_by_part"]) == {"door"}
    assert found["ratio_rate_at_16"] is not None
    assert len(progress.ended) == 6


async def test_a_side_that_ends_is_named_with_the_end_of_its_log(tmp_path):
    ours = door_side("ours", tmp_path, "raise SystemExit('no keys')")
    plan = GatewayBenchPlan(ours, [], None, (1,), (), 1, 0.1, ServerPids(), "here", warm_up_s=0)
    with pytest.raises(BenchFailed, match="no keys"):
        await run(plan, Progress())


class KeptBatches:
    """A producer that keeps its batches instead of sending them."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, bytes]] = []
        self.batches = 0
        self.has_sent = asyncio.Event()

    def create_batch(self) -> Any:
        records: list[tuple[bytes, bytes]] = []

        def append(*, timestamp: None, key: bytes, value: bytes) -> bool:
            records.append((key, value))
            return True

        return SimpleNamespace(append=append, records=records)

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> None:
        assert (topic, partition) == ("raw", 0)
        self.batches += 1
        self.sent += batch.records
        self.has_sent.set()


class Request:
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        return self._body


async def test_the_floor_answers_a_call_when_its_own_record_is_through():
    producer = KeptBatches()
    door = BareDoor(producer, "raw", 1)
    sending = asyncio.ensure_future(door.send())
    calls = [asyncio.ensure_future(door.answer(Request(body))) for body in (b"a", b"b")]  # type: ignore[arg-type]
    await asyncio.wait_for(producer.has_sent.wait(), 5)
    assert producer.batches == 1
    assert [value for _, value in producer.sent] == [b"a", b"b"]
    (first, _), (second, _) = producer.sent
    door.take(0, [SimpleNamespace(key=lambda: second), SimpleNamespace(key=lambda: b"older")])
    answer = await asyncio.wait_for(calls[1], 5)
    assert isinstance(answer, web.Response)
    assert answer.body == b'{"status":"RS_OK"}'
    assert not calls[0].done()
    door.take(0, [SimpleNamespace(key=lambda: first)])
    await asyncio.wait_for(calls[0], 5)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
