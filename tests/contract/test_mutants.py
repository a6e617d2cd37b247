"""Adapters with one fault each: the conformance suite finds every fault, wherever it changes anything.

A few of them on three adapters run with all tests, the whole set in `make prove`.
"""

from __future__ import annotations

from functools import cache

import pytest

from lab.conformance.adapters import AdapterUnderTest, adapter_of, registered_versions
from lab.conformance.mutants import MUTANTS, Mutant, applies, apply_mutant
from lab.conformance.suite import find_fault

ADAPTERS = [adapter_of(version.dialect) for version in registered_versions()]
FAST = (
    *("a lost item", "a win not tied to its bet", "a tenth of each amount"),
    *("an identity with the offset", "time in another zone", "answers from the first result"),
    *("what comes back is noted", "a balance in another unit"),
)
SOME = ("adyen/1", "hub88/1", "pgsoft/1")
BY_NAME = {mutant.name: mutant for mutant in MUTANTS}


def survivors(mutant: Mutant, adapters: list[AdapterUnderTest]) -> tuple[int, list[str]]:
    """Return how many adapters the fault changes, and those whose suite does not notice."""
    mutated = [made for each in adapters if applies(made := apply_mutant(mutant, each), each)]
    return len(mutated), [each.name for each in mutated if not find_fault(each)]


@cache
def right(name: str) -> str:
    return next(find_fault(each) for each in ADAPTERS if each.name == name)


@pytest.mark.parametrize("name", FAST)
def test_a_fault_is_found_in_some_adapters(name: str) -> None:
    some = [each for each in ADAPTERS if each.name in SOME]
    tried, alive = survivors(BY_NAME[name], some)
    assert tried
    assert alive == []


@pytest.mark.parametrize("name", SOME)
def test_without_a_fault_nothing_is_found(name: str) -> None:
    assert right(name) == ""


@pytest.mark.prove
@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda each: each.name)
def test_no_adapter_has_a_fault(adapter: AdapterUnderTest) -> None:
    assert right(adapter.name) == ""


@pytest.mark.prove
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_fault_is_found_in_every_adapter_that_it_changes(mutant: Mutant) -> None:
    tried, alive = survivors(mutant, ADAPTERS)
    assert tried, "a fault that changes nothing shows nothing"
    assert alive == []


def test_the_names_of_faults_are_their_own() -> None:
    assert len(BY_NAME) == len(MUTANTS)
