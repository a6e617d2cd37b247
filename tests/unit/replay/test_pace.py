"""The pace of a replay: how long it sleeps, and what it reads at a time."""

from __future__ import annotations

import pytest

from replay.log.pace import BLOCK_RECORDS_MAX, NO_BOUND, PacedReader, PacedWriter, ReplayPace


class Clocks:
    """A wall clock that sleeping moves on, and a clock of CPU time."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.cpu_s = 7.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds

    def work(self, seconds: float) -> None:
        self.now_s += seconds
        self.cpu_s += seconds

    def pace(self, records_per_s: float) -> ReplayPace:
        return ReplayPace(records_per_s, lambda: self.now_s, self.sleep, lambda: self.cpu_s)


def test_a_quota_bounds_records_a_second_and_saves_nothing_up():
    clocks = Clocks()
    pace = clocks.pace(1_000)
    for _ in range(3):
        pace.spend(500)
    assert clocks.now_s == pytest.approx(101.5)
    clocks.now_s += 60
    pace.spend(500)
    pace.spend(500)
    assert clocks.slept[-2:] == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize(("records_per_s", "wanted"), [
    (0, BLOCK_RECORDS_MAX), (1_000_000, BLOCK_RECORDS_MAX), (20_000, 1_000), (100, 5), (0.5, 1),
])  # fmt: skip
def test_the_records_of_a_second_are_read_in_twenty_steps(records_per_s, wanted):
    assert ReplayPace(records_per_s).block_records == wanted


@pytest.mark.parametrize(
    ("step_s", "steps", "rests_s"),
    [
        (0.002, 10, [0.006] * 10),  # three times the work: a quarter of a core
        (0.0003, 5, [3 * 0.0012]),  # steps under a millisecond rest together
    ],
)
def test_writing_takes_a_quarter_of_a_core(step_s, steps, rests_s):
    clocks = Clocks()
    pace = clocks.pace(20_000)
    for _ in range(steps):
        clocks.work(step_s)
        pace.rest()
    assert clocks.slept == pytest.approx(rests_s)


def test_work_before_a_wait_for_the_quota_needs_no_further_rest():
    clocks = Clocks()
    pace = clocks.pace(1_000)
    clocks.work(0.1)
    pace.spend(500)
    pace.rest()
    assert clocks.slept == pytest.approx([0.5])


def test_without_a_quota_nothing_sleeps():
    clocks = Clocks()
    pace = clocks.pace(0)
    pace.spend(1_000_000)
    clocks.work(10)
    pace.rest()
    assert not clocks.slept


def test_a_paced_file_holds_what_was_written(tmp_path):
    clocks = Clocks()
    file = tmp_path / "file"
    with PacedWriter(file, clocks.pace(20_000)) as out:
        for part in (b"one ", b"two ", b"three"):
            clocks.work(0.01)
            out.write(part)
    assert clocks.slept == pytest.approx([0.03] * 3)
    with PacedReader(file, NO_BOUND) as opened:
        assert opened.read(4) == b"one "
        buffer = bytearray(4)
        assert opened.readinto(buffer) == 4
        assert buffer == b"two "
        assert opened.read() == b"three"
