"""`pitboss run` ends with the sentence of a usage error, its own or a worker's, and does not start again for ever."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from pitboss.cli.main import cli
from pitboss.ops.provision import provision
from pitboss.settings import worker_environment
from pitboss.workers import ARCHIVE, ROLES
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas.topics import raw_topic

pytestmark = pytest.mark.integration


def run(runtime, home, **settings: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, **worker_environment(runtime), "PITBOSS_HOME": str(home), **settings}
    command = [sys.executable, "-m", "pitboss.cli.main", "run", "normalise", "--provider", "hub88"]
    return subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=110, check=False
    )


def test_a_keys_file_with_an_unknown_name_ends_run_before_anything_is_made(runtime, tmp_path):
    keys = tmp_path / "keys.json"
    keys.touch(mode=0o600)
    keys.write_text(json.dumps({"hub-88": {"public_key_pem": "secret"}}))
    done = run(runtime, tmp_path, PITBOSS_KEYS_FILE=str(keys))
    assert done.returncode == 2
    assert done.stderr == (
        f"error: USAGE PITBOSS_KEYS_FILE {keys}: 'hub-88' is not a provider: did you mean 'hub88'?\n"
    )


def test_a_usage_error_of_a_worker_ends_run_with_its_sentence(runtime, tmp_path):
    provision(runtime, partitions=1, raw_partitions=1, providers=["hub88"])
    # Only the worker compares these two settings.
    done = run(runtime, tmp_path, PITBOSS_PARK="hub88", PITBOSS_KEYS_FILE="")
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("error: USAGE: players of hub88 cannot be made to wait: ")
    assert any("no key for " in line and "hub88" in line for line in lines)
    assert sum("normalise-1 started" in line for line in lines) == 1
    assert sum("is not started again" in line for line in lines) == 1


def shown(environ: dict[str, str], *command: str) -> str:
    """The answer of a command; a server that is busy, and so counts as away (3), is asked again."""
    deadline, code = time.monotonic() + 60, 3
    while code == 3 and time.monotonic() < deadline:
        done = CliRunner().invoke(cli, command, env=environ)
        code = done.exit_code
    assert code in {0, 1}, (done.output, done.exception)
    return done.stdout


def statuses(environ: dict[str, str], *command: str):
    return json.loads(shown(environ, *command, "--json"))


async def append_raw(runtime) -> None:
    async with BatchProducer(ProducerSettings(runtime.broker, "pitboss.test")) as producer:
        await producer.send_keyed(runtime.topic(raw_topic("house")), [(b"p-1", b"{}", (), None)])


def test_all_roles_have_the_archive_where_one_is_set(runtime, tmp_path):
    provision(runtime, partitions=1, raw_partitions=1, providers=["house"])
    asyncio.run(append_raw(runtime))
    folder = tmp_path / "archive"
    environ = {
        **os.environ,
        **worker_environment(runtime),
        "PITBOSS_HOME": str(tmp_path),
        "PITBOSS_ARCHIVE": str(folder),
        "PITBOSS_ARCHIVE_SPAN_MS": "1000",
        "PITBOSS_KEYS_FILE": "",
    }
    log = tmp_path / "run.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "pitboss.cli.main", "run", "all", "--provider", "house"]
        running = subprocess.Popen(command, env=environ, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 120
        # A role is shown as running before its worker works; a file of the archive is work.
        while not list(folder.rglob("*.parquet")):
            assert running.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        workers = statuses(environ, "status")["workers"]
        assert {one["role"] for one in workers} == {*ROLES, ARCHIVE}
        assert [one["workers"] for one in workers if one["role"] == ARCHIVE] == [1]
        text = shown(environ, "status")
        assert "archive   runs" in text
        assert "no worker runs" not in text
        archived = statuses(environ, "archive", "status")
        assert archived["target"] == str(folder)
        assert sum(one["records"] for one in archived["partitions"]) > 0
    finally:
        running.send_signal(signal.SIGTERM)
        code = running.wait(120)
    assert code == 0, log.read_text()
    assert "draining 6 workers" in log.read_text()
    assert f"of: {', '.join((*ROLES, ARCHIVE))}" in shown(environ, "status")
