"""`pitboss run` ends with the sentence of a usage error, its own or a worker's, and does not start again for ever."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from pitboss.ops.provision import provision
from pitboss.settings import worker_environment

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
