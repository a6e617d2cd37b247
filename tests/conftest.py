"""Fixtures live in `fix_*.py` by subject; here is only what concerns every test."""

from __future__ import annotations

import gc
import os
from collections import defaultdict
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from pitboss.embedded import ports
from tests.support.examples import ALL, SOME

pytest_plugins = ["tests.support.fix_stack"]

# A failing example is printed as a decorator that replays it; a slow machine is no failure.
settings.register_profile(
    "pitboss",
    print_blob=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=SOME,
)
# What lands must not depend on luck: CI repeats the same examples, `make test` and `make prove` look for new ones.
settings.register_profile("ci", settings.get_profile("pitboss"), derandomize=True)
settings.register_profile("prove", settings.get_profile("pitboss"), max_examples=ALL)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "pitboss"))


ALONE = ("faults", "prove")
"""Marks of slow tests that share nothing with others of their module."""

SLOW = ("tests/acceptance/test_new_provider.py", "tests/seeded_bugs/")
"""Tests without servers that run whole commands on copies of the project."""

LONG = ("tests/unit/fraud/", "tests/unit/lab/test_simulate.py", "tests/property/")
"""Tests without servers of which some compute for many seconds: begun last, one would be the end of the whole run."""


def pytest_configure() -> None:
    """Give each of xdist's processes ports of its own: two that choose at once could choose the same one."""
    worker, processes = (os.environ.get(f"PYTEST_XDIST_WORKER{name}") for name in ("", "_COUNT"))
    if worker is not None and processes is not None:
        size = len(ports.PORTS) // int(processes)
        first = int(worker.removeprefix("gw")) * size
        ports.PORTS = ports.PORTS[first : first + size]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deal the tests to xdist's processes: what waits for servers first, what shares a fixture together.

    Each process of `--dist worksteal` begins with an equal run of this order, and takes tests from the end of another
    process's run when it has no more. So a slow test is never the last one, and the short ones fill every gap.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if processes == 1:
        return
    together: dict[str, list[pytest.Item]] = defaultdict(list)
    light: list[pytest.Item] = []
    for item in items:
        if _is_any(item, "integration", "prove") or item.nodeid.startswith(SLOW + LONG):
            together[_group_of(item)].append(item)
        else:
            light.append(item)
    # Those of one test first: kills and proofs wait longest. Then the largest groups.
    heavy = sorted(together.values(), key=lambda group: (any(map(_is_alone, group)), len(group)))
    runs = [
        [item for group in heavy[::-1][n::processes] for item in group] for n in range(processes)
    ]
    left = len(items)
    for number, run in enumerate(runs):
        size = left // (processes - number)
        missing = max(0, size - len(run))
        run.extend(light[:missing])
        del light[:missing]
        left -= len(run)
    items[:] = [item for run in runs for item in run]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the modules and thousands of tests out of every collection of garbage, now and later: they stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def _group_of(item: pytest.Item) -> str:
    """What a test should be in one process with: the tests that it shares fixtures with."""
    if _is_any(item, "prove"):
        return item.nodeid
    for fixture in ("door", "installation", "killable_stack", "secured_stack"):
        if fixture in getattr(item, "fixturenames", ()):
            return fixture
    return item.nodeid if _is_alone(item) else item.nodeid.partition("::")[0]


def _is_alone(item: pytest.Item) -> bool:
    return _is_any(item, *ALONE) or item.nodeid.startswith(SLOW)


def _is_any(item: pytest.Item, *marks: str) -> bool:
    return any(item.get_closest_marker(mark) for mark in marks)
