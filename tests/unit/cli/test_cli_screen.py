"""External text on the command line: every character is shown, in tables that cut nothing."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner
from rich.text import Text

from fraud_agents.alerts import PublishedAlert
from fraud_agents.casework import CaseAction, CaseActionKind
from fraud_agents.explanation import Explanation
from lab.conformance import fuzz as fuzz_run
from lab.conformance.packing import PackingReport, PackingTally
from lab.simulator.run import SeedResult
from ledger_sink.proof.reconcile import BalanceFault, BalanceReport, StatementFault
from ledger_sink.queries import history
from ledger_sink.queries.people import PlayerView
from ledger_sink.queries.report import ReportRow, RevenueReport
from ledger_sink.queries.rounds import OpenBet, OpenRound
from ledger_sink.rules.journal import PlayerState, Proposal, Wallet
from ledger_sink.store.migrate import Migration
from ledger_sink.store.months import Month
from pitboss.cli import (
    alerts,
    dlt,
    ledger_balance,
    ledger_corrections,
    ledger_entry,
    ledger_migrate,
    ledger_months,
    ledger_reconcile,
    ledger_refusals,
    ledger_report,
    ledger_rounds,
    ledger_views,
    player,
    providers_drift,
    providers_fuzz,
    providers_list,
    schemas,
    screen,
    simulate,
    topics,
)
from pitboss.cli import ledger_queries as ledger_reading
from pitboss.ops import dead_letters
from pitboss.settings import runtime_of
from runtime.dead_letters.letters import Action, DeadLetterCase, Letter
from runtime.dead_letters.park_store import OpenHold
from runtime.security import BrokerAddress
from schemas.events import DeadLetter, FraudAlert, Header, OffsetRange, Position, SchemaDrift
from streams.providers.versions import VersionRow, VersionState

CLI = Path(screen.__file__).parent
NASTY = "[/x] [a] :bug:"
"""An end without a beginning, a style that there is not, and a name of a picture."""
PLACE = Position("t", 0, 7)
RUNTIME = runtime_of(BrokerAddress("b:1"), "postgresql://u@h/d", "")
WORDS = {int: 1, bool: False, bytes: NASTY.encode(), Position: PLACE, str: NASTY}


def filled(kind: Any, **given: Any) -> Any:
    """A struct with these values, and the nasty text for each word of the others."""
    values = {}
    for field in msgspec.structs.fields(kind):
        types = getattr(field.type, "__args__", (field.type,))
        values[field.name] = given.get(
            field.name, next((WORDS[one] for one in types if one in WORDS), NASTY)
        )
    return kind(**values)


def run(command: click.Command, *arguments: str) -> str:
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    return done.stdout


ALERT = filled(
    FraudAlert,
    sources=[OffsetRange("t", 0, 1, 2)],
    sample_event_ids=[NASTY],
    evidence={"x": NASTY},
    severity="hold",
)
CASE = DeadLetterCase(
    PLACE,
    (Letter(PLACE, filled(DeadLetter, headers=[Header("h", NASTY.encode())])),),
    (filled(Action, is_done=True, appended_at=None),),
)
EVENT_ID = "ba2afe00-7e3d-7000-8000-000000000001"
DECISION = filled(history.EventDecision, currency="EUR", moved=(filled(history.DecisionMovement),))
EVENT = history.EventHistory(
    (DECISION,), (filled(history.EventClosing),), (filled(history.RepeatedAttempt),)
)
WALLET = filled(Wallet, currency="EUR", scale=2)


def no_server(monkeypatch, module, **answers):
    """Let a module's command find what it would have found on the servers."""
    for name, answer in answers.items():
        monkeypatch.setattr(module, name, answer)


def answers(found: Any) -> Callable[..., Any]:
    return lambda *_arguments, **_names: found


def coming(found: Any) -> Callable[..., Any]:
    async def come(*_arguments, **_names):
        return found

    return come


def of_alerts(patch, *arguments):
    no_server(
        patch,
        alerts,
        _runtime=answers(None),
        _read=answers([PublishedAlert(ALERT)]),
        read_actions=answers(
            [CaseAction(CaseActionKind.CLOSED.value, NASTY, NASTY, NASTY, made_at=1)]
        ),
    )
    return run(alerts.alerts, *arguments)


