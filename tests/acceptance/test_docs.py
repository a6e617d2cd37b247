"""The documents are true: what they name exists, and what they list is complete."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from pitboss.settings import (
    read_operator_settings,
    read_settings,
    read_worker_settings,
)
from runtime.telemetry.catalogue import METRICS
from schemas import money
from schemas.errors import PitbossError, RejectCode
from schemas.events import Kind, Outcome
from schemas.topics import catalogue
from streams.providers import fields, signatures
from streams.providers.registry import DIALECTS
from tests.acceptance.documented import (
    ROOT,
    anchors,
    documents,
    links,
    names,
    page,
    prose,
    table_rows,
)
from tests.support.written_docs import WRITTEN, bring_up_to_date

DOCS = ROOT / "docs"
PRODUCT = (
    "schemas",
    "runtime",
    "streams",
    "ledger_sink",
    "fraud_agents",
    "gateway",
    "replay",
    "lab",
    "pitboss",
)
PACKAGES = (*PRODUCT, "infra", "tests")

SOURCES = {".py", ".sql", ".avsc", ".json", ".yml"}
OTHERS_WORDS = {"exactly_once", "consistent_random", "murmur2_random"}  # Faust's, librdkafka's
OTHERS_WORDS |= {"spin_id", "gift_id"}  # the made-up provider's of docs/tutorial/first-adapter.md

every_document = pytest.mark.parametrize(
    "path", documents(), ids=lambda path: str(path.relative_to(ROOT))
)


def test_the_helpers_of_the_first_adapter_exist_and_the_codes_are_those_of_read_json():
    tables = page("first-adapter.md").read_text().partition("The helpers that adapters share")[2]
    helpers, _, codes = tables.partition("`read_json` takes the code")
    modules = (
        "fields",
        "named_ids",
        "references",
        "times",
        "signatures",
        "text_fields",
        "xml_body",
    )
    sources: list[object] = [
        importlib.import_module(f"streams.providers.{name}") for name in modules
    ]
    sources += [money, signatures.Hmac]
    sources += [
        importlib.import_module(f"lab.conformance.writers.{name}") for name in ("encoding", "ids")
    ]
    names = re.findall(r"`(\w+)`", helpers)
    assert len(names) > 30
    assert not [name for name in names if not any(hasattr(source, name) for source in sources)]
    rows = re.findall(r"^\| (`.+`) \| `(\w+)` \|$", codes, re.MULTILINE)
    listed = {name: code for cell, code in rows for name in re.findall(r"`(\w+)`", cell)}
    assert listed == {name: code.value for name, code in fields._CODE_OF_FIELD.items()}


METRIC_NAMES = frozenset(
    name for metric in METRICS for name in (metric.name, metric.prometheus_name)
)


# --- what the documents name ------------------------------------------------------------------------------------------


@every_document
def test_every_relative_link_leads_somewhere(path: Path):
    for target in links(path):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        aim = (path.parent / file).resolve() if file else path
        assert aim.exists(), f"{path.name}: {target}"
        assert aim.is_relative_to(ROOT), f"{path.name}: {target} is outside the project"
        if anchor:
            assert anchor in anchors(aim), f"{path.name}: {target}"


@every_document
def test_every_file_and_module_that_is_named_exists(path: Path):
    for name in names(path):
        if re.fullmatch(r"[\w./-]+/[\w.-]*\.(py|sql|avsc|yml|json|md|toml)", name):
            near = [
                ROOT / name,
                *(ROOT / package / name for package in PACKAGES),
                path.parent / name,
            ]
            assert any(file.exists() for file in near) or name.startswith("faust/"), name
        elif name in METRIC_NAMES:
            continue
        elif re.fullmatch(rf"(?!.*\.v\d+$)({'|'.join(PRODUCT)})(\.\w+)+", name):
            assert is_there(name), name


def is_there(dotted: str) -> bool:
    """Whether a module, or something inside one, has this name."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            if not hasattr(found, name):
                return False
            found = getattr(found, name)
        return True
    return False


@every_document
def test_functions_and_classes_that_are_named_exist(path: Path):
    known = defined_names()
    for name in names(path):
        if match := re.fullmatch(r"([A-Z]\w+)\.(_?[a-z]\w*)(\(\))?", name):
            assert match[1] in known, name
            assert match[2] in known, name
        elif match := re.fullmatch(r"(_[a-z_]+|[a-z]+(_[a-z]+)+)\(\)", name):
            assert match[1] in known or match[1] == "take", name


@every_document
def test_every_identifier_that_is_named_occurs_in_the_sources(path: Path):
    known = source_words() | METRIC_NAMES
    for name in names(path):
        if re.fullmatch(r"_?[a-z]\w*_\w*|_[a-z]\w*", name):
            assert name in known or name in OTHERS_WORDS, name


NAME_IN_FILE = re.compile(
    r"`_?(?:[A-Z]\w*\.)?(_?[a-z]\w*)(?:\(\))?`\s+\(\[([\w/]+\.py)\]\([^)]*\)\)"
)


@every_document
def test_what_is_named_with_its_file_stands_in_that_file(path: Path):
    for name, file in NAME_IN_FILE.findall(prose(path)):
        assert re.search(rf"\b{name}\b", (ROOT / file).read_text()), f"{name} in {file}"


def test_every_table_of_the_ledger_is_explained():
    migrations = "".join(
        file.read_text()
        for file in sorted((ROOT / "ledger_sink" / "store" / "migrations").glob("*.sql"))
    )
    tables = set(re.findall(r"^CREATE TABLE (?!IF)([\w.]+)", migrations, re.MULTILINE))
    assert "transfer" in tables
    explained = set(names(page("architecture.md")))
    assert tables - explained == set()


