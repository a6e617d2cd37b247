"""The archive over a log in memory: where files end, what they hold, what is found when they are damaged."""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import fsspec
import msgspec
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.archive.archived_log import ArchivedLog, JoinedLog
from replay.archive.archiver import Archiver
from replay.archive.cut import CutRule, FileCut
from replay.archive.files import FileMaker, read_records
from replay.archive.manifest import (
    FileManifest,
    FileSpan,
    decode_manifest,
    parse_path,
    rising_times,
    unpack_times,
)
from replay.archive.restore import RestoreOptions, plan_restore
from replay.archive.store import FsspecStore, LocalStore, open_store
from replay.archive.verify import find_holes, verify_archive
from replay.export.request import ExportRequest
from replay.export.rows import RowStats
from replay.export.run import export_rows
from replay.export.writers import plain_rows
from replay.log.blocks import LogBlock, LogGap
from replay.log.broker import list_topics
from runtime.security import BrokerAddress
from schemas.errors import UsageError
from schemas.topics import TRANSACTIONS, catalogue, raw_topic
from tests.support.archive_books import FileBooks
from tests.support.memory_log import START_MS, MemoryLog, MemoryRecord, transactions_log

HOUR_MS = 3_600_000
RULE = CutRule(span_ms=HOUR_MS, records_max=40)
LATER_MS = START_MS + 100 * HOUR_MS


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    return transactions_log(TRANSACTIONS, 2, 300)


def archiver_of(
    log: MemoryLog, folder: Path, *, now_ms: int = LATER_MS, rule: CutRule = RULE
) -> Archiver:
    return Archiver(
        log, LocalStore(folder / "files"), FileBooks(folder / "books"), "", rule, lambda: now_ms
    )


def archived(log: MemoryLog, folder: Path) -> LocalStore:
    archiver_of(log, folder).archive(log.records)
    return LocalStore(folder / "files")


def digests(store: LocalStore) -> dict[str, str]:
    return {path: hashlib.sha256(store.get(path)).hexdigest() for path in store.list()}


def all_records(blocks) -> list[tuple]:
    return [
        (offset, time, key, value, tuple(block.headers.get(index, ())))
        for block in blocks
        for index, (offset, time, key, value) in enumerate(
            zip(block.offsets, block.timestamps_ms, block.keys, block.values, strict=True)
        )
    ]


TIMES = st.lists(st.integers(0, 5 * HOUR_MS), min_size=1, max_size=60)


@given(TIMES, st.integers(1, 20), st.integers(1, 20), st.integers(1, 12))
def test_where_files_end_does_not_depend_on_how_the_records_come(times, one, other, most):
    def cuts(block_records: int) -> list[tuple[int, list[int]]]:
        rows = [MemoryRecord(2 * n, at, b"k", b"v" * 10) for n, at in enumerate(times)]
        log = MemoryLog({"t": {0: rows}}, block_records=block_records)
        found = []
        cut = FileCut(CutRule(HOUR_MS, most, 45), "t", 0, 0)
        for block in log.read("t", 0, 0, 1_000):
            rest = block
            while len(rest) and (ends_at := cut.add(rest)) is not None:
                found.append((ends_at, cut.block.offsets))
                rest = rest.keep([n for n, at in enumerate(rest.offsets) if at >= ends_at])
                cut = FileCut(CutRule(HOUR_MS, most, 45), "t", 0, ends_at)
        return [*found, (-1, cut.block.offsets)]

    assert cuts(one) == cuts(other)
    assert [offset for _, offsets in cuts(one) for offset in offsets] == [
        2 * n for n in range(len(times))
    ]
    assert all(len(offsets) <= min(most, 4) for _, offsets in cuts(one))