def of_explanation(patch):
    explanation = Explanation(NASTY, [], 1, [NASTY])
    no_server(
        patch,
        alerts,
        _runtime=answers(None),
        _read=answers([PublishedAlert(ALERT)]),
        explain_alert=coming((0, explanation)),
        outcomes_of=answers(None),
    )
    return run(alerts.alerts, "explain", NASTY)


def of_dlt(patch, *arguments):
    found = dead_letters.DeadLetterSnapshot([CASE])
    no_server(patch, dlt, _runtime=answers(RUNTIME), _known_secrets=answers([]))
    no_server(
        patch, dead_letters, load_snapshot=coming(found), open_holds=coming([filled(OpenHold)])
    )
    return run(dlt.dlt, *arguments)


def of_reading(patch, module, command, found, *arguments):
    no_server(patch, module, resolve_runtime=answers(RUNTIME), read_ledger=answers(found))
    return run(command, *arguments)


def of_asking(patch, module, command, found, *arguments):
    no_server(patch, module, query_ledger=answers(found))
    return run(command, *arguments)


def of_statement(patch):
    no_server(patch, ledger_reconcile, _csv=answers([]))
    fault = filled(StatementFault, what="MISSING")
    return of_reading(
        patch, ledger_reconcile, ledger_reconcile.statement, [fault], __file__, "--provider", "acme"
    )


def of_calls(show):
    """What a function of a module prints by itself."""
    return lambda _patch: run(click.Command("shown", callback=show))


def of_simulation(patch):
    no_server(patch, simulate, simulate_seed=lambda number: SeedResult(number, 1, 1, [NASTY]))
    done = CliRunner().invoke(simulate.simulate, ["--seeds", "1"])
    return done.stderr


def of_fuzz():
    report = fuzz_run.FuzzReport(1, {NASTY: fuzz_run.Tally()})
    providers_fuzz._show(report, PackingReport({NASTY: PackingTally()}))


def of_schemas(patch):
    row = type("Row", (), {"name": NASTY, "id": 1, "json": {"type": "string"}, "subject": NASTY})
    no_server(patch, schemas, released_registry=answers([row]))
    return run(schemas.schemas, "list")


ROWS = [
    filled(
        VersionRow,
        state=VersionState.LIVE,
        adapter="x:Y",
        settings={},
        fallback=None,
        **dict.fromkeys(("announced_on", "live_on", "deprecated_on", "retires_on", "from_")),
    )
]
ROUND = OpenRound((filled(OpenBet, currency="EUR"),))
MOVEMENT = filled(history.Movement, debit="a:b", credit="c:d")
REPORT = RevenueReport((filled(ReportRow, currency="EUR"),), ())

TABLES: dict[str, Callable[[Any], str]] = {
    "alerts list": lambda patch: of_alerts(patch, "list"),
    "alerts show": lambda patch: of_alerts(patch, "show", NASTY),
    "alerts explain": of_explanation,
    "dlt list": lambda patch: of_dlt(patch, "list"),
    "dlt show": lambda patch: of_dlt(patch, "show", "t-0@7"),
    "dlt parked": lambda patch: of_dlt(patch, "parked"),
    "dlt history": lambda patch: of_dlt(patch, "history"),
    "ledger proposals": lambda patch: of_asking(
        patch, ledger_corrections, ledger_corrections.proposals, [filled(Proposal, currency="EUR")]
    ),
    "ledger debts": lambda patch: of_asking(
        patch,
        ledger_corrections,
        ledger_corrections.debts,
        [filled(Wallet, currency="EUR", scale=2)],
    ),
    "ledger rounds": lambda patch: of_asking(patch, ledger_rounds, ledger_rounds.rounds, [ROUND]),
    "ledger balance": lambda patch: of_reading(
        patch,
        ledger_balance,
        ledger_balance.balance,
        [filled(history.WalletAt, currency="EUR", scale=2)],
        "p",
    ),
    "ledger history": lambda patch: of_reading(
        patch, ledger_views, ledger_views.history_command, ("EUR", [MOVEMENT]), "p"
    ),
    "ledger entry": lambda patch: of_reading(
        patch, ledger_entry, ledger_entry.entry, EVENT, EVENT_ID
    ),
    "ledger history --refused": of_calls(
        lambda: ledger_refusals._show(
            RUNTIME,
            "p",
            ledger_refusals._add_amounts([filled(history.RefusedEvent, currency="EUR")], {}),
        )
    ),
    "ledger round": lambda patch: of_reading(
        patch,
        ledger_views,
        ledger_views.round_command,
        [filled(history.RoundEvent, currency="EUR")],
        "r",
    ),
    "ledger report": lambda patch: of_reading(patch, ledger_report, ledger_report.report, REPORT),
    "ledger reconcile balances": lambda patch: of_reading(
        patch,
        ledger_reconcile,
        ledger_reconcile.balances,
        (BalanceReport((filled(BalanceFault),), 1, 0), 0),
    ),
    "ledger reconcile statement": of_statement,
    "ledger months list": of_calls(
        lambda: ledger_months._show([Month(1, NASTY, 1, 1)], as_json=False)
    ),
    "ledger migrate list": of_calls(
        lambda: ledger_migrate._show([Migration(NASTY, "")], as_json=False)
    ),
    "player show": lambda patch: of_asking(
        patch,
        player,
        player.show,
        PlayerView("p", [WALLET], PlayerState("p", {NASTY: ("HELD", 1)})),
        "p",
    ),
    "topics": of_calls(lambda: topics._show(("topic",), [{"topic": NASTY}])),
    "providers list": of_calls(
        lambda: providers_list._show(providers_list.describe_versions(ROWS, None, date(2026, 1, 1)))
    ),
    "providers drift": of_calls(lambda: providers_drift._show([filled(SchemaDrift)])),
    "providers fuzz": of_calls(of_fuzz),
    "schemas list": of_schemas,
    "simulate": of_simulation,
}


