"""A provider is added by its own files and one row: docs/tutorial/first-adapter.md, followed in a copy of the project."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pitboss.cli.main import cli
from schemas.errors import UsageError
from tests.acceptance.documented import ROOT, page, session

HOW_TO = page("first-adapter.md")
COPIED = (
    "schemas",
    "runtime",
    "streams",
    "ledger_sink",
    "fraud_agents",
    "gateway",
    "replay",
    "lab",
    "pitboss",
    "tests",
    "docs",
)
PROVIDERS_PAGE = "docs/reference/providers/README.md"
REGISTRY = "streams/providers/versions.toml"
PYTHON = sys.executable

_FILE = re.compile(r"^```\w+ (?P<path>\w+/[\w./]+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


def files_of_the_how_to() -> dict[str, str]:
    """Return the how-to's files by path: its blocks with a path behind their language."""
    return {match["path"]: match["body"] for match in _FILE.finditer(HOW_TO.read_text())}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Copy the project without leftovers of tests; compiled files stay valid, by the files' times."""
    # Python compiles into a file of another name and renames it: tests that run beside are just doing so.
    ignored = shutil.ignore_patterns(".hypothesis", "*.pyc.*")
    for folder in COPIED:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def run(copy: Path, *arguments: str) -> str:
    """Run a command in the copy; its modules come before the installed ones."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "PITBOSS_HOME": str(copy / ".pitboss")}
    for name in ("PITBOSS_KAFKA", "PITBOSS_DATABASE", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):
        environment.pop(name, None)
    done = subprocess.run(
        [PYTHON, "-m", *arguments],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def pitboss(copy: Path, *arguments: str) -> str:
    return run(copy, "pitboss.cli.main", *arguments)


def digest(copy: Path) -> dict[str, bytes]:
    kept = (path for path in copy.rglob("*") if path.is_file())
    return {
        str(path.relative_to(copy)): path.read_bytes()
        for path in kept
        if not {"__pycache__", ".hypothesis", ".pitboss"} & set(path.parts)
    }


def check_conformance(copy: Path, name: str) -> None:
    """Check that suite, sandbox and drift find the adapter and its writer, and that its tests pass."""
    tests = ("tests/contract", "tests/unit/lab", "tests/unit/providers", "tests/unit/drift")
    chosen = ("-m", "not prove and not integration", "-k", name)
    out = run(copy, "pytest", "-q", "-p", "no:cacheprovider", "-n0", *tests, *chosen)
    [passed] = re.findall(r"(\d+) passed", out)
    assert int(passed) > 28, out
    assert "skipped" not in out


def check_layers(copy: Path) -> None:
    """Check the layers, as `make lint` does; import-linter has no module to run."""
    checked = (
        "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    )
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run(
        [PYTHON, "-c", checked],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def check_documentation(copy: Path, name: str) -> None:
    """Check that the provider has a page, and that what it names and links to exists."""
    checks = f"every_provider_is_documented or providers/{name}.md or providers/README.md"
    out = run(
        copy,
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-n0",
        "tests/acceptance/test_docs.py",
        "-k",
        checks,
    )
    [passed] = re.findall(r"(\d+) passed", out)
    assert int(passed) >= 5, out


@pytest.mark.timeout(
    1_200
)  # fifteen commands, 20 s of CPU: a quarter of an hour beside 25 other processes
def test_a_provider_made_by_the_how_to_needs_its_own_files_and_one_row(copy):
    before = digest(copy)
    printed = pitboss(copy, "providers", "new", "luckywheel", "--write")
    assert printed == session(HOW_TO, "pitboss providers new luckywheel")
    for path, body in files_of_the_how_to().items():
        written = (copy / path).read_text()  # `providers new` wrote it
        before_the_row = written[: written.rindex("[[version]]")] if path == REGISTRY else ""
        (copy / path).write_text(before_the_row + body)
    run(copy, "tests.support.written_docs")  # `make docs`
    after = digest(copy)

    changed = {path for path in before if before[path] != after.get(path)}
    assert changed == {REGISTRY, PROVIDERS_PAGE}
    assert all("luckywheel" in path for path in set(after) - set(before))
    assert after[REGISTRY].startswith(before[REGISTRY])
    old, new = (tomllib.loads(files[REGISTRY].decode())["version"] for files in (before, after))
    assert new[:-1] == old
    assert "EDIT" not in "".join(files_of_the_how_to().values())

    check_conformance(copy, "luckywheel")
    check_documentation(copy, "luckywheel")
    sources = [path for path in after if "luckywheel" in path and path.endswith(".py")]
    run(copy, "ruff", "check", "--no-cache", *sources)
    run(copy, "ruff", "format", "--check", "--no-cache", *sources)
    check_layers(copy)
    run(copy, "mypy", "--no-incremental", "--follow-imports=silent", *sources)
    fuzzed = json.loads(
        pitboss(copy, "providers", "fuzz", "--provider", "luckywheel", "--count", "2000", "--json")
    )
    assert fuzzed["exceptions"] == fuzzed["unaccounted"] == fuzzed["inexact"] == 0
    assert fuzzed["repacked"] > 0 == fuzzed["repacked_differences"]
    assert fuzzed["mirrored"] > 0 == fuzzed["mirrored_differences"]
    assert fuzzed["accepted"] > 200
    [row] = [
        row
        for row in json.loads(pitboss(copy, "providers", "list", "--json"))
        if row["provider"] == "luckywheel"
    ]
    assert (row["version"], row["state"]) == ("1", "live")
    topics = (
        "from streams.providers.registry import DIALECTS; from schemas.topics import catalogue; "
    )
    names = subprocess.run(
        [PYTHON, "-c", topics + "print([topic.name for topic in catalogue(DIALECTS)])"],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "'provider.luckywheel.raw.v1'" in names
    assert "'provider.luckywheel.raw.v1.dlt'" in names


@pytest.mark.prove
def test_what_is_written_conforms_as_it_is(copy):
    name = "a_provider_with_a_very_long_name"  # the longest name allowed: no line of the templates grows too long with it
    pitboss(copy, "providers", "new", name, "--write")
    written = [path for path in digest(copy) if name in path]
    run(copy, "tests.support.written_docs")
    assert len(written) == 6
    check_conformance(copy, name)
    check_documentation(copy, name)
    sources = [path for path in written if path.endswith(".py")]
    run(copy, "ruff", "check", "--no-cache", *sources)
    run(copy, "ruff", "format", "--no-cache", "--check", *sources)
    run(
        copy,
        "mypy",
        "--no-incremental",
        "--follow-imports=silent",
        *[path for path in sources if "tests/" not in path],
    )


@pytest.mark.prove
def test_an_adapter_that_is_wrong_does_not_conform(copy):
    pitboss(copy, "providers", "new", "acme", "--write")
    adapter = copy / "streams" / "providers" / "acme.py"
    adapter.write_text(
        adapter.read_text()
        .replace('"game"', '"round"')
        .replace("text_of(call.id, ", "str(call.at or ")
    )
    with pytest.raises(AssertionError, match="failed"):
        check_conformance(copy, "acme")


@pytest.mark.prove
def test_an_adapter_without_examples_does_not_conform(copy):
    pitboss(copy, "providers", "new", "acme", "--write")
    (copy / "lab" / "conformance" / "examples" / "acme.py").unlink()
    with pytest.raises(AssertionError, match="has no examples"):
        check_conformance(copy, "acme")


def test_nothing_is_written_over(copy, tmp_path_factory):
    """Run in this process, with the folder to write to: the test above runs it from the checkout itself."""

    def new(*arguments: str, root: Path = copy) -> Result:
        return CliRunner().invoke(cli, ["providers", "new", *arguments, "--root", str(root)])

    before = digest(copy)
    for name, complaint in (
        ("hub88", "there is"),
        ("Hub", "cannot be"),
        ("examples", "cannot be"),
        ("x", "cannot be"),
    ):
        refused = new(name)
        assert refused.exit_code == UsageError.exit_code
        assert complaint in refused.stderr
    elsewhere = new("acme", root=tmp_path_factory.mktemp("elsewhere"))
    assert elsewhere.exit_code == UsageError.exit_code
    assert "is not a checkout" in elsewhere.stderr
    for options in ([], ["--dry-run"], ["--dry-run", "--write"]):
        printed = new("acme", *options)
        assert printed.exit_code == 0, printed.output
        assert "would write  streams/providers/acme.py" in printed.stdout
        assert 'provider = "acme"' in printed.stdout
        assert digest(copy) == before
    assert new("acme", "--write").exit_code == 0
    after = digest(copy)
    assert len(set(after) - set(before)) == 6
    assert {path for path in before if after[path] != before[path]} == {REGISTRY}
    assert new("acme", "--write").exit_code == UsageError.exit_code