def test_files_hold_every_record_of_the_log_as_it_was(log, tmp_path):
    store = archived(log, tmp_path)
    report = verify_archive(store)
    assert report.faults == []
    assert (report.partitions, report.records) == (2, 600)
    reader = ArchivedLog(store)
    for partition, (begin, end) in log.bounds(TRANSACTIONS).items():
        assert reader.bounds(TRANSACTIONS)[partition] == (begin, end)
        for first, last in ((begin, end), (17, 203)):
            assert all_records(reader.read(TRANSACTIONS, partition, first, last)) == all_records(
                log.read(TRANSACTIONS, partition, first, last)
            )
    for at_ms in (START_MS, START_MS + 95 * 60_000, LATER_MS):
        assert reader.first_at(TRANSACTIONS, at_ms) == log.first_at(TRANSACTIONS, at_ms)


def test_a_file_has_typed_columns_and_a_manifest_beside_it(log, tmp_path):
    store = archived(log, tmp_path)
    path = next(path for path in store.list() if path.endswith(".parquet"))
    assert parse_path(path) == FileSpan(TRANSACTIONS, 0, 0, 40)
    table = pq.read_table(tmp_path / "files" / path)
    assert (
        str(table.schema.field("legs").type.value_type.field("amount").type) == "decimal128(38, 18)"
    )
    assert {"_topic", "_offset", "_append_at", "_key", "_headers", "_value"} <= {
        *table.column_names
    }
    manifest = json.loads(store.get(path.replace(".parquet", ".json")))
    assert manifest["records"] == table.num_rows == 40
    assert manifest["schema_ids"] == [810002]
    assert manifest["sha256"] == hashlib.sha256(store.get(path)).hexdigest()
    assert (manifest["first_append_ms"], manifest["from_offset"]) == (START_MS, 0)


BINARY = st.none() | st.binary(max_size=12)


@given(
    st.lists(
        st.tuples(BINARY, BINARY, st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), BINARY), max_size=2)),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([raw_topic("hub88"), TRANSACTIONS]),
)  # fmt: skip
def test_any_bytes_come_back_as_they_were(rows, topic):
    block = LogBlock(topic, 0)
    for number, (key, value, headers) in enumerate(rows):
        block.offsets.append(3 * number)
        block.timestamps_ms.append(START_MS + number)
        block.keys.append(key)
        block.values.append(value)
        if headers:
            block.headers[number] = headers
    span = FileSpan(topic, 0, 0, 3 * len(rows))
    made = FileMaker(topic).make(span, block)
    assert all_records(read_records(made.content, topic, span)) == all_records([block])
    assert FileMaker(topic).make(span, block).content == made.content


def test_an_open_span_waits_and_is_closed_by_the_clock(log, tmp_path):
    bounds = log.bounds(TRANSACTIONS)
    last_ms = START_MS + 299 * 60_000
    archiver = archiver_of(log, tmp_path, now_ms=last_ms)
    archiver.archive([TRANSACTIONS])
    ends = archiver.books.positions()
    assert all(ends[TRANSACTIONS, part] < end for part, (_, end) in bounds.items())
    before = digests(LocalStore(tmp_path / "files"))
    assert archiver.archive([TRANSACTIONS]) == 0
    archiver.now_ms = lambda: last_ms + 2 * HOUR_MS
    assert archiver.archive([TRANSACTIONS]) == 2
    ends = archiver.books.positions()
    assert all(ends[TRANSACTIONS, part] == end for part, (_, end) in bounds.items())
    after = digests(LocalStore(tmp_path / "files"))
    assert before.items() <= after.items()


class Killed(BaseException):
    """Stands for a SIGKILL: nothing catches it."""


@pytest.mark.parametrize("step", ["plan", "put", "finish"])
def test_a_kill_at_any_step_leaves_the_same_files(log, tmp_path, step):
    expected = digests(archived(log, tmp_path / "whole"))
    kills = 0
    for count in range(0, 40, 4):
        archiver = archiver_of(log, tmp_path)
        owner = archiver.store if step == "put" else archiver.books
        act, left = getattr(owner, step), [count % 11]

        def dying(*args, act=act, left=left):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return act(*args)

        setattr(owner, step, dying)
        try:
            archiver.finish_planned()
            archiver.archive([TRANSACTIONS])
        except Killed:
            kills += 1
    assert kills >= 5
    archiver = archiver_of(log, tmp_path)
    archiver.finish_planned()
    archiver.archive([TRANSACTIONS])
    assert digests(LocalStore(tmp_path / "files")) == expected
    assert verify_archive(LocalStore(tmp_path / "files")).faults == []


