"""What a bench starts of another revision."""

from __future__ import annotations

import pytest

from lab.bench import environments
from lab.bench.environments import RevisionBuild, build_peer, build_revision
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


def test_a_peer_brings_the_client_library_that_it_can_use(tmp_path, monkeypatch):
    calls: list[list[str]] = []
    monkeypatch.setattr(
        "lab.bench.environments._run", lambda command, *, cwd: calls.append([*command])
    )
    monkeypatch.setattr("lab.bench.environments.venv.create", lambda folder, **_: folder.mkdir())
    for _ in range(2):  # the second time it is there
        build_peer("quix", ["quixstreams==3.28.1"], tmp_path, lambda _: None)
    peer, own = calls
    assert "quixstreams==3.28.1" in peer
    assert any(requirement.startswith("msgspec") for requirement in peer)
    # It takes none as new as ours: both together cannot be installed.
    assert not any("confluent-kafka" in requirement for requirement in peer)
    assert own[-3:-1] == ["--no-deps", "--editable"]
