"""Every command that a document shows is run, or parsed by the real command tree and not run for a stated reason."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql

from pitboss.cli.main import cli
from pitboss.settings import (
    Runtime,
    read_operator_settings,
    read_settings,
    read_worker_settings,
    worker_environment,
)
from schemas.topics import catalogue
from streams.providers.registry import DIALECTS
from tests.acceptance.documented import (
    ROOT,
    Shown,
    blocks,
    documents,
    names,
    page,
    prose,
    shown_commands,
)
from tests.acceptance.test_docs import RecordingEnvironment, every_document, is_there
from tests.support.workflow import find_targets, read_steps
from tests.support.written_docs import commands

SHOWN = [shown for path in documents() for shown in shown_commands(path)]

OFFLINE = (
    "pitboss schemas list",
    "pitboss schemas show",
    "pitboss schemas diff",
    "pitboss schemas check",
    "pitboss providers explain",
)
"""Commands that need no server: run for real, and their output is compared where it is shown."""

PLAYERS = frozenset({"p-2001", "p-3001"})
"""The players of the pages; in a test each page has one of its own."""

ON_THE_STACK = (
    "pitboss dlt list",
    "pitboss dlt parked",
    "pitboss dlt history",
    "pitboss dlt redrive --code BAD_AMOUNT",
    "pitboss ledger adjust",
    "pitboss ledger balance",
    "pitboss ledger history",
    "pitboss ledger round",
    "pitboss ledger proposals",
    "pitboss ledger limit",
    "pitboss ledger open",
    "pitboss player",
    "pitboss alerts list",
    "pitboss topics lag",
    "pitboss providers drift",
)
"""Commands that are run on the installation which the session's tests share, in the order of each page."""

ELSEWHERE = {
    "pitboss ledger quarantine": "test_people.py",
    "pitboss topics skip": "test_people.py",
    "python connector.py": "test_examples.py",
    "python scratch/connector.py": "test_examples.py",
    "python balances.py": "test_examples.py",
    "pitboss providers new": "test_new_provider.py",
    "pitboss providers fuzz": "test_new_provider.py",
    "pitboss providers log": "test_integration_log.py",
    "pytest": "test_new_provider.py",
    "pitboss up": "test_embedded_stack.py",
    "pitboss down": "test_embedded_stack.py",
    "pitboss run": "test_supervisor.py",
    "pitboss metrics list": "test_metrics.py",
    "pitboss pause": "test_pause.py",
    "pitboss gateway": "test_gateway_commands.py",
    "pitboss resume": "test_pause.py",
    "pitboss dlt show": "test_dlt.py",
    "pitboss dlt drop": "test_dlt.py",
    "pitboss bench normalise": "test_bench_normalise.py",
    "pitboss bench adapters": "test_bench_adapters.py",
    "pitboss replay export": "test_export_cli.py",
    "pitboss replay sql": "test_outputs.py",
    "pitboss replay compare": "test_outputs.py",
    "pitboss replay plot": "test_plot_cli.py",
    "marimo edit": "test_notebook.py",
    "pitboss rules test": "test_backtest_cli.py",
    "pitboss replay record": "test_archive_cli.py",
    "pitboss replay play": "test_archive_cli.py",
    "pitboss replay ledger": "test_replay_ledger_cli.py",
    "pitboss ledger recover": "test_restore_drills.py",
    "pitboss ledger rebind": "test_rebind_drills.py",
    "pitboss raw replay": "test_raw_replay_cli.py",
    "pitboss ledger migrate check": "test_roll_back.py",
    "pitboss ledger migrate": "test_migrations.py",
    "pitboss archive status": "test_archive_cli.py",
    "pitboss archive verify": "test_archive_cli.py",
    "pitboss archive restore": "test_archive_cli.py",
}
"""Commands that another test runs: what it runs is not always word for word what the page shows."""

PARSED_ONLY = {
    "pitboss bench telemetry": "loads the servers for minutes; test_bench_telemetry.py computes its figures",
    "pitboss bench ledger": "loads the servers for minutes",
    "pitboss bench latency": "loads the servers for minutes",
    "pitboss bench replay": "loads the servers for minutes; test_bench_replay.py runs it at a small size",
    "pitboss bench balance": "loads the servers for minutes; test_bench_balance.py runs it at a small size",
    "pitboss bench gateway": "loads the servers for minutes; test_bench_gateway.py runs small doors",
    "pitboss bench pipeline": "loads the servers for minutes; test_bench_pipeline.py runs it at a small size",
    "mkdir": "makes the reader's own folder",
    "make": "its targets run the linters, the tests and the demo themselves; .ci/run runs them",
    "source .venv/bin/activate": "changes the reader's own shell",
}
"""Commands that no test runs, with the reason."""

HOWS = (*OFFLINE, *ON_THE_STACK, *ELSEWHERE, *PARSED_ONLY)

