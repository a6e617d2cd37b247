"""What is installed is pinned by hash: the lock files agree with pyproject.toml and constraints.txt."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "infra/image.lock", "infra/audit.lock")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def versions(name: str) -> dict[str, str]:
    text = (ROOT / name).read_text()
    found = re.findall(r"^([\w.-]+)==([^\s;\\\\]+)", text, flags=re.MULTILINE)
    return {normalise(package): version for package, version in found}


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
    assert text.count("--require-hashes") == 1
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
