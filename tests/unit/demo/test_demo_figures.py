"""The result of `pitboss demo`: figures, the table, the JSON object, the exit code."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console

from pitboss.cli import demo as command
from pitboss.cli.main import cli
from pitboss.demo.decisions import DecisionTimes, DecisionTimesByPhase, TrafficFigures
from pitboss.demo.display import check_lines, figures_table, next_steps
from pitboss.demo.expectations import ChecksFailed, DemoResult
from pitboss.demo.figures import DemoFigures, Latency, figures_of, latencies_ms
from pitboss.demo.run import DemoSettings
from replay.audit.checks import NAMES, Check
from replay.audit.evidence import AnswerRow, TableEvidence, TopicEvidence
from schemas.errors import Stalled
from schemas.events import Attempt, DeadLetter, Position
from tests.support.ledger_events import bet, log_event

APPENDED_AT = 1_790_000_000_500
"""When the raw records of `ledger_events` were appended."""

TRAFFIC = TrafficFigures(
    killed_at=5,
    fed_per_s=998,
    decision_ms=DecisionTimesByPhase(
        DecisionTimes(28, 91), DecisionTimes(1_902, 3_611), DecisionTimes(None, None)
    ),
    kill_gap_ms=2_345,
)
ATTEMPT = Attempt("raw", 0, 0)
ALL_HOLD = [Check(name, holds=True, detail=f"{name} looked at") for name in NAMES]


def answer_row(
    offset: int, version: int | None = 1, outcome: str = "POSTED", currency: str = "EUR"
) -> AnswerRow:
    return AnswerRow(
        0,
        offset,
        "event",
        outcome,
        "",
        currency,
        0,
        version,
        ATTEMPT,
        "acme",
        "hub88",
        "bet",
        "t",
        "p-1",
    )


def log_of(*players: str) -> TopicEvidence:
    events = [bet(f"b{offset}", 1, player=player) for offset, player in enumerate(players)]
    return TopicEvidence(
        log={0: [log_event(event, 0, offset) for offset, event in enumerate(events)]}
    )


def latencies_of(
    topics: TopicEvidence, answers: list[AnswerRow], **published_after_ms: list[tuple[int, int]]
) -> list[int]:
    published = {
        f"{key.replace('_', '-')}:EUR": [
            (version, APPENDED_AT + after_ms) for version, after_ms in versions
        ]
        for key, versions in published_after_ms.items()
    }
    return latencies_ms(topics, TableEvidence(answers=answers), published)


def test_a_latency_ends_with_the_first_balance_that_contains_the_movement():
    topics = log_of("p-1", "p-1", "p-1")
    answers = [answer_row(0, 1), answer_row(1, 2), answer_row(2, 4)]
    # One balance may stand for several movements, and a balance that is sent again does not count again.
    assert latencies_of(topics, answers, p_1=[(2, 30), (2, 90), (4, 95)]) == [30, 30, 95]


def test_latencies_come_in_order_whatever_the_log_has():
    topics = log_of("p-1", "p-2")
    assert latencies_of(topics, [answer_row(0), answer_row(1)], p_1=[(1, 80)], p_2=[(1, 20)]) == [
        20,
        80,
    ]


def test_each_players_own_balance_counts():
    assert latencies_of(log_of("p-2"), [answer_row(0)], p_1=[(1, 10)], p_2=[(1, 40)]) == [40]


@pytest.mark.parametrize(
    "answer",
    [
        answer_row(0, None),
        answer_row(0, outcome="REFUSED_FUNDS"),
        answer_row(0, outcome="EXISTS"),
        answer_row(0, currency="SEK"),
        answer_row(0, version=3),
        answer_row(9),
    ],
    ids=[
        "no wallet",
        "refused",
        "a repeat",
        "another wallet",
        "not published yet",
        "not in the log",
    ],
)
def test_what_moved_nothing_or_is_not_out_has_no_latency(answer):
    assert latencies_of(log_of("p-1"), [answer], p_1=[(1, 10), (2, 20)]) == []


def letter(code: str, offset: int) -> DeadLetter:
    return DeadLetter(
        Position("raw", 0, offset), None, None, None, [], 0, code, "", "normalise", "0", None
    )


def test_the_figures_are_those_of_topics_and_tables():
    topics = log_of("p-1", "p-1", "p-1")
    topics.raw = {Position("raw", 0, offset) for offset in range(10)}
    topics.dead_letters = [
        letter("MALFORMED", 1),
        letter("BAD_SIGNATURE", 2),
        letter("BAD_SIGNATURE", 3),
    ]
    answers = [
        answer_row(0, 1),
        answer_row(1, 2),
        answer_row(2, None, "REFUSED_FUNDS"),
        answer_row(3, None, "EXISTS"),
    ]
    checks = [
        Check("conserved", holds=True, detail=""),
        Check("replay_equal", holds=False, detail=""),
    ]
    figures = figures_of(
        topics,
        TableEvidence(answers=answers),
        checks,
        seed=9,
        traffic=TRAFFIC,
        transfers=2,
        alerts=1,
        duplicates=1,
        published_at={"p-1:EUR": [(1, APPENDED_AT + 100), (2, APPENDED_AT + 2_000)]},
        unmet=["no alert"],
    )
    assert figures == DemoFigures(
        seed=9,
        events_in=10,
        settled=3,
        duplicates=1,
        transfers=2,
        dead_letters=3,
        alerts=1,
        events_per_s=5,
        latency_ms=Latency(100, 2_000),
        outcomes_by_code={"POSTED": 2, "REFUSED_FUNDS": 1, "EXISTS": 1},
        dead_letters_by_code={"BAD_SIGNATURE": 2, "MALFORMED": 1},
        killed_at=5,
        fed_per_s=998,
        decision_ms=TRAFFIC.decision_ms,
        kill_gap_ms=2_345,
        checks={"conserved": True, "replay_equal": False},
        unmet=["no alert"],
    )
    assert next(iter(figures.outcomes_by_code)) == "POSTED"
    assert list(figures.dead_letters_by_code) == ["BAD_SIGNATURE", "MALFORMED"], (
        "the most frequent comes first"
    )


def test_empty_evidence_has_figures():
    figures = figures_of(
        TopicEvidence(),
        TableEvidence(),
        [],
        seed=0,
        traffic=TRAFFIC,
        transfers=0,
        alerts=0,
        duplicates=0,
        published_at={},
    )
    assert (figures.events_in, figures.settled, figures.events_per_s) == (0, 0, 0)
    assert figures.latency_ms == Latency(0, 0)


def test_all_in_one_millisecond_is_a_rate_too():
    topics = log_of("p-1")
    topics.raw = {Position("raw", 0, 0)}
    figures = figures_of(
        topics,
        TableEvidence(),
        [],
        seed=0,
        traffic=TRAFFIC,
        transfers=0,
        alerts=0,
        duplicates=0,
        published_at={"p-1:EUR": [(1, APPENDED_AT)]},
    )
    assert figures.events_per_s == 1_000


FIGURES = DemoFigures(
    seed=42,
    events_in=20_000,
    settled=18_000,
    duplicates=600,
    transfers=17_000,
    dead_letters=14,
    alerts=3,
    events_per_s=2_345,
    latency_ms=Latency(61, 1_234),
    outcomes_by_code={"POSTED": 17_500, "REFUSED_FUNDS": 500, "EXISTS": 600},
    dead_letters_by_code={"BAD_SIGNATURE": 10, "MALFORMED": 4},
    killed_at=9_000,
    fed_per_s=998,
    decision_ms=TRAFFIC.decision_ms,
    kill_gap_ms=2_345,
    checks={check.name: check.holds for check in ALL_HOLD},
    unmet=[],
)


def render(*what: object) -> str:
    out = io.StringIO()
    console = Console(file=out, width=200)
    for one in what:
        console.print(one, highlight=False)
    return out.getvalue()


def test_the_table_has_every_figure():
    rows = [
        line.strip("│ ").split("│")
        for line in render(figures_table(FIGURES)).splitlines()
        if "│" in line
    ]
    assert {name.strip(): value.strip() for name, value in rows} == {
        "events in": "20,000",
        "settled (batches hold several)": "18,000",
        "duplicates, moved nothing": "600",
        "transfers": "17,000",
        "outcome POSTED": "17,500",
        "outcome REFUSED_FUNDS": "500",
        "outcome EXISTS": "600",
        "dead letter BAD_SIGNATURE": "10",
        "dead letter MALFORMED": "4",
        "alerts": "3",
        "fed a second": "998",
        "decision time, p50 and p99: before the kill": "28 ms  91 ms",
        "during it": "1,902 ms  3,611 ms",
        "after it": "none decided",
        "longest time without an answer": "2,345 ms",
    }
    assert "seed 42" in render(figures_table(FIGURES))
    assert max(map(len, render(figures_table(FIGURES)).splitlines())) <= 80


def test_a_check_has_a_tick_or_a_cross_and_what_it_saw():
    good, bad = check_lines(
        [ALL_HOLD[0], Check("replay_equal", holds=False, detail="raw-0@7 differs")]
    )
    assert render(good).split() == ["✔", "conserved", "conserved", "looked", "at"]
    assert render(bad).split() == ["✘", "replay_equal", "raw-0@7", "differs"]


@pytest.fixture
def run_command(monkeypatch, tmp_path):
    """The command with a given result; the settings that it ran with are kept."""
    for name in ("PITBOSS_KAFKA", "PITBOSS_DATABASE", "PITBOSS_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PITBOSS_HOME", str(tmp_path))
    settings_seen: list[DemoSettings] = []

    def run_with(outcome: DemoResult | Exception, *arguments: str):
        def run_demo(_stack, settings, display):
            settings_seen.append(settings)
            display.print_line("a line for people")
            display.update_bar("booked", 3, 3)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(command, "run_demo", run_demo)
        return CliRunner().invoke(cli, ["demo", *arguments])

    command_with_result: Any = run_with
    command_with_result.settings_seen = settings_seen
    return command_with_result


def result_of(*failing: str) -> DemoResult:
    checks = [Check(name, holds=name not in failing, detail=f"{name} looked at") for name in NAMES]
    figures = {field: getattr(FIGURES, field) for field in FIGURES.__struct_fields__}
    return DemoResult(
        DemoFigures(**figures | {"checks": {check.name: check.holds for check in checks}}), checks
    )


COUNTS = (
    "seed",
    "events_in",
    "settled",
    "duplicates",
    "transfers",
    "dead_letters",
    "alerts",
    "events_per_s",
    "killed_at",
    "fed_per_s",
    "kill_gap_ms",
)


def test_json_is_one_object_on_stdout_with_these_keys(run_command):
    done = run_command(result_of(), "--json")
    assert done.exit_code == 0, done.output
    result_object = json.loads(done.stdout)  # which takes one object and nothing after it
    assert result_object.keys() == {
        *COUNTS,
        "latency_ms",
        "decision_ms",
        "outcomes_by_code",
        "dead_letters_by_code",
        "checks",
        "unmet",
    }
    assert all(type(result_object[name]) is int for name in COUNTS)
    assert result_object["latency_ms"] == {"p50": 61, "p99": 1_234}
    assert result_object["decision_ms"] == {
        "before": {"p50": 28, "p99": 91},
        "during": {"p50": 1_902, "p99": 3_611},
        "after": {"p50": None, "p99": None},
    }
    assert result_object["outcomes_by_code"] == FIGURES.outcomes_by_code
    assert result_object["dead_letters_by_code"] == FIGURES.dead_letters_by_code
    assert {name: result_object[name] for name in COUNTS} == {
        name: getattr(FIGURES, name) for name in COUNTS
    }
    assert result_object["checks"] == {
        "conserved": True,
        "balances_match": True,
        "versions_gapless": True,
        "offsets_accounted": True,
        "topic_equals_database": True,
        "replay_equal": True,
    }
    assert done.stdout.count("\n") == 1
    assert "a line for people" in done.stderr
    assert done.stderr.count("✔") == 6


@pytest.mark.parametrize("is_raised", [True, False], ids=["raised", "returned"])
@pytest.mark.parametrize("failing", NAMES)
def test_a_failed_check_is_false_in_the_object_and_fails(run_command, failing, is_raised):
    result = result_of(failing)
    done = run_command(ChecksFailed(result) if is_raised else result, "--json")
    assert done.exit_code == 1
    result_object = json.loads(done.stdout)
    assert result_object["checks"] == {name: name != failing for name in NAMES}
    assert (done.stderr.count("✔"), done.stderr.count("✘")) == (5, 1)
    assert f"{failing} looked at" in done.stderr


def test_an_unmet_expectation_is_printed_and_fails(run_command):
    result = result_of()
    result = DemoResult(
        msgspec.structs.replace(
            result.figures, unmet=["1 players bet too fast, and D01 holds the money of 0"]
        ),
        result.checks,
    )
    for arguments in ((), ("--json",)):
        done = run_command(ChecksFailed(result), *arguments)
        assert done.exit_code == 1
        output = done.stderr if arguments else done.stdout
        assert "✘ 1 players bet too fast, and D01 holds the money of 0" in output
    assert json.loads(done.stdout)["unmet"] == result.figures.unmet


def test_without_json_the_table_and_the_checks_are_on_stdout(run_command):
    done = run_command(result_of())
    assert done.exit_code == 0
    assert "20,000" in done.stdout
    assert [line.split()[1] for line in done.stdout.splitlines() if "✔" in line] == list(NAMES)
    assert "✔" not in done.stderr
    failed = run_command(ChecksFailed(result_of("conserved")))
    assert failed.exit_code == 1
    assert "✘ conserved" in failed.stdout


def test_a_stall_is_reported_on_stderr_and_leaves_stdout_empty(run_command):
    done = run_command(Stalled("not settled after 9 s"), "--json")
    assert done.exit_code == Stalled.exit_code != 0
    assert done.stdout == ""
    assert "not settled after 9 s" in done.stderr


def test_the_options_become_settings(run_command):
    run_command(result_of())
    run_command(result_of(), "--events", "2000", "--seed", "7", "--rate", "1500", "--keep")
    run_command(result_of(), "--yes-use-these-servers", "--rate", "0")
    run_command(result_of(), "--rate", "max")
    assert run_command.settings_seen == [
        DemoSettings(12_000, 42, 400.0),
        DemoSettings(2_000, 7, 1_500.0, keep=True),
        DemoSettings(12_000, 42, None, use_given_servers=True),
        DemoSettings(12_000, 42, None),
    ]


def test_success_ends_with_commands_to_try_next_and_failure_does_not(run_command):
    done = run_command(result_of(), "--json")
    assert "demo --keep" in done.stderr
    assert "Next" not in run_command(result_of("conserved")).stderr
    kept = run_command(replace(result_of(), namespace="demo_1f"), "--keep")
    assert "export PITBOSS_NAMESPACE=demo_1f" in kept.stderr
    assert "demo --keep" not in kept.stderr


@pytest.mark.parametrize("namespace", ["", "demo_1f"])
def test_every_command_to_try_next_exists(namespace):
    lines = [line for line in next_steps("pitboss", namespace) if line.startswith("  ")]
    commands = [
        part.split()[1:] for line in lines for part in line.strip().split("   ")[0].split("&&")
    ]
    assert len(commands) >= 3
    assert max(map(len, next_steps(".venv/bin/pitboss", namespace))) <= 80
    for arguments in commands:
        context = click.Context(cli)
        command_found: click.Command | None = cli
        while arguments and isinstance(command_found, click.Group):
            command_found = command_found.get_command(context, arguments.pop(0))
        assert command_found is not None
        command_found.make_context("x", arguments)


@pytest.mark.parametrize(
    "wrong", [("--events", "1999"), ("--seed", "-1"), ("--rate", "-1"), ("--rate", "fast")]
)
def test_options_out_of_range_are_refused(run_command, wrong):
    assert run_command(result_of(), *wrong).exit_code == 2
    assert run_command.settings_seen == []
