"""The feature contract names everything that a detector measures: what is not in it has no agreed meaning."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

from fraud_agents import features, windows
from fraud_agents.features import FEATURES

FRAUD = Path(features.__file__).parent
SOURCES = [*sorted((FRAUD / "detectors").glob("*.py")), FRAUD / "signals.py", FRAUD / "rule_set.py"]
MEASURING = (windows.SlidingWindow, windows.EventWindow)
KEEPING = {"buffers", "restore", "first_offset"}
"""Methods of windows that keep or show their state, and measure nothing."""
HOLDING = {
    "Contribution",
    "ExactSpec",
    "KeyedState",
    "KeyedWindows",
    "Label",
    "Span",
    "WindowEntry",
}
ARRIVING = {"Arrival", "InputId", "OrderedMerge", "Released", "dump_windows", "restore_windows"}
"""Names of the windows that are values, memory or order, not measures."""


def nodes() -> Iterator[tuple[str, ast.AST]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            yield path.name, node


def imported_from(module: str) -> Iterator[tuple[str, str]]:
    for file, node in nodes():
        if isinstance(node, ast.ImportFrom) and node.module == module:
            yield from ((file, alias.name) for alias in node.names)


def window_methods() -> dict[str, set[str]]:
    """The measuring methods by name, with their full names."""
    found: dict[str, set[str]] = {}
    for one in MEASURING:
        for name, method in vars(one).items():
            if inspect.isfunction(method) and not name.startswith("_") and name not in KEEPING:
                found.setdefault(name, set()).add(method.__qualname__)
    return found


def window_calls() -> Iterator[tuple[str, str]]:
    methods = window_methods()
    for file, node in nodes():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = node.func.attr
            # A set's add takes one argument, a window's two or more.
            if name in methods and (name != "add" or len(node.args) > 1):
                yield file, name


def test_every_function_that_a_detector_measures_with_stands_in_the_contract():
    contract = {feature.name for feature in FEATURES}
    used = {
        (file, name)
        for file, name in imported_from("fraud_agents.features")
        if inspect.isfunction(getattr(features, name))
    }
    assert len(used) > 20
    assert [(file, name) for file, name in sorted(used) if name not in contract] == []


def test_every_window_that_a_detector_measures_with_stands_in_the_contract():
    contract = {feature.name for feature in FEATURES}
    called = {name for _, name in window_calls()}
    assert {"add", "peak", "ending", "runs"} <= called
    methods = window_methods()
    missing = {full for name in called for full in methods[name] if full not in contract}
    assert sorted(missing) == []


def test_no_detector_has_another_kind_of_window():
    """A session or a tumbling window would be a measure without a line in the contract."""
    known = {one.__name__ for one in MEASURING} | HOLDING | ARRIVING
    assert sorted(set(imported_from("fraud_agents.windows"))) != []
    assert {name for _, name in imported_from("fraud_agents.windows")} - known == set()


def test_a_line_of_the_contract_names_what_it_measures_and_leaves_nothing_out():
    assert len({feature.name for feature in FEATURES}) == len(FEATURES)
    for feature in FEATURES:
        texts = (feature.clock, feature.bounds, feature.late, feature.currency, feature.nulls)
        assert all(texts), feature.name
        assert feature.meaning.endswith("."), feature.name


def test_every_line_of_the_contract_is_used():
    used = {name for _, name in imported_from("fraud_agents.features")}
    methods = window_methods()
    used |= {full for _, name in window_calls() for full in methods[name]}
    # Features are made of features.
    tree = ast.parse(Path(features.__file__).read_text())
    used |= {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert sorted({feature.name for feature in FEATURES} - used) == []