@cache
def source_words() -> frozenset[str]:
    """Every word of the sources: code, statements, tables, fields of schemas."""
    files = [
        file
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.suffix in SOURCES
    ]
    return frozenset(word for file in files for word in re.findall(r"\w+", file.read_text()))


@cache
def defined_names() -> set[str]:
    found: set[str] = set()
    for package in PRODUCT:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    found.add(node.name)
                elif isinstance(node, ast.AnnAssign | ast.Assign):
                    targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
                    found.update(target.id for target in targets if isinstance(target, ast.Name))
    return found


def test_every_test_that_is_named_exists():
    defined = re.compile(r"^ *(?:async )?def (\w+)\(", re.MULTILINE)
    tests = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in defined.findall(file.read_text())
    }
    named = {
        name for path in documents() for name in names(path) if re.fullmatch(r"test_\w+", name)
    }
    assert named
    assert named <= tests, named - tests


# --- nothing is left out ----------------------------------------------------------------------------------------------


def codes_below(document: Path, heading: str, column: int = 0) -> set[str]:
    return {
        code
        for row in table_rows(document, heading)
        for code in re.findall(r"`([^`]+)`", row[column])
    }


def test_every_reject_code_is_documented_and_no_other():
    assert codes_below(page("outcomes.md"), "Reject codes") == {code.value for code in RejectCode}


def test_every_outcome_is_documented_and_no_other():
    assert codes_below(page("outcomes.md"), "Outcomes") == {outcome.value for outcome in Outcome}


def test_every_reason_that_the_rules_give_is_documented_and_no_other():
    given = set()
    rules = ROOT / "ledger_sink" / "rules"
    others_constants = {
        "accounts",
        "book",
        "debts",
        "journal",
        "open_posting",
    }  # states and kinds, not reasons
    for file in rules.glob("*.py"):
        if file.stem in others_constants:
            continue
        tree = ast.parse(file.read_text())
        given |= {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.fullmatch(r"[A-Z]+(_[A-Z]+)*", node.value)
            and node.value
            not in (
                "REFUSED_",
                "REFUSE",
                "BOOK",
                "SUSPENSE",
            )  # the prefix of outcomes, and policies' words
        }
    assert codes_below(page("outcomes.md"), "Outcomes", column=1) == given


def test_every_kind_is_documented_and_no_other():
    rows = codes_below(page("outcomes.md"), "What each event does")
    assert rows == {kind.value for kind in Kind}


def errors() -> dict[str, set[int]]:
    """Every error class of ours that a process may end with: code → exit codes."""
    for package in PRODUCT:
        for file in sorted((ROOT / package).rglob("*.py")):
            if re.search(r"class \w+\((\w*Error|Fatal|Rejected|Unavailable)\)", file.read_text()):
                importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
    found: dict[str, set[int]] = {}

    def visit(error: type[PitbossError]) -> None:
        if error.__module__.partition(".")[0] in PRODUCT:
            found.setdefault(error.code, set()).add(error.exit_code)
        for child in error.__subclasses__():
            visit(child)

    visit(PitbossError)
    return found


def test_every_error_code_is_documented_with_its_exit_code():
    rows = {
        (name, int(row[0]))
        for row in table_rows(page("command-line.md"), "Exit codes")
        if row[0].isdigit()
        for name in re.findall(r"`([A-Z_]+)`", row[1])
    }
    assert rows == {(name, code) for name, codes in errors().items() for code in codes}


class RecordingEnvironment(dict):
    """Environment that records the names read from it."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def get(self, name, default=None):
        self.names.add(name)
        return super().get(name, default)


def test_the_environment_is_documented_as_it_is_read():
    environment = RecordingEnvironment({})
    read_settings(environment)
    read_worker_settings(environment)
    read_operator_settings(environment)
    documented = codes_below(page("configuration.md"), "Settings")
    assert documented | {"XDG_CACHE_HOME"} == environment.names
    assert "`XDG_CACHE_HOME`" in page("configuration.md").read_text()


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_written_from_the_code_is_current(path: Path):
    assert path.read_text() == bring_up_to_date(path), "run `make docs`"


def test_every_page_is_listed():
    index = DOCS / "README.md"
    listed = {index, *pages_linked_from(index)}
    for page_ in list(listed):
        if page_.name == "README.md":
            listed |= pages_linked_from(page_)
    unlisted = set(DOCS.rglob("*.md")) - listed
    assert not unlisted, f"docs/README.md does not lead to {unlisted}"


def pages_linked_from(path: Path) -> set[Path]:
    files = (target.partition("#")[0] for target in links(path))
    return {(path.parent / file).resolve() for file in files if file.endswith(".md")}


def test_every_topic_is_documented():
    text = (page("consumers.md")).read_text()
    ours = {
        topic.name
        for topic in catalogue(DIALECTS)
        if not topic.name.endswith(".dlt") and "provider." not in topic.name
    }
    assert {name for name in ours if f"`{name}`" not in text} == set()


def test_every_provider_is_documented():
    for name in DIALECTS:
        file = DOCS / "reference" / "providers" / f"{name}.md"
        assert file.exists(), f"{name} has no page: write {file.relative_to(ROOT)}"
        assert f"`provider.{name}.raw.v1`" in file.read_text(), (
            f"{file.relative_to(ROOT)} does not name its topic"
        )
