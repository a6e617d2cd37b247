"""What CONTRIBUTING.md says of size, names and language, and no linter holds.

`TIDY_ONLY=runtime/kafka,docs pytest tests/unit/test_tidy.py` looks at these folders only.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = (
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
ONLY = tuple(filter(None, os.environ.get("TIDY_ONLY", "").split(",")))

MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 45
FORMAT_SKIPS_MAX = 15
TRACKED_BYTES_MAX = 512 * 1024
THIN_LINES_MAX, THIN_MODULES_MAX = 60, 10
PARTICIPLES_SHARE_MAX = 0.015

BANNED_WORDS = {
    *("said", "told", "asked", "heard", "begun", "pile", "blow", "hand", "judge", "voice"),
    *("speaker", "fallen", "mended", "nobody", "grave", "burial", "jam", "fate", "sight", "chance"),
}
BANNED_PHRASES = re.compile(
    # `nobody` alone in quotes is the Unix account.
    r"\b(?!(?<=['\"`])nobody['\"`])"
    r"(nobody|somebody|whoever|is no(?! longer\b)|that is none|he|his)\b",
    re.IGNORECASE,
)
RULES_WORDS = {("fraud_agents/detectors/d01_bet_velocity.py", "nobody")}
"""Words of a rule that raised alerts: they are in its digest, which those alerts name."""
IRREGULAR_PARTICIPLES = {
    *("told", "said", "begun", "known", "done", "held", "taken", "gone", "found", "made"),
    *("written", "sent"),
}
VERBS_IN_ED = {"feed", "seed", "need", "speed", "embed", "proceed", "exceed", "succeed", "heed"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def tracked(*patterns: str) -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    return [name for name in names if not ONLY or name.startswith(ONLY)]


@cache
def product() -> dict[str, ast.Module]:
    files = [name for name in tracked("*.py") if name.split("/")[0] in PACKAGES]
    return {name: ast.parse((ROOT / name).read_text()) for name in files}


@cache
def nodes(tree: ast.Module) -> list[ast.AST]:
    """Walk a module once, for all tests: that takes longer than to parse it."""
    return [*ast.walk(tree)]


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in nodes(tree) if isinstance(node, FUNCTIONS))


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (node.end_lineno or 0) - node.lineno + 1
    if ast.get_docstring(node) is not None:
        docstring = node.body[0]
        lines -= (docstring.end_lineno or 0) - docstring.lineno + 1
    return lines


def words_of(identifier: str) -> set[str]:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", identifier)
    return {word.lower() for word in spaced.split("_") if word}


def identifiers(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Names that this module gives: functions, classes, arguments, variables, attributes."""
    for node in nodes(tree):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno


def test_modules_are_one_subject_and_functions_are_read_at_once():
    long = [
        f"{name}: {lines} lines"
        for name in product()
        if (lines := (ROOT / name).read_text().count("\n")) > MODULE_LINES_MAX
    ]
    long += [
        f"{name}:{node.lineno} {node.name}: {lines_of(node)} lines"
        for name, tree in product().items()
        for node in functions(tree)
        if lines_of(node) > FUNCTION_LINES_MAX
    ]
    assert not long, "\n".join(long)


def test_no_identifier_has_a_banned_word():
    banned = [
        f"{name}:{line} {identifier}"
        for name, tree in product().items()
        for identifier, line in identifiers(tree)
        if words_of(identifier) & BANNED_WORDS
    ]
    banned += [name for name in product() if words_of(Path(name).stem) & BANNED_WORDS]
    assert not banned, "\n".join(banned)


def test_product_and_docs_have_no_banned_phrase():
    texts = [name for name in tracked() if name in product() or name.endswith((".md", ".sql"))]
    found = [
        f"{name}:{number} {match.group()}: {line.strip()[:100]}"
        for name in texts
        # A migration is never edited: its checksum is stored.
        if not name.startswith(("tests/", "schemas/providers/")) and "/migrations/" not in name
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1)
        for match in BANNED_PHRASES.finditer(line)
        if (name, match.group()) not in RULES_WORDS
    ]
    assert not found, "\n".join(found)


def test_functions_are_verbs_not_participles():
    names = [(name, node.name) for name, tree in product().items() for node in functions(tree)]
    named = [(file, name, name.strip("_")) for file, name in names if not name.startswith("__")]
    participles = [
        f"{file} {name}"
        for file, name, bare in named
        if "_" not in bare and bare not in VERBS_IN_ED
        if bare.endswith("ed") or bare in IRREGULAR_PARTICIPLES
    ]
    share = len(participles) / max(1, len(named))
    assert share < PARTICIPLES_SHARE_MAX, f"{share:.1%}\n" + "\n".join(participles)


def public(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for node in body:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_"):
            if "overload" not in map(ast.unparse, node.decorator_list):
                yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body)


def test_public_functions_and_classes_say_what_they_are_for_in_a_first_sentence():
    """Hold presence and form here; ruff holds that verbs are imperative."""
    wrong = []
    for name, tree in product().items():
        for node in public(tree.body):
            first = (ast.get_docstring(node) or "").partition("\n")[0]
            if not re.fullmatch(r"[A-Z`].*[.]", first):
                wrong.append(f"{name}:{node.lineno} {node.name}: {first!r}")
    assert not wrong, "\n".join(wrong)


def test_the_formatter_is_switched_off_for_few_tables_only():
    mark = "fmt: " + "skip"
    skips = [name for name in tracked("*.py") for _ in range((ROOT / name).read_text().count(mark))]
    assert len(skips) <= FORMAT_SKIPS_MAX, Counter(skips)


def test_a_class_has_a_name_of_its_own():
    where = defaultdict(list)
    for name, tree in product().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                where[node.name].append(name)
    assert not {name: files for name, files in where.items() if len(files) > 1}


def test_no_tracked_file_is_large():
    sizes = {name: (ROOT / name).stat().st_size for name in tracked()}
    large = {name: size for name, size in sizes.items() if size > TRACKED_BYTES_MAX}
    assert not {name for name in large if ".lock" not in name}


def test_no_file_holds_the_marks_of_an_unfinished_merge():
    """Git commits them without a word, and a file of SQL with them fails only on a server."""
    marks = re.compile(rb"^(<{7}|>{7}) ", re.MULTILINE)
    assert not [name for name in tracked() if marks.search((ROOT / name).read_bytes())]


def is_a_role_of_its_own(name: str) -> bool:
    """`__init__`, detectors, dialects, writers, commands and the three files of a worker role."""
    path = Path(name)
    return path.stem in {"__init__", "__main__", "settings", "handler"} or str(path.parent) in {
        "fraud_agents/detectors",
        "streams/providers",
        "lab/conformance/writers",
        "lab/conformance/examples",
        "pitboss/cli",
        "pitboss/workers",
    }


def test_few_modules_are_scraps_with_a_single_importer():
    modules = {name[:-3].replace("/", ".").removesuffix(".__init__"): name for name in product()}
    importers = defaultdict(set)
    for name, tree in product().items():
        for node in nodes(tree):
            targets = []
            if isinstance(node, ast.ImportFrom) and node.module:
                targets = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            for target in targets:
                if target in modules:
                    importers[modules[target]].add(name)
    thin = [
        f"{name} ← {next(iter(importers[name]))}"
        for name in product()
        if not is_a_role_of_its_own(name)
        and (ROOT / name).read_text().count("\n") <= THIN_LINES_MAX
        and len(importers[name]) == 1
    ]
    assert len(thin) <= (0 if ONLY else THIN_MODULES_MAX), "\n".join(thin)
