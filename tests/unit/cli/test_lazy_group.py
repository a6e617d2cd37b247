"""Groups that import a command's module on use: what they say without the command is what the command says."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from pitboss.cli import ledger as ledger_group
from pitboss.cli.main import cli

TABLE = ledger_group.COMMANDS


@pytest.mark.parametrize("name", TABLE)
def test_a_line_of_the_help_is_the_commands_own(name):
    context = click.Context(cli, info_name="pitboss")
    command = ledger_group.ledger.get_command(context, name)
    assert command is not None
    assert command.name == name
    assert command.get_short_help_str(500) == TABLE[name][1]


def test_help_and_an_unknown_name_import_no_command():
    script = (
        "import sys\nfrom click.testing import CliRunner\nfrom pitboss.cli.main import cli\n"
        "runner = CliRunner()\n"
        "assert runner.invoke(cli, ['ledger', '--help']).exit_code == 0\n"
        "assert runner.invoke(cli, ['ledger', 'ballance']).exit_code == 2\n"
        "print(*(name for name in sys.modules if name.startswith('pitboss.cli.ledger_')))\n"
        "print('faust' in sys.modules, 'psycopg' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["", "False False"]


def test_the_group_of_all_commands_imports_no_client_of_a_server():
    """Help, completion and a mistyped name pay for what it imports, and so does every command."""
    script = (
        "import sys\nimport pitboss.cli.main\n"
        "heavy = ('ssl', 'socket', 'asyncio', 'tomllib', 'rich', 'psycopg', 'aiokafka')\n"
        "print(*(name for name in heavy if name in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_a_balance_imports_only_what_its_answer_needs():
    """Tables, codecs and Parquet were two thirds of the time that a balance of the archive took."""
    script = (
        "import sys\nimport pitboss.cli.main, pitboss.cli.ledger_balance\n"
        "import replay.archive.archived_log, replay.archive.store\n"
        "heavy = ('pyarrow', 'numpy', 'fsspec', 'rich', 'fastavro', 'faust', 'confluent_kafka',\n"
        "    'cryptography', 'schemas.codec', 'streams', 'replay.columns', 'replay.export')\n"
        "print(*(name for name in heavy if name in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_a_mistyped_name_gets_the_nearest():
    done = CliRunner().invoke(cli, ["ledger", "ballance"])
    assert "balance" in done.stderr


@pytest.mark.parametrize(("command", "lower_by"), [("replay", 10), ("ledger", 0)])
def test_the_process_of_a_replay_leaves_the_processor_to_others(command, lower_by):
    script = (
        f"import os, sys\nbefore = os.nice(0)\nsys.argv = ['pitboss', '{command}', '--help']\n"
        "from pitboss.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    print('lower by', os.nice(0) - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == f"lower by {lower_by}"


def test_a_replay_that_another_process_calls_leaves_its_priority():
    before = os.nice(0)
    assert CliRunner().invoke(cli, ["replay", "--help"]).exit_code == 0
    assert os.nice(0) == before
