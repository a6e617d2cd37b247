"""Every script of findings/ has the form that its README describes. None is run: they install packages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.test_tidy import BANNED_PHRASES, PACKAGES

FINDINGS = Path(__file__).parents[2] / "findings"
SCRIPTS = sorted(set(FINDINGS.glob("*.sh")) - {FINDINGS / "lib.sh"})
FIELDS = ("Behaviour", "Surprise", "Versions", "Source", "Right")
INSTALLED = re.compile(r"^install (.+)$", re.MULTILINE)
PINNED = re.compile(r"\"?[A-Za-z0-9-]+(\[[a-z,]+\])?==[0-9][0-9.]*\"?")
PRODUCT = re.compile(rf"\b(?:import|from) (?:{'|'.join(PACKAGES)})\b|PYTHONPATH")
INDEX_HOST = re.compile(r"--(?:extra-)?index-url|--find-links", re.IGNORECASE)


@pytest.fixture(params=SCRIPTS, ids=lambda script: script.stem)
def text(request):
    return request.param.read_text()


def test_there_are_scripts():
    assert len(SCRIPTS) >= 10


def test_the_comment_on_top_has_every_field(text):
    top = text.partition("set -euo pipefail")[0]
    found = re.findall(r"^# ([A-Z][a-z]+): \S", top, re.MULTILINE)
    assert tuple(found) == FIELDS
    assert all(line.startswith("#") for line in top.splitlines())


def test_it_installs_pinned_packages_and_runs_without_the_product(text):
    [packages] = INSTALLED.findall(text)
    assert all(PINNED.fullmatch(package) for package in packages.split()), packages
    assert not PRODUCT.search(text)
    assert not INDEX_HOST.search(text)


def test_every_pinned_version_is_named_on_top(text):
    top = " ".join(text.partition("set -euo pipefail")[0].replace("\n#", " ").split())
    [packages] = INSTALLED.findall(text)
    for package in packages.replace('"', "").split():
        name, _, version = package.partition("==")
        assert re.search(rf"{re.escape(name.split('[')[0])} {re.escape(version)}", top), package


def test_its_output_is_compared(text):
    assert 'source "$(dirname "$0")/lib.sh"' in text
    assert text.index("observe") < text.index("\nexpect <<'TEXT'\n")
    assert len(text.partition("\nexpect <<'TEXT'\n")[2].splitlines()) > 1


def test_its_language_is_plain(text):
    assert not BANNED_PHRASES.findall(text)
    assert max(map(len, text.splitlines())) <= 110


def test_it_can_be_run(text, request):
    script = FINDINGS / f"{request.node.callspec.id}.sh"
    assert script.stat().st_mode & 0o111


def test_the_temporary_folder_is_removed():
    helpers = (FINDINGS / "lib.sh").read_text()
    assert "mktemp -d" in helpers
    assert "trap clean_up EXIT" in helpers
    assert not INDEX_HOST.search(helpers)


def test_the_index_names_every_script():
    listed = re.findall(r"\]\(([a-z0-9.-]+\.sh)\)", (FINDINGS / "README.md").read_text())
    assert sorted(listed) == sorted([*(script.name for script in SCRIPTS), "lib.sh"])
