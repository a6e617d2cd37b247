"""`pitboss bench pipeline` against real servers and workers, at a size whose figures mean nothing."""

from __future__ import annotations

import json
import time

import pytest
from click.testing import CliRunner

from lab.bench.pipeline_figures import OURS, PLAIN_FAUST
from lab.bench.pipeline_traffic import load_keys, write_chunk
from pitboss.cli.bench import bench
from pitboss.workers import ROLES

pytestmark = [pytest.mark.integration, pytest.mark.prove]


def test_every_balance_of_ours_and_of_a_peer_is_published(stack, tmp_path, monkeypatch):
    monkeypatch.setenv("PITBOSS_KAFKA", stack.kafka.servers)
    monkeypatch.setenv("PITBOSS_DATABASE", stack.database_url)
    monkeypatch.setenv("PITBOSS_HOME", str(tmp_path))
    monkeypatch.setattr("lab.bench.pipeline_traffic._CHUNK_EVENTS", 2_000)
    monkeypatch.setattr("pitboss.cli.bench_pipeline.FAUST_SHARE", 1)
    folder = tmp_path / "traffic"
    load_keys(folder)
    written = write_chunk(folder, 1, time.time_ns() // 1_000_000 - 600_000, folder / "00001.chunk")
    assert written >= 1_500
    options = ["--records", "1500", "--pairs", "1", "--idle-seconds", "1", "--partitions", "2"]
    options += ["--traffic", str(folder), "--peer", "faust", "--json", "--yes-use-these-servers"]
    done = CliRunner().invoke(bench, ["pipeline", *options])
    assert done.exception is None, done.output
    output = json.loads(done.stdout)
    assert output["settled_per_s"] > 0
    # The test does not tell the bench which processes its servers are.
    assert output["cpu_s_per_million"].keys() == {"total", *ROLES}
    assert output["cpu_s_per_million"]["total"] is None
    assert output["cpu_s_per_million"]["ledger"] > 0
    assert output["ratio_plain_faust"] > 0
    assert output["ratio_cpu_base"] is None
    assert output["idle"]["rss_mb"] > 100
    assert output["peers"].keys() == {PLAIN_FAUST}
    assert OURS not in output["peers"]
