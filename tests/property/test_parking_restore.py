"""A database that was restored to any moment has the same records waiting again as before the restore."""

from __future__ import annotations

import asyncio
import copy

from hypothesis import given, settings
from hypothesis import strategies as st

from replay.recovery.held import HoldRules, RejectedThen, park_again
from runtime.dead_letters.key_holds import ParkLimits
from schemas.events import DeadLetter, Position
from tests.property.test_parking_crashes import ACTIONS, act
from tests.support.memory_log import MemoryLog, MemoryRecord
from tests.support.parking_story import PARTITION, TOPIC, MemoryStore, Story

LIMITS = ParkLimits(records_max=4, age_max_ms=300)


def letters_of(story: Story) -> list[DeadLetter]:
    return [
        DeadLetter(
            source=Position(TOPIC, PARTITION, offset),
            record_index=0,
            key=None,
            value=None,
            headers=[],
            source_timestamp=0,
            code=code,
            detail="",
            stage="normalise",
            code_version="",
            player_id=(story.log[offset].key or b"").decode(),
        )
        for offset, code in story.letters.items()
    ]


def log_of(story: Story) -> MemoryLog:
    rows = [
        MemoryRecord(one.offset, one.timestamp, one.key, one.value, one.headers)
        for one in story.log
    ]
    return MemoryLog({TOPIC: {PARTITION: rows}}, block_records=3)


def open_holds(store: MemoryStore):
    return {
        hold.from_offset: hold.waits_for
        for hold in store.holds.values()
        if hold.until_offset is None
    }


@settings(max_examples=200, deadline=None)
@given(st.lists(ACTIONS, max_size=25), st.integers(0, 25), st.integers(0, 5))
def test_what_waits_after_a_restore_is_what_waited_before_it(actions, moment, back):
    story = Story(LIMITS)
    restored, reached = copy.deepcopy(story.store), 0
    for number, action in enumerate(actions):
        if action[0] == "redrive":
            # A letter that a killed worker wrote, of a record that its repaired successor can read,
            # would begin a hold here that was never there.
            story.handle()
        act(story, action)
        if number == moment:
            restored, reached = copy.deepcopy(story.store), story.next_offset
    story.handle()
    since_ms = story.log[max(0, reached - back)].timestamp if reached < len(story.log) else 0
    counts = asyncio.run(
        park_again(
            restored,
            RejectedThen(letters_of(story)),
            HoldRules(story.providers, LIMITS),
            log_of(story),
            {TOPIC: {PARTITION: story.next_offset}},
            since_ms,
        )
    )
    assert restored.still_waiting() == story.store.still_waiting()
    assert open_holds(restored) == open_holds(story.store)
    assert counts.read <= len(story.log)
