"""Environments of their own for what is measured beside this code: other revisions, and peers.

A revision is built from the repository this code lies in, with the constraints of that revision.
Environments are kept: a second measurement does not build again.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import requires
from pathlib import Path
from typing import Final

from lab.bench.processes import BenchFailed
from schemas.errors import UsageError

REPOSITORY: Final = Path(__file__).parents[2]
_DONE_MARK: Final = "complete"
_CLIENT: Final = "confluent-kafka"
_LAYOUTS: Final = (
    # The module of a worker, and the one that ends it with its parent; the newest layout first.
    (Path("pitboss/workers/__main__.py"), "pitboss.workers", "pitboss.workers.lifeline"),
    (Path("pitboss/worker.py"), "pitboss.worker", "pitboss.lifeline"),
)
_LOG_TAIL_LINES: Final = 12


@dataclass(frozen=True)
class RevisionBuild:
    """A revision that is installed."""

    commit: str
    folder: Path

    @property
    def source(self) -> Path:
        """The tree of the revision, which its environment imports from."""
        return self.folder / "source"

    @property
    def python(self) -> Path:
        """The interpreter of its virtual environment."""
        return self.folder / "venv" / "bin" / "python"

    def worker_command(self, role: str) -> tuple[str, ...]:
        """Return the command of a worker that ends with its parent.

        Raises BenchFailed for a revision that has no worker we know how to start.
        """
        for file, worker, lifeline in _LAYOUTS:
            if (self.source / file).exists():
                return (str(self.python), "-m", lifeline, worker, role)
        raise BenchFailed(f"{self.commit} has no worker that this bench knows how to start")

    def provision_command(self, arguments: Sequence[str]) -> tuple[str, ...]:
        """Return the command that makes its topics and tables."""
        return (str(self.python), "-m", "pitboss.cli.main", "provision", *arguments)

    @staticmethod
    def environment(environment: Mapping[str, str]) -> dict[str, str]:
        """Return an environment in which nothing but its own source is found."""
        others = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
        kept = {name: value for name, value in environment.items() if name not in others}
        return {**kept, "PYTHONSAFEPATH": "1"}


def build_revision(revision: str, cache: Path, report: Callable[[str], None]) -> RevisionBuild:
    """Install a revision of this repository below `cache`, unless it is there already.

    Raises UsageError for a revision that git does not know, BenchFailed where the build fails.
    """
    commit = _resolve(revision)
    build = RevisionBuild(commit[:7], cache / commit[:12])
    if (build.folder / _DONE_MARK).exists():
        return build
    report(f"building {build.commit} in an environment of its own")
    build.source.mkdir(parents=True, exist_ok=True)
    archive = _run(["git", "archive", "--format=tar", commit], cwd=REPOSITORY)
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(build.source, filter="data")
    constraints = ["--constraint", str(build.source / "constraints.txt")]
    _make_environment(build.folder, [*constraints, "--editable", str(build.source)])
    return build


def build_peer(
    name: str, packages: Sequence[str], cache: Path, report: Callable[[str], None]
) -> Path:
    """Install pinned packages of a peer beside this code, and return the interpreter.

    Never in our own environment: what a peer needs would replace what we have tested with.
    """
    folder = cache / name
    mark = folder / _DONE_MARK
    if not mark.exists() or mark.read_text(encoding="utf-8").split() != list(packages):
        report(f"installing {' '.join(packages)} in an environment of its own")
        folder.mkdir(parents=True, exist_ok=True)
        _make_environment(folder, [*packages, *own_requirements()])
        _install(folder, ["--no-deps", "--editable", str(REPOSITORY)])
        mark.write_text("\n".join(packages), encoding="utf-8")
    return folder / "venv" / "bin" / "python"


def own_requirements() -> list[str]:
    """Return what this code needs in the environment of a peer.

    Without the client library, of which a peer brings the version that it can use: Quix Streams
    takes none as new as ours.
    """
    return [
        requirement.partition(";")[0].strip()
        for requirement in requires("pitboss") or ()
        if "extra ==" not in requirement and not requirement.startswith(_CLIENT)
    ]


def _make_environment(folder: Path, packages: Sequence[str]) -> None:
    venv.create(folder / "venv", with_pip=True, clear=True)
    _install(folder, packages)
    (folder / _DONE_MARK).touch()


def _install(folder: Path, packages: Sequence[str]) -> None:
    python = str(folder / "venv" / "bin" / "python")
    # Isolated: no variable of ours may lead it to another source.
    pip = [python, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, *packages], cwd=folder)


def _resolve(revision: str) -> str:
    command = ["git", "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"]
    found = subprocess.run(  # noqa: S603 - a fixed command, and git reads the text as a revision
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if found.returncode or revision.startswith("-"):
        raise UsageError(
            f"--base {revision!r}: git knows no such commit here; a checkout with its history is"
            " needed"
        )
    return found.stdout.strip()


def _run(command: Sequence[str], *, cwd: Path) -> bytes:
    done = subprocess.run(command, cwd=cwd, capture_output=True, check=False)  # noqa: S603 - commands of our own
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        raise BenchFailed("\n  ".join([f"{' '.join(command)} failed:", *lines]))
    return done.stdout
