"""A slice as files, and played: bytes, order, pace, and topics that are refused."""

from __future__ import annotations

import pytest

from replay.archive.archived_log import ArchivedLog
from replay.archive.record import check_play_target, in_time_order, play, record_slice
from replay.archive.store import LocalStore
from replay.archive.verify import verify_archive
from replay.export import plan as plans
from replay.export.plan import plan_export
from replay.export.request import ExportRequest
from schemas.errors import UsageError
from schemas.topics import TRANSACTIONS, catalogue
from tests.support.memory_log import START_MS, transactions_log


@pytest.fixture
def slice_(tmp_path, monkeypatch):
    monkeypatch.setattr(plans, "PIECE_RECORDS", 64)
    log = transactions_log(TRANSACTIONS, 3, 150)
    request = ExportRequest(TRANSACTIONS, from_offset=20, to_offset=140)
    store = LocalStore(tmp_path)
    record_slice(log, plan_export(log, request, TRANSACTIONS), store)
    return log, store


def test_a_slice_has_the_exact_records_and_is_whole(slice_):
    log, store = slice_
    report = verify_archive(store)
    assert report.faults == []
    assert report.partitions == 3
    found = sorted(in_time_order(ArchivedLog(store), TRANSACTIONS), key=lambda one: one[1:3])
    expected = [
        (row.timestamp_ms, partition, row.offset, row.key, row.value, ())
        for partition, rows in log.records[TRANSACTIONS].items()
        for row in rows
        if 20 <= row.offset < 140
    ]
    assert found == expected
    assert report.records == len(expected)


@pytest.mark.parametrize(("speed", "took_s"), [(1.0, 120 * 60), (60.0, 120), (0, 0)])
def test_records_are_as_far_apart_as_they_were_and_each_partition_keeps_its_order(
    slice_, speed, took_s
):
    _, store = slice_
    now = [1_000.0]
    sent = []

    def sleep(seconds: float) -> None:
        now[0] += seconds

    records = in_time_order(ArchivedLog(store), TRANSACTIONS)
    count = play(records, lambda one: sent.append((now[0], one)), speed, lambda: now[0], sleep)
    assert count == len(sent) > 300
    for partition in range(3):
        offsets = [one.offset for _, one in sent if one.partition == partition]
        assert offsets == sorted(offsets)
    first_ms = sent[0][1].timestamp_ms
    for at_s, one in sent:
        due_s = 1_000 + (one.timestamp_ms - first_ms) / 1000 / speed if speed else 1_000
        assert at_s >= due_s - 1e-6
    assert abs(now[0] - 1_000 - took_s) <= took_s * 0.05
    assert first_ms >= START_MS


@pytest.mark.parametrize(
    "topic",
    [topic.name for topic in catalogue(["hub88"])]
    + [f"staging.{topic.name}" for topic in catalogue(["hub88"])],
)
def test_no_topic_of_an_installation_is_played_into(topic):
    with pytest.raises(UsageError, match="whose workers"):
        check_play_target(topic)


def test_another_topic_is_accepted():
    check_play_target("replayed.week48")
