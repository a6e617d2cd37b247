"""What is installed is pinned by hash: the lock files agree with pyproject.toml and constraints.txt."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.licences import IMAGE, NOTICE, find_obliging, main, normalise, read_notice
from tests.support.workflow import read_steps, run_step

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "infra/image.lock", "infra/audit.lock")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def versions(name: str) -> dict[str, str]:
    text = (ROOT / name).read_text()
    found = re.findall(r"^([\w.-]+)==([^\s;\\\\]+)", text, flags=re.MULTILINE)
    return {normalise(package): version for package, version in found}


def build_tools() -> set[str]:
    """What the image's script takes out again: it only builds the package."""
    script = (ROOT / "infra" / "install_image.sh").read_text()
    [names] = re.findall(r"pip uninstall --yes (.*)$", script, flags=re.MULTILINE)
    return set(names.split())


def closure(texts: list[str]) -> set[str]:
    """The names of these requirements and of all that they need on this machine."""
    waiting, seen = [Requirement(text) for text in texts], set()
    while waiting:
        one = waiting.pop()
        key = normalise(one.name), frozenset(one.extras)
        if key in seen:
            continue
        seen.add(key)
        for text in importlib.metadata.requires(one.name) or []:
            more = Requirement(text)
            extras = [{"extra": extra} for extra in (*one.extras, "")]
            if more.marker is None or any(more.marker.evaluate(extra) for extra in extras):
                waiting.append(more)
    return {name for name, _ in seen}


