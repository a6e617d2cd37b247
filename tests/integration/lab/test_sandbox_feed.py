"""`pitboss sandbox feed` into a real broker: raw records, and the results of games that D13 and D14 read."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from click.testing import CliRunner

from lab.sandbox.results import WHEEL
from pitboss.cli.main import cli
from pitboss.ops.provision import provision
from pitboss.settings import worker_environment
from schemas import codec
from schemas.events import GameResult
from schemas.topics import GAME_RESULTS, raw_topic
from tests.support import fraud_log

pytestmark = pytest.mark.integration
PROVIDERS = ("hub88", "playngo", "adyen", "house")


def test_it_feeds_signed_results_commitments_and_seeds(
    stack, namespaces, leftovers, tmp_path, monkeypatch
):
    runtime = stack.runtime(namespaces())
    provision(runtime, partitions=3, raw_partitions=3, providers=PROVIDERS)
    leftovers.append(runtime)
    for name, value in worker_environment(runtime).items():
        if name.startswith("PITBOSS_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("PITBOSS_HOME", str(tmp_path))
    options = ["--events", "1500", "--seed", "5", "--yes-use-these-servers"]
    done = CliRunner().invoke(cli, ["sandbox", "feed", *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output

    async def read(topic: str):
        return await fraud_log.read_all(runtime, topic)

    raw = sum(len(asyncio.run(read(raw_topic(provider)))) for provider in PROVIDERS)
    decode = codec.decoder(GameResult)
    results = [decode(record.value) for record in asyncio.run(read(GAME_RESULTS))]
    assert raw == 1_500
    assert f"1500 records and {len(results)} results of games fed" in done.stdout
    kinds = Counter((one.game_id == WHEEL, one.operation) for one in results)
    assert kinds[True, "commitment"] == kinds[True, "result"] > 50
    assert kinds[False, "result"] > 100
