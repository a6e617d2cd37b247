"""`pitboss rules test` over a real broker: a published draft beside the rule that is active."""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import CliRunner

from pitboss.cli.main import cli
from pitboss.settings import worker_environment
from tests.support.fraud_log import T0, append, burst, make_topics

pytestmark = pytest.mark.integration

RULE = {
    "rule": "D01",
    "version": 3,
    "detector": "D01",
    "owner": "risk",
    "reason": "a burst of 90 in a minute is worth a look",
    "parameters": {"limits": {"warn": 90}},
}


async def run(runtime, *arguments: str):
    command = ["rules", *arguments, "--json"]
    env = worker_environment(runtime)
    result = await asyncio.to_thread(CliRunner().invoke, cli, command, env=env)
    assert result.exit_code == 0, (result.output, result.stderr, result.exception)
    return json.loads(result.stdout)


async def test_a_draft_is_tried_beside_the_active_rule(runtime, tmp_path):
    await make_topics(runtime)
    await append(runtime, burst("both", T0, 150) + burst("added", T0, 100) + burst("calm", T0, 9))
    file = tmp_path / "rule.json"
    file.write_text(json.dumps(RULE))
    by = ("--by", "kim", "--reason", "a test", "--wait", "0")
    period = ("--from", "2020-01-01", "--to", "2099-01-01", "--rate", "0")
    of_file = await run(runtime, "test", str(file), *period)
    await run(runtime, "publish", str(file), *by[:4])
    of_version = await run(runtime, "test", "D01:3", *period)
    assert [one["player_id"] for one in of_file["added"]] == ["added"]
    assert (of_file["kept"], of_file["dropped"], of_file["players"]) == (1, [], 3)
    assert of_file["active"]["rule"]["version"] == 2
    assert of_version["digest"] == of_file["digest"]
    assert of_version["added"] == of_file["added"]
    shown = await asyncio.to_thread(
        CliRunner().invoke,
        cli,
        ["rules", "test", str(file), *period],
        env=worker_environment(runtime),
    )
    assert shown.exit_code == 0
    assert "1 stay flagged" in shown.stdout
    assert "nearest alerted players" in shown.stdout
