"""When the keeper starts servers that have ended: with space, and after longer and longer waits."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pitboss.embedded import keeper as keeper_module
from pitboss.embedded.errors import StackError
from pitboss.embedded.keeper import FREE_MIN_BYTES, KeeperPolicy, StackKeeper


def starts(policy: KeeperPolicy, until_s: int, free: int = FREE_MIN_BYTES) -> list[int]:
    return [second for second in range(until_s) if policy.may_start(second, free)]


def test_the_first_start_comes_at_once_and_each_other_later():
    assert starts(KeeperPolicy(), 130) == [0, 2, 6, 14, 30, 62, 122]


def test_nothing_is_started_without_space():
    policy = KeeperPolicy()
    assert starts(policy, 100, FREE_MIN_BYTES - 1) == []
    assert policy.may_start(100.0, FREE_MIN_BYTES)


def test_servers_that_have_run_for_long_are_started_at_once_again():
    policy = KeeperPolicy()
    assert starts(policy, 20) == [0, 2, 6, 14]
    assert policy.may_start(1_000.0, FREE_MIN_BYTES)
    assert not policy.may_start(1_001.0, FREE_MIN_BYTES)
    assert policy.may_start(1_002.0, FREE_MIN_BYTES)


class Servers:
    settings = SimpleNamespace(home=Path("home"))

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.is_down = self.fails = False
        self.starts = 0

    def ended_servers(self) -> list[str]:
        return self.ended

    def revive(self, _: Any) -> bool:
        if self.fails:
            raise StackError("no")
        self.starts += 1
        self.ended = []
        return not self.is_down


@pytest.fixture
def scene(monkeypatch):
    free = [FREE_MIN_BYTES]
    monkeypatch.setattr(keeper_module, "free_bytes", lambda _: free[0])
    servers = Servers()
    lines: list[str] = []
    stack: Any = servers
    return servers, StackKeeper(stack, lines.append), lines, free


def test_a_full_disk_is_told_once_a_minute_and_waited_for(scene):
    servers, keeper, lines, free = scene
    keeper._look(0.0)
    assert lines == []
    servers.ended, free[0] = ["kafka"], 5 * 1024**2
    for second in range(0, 90, 2):
        keeper._look(float(second))
    assert servers.starts == 0
    assert lines == ["ended: kafka; home has 5 MB free, and a start needs 100"] * 2
    free[0] = FREE_MIN_BYTES
    keeper._look(90.0)
    assert (servers.starts, lines[2:]) == (
        1,
        ["ended: kafka; starting again", "started again: kafka"],
    )


def test_what_was_stopped_meanwhile_does_not_run_again(scene):
    servers, keeper, lines, _ = scene
    servers.ended, servers.is_down = ["kafka", "postgres"], True
    keeper._look(0.0)
    assert lines == ["ended: kafka, postgres; starting again"]