OTHERS_OPTIONS = {"--durations", "--csv", "--native", "--source", "--why", "--tx", "--from"}
"""Options of pytest; a pair of flags that click lists as one; hidden forms that are deprecated."""


def starts_with(shown: Shown, prefixes) -> bool:
    return any(" ".join(shown.words).startswith(prefix) for prefix in prefixes)


def title(shown: Shown) -> str:
    return f"{shown.page.name}: {shown.command}"


# --- how each command is tested ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shown", SHOWN, ids=title)
def test_it_is_stated_how_each_command_is_tested(shown: Shown):
    assert starts_with(shown, HOWS), f"{title(shown)}: add it to a table of this file"


def test_nothing_is_stated_of_commands_that_no_document_shows():
    unused = {how for how in HOWS if not any(starts_with(shown, [how]) for shown in SHOWN)}
    assert not unused


def test_the_tests_that_run_a_command_exist():
    tests = {file.name for file in (ROOT / "tests").rglob("test_*.py")}
    assert set(ELSEWHERE.values()) <= tests


@pytest.mark.parametrize(
    "shown", [shown for shown in SHOWN if shown.words[0] == "pitboss"], ids=title
)
def test_a_command_fits_the_command_tree(shown: Shown):
    # The tutorial's own provider is registered in its test's copy of the project only.
    parse(["hub88" if word == "luckywheel" else word for word in shown.words], is_complete=True)


@pytest.mark.parametrize("shown", [shown for shown in SHOWN if shown.words[0] == "make"], ids=title)
def test_a_target_exists(shown: Shown):
    assert set(shown.words[1:]) <= targets()


@pytest.mark.parametrize(
    "shown", [shown for shown in SHOWN if shown.words[0] == "pytest"], ids=title
)
def test_the_files_of_a_test_command_exist(shown: Shown):
    for word in shown.words[1:]:
        if word.startswith("tests/") and "luckywheel" not in word:
            assert (ROOT / word).exists(), word


@pytest.mark.parametrize(
    "shown", [shown for shown in SHOWN if starts_with(shown, OFFLINE)], ids=title
)
def test_a_command_that_needs_no_server_prints_what_its_page_shows(shown: Shown, tmp_path: Path):
    result = CliRunner().invoke(cli, shown.words[1:], env={"PITBOSS_HOME": str(tmp_path)})
    assert result.exit_code == 0, result.output
    if shown.output:
        assert result.stdout == shown.output


@pytest.mark.integration
def test_the_commands_of_each_page_run_on_the_shared_installation(installation: Runtime):
    """One test, so that it costs one installation; each page has a player of its own."""
    environment = {**worker_environment(installation), "PITBOSS_WORKER_ID": ""}
    players: dict[Path, str] = {}
    for shown in (shown for shown in SHOWN if starts_with(shown, ON_THE_STACK)):
        if not PLAYERS.isdisjoint(shown.words) and shown.page not in players:
            players[shown.page] = f"p-shown-{len(players)}"
            booked = ["ledger", "adjust", players[shown.page], "10", "EUR", "--wait", "180"]
            booked += ["--by", "ann", "--reason", "opening"]
            assert CliRunner().invoke(cli, booked, env=environment).exit_code == 0
        player = players.get(shown.page, "")
        words = [player if word in PLAYERS else word for word in shown.words[1:]]
        if words[0] in ("ledger", "player") and "--by" in words:
            words += ["--wait", "180"]
        result = CliRunner().invoke(cli, words, env=environment | shown.variables)
        assert result.exit_code == 0, f"{title(shown)}\n{result.output}"


@pytest.mark.integration
def test_the_queries_for_analysts_run_under_the_login_that_the_page_makes(installation: Runtime):
    making, *queries = blocks(page("analysis.md"), "sql")
    login = sql.Identifier(f"analyst_{installation.namespace}")
    with psycopg.connect(installation.database_url, autocommit=True) as administrator:
        try:
            administrator.execute(making.replace("analyst", login.as_string()).encode())
            url = psycopg.conninfo.make_conninfo(
                installation.database_url,
                user=f"analyst_{installation.namespace}",
                password="choose-one",
            )
            with psycopg.connect(url, autocommit=True) as analyst:
                assert analyst.execute("SELECT count(*) FROM wallet").fetchone() is not None
                for query in queries:
                    analyst.execute(query.encode()).fetchall()
                analyst.execute("SET default_transaction_read_only = off")
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    analyst.execute("DELETE FROM wallet")
        finally:
            administrator.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(login))


# --- what prose names -------------------------------------------------------------------------------------------------


@every_document
def test_commands_in_prose_fit_the_command_tree(path: Path):
    for name in spans(path):
        words = name.split()
        if words[0] == "pitboss" and len(words) > 1:
            parse(shlex.split(re.sub(r"[\[\]]", "", name)), is_complete=False)
        elif words[0] == "make" and len(words) == 2:
            assert words[1] in targets(), name
        elif words[:2] == ["python", "-m"]:
            assert is_there(words[2]), name


