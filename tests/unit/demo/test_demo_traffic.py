"""Traffic and display of a demo: one worker is killed once; lines in files, bars on terminals."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from lab.sandbox.calling import PlannedCall
from lab.sandbox.keys import SandboxKeys
from pitboss.demo import quiescence
from pitboss.demo.display import DemoDisplay, TrafficView, check_lines
from pitboss.demo.quiescence import DemoProgress, QuiescenceMonitor
from pitboss.demo.traffic import TrafficRun
from pitboss.settings import runtime_of
from replay.audit.checks import Check
from runtime.security import BrokerAddress
from schemas.errors import Stalled, Unavailable

RUNTIME = runtime_of(
    BrokerAddress("127.0.0.1:1"), "postgresql://pitboss@127.0.0.1:1/postgres", "demo_x"
)


class Victim:
    name, pid = "ledger-1", 4711

    def __init__(self) -> None:
        self.is_alive = True
        self.kills = 0

    def kill(self) -> None:
        self.kills += 1
        self.is_alive = False


def screen(*, is_terminal: bool = False, width: int = 80) -> tuple[DemoDisplay, io.StringIO]:
    out = io.StringIO()
    return DemoDisplay(Console(file=out, width=width, force_terminal=is_terminal)), out


def plain(output: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output)


def observe(total: int, *booked: int, is_alive: bool = True) -> tuple[TrafficRun, Victim, str]:
    victim, (display, out) = Victim(), screen()
    victim.is_alive = is_alive
    calls = [PlannedCall("hub88", b"", (), 1, None)] * total
    stand_in: Any = victim
    traffic = TrafficRun(RUNTIME, calls, SandboxKeys({}), None, 1, stand_in, display)
    for count in booked:
        traffic._on_progress(DemoProgress(count, "the ledger"))
    return traffic, victim, out.getvalue()


def test_the_worker_is_killed_half_way_and_that_is_printed():
    traffic, victim, output = observe(100, 10, 49, 52, 90)
    assert (victim.kills, traffic.log.killed_at) == (1, 52)
    assert "SIGKILL to ledger-1, pid 4711, with 52 events booked" in output


def test_the_worker_is_killed_once_although_another_replaces_it():
    traffic, victim, _ = observe(100, 52)
    victim.is_alive = True
    traffic._on_progress(DemoProgress(60, "the ledger"))
    assert victim.kills == 1


def test_a_worker_that_is_down_is_killed_when_it_is_back():
    traffic, victim, _ = observe(100, 52, is_alive=False)
    assert (victim.kills, traffic.log.killed_at) == (0, 0)
    victim.is_alive = True
    traffic._on_progress(DemoProgress(52, "the ledger"))
    assert (victim.kills, traffic.log.killed_at) == (1, 52)


def test_a_worker_that_repeats_itself_for_ever_is_a_stall():
    with pytest.raises(Stalled, match="repeats itself"):
        observe(100, 900, 1_001)


class Scripted(QuiescenceMonitor):
    """Monitor with scripted progress."""

    def __init__(self, *script: DemoProgress | Exception) -> None:
        self._script = list(script)

    async def read_progress(self) -> DemoProgress:
        step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(step, Exception):
            raise step
        return step


@pytest.fixture
def clock(monkeypatch):
    now = iter(range(10_000))
    monkeypatch.setattr("pitboss.demo.quiescence.time.monotonic", lambda: next(now))
    monkeypatch.setattr(quiescence, "_POLL_S", 0)


async def test_the_wait_lasts_while_something_is_booked(clock):
    seen: list[DemoProgress] = []
    steps = [DemoProgress(booked, "the ledger") for booked in range(1, 50)]
    await Scripted(*steps, DemoProgress(49, "")).wait_until_quiet(5, seen.append)
    assert seen[-1] == DemoProgress(49, "")
    assert len(seen) == 50


@pytest.mark.parametrize(
    "last", [DemoProgress(3, "the ledger"), Unavailable("the database is away")]
)
async def test_a_stall_names_what_it_waits_for(clock, last):
    with pytest.raises(
        Stalled,
        match=r"nothing was booked for 5 s.*waiting for .*(the ledger|the database is away)",
    ):
        await Scripted(DemoProgress(3, "the normaliser"), last).wait_until_quiet(5, lambda _: None)


def test_a_file_gets_whole_lines_without_markup():
    display, out = screen(width=30)
    display.print_line(f"ledger-1 ended, log {'x' * 60} [y]")
    [line] = out.getvalue().splitlines()
    assert line.endswith(f"log {'x' * 60} [y]")


def test_a_file_gets_one_line_a_second_and_the_last_one(monkeypatch):
    now_s = 100.0
    monkeypatch.setattr("pitboss.demo.display.time.monotonic", lambda: now_s)
    display, out = screen()
    for done in range(100):
        now_s += 0.1
        display.update_bar("booked", done, 100, "waiting")
    for _ in range(3):
        display.update_bar("booked", 100, 100, "settled")
    lines = out.getvalue().splitlines()
    assert 9 <= len(lines) <= 11
    assert [line for line in lines if "settled" in line] == [lines[-1]]


def test_a_terminal_gets_a_bar():
    display, out = screen(is_terminal=True)
    with display:
        display.update_bar("booked", 3, 10, "waiting for the ledger")
    assert "3/10" in out.getvalue()


def test_a_terminal_of_80_columns_gets_the_traffic_on_two_lines():
    display, out = screen(is_terminal=True)
    note = "waiting for the players of 143 parked events"
    with display:
        display.update_traffic(TrafficView(123_456, 123_455, 500_000, note))
    *_, fed, booked = (line for line in plain(out.getvalue()).splitlines() if line.strip())
    assert "fed" in fed
    assert "123456/500000" in fed
    assert "booked" in booked
    assert "waiting for the players" in booked


def test_a_file_gets_the_traffic_on_one_line(monkeypatch):
    now_s = 100.0
    monkeypatch.setattr("pitboss.demo.display.time.monotonic", lambda: now_s)
    display, out = screen()
    for second in range(3):
        now_s += 1.0
        display.update_traffic(TrafficView(500 * second, 400 * second, 1_200, "p50 31 ms"))
    display.update_traffic(TrafficView(1_200, 1_200, 1_200, "settled"))
    assert [line.split(" ", 1)[1] for line in out.getvalue().splitlines()] == [
        "fed 0 of 1,200, booked 0, p50 31 ms",
        "fed 500 of 1,200 at 500/s, booked 400, p50 31 ms",
        "fed 1,000 of 1,200 at 500/s, booked 800, p50 31 ms",
        "fed 1,200 of 1,200, booked 1,200, settled",
    ]


def test_a_checks_detail_is_printed_without_markup():
    out = io.StringIO()
    for line in check_lines(
        [Check("replay_equal", holds=False, detail="partition 3 [0, 7] differs")]
    ):
        Console(file=out, width=100).print(line)
    assert "partition 3 [0, 7] differs" in out.getvalue()
