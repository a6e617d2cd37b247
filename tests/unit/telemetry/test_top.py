"""`pitboss top` and the roles of `pitboss status`: what they compute and show, without servers."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from aiokafka.errors import KafkaConnectionError
from click.testing import CliRunner
from rich.console import Console

from ledger_sink.queries.open_items import OpenGroup
from pitboss.cli import screen
from pitboss.cli import top as top_module
from pitboss.cli.main import cli
from pitboss.cli.stack import EMPTY_STATE, format_lag, list_waits
from pitboss.cli.top import TopFrame, WholeState, build_table, format_whole
from pitboss.embedded.free_space import FreeSpace
from pitboss.ops import worker_pages
from pitboss.ops.installation import (
    InstallationState,
    RolePartition,
    RoleState,
    _unless_away,
)
from pitboss.ops.worker_pages import WorkerPage, read_pages
from pitboss.settings import read_settings
from pitboss.workers.restarts import count_restarts, name_exit, note_restart
from pitboss.workers.role_locks import RunningRole
from runtime.telemetry.pages import StartMark
from schemas.errors import Stalled, Unavailable, UsageError
from tests.unit.telemetry.test_pages import Pages


def role(name: str, *, position: int = 0, lag: int = 0, age_s=None, waits=None, ends=None):
    partition = RolePartition("t", 0, position, lag, age_s, is_held=True, waits_for=waits)
    return RoleState(name, [partition], ends or {})


def frame(at_s: float, *roles: RoleState, pages=(), notes=()) -> TopFrame:
    return TopFrame(at_s, InstallationState(list(roles), notes=list(notes)), pages)


def printed(table) -> str:
    out = Console(file=io.StringIO(), width=200)
    out.print(table)
    return out.file.getvalue()  # type: ignore[attr-defined]


def test_rates_are_offsets_between_frames():
    before, now = (
        frame(10.0, role("ledger", position=100)),
        frame(12.0, role("ledger", position=700)),
    )
    assert now.rates_since(before) == {"ledger": 300.0}
    assert now.rates_since(None) == {}
    assert frame(14.0, role("ledger", position=5)).rates_since(now) == {"ledger": 0}


def test_the_oldest_unanswered_record_is_that_of_a_role_on_the_way_to_the_answer():
    state = InstallationState(
        [role("normalise", age_s=2.5, lag=1), role("ledger"), role("fraud", age_s=99.0, lag=4)]
    )
    assert state.oldest_unanswered_s == 2.5
    assert InstallationState([role("fraud", age_s=9.0)]).oldest_unanswered_s is None
    assert InstallationState().oldest_unanswered_s is None
    assert state.as_json(0).keys() == EMPTY_STATE.keys()


def test_the_table_shows_lag_readiness_restarts_and_waits():
    pages = [
        WorkerPage("ledger", 1, 9471, answers=True, is_ready=True, cpu_s=2.0, memory_bytes=2**27),
        WorkerPage("ledger", 2, 9481, answers=False, is_ready=False),
    ]
    late = role(
        "ledger", lag=1_234, age_s=12.0, waits="UNAVAILABLE: [/x] is away", ends={"STALLED": 2}
    )
    text = printed(
        build_table(frame(1.0, late, pages=pages, notes=["seals: away"]), {"ledger": 88.4})
    )
    for shown in ("1/2", "1,234", "12.0", "88", "128", "2 STALLED", "[/x] is away", "seals: away"):
        assert shown in text
    assert "oldest answer due 12.0 s" in text
    assert "no record waits for its answer" in printed(build_table(frame(1.0, role("drift")), {}))


def test_a_role_without_partitions_has_a_row_and_long_reasons_are_cut():
    pages = [WorkerPage("gateway", 1, 9475, answers=True, is_ready=True, cpu_s=2.0)]
    why = f"UNAVAILABLE: the database is away: {'x' * 400}"
    shown = build_table(frame(1.0, role("ledger", lag=1, age_s=1.0, waits=why), pages=pages), {})
    lines = printed(shown).splitlines()
    [gateway] = [line for line in lines if "gateway" in line]
    assert "1/1" in gateway
    assert "2.0" in gateway
    [ledger] = [line for line in lines if "ledger" in line]
    assert "the database is away" in ledger
    assert "…" in ledger


def test_a_role_without_a_group_shows_its_restarts_and_no_lag():
    gateway = RoleState("gateway", [], {"SIGKILL": 3})
    shown = frame(12.0, gateway)
    assert shown.rates_since(frame(10.0, gateway)) == {}
    [line] = [line for line in printed(build_table(shown, {})).splitlines() if "gateway" in line]
    cells = [cell.strip() for cell in line.split("│")[1:-1]]
    assert cells == ["gateway", "?", "", "", "", "", "", "3 SIGKILL", ""]


GROUPS = [
    OpenGroup("suspense", "PLAYER_UNKNOWN", "EUR", 2, 50_000, 0, 1_000),
    OpenGroup("suspense", "OTHER", "EUR", 1, 700, 0, 1_000),
    OpenGroup("suspense", "OTHER", "JPY", 1, 12, 0, 1_000),
    OpenGroup("unresolved", "PLAYER_UNKNOWN", "EUR", 1, 9_999, 0, 1_000),
    OpenGroup("barrier", "barrier 1 before the log", None, 3, 0, 3, 900_000),
    OpenGroup("barrier", "barrier 2 before the log", None, 1, 0, 1, 990_000),
]
RETIRING = [
    {"provider": "hub88", "version": "1", "days": 21, "retires_on": "2026-12-22"},
    {"provider": "camt", "version": "2", "days": -1, "retires_on": "2026-11-30"},
]


def whole(state: InstallationState, disk=None, unsigned=()) -> WholeState:
    return WholeState(state, disk, unsigned, 1_000_000)


def test_the_line_below_the_table_has_the_whole_state():
    state = InstallationState(
        [], GROUPS, unsealed_s=3.25, never_sealed=0, sealed=2, retiring=RETIRING
    )
    disk = FreeSpace("/", 700, 5_120, is_enough=False)
    assert format_whole(whole(state, disk, ["hub88", "playngo"])).split(" · ") == [
        "suspense 507.00 EUR, 12 JPY",
        "barriers 2, oldest 100 s",
        "unsealed for 3.2 s",
        "disk 0.7 GB free, too little",
        "hub88 1 retires in 21 days",
        "camt 2 retired on 2026-11-30",
        "unsigned: hub88, playngo",
    ]


def test_a_quiet_installation_has_a_short_line():
    quiet = InstallationState([], [], never_sealed=0, sealed=1)
    assert format_whole(whole(quiet)) == "suspense 0 · barriers 0 · all sealed"
    never = InstallationState([], [], never_sealed=2, sealed=0)
    assert format_whole(whole(never)).endswith("2 partitions never sealed")
    assert format_whole(whole(InstallationState())) == "ledger not known"


class Clock:
    """A clock that only sleeping moves, until Ctrl-C."""

    def __init__(self, sleeps: int) -> None:
        self.now_s = 100.0
        self.left = sleeps

    def monotonic(self) -> float:
        return self.now_s

    def time_ns(self) -> int:
        return int(self.now_s * 1e9)

    def sleep(self, seconds: float) -> None:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.now_s += seconds


def test_the_live_loop_draws_frames_with_rates_and_reads_the_whole_less_often(
    monkeypatch, tmp_path
):
    """Seven frames, 2 s apart: of 0 to 12 s."""
    monkeypatch.setenv("PITBOSS_HOME", str(tmp_path))
    out = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    reads: list[bool] = []

    def read(_runtime, _home, *, has_ledger: bool):
        reads.append(has_ledger)
        number = len(reads)
        groups = [OpenGroup("suspense", "R", "EUR", 1, 100 * number, 0, 0)] if has_ledger else None
        state = role("ledger", position=600 * number, lag=1_000 + number)
        return InstallationState([state], groups, never_sealed=0, sealed=1)

    monkeypatch.setattr(top_module, "time", Clock(sleeps=6))
    monkeypatch.setattr(top_module, "resolve_runtime", lambda _: None)
    monkeypatch.setattr(top_module, "read_installation", read)
    monkeypatch.setattr(screen, "console", lambda: out)
    top_module._show_live(read_settings(), 2.0)
    assert reads == [True, False, False, False, False, True, False]
    text = out.file.getvalue()  # type: ignore[attr-defined]
    first, second = text.index("1,001"), text.index("1,002")
    assert "300" not in text[first:second], "a first frame has no rate"
    assert "300" in text[second : text.index("1,003")]
    assert "suspense 1.00 EUR" in text[first:second]
    assert "suspense 1.00 EUR" in text[second : text.index("1,003")], "as it was read last"
    assert "suspense 6.00 EUR" in text[text.index("1,007") :]


def test_what_is_behind_is_one_line_of_status():
    roles = [role("ledger", lag=1_458, age_s=51.32), role("fraud"), role("drift", lag=2)]
    assert format_lag(roles) == "ledger 1,458 records (51.3 s), drift 2 records"
    assert format_lag([role("fraud")]) == "no role is behind"


def test_waits_are_errors_but_for_pauses_and_stuck_records():
    roles = [
        role("ledger", lag=1, waits="UNAVAILABLE: the database is away"),
        role("fraud", lag=1, waits="paused since 2026 by kim"),
        role("resolve", lag=1, waits="PARTITION_STUCK: t-0@3"),
    ]
    assert list_waits(roles) == ["ledger waits: UNAVAILABLE: the database is away"]


def test_restarts_are_counted_by_role_and_by_how_they_ended(tmp_path):
    assert count_restarts(tmp_path, "n") == {}
    for code in (Stalled.exit_code, -9, Stalled.exit_code, 0, 1, 200):
        note_restart(tmp_path, "n", "ledger", code)
    note_restart(tmp_path, "n", "fraud", 0)
    file = tmp_path / "n" / "run" / "restarts.jsonl"
    with file.open("a") as notes:
        notes.write('{"at_ms": 1, "role": "ledger", "code": "STALLED"}\n{"at_m')
    counts = {"STALLED": 2, "SIGKILL": 1, "drained": 1, "unexpected": 1, "exit 200": 1}
    assert count_restarts(tmp_path, "n") == {"fraud": {"drained": 1}, "ledger": counts}


def test_the_notes_of_restarts_are_bounded(tmp_path):
    file = tmp_path / "n" / "run" / "restarts.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text('{"at_ms": 1, "role": "ledger", "code": "drained"}\n' * 10_000)
    note_restart(tmp_path, "n", "ledger", 0)
    assert len(file.read_text().splitlines()) == 5_001
    assert count_restarts(tmp_path, "n") == {"ledger": {"drained": 1}}


def test_exit_codes_have_names():
    assert name_exit(UsageError.exit_code) == "USAGE"
    assert name_exit(None) == "unknown"


def test_an_end_is_counted_by_the_code_that_the_worker_named_since_several_share_an_exit_code(
    tmp_path,
):
    for code, error in [(69, "LOGIN_REFUSED"), (69, "UNAVAILABLE"), (69, ""), (-9, "FENCED")]:
        note_restart(tmp_path, "n", "ledger", code, error)
    counts = {"LOGIN_REFUSED": 1, "UNAVAILABLE": 2, "SIGKILL": 1}
    assert count_restarts(tmp_path, "n") == {"ledger": counts}


async def test_pages_of_workers_are_read_by_their_ports(monkeypatch):
    async with Pages() as pages:
        await StartMark(pages.state).start()
        await pages.get("/healthz")
        monkeypatch.setattr(worker_pages, "worker_port", lambda *_: pages.service.port)
        running = RunningRole("ledger", 1, 1, 0, telemetry_port=9470)
        [page] = await asyncio.to_thread(read_pages, [running, RunningRole("fraud", 1, 1, 0)])
    assert (page.role, page.answers, page.is_ready) == ("ledger", True, True)
    [gone] = read_pages([running])
    assert (gone.answers, gone.is_ready) == (False, False)


async def test_a_part_that_cannot_be_read_leaves_the_others():
    async def fail(error: Exception):
        raise error

    notes: list[str] = []
    for error in (Unavailable("no broker"), KafkaConnectionError("gone")):
        assert await _unless_away(fail(error), "lag", notes) is None
    assert [note.partition(":")[0] for note in notes] == ["lag", "lag"]


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_prints_one_frame(monkeypatch, as_json):
    monkeypatch.setattr(top_module, "resolve_runtime", lambda _: None)
    monkeypatch.setattr(
        top_module, "read_installation", lambda *_, **__: InstallationState([role("ledger", lag=7)])
    )
    result = CliRunner().invoke(cli, ["top", "--once", *(["--json"] if as_json else [])])
    assert result.exit_code == 0, result.output
    if as_json:
        row = json.loads(result.output)
        assert row["roles"][0]["lag_records"] == 7
        assert row["workers"] == []
    else:
        assert "ledger" in result.output