def spoil(store: LocalStore, folder: Path, how: str) -> None:
    files = [path for path in store.list() if path.endswith(".parquet")]
    victim = folder / "files" / files[2]
    match how:
        case "hole":
            victim.unlink()
            victim.with_suffix(".json").unlink()
        case "bytes":
            content = bytearray(victim.read_bytes())
            content[len(content) // 2] ^= 1
            victim.write_bytes(content)
        case "manifest":
            victim.with_suffix(".json").unlink()
        case "swapped":
            victim.write_bytes((folder / "files" / files[1]).read_bytes())
        case "stray":
            (folder / "files" / "notes.txt").write_text("x")


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("hole", "a hole before it"),
        ("bytes", "SHA-256"),
        ("manifest", "no usable manifest"),
        ("swapped", "SHA-256"),
        ("stray", "not a file of the archive"),
    ],
)
def test_verify_finds_what_was_spoiled(log, tmp_path, how, what):
    store = archived(log, tmp_path)
    spoil(store, tmp_path, how)
    faults = verify_archive(store).faults
    assert any(what in fault.what for fault in faults), faults


def test_verify_names_a_damaged_file_whichever_byte_it_is(log, tmp_path):
    store = archived(log, tmp_path)
    victim = tmp_path / "files" / next(each for each in store.list() if each.endswith(".parquet"))
    content = victim.read_bytes()
    for place in range(0, len(content), len(content) // 25):
        victim.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        [fault] = verify_archive(store).faults
        assert "SHA-256" in fault.what


def test_overlaps_show_in_the_names():
    spans = [FileSpan("t", 0, 0, 10), FileSpan("t", 0, 8, 20), FileSpan("t", 1, 20, 30)]
    assert [fault.what.partition(" with")[0] for fault in find_holes(spans)] == ["an overlap"]


def test_broker_and_archive_are_one_log_across_the_seam(log, tmp_path):
    store = archived(log, tmp_path)
    shorter = replace(log, beginnings={(TRANSACTIONS, 0): 110, (TRANSACTIONS, 1): 7})
    joined = JoinedLog(ArchivedLog(store), shorter)
    assert joined.bounds(TRANSACTIONS) == log.bounds(TRANSACTIONS)
    for period in ((None, None), (START_MS + HOUR_MS, START_MS + 3 * HOUR_MS)):
        request = ExportRequest(
            TRANSACTIONS, margin_ms=HOUR_MS, since_ms=period[0], until_ms=period[1]
        )
        found, expected = (
            [
                row
                for table in export_rows(source, request, TRANSACTIONS, RowStats())
                for row in plain_rows(table)
            ]
            for source in (joined, log)
        )
        assert found == expected
        assert found
    spoil(store, tmp_path, "hole")
    with pytest.raises(LogGap, match="no file that begins there"):
        list(JoinedLog(ArchivedLog(store), shorter).read(TRANSACTIONS, 0, 0, 300))


def test_records_that_were_deleted_before_they_were_archived_leave_a_hole(log, tmp_path):
    rows = {part: rows[:100] for part, rows in log.records[TRANSACTIONS].items()}
    archiver_of(replace(log, records={TRANSACTIONS: rows}), tmp_path).archive([TRANSACTIONS])
    shorter = replace(log, beginnings={(TRANSACTIONS, 0): 150, (TRANSACTIONS, 1): 0})
    archiver_of(shorter, tmp_path).archive([TRANSACTIONS])
    [fault] = verify_archive(LocalStore(tmp_path / "files")).faults
    assert "to 149 are missing" in fault.what


def test_any_target_of_fsspec_holds_the_same_files(log, tmp_path):
    local = archived(log, tmp_path)
    fsspec.filesystem("memory").rm("/bucket", recursive=True) if fsspec.filesystem("memory").exists(
        "/bucket"
    ) else None
    remote = open_store("memory://bucket/pitboss")
    assert isinstance(remote, FsspecStore)
    Archiver(log, remote, FileBooks(tmp_path / "other"), "", RULE, lambda: LATER_MS).archive(
        [TRANSACTIONS]
    )
    assert remote.list() == local.list()
    assert all(remote.get(path) == local.get(path) for path in local.list())
    assert verify_archive(remote).faults == []
    with pytest.raises(UsageError, match="cannot be opened"):
        open_store("nosuch://bucket")


@pytest.mark.parametrize(
    ("options", "there", "message"),
    [
        ({}, {0: (0, 5), 1: (0, 0)}, "holds records up to 5"),
        ({"resume": True, "renumber": True}, {0: (0, 5), 1: (0, 0)}, "not with --renumber"),
        ({}, {0: (0, 0)}, "has 1 partitions"),
    ],
)
def test_a_restore_that_would_change_the_log_is_refused(log, tmp_path, options, there, message):
    store = archived(log, tmp_path)

    class Target(MemoryLog):
        def bounds(self, topic):
            return there

    with pytest.raises(UsageError, match=message):
        plan_restore(ArchivedLog(store), Target({}), "", RestoreOptions((TRANSACTIONS,), **options))


def test_a_restore_goes_on_behind_what_is_there(log, tmp_path):
    store = archived(log, tmp_path)
    end = log.bounds(TRANSACTIONS)[0][1]

    class Target(MemoryLog):
        def bounds(self, topic):
            return {0: (0, 55), 1: (0, 0)}

    options = RestoreOptions((TRANSACTIONS,), resume=True)
    planned = plan_restore(ArchivedLog(store), Target({}), "", options)
    assert [(one.partition, one.from_offset, one.to_offset) for one in planned] == [
        (0, 55, end),
        (1, 0, end),
    ]


@pytest.mark.parametrize("prefix", ["", "staging."])
def test_every_topic_of_an_installation_is_archived_and_no_other(monkeypatch, prefix):
    names = [topic.name for topic in catalogue(["hub88"])]
    there = [f"{prefix}{name}" for name in names]
    others = ["other.wallet.balances.v1", "orders", "__consumer_offsets", "replayed.ticket7"]

    class Admin:
        def __init__(self, _):
            pass

        def list_topics(self, timeout):
            return SimpleNamespace(topics=dict.fromkeys([*there, *others]))

    monkeypatch.setattr("replay.log.broker.AdminClient", Admin)
    assert list_topics(BrokerAddress("127.0.0.1:1"), prefix) == sorted(names)


def test_a_time_is_found_without_reading_the_whole_archive(tmp_path):
    log = transactions_log(TRANSACTIONS, 1, 180)
    books, rule = FileBooks(tmp_path / "books"), CutRule(records_max=3)
    store = LocalStore(tmp_path / "files")
    Archiver(log, store, books, "", rule, lambda: LATER_MS).archive([TRANSACTIONS])
    files = [path for path in store.list() if path.endswith(".parquet")]
    assert len(files) > 55
    rows = log.records[TRANSACTIONS][0]
    for row in rows[:: len(rows) // 5]:
        read: list[str] = []

        class CountingStore(LocalStore):
            def get(self, path: str, read: list[str] = read) -> bytes:
                read.append(path)
                return super().get(path)

        archive = ArchivedLog(CountingStore(tmp_path / "files"))
        assert (
            archive.first_in(TRANSACTIONS, 0, row.timestamp_ms)
            == log.first_at(TRANSACTIONS, row.timestamp_ms)[0]
        )
        assert len(read) < 30
    assert archive.first_in(TRANSACTIONS, 0, LATER_MS) == log.bounds(TRANSACTIONS)[0][1]


def manifest_of(times_ms: list[int]) -> FileManifest:
    block = LogBlock("t", 0)
    block.offsets = [3 * number for number in range(len(times_ms))]
    block.timestamps_ms = times_ms
    block.keys = block.values = [b"x"] * len(times_ms)
    return FileMaker("t").make(FileSpan("t", 0, 0, 3 * len(times_ms)), block).manifest


@given(st.lists(st.integers(-1, 50) | st.integers(START_MS, LATER_MS), max_size=30), st.data())
def test_a_manifest_says_which_record_is_the_first_of_a_time(times_ms, data):
    manifest = manifest_of(times_ms)
    times = unpack_times(decode_manifest(msgspec.json.encode(manifest), "m"))
    assert times is not None
    asked = data.draw(st.integers(-2, 52) | st.sampled_from([*times_ms, LATER_MS + 1]))
    expected = next((3 * n for n, time_ms in enumerate(times_ms) if time_ms >= asked), None)
    assert times.first_at(asked) == expected


def test_the_times_of_a_full_file_do_not_make_its_manifest_large():
    """Some twenty manifests are read for one time."""
    rule = CutRule()
    times_ms = [START_MS + number * number % 7 + 4 * number for number in range(rule.records_max)]
    times = rising_times(range(rule.records_max), times_ms)
    assert len(times.offsets) > rule.records_max // 3
    assert len(times.pack()) < rule.records_max


def forget_times(store: LocalStore) -> None:
    """Make the manifests those of a release that did not write times."""
    for path in [path for path in store.list() if path.endswith(".json")]:
        fields = json.loads(store.get(path))
        assert fields.pop("rising_times")
        store.put(path, json.dumps(fields).encode())


class ReadStore(LocalStore):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.read: list[str] = []
        self.listed: list[str] = []

    def get(self, path: str) -> bytes:
        self.read.append(path)
        return super().get(path)

    def list(self, folder: str = "") -> list[str]:
        self.listed.append(folder)
        return super().list(folder)


@pytest.mark.parametrize("has_times", [True, False])
def test_a_time_is_found_in_the_manifest_where_that_has_times(log, tmp_path, has_times):
    """Reading its Parquet file, and importing what reads it, took longer than all else."""
    archived(log, tmp_path)
    store = ReadStore(tmp_path / "files")
    if not has_times:
        forget_times(store)
    archive = ArchivedLog(store, folder=f"{TRANSACTIONS}/p=01")
    for at_ms in (START_MS, START_MS + 95 * 60_000, START_MS + 95 * 60_000 + 1, LATER_MS):
        store.read.clear()
        assert archive.first_in(TRANSACTIONS, 1, at_ms) == log.first_at(TRANSACTIONS, at_ms)[1]
        parquet = [path for path in store.read if path.endswith(".parquet")]
        assert len(parquet) == (0 if has_times or at_ms == LATER_MS else 1)
    assert store.listed[-1] == f"{TRANSACTIONS}/p=01"
    assert verify_archive(store).faults == []
    assert archive.bounds(TRANSACTIONS) == {1: log.bounds(TRANSACTIONS)[1]}


@pytest.mark.parametrize(
    ("packed", "what"),
    [
        (rising_times([40], [START_MS]).pack(), "the times of other records"),
        (b"not compressed", "has damaged times"),
        (zlib.compress(b"not times"), "has damaged times"),
    ],
)
def test_verify_finds_times_that_are_not_those_of_the_records(log, tmp_path, packed, what):
    store = archived(log, tmp_path)
    path = next(path for path in store.list() if path.endswith(".json"))
    manifest = decode_manifest(store.get(path), path)
    wrong = msgspec.structs.replace(manifest, rising_times=packed)
    store.put(path, msgspec.json.encode(wrong))
    [fault] = verify_archive(store).faults
    assert what in fault.what