@pytest.mark.parametrize("name", TABLES)
def test_every_table_shows_other_peoples_words_as_they_are(monkeypatch, name):
    assert NASTY in TABLES[name](monkeypatch)


def test_a_pipe_gets_every_id_whole_however_long_the_rest_is(monkeypatch):
    one = filled(
        Proposal, id="ba2afe00-7e3d-7000-8000-000000000001", currency="EUR", reason="because " * 200
    )
    printed = of_asking(monkeypatch, ledger_corrections, ledger_corrections.proposals, [one])
    [line] = [line for line in printed.splitlines() if "ba2afe" in line]
    assert one.id in line
    assert "because " * 199 in line


@pytest.mark.parametrize("width", [20, 40, 80, 120])
def test_a_terminal_gets_every_id_too_if_need_be_on_several_lines(monkeypatch, capsys, width):
    one = filled(
        Proposal, id="ba2afe00-7e3d-7000-8000-000000000001", currency="EUR", reason="because " * 20
    )
    narrow = screen.console()
    narrow.width = width
    monkeypatch.setattr(screen, "console", lambda: narrow)
    table = screen.table("id", "by", "reason", whole=("id",))
    table.add_row(one.id, one.actor, one.reason)
    screen.show(table)
    shown = capsys.readouterr().out
    column = [line.split("│")[1].strip() for line in shown.splitlines() if line.startswith("│")]
    assert "".join(column) == one.id
    assert (one.id in shown) == (width >= 80)


@pytest.mark.parametrize(
    ("module", "command", "message"),
    [
        (ledger_rounds, ledger_rounds.rounds, "no round is open"),
        (ledger_corrections, ledger_corrections.proposals, "nothing waits for a second person"),
        (ledger_corrections, ledger_corrections.debts, "no wallet is in debt"),
    ],
)
def test_that_there_is_nothing_is_no_output(monkeypatch, module, command, message):
    no_server(monkeypatch, module, query_ledger=answers([]))
    done = CliRunner().invoke(command)
    assert (done.stdout, done.stderr) == ("", f"{message}\n")
    assert CliRunner().invoke(command, ["--json"]).stdout == "[]\n"


@pytest.mark.parametrize("no_color", ["", "1"])
def test_no_color_leaves_a_terminal_without_colours(monkeypatch, capsys, no_color):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", no_color)
    screen.console().print(Text("block", "bold red"))
    colours = re.findall(r"\x1b\[[\d;]*3\dm", capsys.readouterr().out)
    assert colours == ([] if no_color else ["\x1b[1;31m"])


@pytest.mark.parametrize("file", sorted(CLI.glob("*.py")), ids=lambda file: file.name)
def test_only_the_screen_makes_consoles_and_tables(file):
    made = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).split(".")[0] in ("Console", "Table", "rich")
    }
    assert made == ({"Console", "Table"} if file.name == "screen.py" else set())


def test_the_ledgers_views_print_on_the_same_screen(monkeypatch, capsys):
    table = screen.table("a")
    table.add_row(NASTY)
    ledger_reading.show_rows(table, "nothing", [1])
    assert NASTY in capsys.readouterr().out
