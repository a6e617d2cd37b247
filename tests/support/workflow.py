"""The steps of the forge's workflow, and their scripts run as the forge runs them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"

_SHELLS = {"": ["bash", "-e"], "bash": ["bash", "--noprofile", "--norc", "-eo", "pipefail"]}
"""https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idstepsshell"""


def read_steps() -> list[dict[str, Any]]:
    """Return the steps of all jobs that run a script."""
    jobs = YAML(typ="safe").load(WORKFLOW.read_text())["jobs"].values()
    return [step for job in jobs for step in job["steps"] if "run" in step]


def find_targets(script: str) -> set[str]:
    """Return the targets of every `make` in a script, which may have several lines."""
    return set(re.findall(r"\bmake ([a-z-]+)", script))


def run_step(target: str, folder: Path, make: str) -> subprocess.CompletedProcess[str]:
    """Run the step that makes a target, with a script in the place of `make`."""
    [step] = [step for step in read_steps() if target in find_targets(step["run"])]
    fake = folder / "make"
    fake.write_text(f"#!/bin/sh\n{make}\n")
    fake.chmod(0o700)
    (folder / "script").write_text(step["run"])
    return subprocess.run(
        [*_SHELLS[step.get("shell", "")], "script"],
        cwd=folder,
        env={"PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