def recipe(target: str) -> list[str]:
    """The commands that make a target, as if nothing were there yet."""
    shown = subprocess.run(
        ["make", "--dry-run", "--always-make", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return shown.stdout.splitlines()


def direct(*extras: str) -> set[str]:
    wanted = [*PROJECT["dependencies"]]
    for extra in extras:
        wanted += PROJECT["optional-dependencies"][extra]
    return {normalise(re.split(r"[\[<>=~! ]", text, maxsplit=1)[0]) for text in wanted}


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_of_a_lock_has_a_hash_and_no_host(name):
    text = (ROOT / name).read_text()
    assert "://" not in text, "where it is fetched from is the machine's business"
    entries = re.split(r"^(?=\S)", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(versions(name)) > 10
    assert not [one.split()[0] for one in entries if "--hash=sha256:" not in one]


def test_the_lock_has_what_pyproject_names_in_the_versions_of_the_constraints():
    lock = versions("requirements.lock")
    assert direct(*PROJECT["optional-dependencies"]) - lock.keys() == set(), "run `make lock`"
    assert lock == versions("constraints.txt"), "run `make lock`"


def test_the_image_has_no_tools_and_no_embedded_servers():
    image = versions("infra/image.lock")
    assert direct("replay", "telemetry", "build") - image.keys() == set()
    assert image.items() <= versions("requirements.lock").items()
    shared = direct("replay", "telemetry", "build")
    assert not (direct("embedded", "dev") - shared) & image.keys()


def test_the_image_can_be_built_on_a_base_that_is_named_by_its_digest():
    text = (ROOT / "infra" / "Dockerfile").read_text()
    assert re.findall(r"^FROM (\S+)", text, flags=re.MULTILINE) == ["${PYTHON_IMAGE}"] * 2
    assert text.count("sh infra/install_image.sh /opt/pitboss") == 1
    assert "pip install" not in text
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert "--build-arg PYTHON_IMAGE" in workflow
    label = "org.opencontainers.image.base.name"
    final = text.rpartition("FROM ${PYTHON_IMAGE}")[2]
    assert re.search(
        rf'^ARG PYTHON_IMAGE\nLABEL {label}="\$\{{PYTHON_IMAGE\}}"$', final, re.MULTILINE
    )
    built, _, compared = workflow.partition("--build-arg PYTHON_IMAGE")
    assert "@sha256:[0-9a-f]{64}$" in built
    assert label in compared, "what the image names is compared with what it was built on"


def test_a_known_hole_fails_the_workflow(tmp_path):
    found = run_step("audit", tmp_path, "echo 'aiohttp 1.0 PYSEC-1'; exit 1")
    assert found.returncode != 0
    assert "PYSEC-1" in found.stdout
    assert run_step("audit", tmp_path, "echo 'No known vulnerabilities found'").returncode == 0


@pytest.mark.parametrize("stream", [1, 2])
def test_a_package_without_advisories_is_a_warning_of_the_workflow(tmp_path, stream):
    unknown = "echo 'aiohttp Dependency not found on PyPI and could not be audited' >&"
    found = run_step("audit", tmp_path, f"{unknown}{stream}")
    assert (found.returncode, "::warning::" in found.stdout) == (0, True)
    assert "::warning::" not in run_step("audit", tmp_path, "echo fine").stdout


def test_licences_are_a_step_of_their_own_that_runs_also_where_a_hole_was_found():
    [step] = [step for step in read_steps() if "make licences" in step["run"]]
    assert "make audit" not in step["run"]
    assert "!cancelled()" in step["if"]


def test_notice_names_what_of_the_image_obliges_who_passes_it_on_and_nothing_else():
    notice = read_notice(NOTICE.read_text().splitlines())
    obliging = find_obliging().keys()
    assert {"psycopg", "orjson", "certifi"} <= obliging & versions("infra/image.lock").keys()
    assert notice[IMAGE] == (obliging & versions("infra/image.lock").keys()) - build_tools()


@pytest.mark.parametrize("name", LOCKS)
def test_notice_names_every_distribution_of_a_lock_that_obliges_who_passes_it_on(name):
    listed = set().union(*read_notice(NOTICE.read_text().splitlines()).values())
    obliging = find_obliging().keys() & versions(name).keys()
    assert "certifi" in obliging
    assert obliging - listed == set()


def test_notice_names_nothing_that_is_in_no_lock():
    listed = set().union(*read_notice(NOTICE.read_text().splitlines()).values())
    locked = set().union(*(versions(name).keys() for name in LOCKS))
    assert {"psycopg-binary", "hypothesis", "fqdn"} <= listed
    assert listed - locked == set()


def test_licences_are_held_against_notice_in_the_environment_of_the_audit_too():
    """Its distributions are not installed where this test runs."""
    lines = recipe("licences")
    for python in (".venv/bin/python", ".venv-audit/bin/python"):
        assert f"{python} -m tests.support.licences" in lines


def test_a_licence_that_notice_does_not_name_is_a_failure(tmp_path, monkeypatch, capsys):
    assert main() == 0
    less = tmp_path / "NOTICE"
    less.write_text(re.sub("^  orjson.*$", "", NOTICE.read_text(), flags=re.MULTILINE))
    monkeypatch.setattr("tests.support.licences.NOTICE", less)
    assert main() == 1
    assert (
        capsys.readouterr().out == "NOTICE does not name orjson (MPL-2.0 AND (Apache-2.0 OR MIT))\n"
    )


def test_the_image_is_installed_from_its_lock_and_what_only_builds_is_removed(tmp_path):
    """The script runs with a Python that notes how it is called."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    python.chmod(0o700)
    subprocess.run(["sh", "infra/install_image.sh", str(tmp_path)], cwd=ROOT, check=True)
    first, second, last = (tmp_path / "calls").read_text().splitlines()
    assert first == "-m pip install --require-hashes --no-deps --requirement infra/image.lock"
    assert second == "-m pip install --no-deps --no-build-isolation ."
    assert last.startswith("-m pip uninstall --yes ")
    extras = [*PROJECT["optional-dependencies"]["replay"]]
    extras += PROJECT["optional-dependencies"]["telemetry"]
    needed = closure([*PROJECT["dependencies"], *extras])
    for_others = {"colorama"}  # on Windows
    rest = versions("infra/image.lock").keys() - needed - for_others
    assert rest == build_tools() | {"pip", "setuptools"}


def test_the_list_of_parts_is_of_what_the_image_installs():
    lines = recipe("sbom")
    assert "sh infra/install_image.sh .venv-image" in lines
    [made] = [line for line in lines if "cyclonedx-py" in line]
    assert "cyclonedx-py environment .venv-image/bin/python " in made
    assert made.endswith("--output-file dist/sbom.json")
    assert "requirements.lock" not in "".join(lines), "it has the tools of the development"


def test_what_the_image_is_built_from_is_sent_to_its_builder():
    sent = (ROOT / "infra" / "Dockerfile.dockerignore").read_text().splitlines()
    assert {"!infra/image.lock", "!infra/install_image.sh", "!NOTICE", "!LICENSE"} <= set(sent)
