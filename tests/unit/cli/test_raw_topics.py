"""Whose raw topics are read, and how many partitions each has: what is asked for against what is stored."""

from __future__ import annotations

import pytest

from pitboss.ops.raw_topics import RawTopics, check_settings, choose
from pitboss.settings import read_worker_settings, worker_environment
from schemas.errors import UsageError
from schemas.topics import RAW_PARTITIONS_DEFAULT
from streams.providers.registry import DIALECTS
from tests.unit.workers.test_worker import RUNTIME

SOME = RawTopics(frozenset({"house", "hub88"}), 4)


@pytest.mark.parametrize(
    ("stored", "asked", "chosen"),
    [
        (None, {}, RawTopics()),
        (None, {"providers": ["hub88"]}, RawTopics(frozenset({"hub88"}))),
        (None, {"partitions": 3}, RawTopics(partitions=3)),
        (None, {"existing": [24, 24, 12]}, RawTopics(partitions=24)),
        (None, {"existing": [24], "partitions": 24}, RawTopics(partitions=24)),
        (SOME, {}, SOME),
        (SOME, {"partitions": 4}, SOME),
        (SOME, {"providers": ["house"]}, RawTopics(frozenset({"house"}), 4)),
        (SOME, {"providers": ["all"]}, RawTopics(None, 4)),
    ],
)
def test_what_is_asked_for_wins_over_what_is_stored_and_the_count_is_kept(stored, asked, chosen):
    assert choose(stored, **asked) == chosen


@pytest.mark.parametrize(
    ("stored", "asked", "sentence"),
    [
        (SOME, {"partitions": 6}, "is 6, and the raw topics of this installation have 4"),
        (None, {"partitions": 6, "existing": [24]}, "have 24 partitions"),
        (None, {"providers": ["hub8"]}, "did you mean 'hub88'"),
        (None, {"providers": []}, "names no provider"),
        (None, {"providers": ["all", "hub88"]}, "beside others"),
    ],
)
def test_another_count_and_an_unknown_name_are_refused(stored, asked, sentence):
    with pytest.raises(UsageError, match=sentence):
        choose(stored, **asked)


def test_a_process_with_other_providers_than_the_stored_ones_is_refused():
    assert check_settings(SOME, None, None) == SOME
    assert check_settings(SOME, {"hub88", "house"}, 4) == SOME
    assert check_settings(None, {"hub88"}, None) == RawTopics(frozenset({"hub88"}))
    for other in ({"hub88"}, {"all"}):
        with pytest.raises(UsageError, match=r"provisioned with house,hub88.*pitboss provision"):
            check_settings(SOME, other, None)
    assert check_settings(RawTopics(), {"all"}, None) == RawTopics()


def test_without_a_choice_every_provider_has_a_topic():
    assert RawTopics().names == sorted(DIALECTS)
    assert SOME.names == ["house", "hub88"]
    assert RawTopics().partitions == RAW_PARTITIONS_DEFAULT == 6


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"PITBOSS_PROVIDERS": "house,hub-88x"}, "PITBOSS_PROVIDERS: no adapter.*'hub88'"),
        ({"PITBOSS_PROVIDERS": "none"}, "names no provider"),
        ({"PITBOSS_RAW_PARTITIONS": "0"}, "from 1 to 1,000"),
        ({"PITBOSS_RAW_PARTITIONS": "1001"}, "from 1 to 1,000"),
    ],
)
def test_every_command_refuses_settings_that_cannot_be(environ, sentence):
    with pytest.raises(UsageError, match=sentence):
        read_worker_settings(environ)


def test_a_mistake_in_the_file_is_named_with_its_line(tmp_path):
    file = tmp_path / "pitboss.toml"
    file.write_text('raw_partitions = 3\nproviders = ["hub8"]\n')
    with pytest.raises(UsageError, match=r"pitboss.toml, line 2: .*did you mean 'hub88'"):
        read_worker_settings({"PITBOSS_CONFIG": str(file)})
    file.write_text('raw_partitions = 3\nproviders = ["hub88"]\n')
    worker = read_worker_settings({"PITBOSS_CONFIG": str(file)})
    assert (worker.providers, worker.raw_partitions) == (frozenset({"hub88"}), 3)


def test_a_supervised_worker_reads_what_is_stored(monkeypatch):
    monkeypatch.setenv("PITBOSS_PROVIDERS", "hub88")
    monkeypatch.setenv("PITBOSS_RAW_PARTITIONS", "3")
    worker = read_worker_settings(worker_environment(RUNTIME))
    assert (worker.providers, worker.raw_partitions) == (None, None)
