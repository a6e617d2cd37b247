"""Recorded slices of raw records come to the outcomes that are kept with them."""

from __future__ import annotations

import pytest

from replay.archive.outcomes import outcomes_file, read_outcomes
from replay.archive.store import LocalStore
from replay.archive.verify import verify_archive
from tests.support.golden_slices import FOLDER, outcomes_now, stories
from tests.support.recorded_slices import recorded_stories

SLICES = sorted(path for path in FOLDER.iterdir() if path.is_dir())


@pytest.mark.parametrize("folder", SLICES, ids=lambda path: path.name)
def test_the_same_records_come_to_the_same_outcomes(folder):
    assert verify_archive(LocalStore(folder)).faults == []
    expected = read_outcomes(outcomes_file(folder))
    assert expected
    assert outcomes_now(folder) == expected


def test_every_story_is_recorded():
    assert [path.name for path in SLICES] == sorted({**stories(), **recorded_stories()})
