"""What a bench starts of another revision."""

from __future__ import annotations

import pytest

from lab.bench import environments
from lab.bench.environments import RevisionBuild, build_revision
from lab.bench.processes import BenchFailed
from schemas.errors import UsageError


@pytest.mark.parametrize(
    ("file", "modules"),
    [
        ("pitboss/workers/__main__.py", ("pitboss.workers.lifeline", "pitboss.workers")),
        ("pitboss/worker.py", ("pitboss.lifeline", "pitboss.worker")),
    ],
)
def test_a_worker_is_started_by_the_entry_point_of_its_revision(tmp_path, file, modules):
    path = tmp_path / "source" / file
    path.parent.mkdir(parents=True)
    path.touch()
    build = RevisionBuild("abc1234", tmp_path)
    python = str(tmp_path / "venv" / "bin" / "python")
    assert build.worker_command("ledger") == (python, "-m", *modules, "ledger")


def test_a_revision_without_a_known_worker_is_an_error(tmp_path):
    with pytest.raises(BenchFailed, match="abc1234 has no worker"):
        RevisionBuild("abc1234", tmp_path).worker_command("ledger")


def test_a_build_finds_nothing_but_its_own_source():
    kept = RevisionBuild.environment({"PATH": "/bin", "PYTHONPATH": "/ours", "VIRTUAL_ENV": "/v"})
    assert kept == {"PATH": "/bin", "PYTHONSAFEPATH": "1"}


@pytest.mark.parametrize("revision", ["no-such-revision", "--help", ""])
def test_a_revision_that_git_does_not_know_is_refused(tmp_path, revision):
    with pytest.raises(UsageError, match="git knows no such commit"):
        build_revision(revision, tmp_path, lambda _: None)
    assert not list(tmp_path.iterdir())


def test_a_build_of_an_earlier_run_is_used_again(tmp_path):
    commit = environments._resolve("HEAD")
    folder = tmp_path / commit[:12]
    folder.mkdir()
    (folder / "complete").touch()
    assert build_revision("HEAD", tmp_path, pytest.fail) == RevisionBuild(commit[:7], folder)
