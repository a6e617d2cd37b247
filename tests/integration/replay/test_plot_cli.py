"""`pitboss replay plot` from a real broker."""

from __future__ import annotations

import asyncio

import pytest
from click.testing import CliRunner

from pitboss.cli.main import cli
from pitboss.settings import worker_environment
from tests.support.fix_stack import SEED
from tests.support.replay_story import tell_story

pytestmark = pytest.mark.integration


async def test_each_kind_is_drawn(runtime, tmp_path):
    await tell_story(runtime, SEED, 120)
    env = worker_environment(runtime)
    for kind, options in (("bets", ()), ("balance", ("--player", "p-1")), ("payout", ())):
        file = tmp_path / f"{kind}.svg"
        command = ["replay", "plot", kind, "--out", str(file), "--rate", "0", *options]
        done = await asyncio.to_thread(CliRunner().invoke, cli, command, env=env)
        assert done.exit_code == 0, (done.output, done.stderr, done.exception)
        assert "<svg" in file.read_text()
    command = ["replay", "plot", "balance", "--out", str(tmp_path / "x.svg")]
    refused = await asyncio.to_thread(CliRunner().invoke, cli, command, env=env)
    assert refused.exit_code == 2
    assert "give --player" in refused.stderr
