"""Whatever is appended, redriven and dropped, and wherever the normaliser is killed: nothing is lost, and order holds."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from runtime.dead_letters.key_holds import ParkLimits
from tests.support.examples import examples
from tests.support.parking_story import Story

KEYS = ("p", "q")
VALUES = ("good", "good", "bad", "bad", "forged")
"""A player waits behind what is bad; what is forged is a dead letter that holds no player up."""

ACTIONS = st.one_of(
    st.tuples(
        st.just("append"),
        st.sampled_from(KEYS),
        st.sampled_from(VALUES),
        st.sampled_from([1, 1, 1, 400]),
    ),
    st.tuples(st.just("handle"), st.integers(1, 6), st.integers(0, 6), st.integers(0, 8)),
    st.tuples(st.just("redrive"), st.integers(0, 3), st.booleans()),
    st.tuples(st.just("drop"), st.integers(0, 3)),
)

REDRIVE_BEFORE_THE_LAST_ONE = [
    ("append", "p", "bad", 1),
    ("handle", 1, 3, 0),
    ("redrive", 0, False),
    ("append", "p", "good", 400),
    ("handle", 2, 3, 0),
    ("redrive", 1, False),
    ("append", "p", "good", 400),
    ("handle", 3, 5, 0),
    ("handle", 2, 4, 2),
]
"""A redrive moves the hold, a second one moves it again, the hold expires, and all but the poison is read again."""


def act(story: Story, action: tuple[Any, ...]) -> None:
    match action:
        case ("append", key, value, after_ms):
            story.append(
                key, f"bad-{len(story.log)}" if value == "bad" else value, after_ms=after_ms
            )
        case ("handle", count, killed_after, back):
            for step, _ in enumerate(story.steps(count)):
                if step == killed_after:
                    story.crash(story.next_offset - back if story.next_offset > back else 0)
                    return
        case ("redrive", which, is_repaired):
            letters = sorted(story.letters)
            if letters:
                offset = letters[which % len(letters)]
                if is_repaired:
                    story.repaired.add(story.log[offset].value or b"")
                story.redrive(offset)
        case ("drop", which):
            letters = sorted(story.letters)
            if letters:
                story.drop(letters[which % len(letters)])


def settle(story: Story) -> None:
    """Handle everything, with every hold redriven after its repair."""
    while True:
        while story.next_offset < len(story.log):
            story.handle()
        waited_for = [
            hold.waits_for for hold in story.store.holds.values() if hold.until_offset is None
        ]
        if not waited_for:
            return
        for offset in waited_for:
            story.repaired.add(story.log[offset].value or b"")
            story.redrive(offset)


@examples(300)
@given(
    st.lists(ACTIONS, max_size=40),
    st.sampled_from([ParkLimits(), ParkLimits(age_max_ms=600), ParkLimits(records_max=2)]),
)
@example(REDRIVE_BEFORE_THE_LAST_ONE, ParkLimits(age_max_ms=600))
def test_nothing_is_lost_and_the_order_of_a_player_is_kept(actions, limits):
    story = Story(limits)
    for action in actions:
        act(story, action)
    settle(story)
    sent = {offset for offset, _ in story.emitted}
    assert story.store.still_waiting() == []
    assert sent | story.letters.keys() == set(range(len(story.log)))
    full = {offset for offset, code in story.letters.items() if code == "PARK_FULL"}
    assert full.isdisjoint(sent | story.store.parked.keys())
    for key in KEYS:
        plain = [
            offset
            for offset in story.first_emissions(key)
            if story.log[offset].value == b"good"
            and not story.log[offset].headers
            and offset not in full
        ]
        assert plain == sorted(plain)
