"""docs/tutorial/first-calls.md: each of its commands runs in its order, and prints what it shows."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pitboss.cli.main import cli
from pitboss.settings import worker_environment
from tests.acceptance.documented import Shown, blocks, page, shown_commands
from tests.acceptance.gateway.conftest import Door

pytestmark = pytest.mark.integration

PAGE = page("first-calls.md")
STARTS_IT = {
    "make install": "installs what runs this test",
    "source .venv/bin/activate": "changes the reader's own shell",
    "pitboss up": "starts servers: the fixture has them",
    "pitboss run all": "starts the workers and the gateway: the fixture has them",
}
"""Commands that are not run here, with the reason."""


def words_of(shown: Shown) -> str:
    return " ".join(shown.words)


def run(words: list[str], environment: dict[str, str]) -> Result:
    result = CliRunner().invoke(cli, words, env=environment)
    assert result.exit_code == 0, f"{' '.join(words)}\n{result.output}"
    return result


def test_the_commands_of_the_page_run_and_a_bet_is_answered(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    door.keys.save(tmp_path / "sandbox-keys.json")
    environment = worker_environment(door.runtime) | {
        "PITBOSS_HOME": str(tmp_path),
        "PITBOSS_KEYS_FILE": str(door.folder / door.runtime.namespace / "keys.json"),
        "PITBOSS_GATEWAY_PORT": str(door.port),
    }
    ran = []
    for shown in shown_commands(PAGE):
        if words_of(shown) in STARTS_IT:
            continue
        words = shown.words[1:]
        if words[:2] == ["ledger", "adjust"]:
            # Nobody waits at a terminal here, and this installation may let one person act alone.
            proposed = run([*words, "--wait", "180"], environment)
            for approve in re.findall(r"pitboss (ledger approve \S+)", proposed.output):
                run([*approve.split(), "--by", "ben", "--wait", "180"], environment)
            ran.append((shown, ""))
            continue
        ran.append((shown, run(words, environment).output))
    printed = {words_of(shown): output for shown, output in ran}
    assert len(ran) == len(shown_commands(PAGE)) - len(STARTS_IT)
    assert answer_of(ran, "hub88 bet") == "\n".join(blocks(PAGE, "text")).strip()
    assert answer_of(ran, "hub88 win").endswith('"balance":10050000}')
    assert '"status":"RS_OK"' in answer_of(ran, "hub88 rollback")
    assert answer_of(ran, "playngo bet").startswith("200 application/xml <reserve>")
    balance = json.loads(answer_of(ran, "hub88 balance").split(" ", 2)[2])["balance"]
    [real] = re.findall(r"<real>(\d+)\.(\d\d)</real>", answer_of(ran, "playngo bet"))
    assert balance == int("".join(real)) * 1_000
    assert "first-bet" in printed["pitboss ledger history p-3001"]
    again_by_curl(next(output for shown, output in ran if "hub88 bet" in words_of(shown)))


def answer_of(ran: list[tuple[Shown, str]], call: str) -> str:
    """Return what a call was answered, with its request's own id left out."""
    [output] = [output for shown, output in ran if f"try {call} " in words_of(shown)]
    answer = output.strip().splitlines()[-1]
    return re.sub(r'(?<="request_uuid":")[0-9a-f-]{36}', "…", answer)


def again_by_curl(output: str) -> None:
    """The line of curl that is printed is the call: pasted, it gets the same answer."""
    line, answer = output.strip().splitlines()
    done = subprocess.run(
        shlex.split(line), capture_output=True, text=True, check=True, timeout=180
    )
    assert answer == f"200 application/json {done.stdout}"


def test_every_command_that_is_not_run_has_its_reason():
    shown = {words_of(one) for one in shown_commands(PAGE)}
    assert set(STARTS_IT) <= shown
