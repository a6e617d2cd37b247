"""Shell completion: the scripts, and what they complete without a server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from pitboss.cli.completion import COMPLETE_VARIABLE, SHELLS
from pitboss.cli.main import COMMANDS, cli
from streams.providers.registry import DIALECTS


def complete(*words: str) -> set[str]:
    environment = {
        COMPLETE_VARIABLE: "bash_complete",
        "COMP_WORDS": " ".join(("pitboss", *words)),
        "COMP_CWORD": str(len(words)),
    }
    done = CliRunner(env=environment).invoke(cli, [], prog_name="pitboss")
    return {line.partition(",")[2] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script_that_calls_pitboss(shell):
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0
    assert f"{COMPLETE_VARIABLE}={shell}_complete" in done.stdout
    if (interpreter := shutil.which(shell)) is not None:
        checked = subprocess.run(
            [interpreter, "-n"], input=done.stdout, capture_output=True, text=True, check=False
        )
        assert (checked.returncode, checked.stderr) == (0, "")


def test_bash_completes_what_is_typed_with_the_script_itself(tmp_path):
    """Run the script in a real shell, with a `pitboss` that is this checkout's."""
    bash = shutil.which("bash")
    assert bash is not None
    command = tmp_path / "pitboss"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pitboss.cli.main "$@"\n')
    command.chmod(0o700)
    script = (
        'eval "$(pitboss completion bash)"; COMP_WORDS=(pitboss ledger hist); COMP_CWORD=2;'
        ' _pitboss_completion pitboss; echo "${COMPREPLY[@]}"'
    )
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        [bash, "-c", script],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.strip() == "history", done.stderr


def test_names_are_completed_offline(monkeypatch):
    monkeypatch.setenv("PITBOSS_HOME", "/nonexistent")
    assert complete("") == set(COMMANDS)
    assert complete("le") == {"ledger"}
    assert complete("run", "norm") == {"normalise"}
    assert complete("providers", "drift", "--provider", "") == set(DIALECTS)
    assert complete("topics", "lag", "--role", "f") == {"fraud"}
    assert complete("topics", "lag", "--topic", "wallet.t") >= {"wallet.transactions.v1"}
    assert complete("alerts", "list", "--rule", "") > {"D01", "D20", "L01", "L02", "L03"}
    assert complete("dlt", "list", "--code", "bad_a") == {"BAD_AMOUNT"}
    assert "--since" in complete("ledger", "history", "p", "--s")


def test_hidden_former_names_are_not_completed():
    assert "--source" in complete("dlt", "list", "--s")
    assert "--source" not in complete("dlt", "drop", "--s")
    assert "--from" not in complete("ledger", "report", "--f")


def test_the_first_word_is_completed_without_importing_a_command():
    code = (
        "import sys; from pitboss.cli.main import cli\n"
        "try:\n    cli.main([], prog_name='pitboss')\nexcept SystemExit: pass\n"
        "print([m for m in sys.modules if m in ('faust', 'aiokafka', 'psycopg', 'lxml')])"
    )
    environment = {
        **os.environ,
        COMPLETE_VARIABLE: "bash_complete",
        "COMP_WORDS": "pitboss si",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["plain,simulate", "[]"]


def test_help_names_it():
    assert "completion" in CliRunner().invoke(cli, ["--help"]).stdout