@every_document
def test_options_in_prose_exist(path: Path):
    for name in names(path):
        if match := re.match(r"--[a-z][\w-]*", name):
            assert match[0] in options(), name


@every_document
def test_topics_in_prose_are_in_the_catalogue(path: Path):
    known = {topic.name for topic in catalogue(DIALECTS)}
    known |= {
        "provider.luckywheel.raw.v1",
        "pitboss.control.v1",
    }  # the tutorial's; not provisioned as others
    for name in names(path):
        if re.fullmatch(r"[a-z_]+(\.[a-z_0-9]+)+\.v\d+(\.dlt)?", name):
            assert name in known, name


@every_document
def test_variables_that_are_named_are_read(path: Path):
    environment = RecordingEnvironment({})
    read_settings(environment)
    read_worker_settings(environment)
    read_operator_settings(environment)
    tests_own = {"PITBOSS_TEST_SEED", "PITBOSS_TEST_USE_SERVERS"}
    named = set(re.findall(r"\bPITBOSS_[A-Z_]+\b", path.read_text()))
    assert named <= environment.names | tests_own, named - environment.names


def test_every_command_is_explained_beside_its_reference():
    """A command that stands in the reference only has no page that says when to use it."""
    mentioned = {
        " ".join(words)
        for path in documents()
        if path.name not in ("command-line.md", "CHANGELOG.md")
        for words in mentions(path)
    }
    everything = {name for name, _, _ in commands()}
    assert {name for name in everything if name not in mentioned} == set()


def mentions(path: Path) -> Iterator[list[str]]:
    """Yield the path of each command that a page names; `a b`, `c` names `a c` as well."""
    everything = {tuple(name.split()) for name, _, _ in commands()}
    for shown in shown_commands(path):
        for length in (2, 3, 4):
            if tuple(shown.words[:length]) in everything:
                yield shown.words[:length]
    for line in prose(path).splitlines():
        parent: list[str] = []
        for name in re.findall(r"`([^`]+)`", line):
            words = name.split()
            if not words:
                continue
            if words[0] != "pitboss":
                words = [*parent, *words]
            for length in (2, 3, 4):
                if tuple(words[:length]) in everything:
                    parent = words[: length - 1]
                    yield words[:length]


def parse(words: list[str], *, is_complete: bool) -> None:
    """Parse a command line with click; raises where a command, an option or a value does not exist.

    A mention in prose may lack arguments and have placeholders for values.
    """
    command: click.Command = cli
    ctx = click.Context(cli, info_name="pitboss")
    rest = words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        child = command.get_command(ctx, rest[0])
        if child is None and rest[0].isupper():
            return  # a placeholder: `pitboss COMMAND`
        assert child is not None, f"{' '.join(words)}: no command {rest[0]!r}"
        ctx = click.Context(child, parent=ctx, info_name=rest[0])
        command, rest = child, rest[1:]
    if isinstance(command, click.Group):
        assert not is_complete or "--help" in rest, f"{' '.join(words)} is a group"
        return
    try:
        command.make_context(" ".join(words), rest, resilient_parsing=not is_complete)
    except click.BadParameter as error:
        if "does not exist" not in error.message:  # a file that the reader has
            raise


@cache
def options() -> frozenset[str]:
    found = {"--help"} | OTHERS_OPTIONS
    for _, command, ctx in commands():
        for parameter in command.get_params(ctx):
            found |= {*parameter.opts, *parameter.secondary_opts}
    return frozenset(found)


@cache
def targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def spans(path: Path) -> list[str]:
    """Return the texts in backticks, also those that go over a line's end."""
    text = re.sub(r"``[^`].*?``", "", prose(path))
    return [re.sub(r"\s+", " ", found) for found in re.findall(r"`([^`]+)`", text) if found.strip()]


# --- the repository's own habits --------------------------------------------------------------------------------------


def test_the_workflow_is_of_its_form():
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    done = subprocess.run(
        [*checker, "vendor.github-workflows", ".github/workflows/ci.yml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_hooks_run_what_make_lint_runs():
    """System hooks of .venv only: no tool is fetched, and none has another version than `make lint`."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    entries = re.findall(r"^ +entry: \.venv/bin/(\S+(?: check| format)?)", hooks, re.MULTILINE)
    lint = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    assert entries == re.findall(r"\$\(BIN\)/(\S+(?: check| format)?)", lint)
    assert re.findall(r"repo: (\S+)", hooks) == ["local"]
    assert set(re.findall(r"language: (\S+)", hooks)) == {"system"}


def test_the_workflow_runs_targets_that_exist():
    found = {target for step in read_steps() for target in find_targets(step["run"])}
    assert {"install", "check", "test", "demo", "audit", "licences", "sbom"} == found
    assert found <= targets()
