"""Without the `lab` package, as in the production image, its commands say so and all others work."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pitboss.cli.main import COMMANDS
from pitboss.lab_package import LabMissing, requiring_lab

HIDE_LAB = """
import sys

class HiddenLab:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "lab":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, HiddenLab())
"""
RUN = f"""{HIDE_LAB}
from pitboss.cli.main import main
main()
"""
IMPORT_COMMANDS = f"""{HIDE_LAB}
import importlib
import pkgutil
import click
import pitboss.workers
from pitboss.cli.main import cli
context = click.Context(cli)
for name in sys.argv[1:]:
    command = cli.get_command(context, name)
    assert command is not None
    command.get_help(click.Context(command, info_name=name))
for module in pkgutil.walk_packages(pitboss.workers.__path__, "pitboss.workers."):
    importlib.import_module(module.name)
assert not [name for name in sys.modules if name.partition(".")[0] == "lab"]
"""
LAB_COMMANDS = {"bench", "demo", "sandbox", "simulate"}


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "subject"),
    [
        (("bench", "normalise"), "pitboss bench"),
        (("demo",), "pitboss demo"),
        (("sandbox", "feed"), "pitboss sandbox"),
        (("simulate",), "pitboss simulate"),
        (("providers", "fuzz"), "pitboss providers fuzz"),
    ],
)
def test_a_command_of_the_lab_names_what_is_missing_and_what_to_do(arguments, subject):
    done = run(RUN, *arguments)
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: USAGE `{subject}` needs the lab package,")
    assert "which the production image leaves out; install" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.returncode == LabMissing.exit_code == 2


def test_every_other_command_and_every_worker_works_without_the_lab():
    done = run(IMPORT_COMMANDS, *sorted(COMMANDS.keys() - LAB_COMMANDS))
    assert done.returncode == 0, done.stderr


def test_the_integration_log_is_written_without_its_conformance_section(tmp_path, monkeypatch):
    monkeypatch.setenv("PITBOSS_HOME", str(tmp_path))
    for name in ("PITBOSS_KAFKA", "PITBOSS_DATABASE", "PITBOSS_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    done = run(RUN, "providers", "log", "--json")
    assert done.returncode == 0, done.stderr
    log = json.loads(done.stdout)
    assert log["conformance"] == []
    assert any("lab package" in reason for reason in log["unknown"])
    assert log["versions"]


@pytest.mark.parametrize("name", ["labyrinth", "orjson"])
def test_another_missing_module_is_not_taken_for_the_lab(name):
    with pytest.raises(ModuleNotFoundError), requiring_lab("it"):
        raise ModuleNotFoundError(name=name)
