"""A worker that is killed between any two steps of a batch: no record is left without its event or its dead letter."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.dead_letters.key_holds import ParkLimits, PartitionHolds
from schemas.errors import RejectCode, Unavailable
from streams.normalise.handler import create_handler
from streams.normalise.mapping.normaliser import RejectedItem
from streams.normalise.parking import BatchSplit
from streams.normalise.stats import NormaliseStats
from tests.support.parking_story import Story


def _killed_after(story: Story, step: int, count: int) -> None:
    """Handle some records, and be gone after so many steps of it; the successor begins where they begin."""
    for number, _ in enumerate(story.steps(count)):
        if number == step:
            story.crash(story.next_offset)
            return


# After the reading, the events, what begins to wait, the letters, and what has gone on.
STEPS = range(5)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("end", ["redrive", "drop", "expiry"])
@pytest.mark.parametrize("value", ["forged", "bad-1"])
def test_what_went_on_and_cannot_be_read_has_a_dead_letter_wherever_the_worker_is_killed(
    value, end, step
):
    story = Story(ParkLimits(age_max_ms=1_000))
    for each in ("bad-0", value, "c"):
        story.append("p", each)
    story.handle()
    story.repaired.add(b"bad-0")
    if end == "redrive":
        story.redrive(0)
    elif end == "drop":
        story.drop(0)
    else:
        story.append("q", "late", after_ms=2_000)
    _killed_after(story, step, 1)
    story.handle()
    assert story.letters.keys() == {0, 1}
    [hold] = story.store.holds.values()
    if value == "bad-1" and end != "expiry":
        assert (hold.waits_for, hold.until_offset) == (1, None)
        assert story.store.still_waiting() == [2]
        story.drop(1)
        story.handle()
    assert hold.until_offset is not None
    assert story.store.still_waiting() == []
    assert 2 in story.first_emissions("p")


@pytest.mark.parametrize("step", STEPS)
def test_a_hold_that_begins_and_moves_in_one_batch_is_the_same_when_it_is_read_again(step):
    story = Story()
    for value in ("bad-0", "bad-1", "c"):
        story.append("p", value)
    again = story.redrive(0)  # which cannot be read this time either
    story.append("p", "d")
    _killed_after(story, step, 5)
    story.handle()
    [hold] = story.store.holds.values()
    assert story.letters.keys() == {0, again}, (
        "the first one was made to wait behind its own redrive"
    )
    assert hold.waits_for == again
    assert story.store.still_waiting() == [1, 2, 4]


@pytest.mark.parametrize("step", STEPS)
def test_a_repaired_poison_that_is_read_again_moves_its_hold_to_the_next_one(step):
    story = Story()
    for value in ("bad-0", "bad-1", "c"):
        story.append("p", value)
    _killed_after(story, step, 3)
    story.repaired.add(b"bad-0")
    story.handle()
    assert [hold.waits_for for hold in story.store.holds.values() if hold.until_offset is None] == [
        1
    ]
    story.crash(story.next_offset)  # and the successor knows it from the table
    story.drop(1)
    story.handle()
    assert story.store.still_waiting() == []
    assert story.first_emissions("p") == [0, 3, 2]


@pytest.mark.parametrize("back", range(1, 6))
def test_a_redrive_that_moved_its_hold_is_not_parked_when_it_is_read_again_after_the_end(back):
    story = Story(ParkLimits(age_max_ms=600))
    story.append("p", "bad-0")
    first = story.redrive(0)  # it moves the hold to itself, and the next redrive moves it again
    waiting = story.append("p", "c", after_ms=400)
    story.redrive(first)
    late = story.append("p", "d", after_ms=400)
    story.handle()
    [hold] = story.store.holds.values()
    assert (hold.until_offset, hold.ended_by) == (late, "EXPIRY")
    letters = dict(story.letters)
    story.crash(late + 1 - back)
    story.handle()
    assert story.store.still_waiting() == []
    assert story.store.parked.keys() == {waiting}
    assert story.letters == letters


@pytest.mark.parametrize("step", STEPS)
def test_a_redrive_that_let_some_go_on_is_not_refused_for_want_of_room_when_it_is_read_again(step):
    story = Story(ParkLimits(records_max=1))
    for value in ("bad-0", "bad-1", "too-many"):
        story.append("p", value)
    story.handle()
    assert story.letters == {0: "BAD_AMOUNT", 2: "PARK_FULL"}
    story.repaired.add(b"bad-0")
    redriven = story.redrive(0)  # it can be read, and 1 cannot: the hold waits for that one
    story.handle()
    story.redrive(1)
    _killed_after(story, step, 1)
    story.crash(redriven)
    story.handle()
    assert story.letters.keys() == {0, 1, 2, redriven + 1}
    assert redriven in story.first_emissions("p")


class Recorder:
    """Stands for the broker and the table alike; notes each call, and may be away at one of them."""

    def __init__(self, split: BatchSplit, away_at: str | None = None) -> None:
        self.done: list[str] = []
        self._split, self._away_at = split, away_at

    async def split(self, _: Any) -> BatchSplit:
        return self._split

    def __getattr__(self, name: str) -> Any:
        async def note(*_: Any) -> None:
            if name == self._away_at:
                raise Unavailable(name)
            self.done.append(name)

        return note


@pytest.mark.parametrize("away_at", [None, "ensure_topic", "save_parked", "publish_all"])
async def test_a_batch_is_made_durable_in_the_order_of_the_stories(away_at):
    story = Story()
    story.append("p", "bad-0")
    batch = story.batch(1)
    split = BatchSplit(
        batch,
        PartitionHolds(ParkLimits()),
        [(batch.records[0], [RejectedItem(RejectCode.BAD_AMOUNT, "no", None, "p")])],
    )
    both: Any = Recorder(split, away_at)
    handle = create_handler(both, both, "t", NormaliseStats(), parking=both)
    order = ["ensure_topic", "save_parked", "publish_all", "save_released"]
    if away_at is None:
        await handle(batch)
        assert both.done == order
    else:
        with pytest.raises(Unavailable, match=away_at):
            await handle(batch)
        assert both.done == order[: order.index(away_at)]
