"""What CONTRIBUTING.md says of the size of things, and no linter holds."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "schemas",
    "runtime",
    "streams",
    "ledger_sink",
    "fraud_agents",
    "replay",
    "lab",
    "pitboss",
)
MODULE_LINES_MAX = 350
FUNCTION_LINES_MAX = 40


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_and_functions_are_short_enough_to_be_read_at_once(package):
    files = [*(ROOT / package).rglob("*.py")]
    assert files
    for file in files:
        text = file.read_text()
        assert text.count("\n") <= MODULE_LINES_MAX, file
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                assert lines <= FUNCTION_LINES_MAX, f"{file}:{node.lineno} {node.name}: {lines} lines"
