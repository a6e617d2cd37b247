"""Figures of `pitboss bench balance`, and what it takes for a wrong answer."""

from __future__ import annotations

import json
import random

import pytest

from lab.bench.balance import AnswerTimes, BalanceFigures, MadeLog, PastQuestion, _check
from lab.bench.machine import Machine
from lab.bench.processes import BenchFailed
from lab.bench.report import BenchEnvironment
from runtime.kafka.partitioner import partition_for

MACHINE = Machine("a CPU", 2, 8.0, "Linux 6", "CPython 3.11", {"aiokafka": "0.14"}, 0.5)
LIVE = AnswerTimes([0.5, 0.7, 0.6], [0.1, 0.3, 0.2], [0.4, 0.4, 0.4])


def figures(archived: AnswerTimes) -> BalanceFigures:
    return BalanceFigures(BenchEnvironment(MACHINE, "abc1234", {}), 9, 12, LIVE, archived)


def test_the_object_has_medians_and_the_slowest():
    found = json.loads(json.dumps(figures(AnswerTimes([0.9], [4.9], [0.5])).as_json()))
    assert found["client_s"] == {"p50": 0.6, "max": 0.7}
    assert found["archive_client_s"] == {"p50": 0.9, "max": 0.9}
    assert found["server_ms"] == {"p50": 0.25, "max": 4.9}
    assert found["planning_ms"] == {"p50": 0.4, "max": 0.5}
    assert (found["questions"], found["holds"]) == (3, True)
    assert "0.6 s" in [row.value for row in figures(LIVE).rows()]


@pytest.mark.parametrize(
    "archived", [AnswerTimes([1.0], [1.0], [0.5]), AnswerTimes([0.2], [5.0], [0.5])]
)
def test_one_slow_answer_misses_the_target(archived):
    assert figures(LIVE).holds
    assert not figures(archived).holds


def test_a_question_knows_the_offset_of_its_time():
    log, player = MadeLog(3), "player-1"
    log.players = [player]
    times = log.times_ms[partition_for(player.encode(), 3)]
    times += [1_000 + 10 * n for n in range(101)]
    rng = random.Random(7)
    for _ in range(200):
        question = log.draw(rng, first=0.5, last=1)
        assert 1_500 <= question.at_ms < 2_000
        assert times[question.next_offset - 1] <= question.at_ms < times[question.next_offset]


def test_an_answer_of_another_version_is_not_measured():
    question = PastQuestion("p", 1_000, 7)
    row = (True, "EUR", 2, 3, 100, 0, 0, "id", 0, 6)
    _check(question, [{"currency": "EUR", "version": 3}], [row])
    _check(question, [], [(True, "EUR", 2, 0, *[None] * 6)])
    for printed in ([], [{"currency": "EUR", "version": 4}]):
        with pytest.raises(BenchFailed, match="the ledger has"):
            _check(question, printed, [row])
