"""Exports of a log in memory: what is read, what is kept, what is written, and what a kill leaves."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from replay.export import plan as plans
from replay.export.dataset import Dataset
from replay.export.plan import Piece, plan_export
from replay.export.request import ExportRequest
from replay.export.rows import RowStats
from replay.export.run import export_rows, export_to
from replay.export.writers import file_digest, plain_rows
from replay.log.blocks import LogGap
from replay.log.pace import ReplayPace
from runtime.kafka.partitioner import partition_for
from schemas import codec
from schemas.errors import UsageError
from schemas.events import WalletTransaction
from schemas.topics import BALANCES, SETTLEMENTS, TRANSACTIONS, raw_topic
from tests.support.memory_log import DAY_MS, START_MS, MemoryLog, MemoryRecord, transactions_log

HOUR_MS = 3_600_000
REQUEST = ExportRequest(TRANSACTIONS, margin_ms=HOUR_MS)
decode = codec.decoder(WalletTransaction)


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    return transactions_log(TRANSACTIONS, 3, 400)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(plans, "PIECE_RECORDS", 64)


def rows_of(log: MemoryLog, request: ExportRequest) -> tuple[list[dict], RowStats]:
    stats = RowStats()
    tables = list(export_rows(log, request, TRANSACTIONS, stats))
    return [row for table in tables for row in plain_rows(table)], stats


def events_of(log: MemoryLog):
    return [
        (partition, row, decode(row.value or b""))
        for partition, rows in log.records[TRANSACTIONS].items()
        for row in rows
    ]


def places(rows: list[dict]) -> list[tuple[int, int]]:
    return [(row["_partition"], row["_offset"]) for row in rows]


def tree(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_pieces_cover_the_plan_without_gap_or_overlap(log):
    plan = plan_export(log, replace(REQUEST, from_offset=10, to_offset=200), TRANSACTIONS)
    pieces = [*plan.pieces()]
    assert pieces[:4] == [
        Piece(0, 10, 64),
        Piece(0, 64, 128),
        Piece(0, 128, 192),
        Piece(0, 192, 200),
    ]
    assert sum(piece.to_offset - piece.from_offset for piece in pieces) == plan.records == 3 * 190


def test_a_period_of_append_times_keeps_every_record_of_it_however_the_log_is_ordered(log):
    since, until = START_MS + 2 * HOUR_MS, START_MS + 244 * 60_000
    rows, stats = rows_of(log, replace(REQUEST, since_ms=since, until_ms=until))
    expected = [(p, r.offset) for p, r, _ in events_of(log) if since <= r.timestamp_ms < until]
    assert places(rows) == expected
    # The log is out of order around both ends, so a plain cut at the broker's offsets would differ.
    late = [r for _, r, _ in events_of(log) if r.timestamp_ms < until]
    assert any(r.offset >= log.first_at(TRANSACTIONS, until)[0] for r in late)
    assert stats.read < 3 * 400


def test_a_period_of_event_times_keeps_events_that_were_appended_outside_and_counts_them(log):
    since, until = START_MS + 2 * HOUR_MS, START_MS + 3 * HOUR_MS
    request = replace(REQUEST, clock="event", margin_ms=8 * HOUR_MS, since_ms=since, until_ms=until)
    rows, stats = rows_of(log, request)
    inside = [(p, r) for p, r, e in events_of(log) if since <= e.occurred_at < until]
    assert places(rows) == [(p, r.offset) for p, r in inside]
    outside = [r for _, r in inside if not since <= r.timestamp_ms < until]
    assert stats.from_margin == len(outside) > 0
    assert stats.in_margin > stats.from_margin


def test_times_of_the_broker_need_no_margin(log):
    ordered = replace(log, append_time=True)
    request = replace(REQUEST, since_ms=START_MS + HOUR_MS, until_ms=START_MS + 2 * HOUR_MS)
    exact, wide = (
        plan_export(ordered, request, TRANSACTIONS),
        plan_export(log, request, TRANSACTIONS),
    )
    assert exact.records < wide.records


def test_a_player_is_read_from_one_partition_only():
    log = transactions_log(TRANSACTIONS, 4, 50)
    player = next(
        p for n in range(99) if partition_for((p := f"p-2-{n}").encode(), 4) == 2 and n < 7
    )
    log.reads.clear()
    rows, _stats = rows_of(log, replace(REQUEST, player=player))
    assert {row["player_id"] for row in rows} == {player}
    assert len(rows) == sum(e.player_id == player for _, _, e in events_of(log))
    assert {partition for partition, _, _ in log.reads} == {2}


@pytest.mark.parametrize(
    ("options", "keeps"),
    [
        ({"provider": "house"}, lambda e: e.provider == "house"),
        ({"kind": "WIN"}, lambda e: e.legs[0].kind == "WIN"),
        ({"where": "legs.amount >= 5 and operation = 'bet'"}, lambda e: e.operation == "bet" and e.legs[0].amount.unscaled >= 500),
        ({"partition": 1, "kind": "BET"}, lambda e: e.provider_tx_id[0] == "1" and e.legs[0].kind == "BET"),
    ],
)  # fmt: skip
def test_filters_keep_what_they_say(log, options, keeps):
    rows, _ = rows_of(log, replace(REQUEST, **options))
    assert places(rows) == [(p, r.offset) for p, r, e in events_of(log) if keeps(e)]
    assert rows


@pytest.mark.parametrize(
    ("topic", "options", "message"),
    [
        (TRANSACTIONS, {"since_ms": 1, "from_offset": 1}, "not both"),
        (BALANCES, {"clock": "event", "since_ms": 1}, "no time of their event"),
        (BALANCES, {"provider": "hub88"}, "no provider"),
        (BALANCES, {"has_row_per_leg": True}, "no legs"),
        (BALANCES, {"kind": "BET"}, "no kind"),
        (SETTLEMENTS, {"player": "p"}, "name no player"),
        (raw_topic("hub88"), {"kind": "BET"}, "no kind"),
        (TRANSACTIONS, {"partition": 9}, "has the partitions 0 to 2"),
        (TRANSACTIONS, {"where": "playr = 'x'"}, "did you mean"),
        (TRANSACTIONS, {"unmask_reason": " "}, "is empty"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_with_its_reason(log, topic, options, message):
    given = MemoryLog({topic: log.records[TRANSACTIONS]})
    with pytest.raises(UsageError, match=message):
        list(export_rows(given, ExportRequest(topic, **options), topic, RowStats()))


def test_offsets_that_are_gone_are_an_error_not_a_shorter_result(log):
    shorter = replace(log, beginnings={(TRANSACTIONS, 1): 30})
    with pytest.raises(LogGap, match="begins at 30"):
        plan_export(shorter, replace(REQUEST, from_offset=10), TRANSACTIONS)


def test_a_row_for_each_leg_has_its_amount_beside_the_event(log):
    events = {e.event_id: e for _, _, e in events_of(log)}
    rows, _ = rows_of(log, replace(REQUEST, has_row_per_leg=True))
    assert len(rows) == sum(len(e.legs) for e in events.values())
    for row in rows:
        leg = events[row["event_id"]].legs[row["leg"]]
        assert (row["kind"], row["currency"]) == (leg.kind, leg.currency)
        assert float(row["amount"]) == leg.amount.unscaled / 100


@pytest.mark.parametrize("name", ["out", "out.parquet", "out.csv", "out.jsonl", "out.duckdb"])
def test_every_format_holds_the_same_rows_in_the_order_of_the_log(log, tmp_path, name):
    result = tmp_path / name
    manifest = export_to(log, REQUEST, TRANSACTIONS, result)
    expected, _ = rows_of(log, REQUEST)
    assert manifest.rows == len(expected) == 1_200
    assert manifest.records == 1_200
    assert manifest.schema_ids == {"810002": "wallet-transaction/v2"}
    assert "cause.actor" in manifest.masked
    assert not (tmp_path / f"{name}.partial").exists()
    if name == "out.csv":
        cells = [*csv.DictReader(io.StringIO(result.read_text()))]
        assert [(int(r["_partition"]), int(r["_offset"])) for r in cells] == places(expected)
        assert json.loads(cells[0]["legs"]) == expected[0]["legs"]
    elif name == "out.jsonl":
        assert [json.loads(line) for line in result.read_text().splitlines()] == expected
    else:
        source = {
            "out": f"read_parquet('{result}/**/*.parquet', hive_partitioning=false)",
            "out.parquet": f"'{result}'",
            "out.duckdb": "db.wallet_transactions_v1",
        }[name]
        with duckdb.connect() as connection:
            if name == "out.duckdb":
                connection.execute(f"ATTACH '{result}' AS db")
            [(sums, _rows)] = connection.execute(
                f"SELECT sum(leg.amount), count(*) FROM (SELECT unnest(legs) AS leg FROM {source})"
            ).fetchall()
            found = connection.execute(f"SELECT _partition, _offset FROM {source}").fetchall()
        assert sums * 100 == sum(e.legs[0].amount.unscaled for _, _, e in events_of(log))
        assert sorted(found) == sorted(places(expected))
        if name != "out":
            assert found == places(expected)
    for file in manifest.files:
        path = result / file.path if result.is_dir() else tmp_path / file.path
        assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256


def test_a_folder_is_cut_by_day_and_provider(log, tmp_path):
    manifest = export_to(
        log,
        replace(REQUEST, clock="event", since_ms=0, until_ms=START_MS + DAY_MS),
        TRANSACTIONS,
        tmp_path / "out",
    )
    folders = {file.path.rpartition("/")[0] for file in manifest.files}
    days = {f"{folder.partition('/')[0]}" for folder in folders}
    assert {"day=2026-09-21/provider=adyen", "day=2026-09-21/provider=hub88"} <= folders
    assert days == {"day=2026-09-21"}
    for file in manifest.files:
        provider = file.path.split("provider=")[1].partition("/")[0]
        table = pq.read_table(tmp_path / "out" / file.path, partitioning=None)
        assert set(table.column("provider").to_pylist()) == {provider}
        assert table.num_rows == file.rows


class Killed(BaseException):
    """Stands for a SIGKILL: nothing catches it."""


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("out", "read"),
        ("out", "write"),
        ("out", "journal"),
        ("out.parquet", "write"),
        ("out.csv", "journal"),
    ],
)
def test_an_interrupted_export_is_resumed_without_gap_or_repeat(
    log, tmp_path, monkeypatch, name, at
):
    whole, result = tmp_path / f"whole-{name}", tmp_path / name
    export_to(log, REQUEST, TRANSACTIONS, whole)
    interruptions = 0
    for count in (0, 3, 5, 2, 4):
        with monkeypatch.context() as patch:
            killing(patch, log, at, count)
            try:
                export_to(log, REQUEST, TRANSACTIONS, result, resume=interruptions > 0)
            except Killed:
                interruptions += 1
    assert interruptions == 5
    with pytest.raises(UsageError, match="--resume"):
        export_to(log, REQUEST, TRANSACTIONS, result)
    with pytest.raises(UsageError, match="another export"):
        export_to(log, replace(REQUEST, kind="BET"), TRANSACTIONS, result, resume=True)
    manifest = export_to(log, REQUEST, TRANSACTIONS, result, resume=True)
    if whole.is_dir():
        assert tree(result) == tree(whole)
    else:
        assert result.read_bytes() == whole.read_bytes()
    assert export_to(log, REQUEST, TRANSACTIONS, result, resume=True) == manifest
    with pytest.raises(UsageError, match="exists already"):
        export_to(log, REQUEST, TRANSACTIONS, result)


def killing(patch, log: MemoryLog, at: str, count: int) -> None:
    """End the export when the given step has been made `count` times."""
    left = [count]

    def dying(step, before=lambda *_: None):
        def wrapper(*args, **kwargs):
            if left[0] == 0:
                before(*args)
                raise Killed
            left[0] -= 1
            return step(*args, **kwargs)

        return wrapper

    def cut_line(store, piece, *_):
        with (store.folder / "journal.jsonl").open("ab") as journal:
            journal.write(b'{"partition":%d,"from_off' % piece.partition)

    if at == "read":
        patch.setattr(log, "read", dying(log.read))
    elif at == "write":  # a file is there, its digest is not
        patch.setattr("replay.export.dataset.file_digest", dying(file_digest))
    else:  # within the line of the journal
        patch.setattr(Dataset, "store", dying(Dataset.store, cut_line))


def test_a_file_that_was_changed_in_between_is_found(log, tmp_path, monkeypatch):
    result = tmp_path / "out"
    read, left = log.read, [4]

    def dying(*place):
        left[0] -= 1
        if not left[0]:
            raise Killed
        return read(*place)

    with monkeypatch.context() as patch:
        patch.setattr(log, "read", dying)
        with pytest.raises(Killed):
            export_to(log, REQUEST, TRANSACTIONS, result)
    victim = next((tmp_path / "out.partial").rglob("*.parquet"))
    victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(Exception, match="missing or changed"):
        export_to(log, REQUEST, TRANSACTIONS, result, resume=True)


def test_raw_bytes_are_masked_and_with_a_reason_are_not(tmp_path):
    topic = raw_topic("hub88")
    record = MemoryRecord(0, START_MS, b"p-1", b'{"token": "s3cret"}', [("x-signature", b"sig")])
    log = MemoryLog({topic: {0: [record]}})
    export_to(log, ExportRequest(topic), topic, tmp_path / "masked.jsonl")
    [masked] = map(json.loads, (tmp_path / "masked.jsonl").read_text().splitlines())
    assert masked["value"] is None
    assert masked["_headers"] == [{"name": "x-signature", "value": None}]
    manifest = export_to(
        log, ExportRequest(topic, unmask_reason="ticket 7"), topic, tmp_path / "whole.jsonl"
    )
    [whole] = map(json.loads, (tmp_path / "whole.jsonl").read_text().splitlines())
    assert whole["value"] == '{"token": "s3cret"}'
    assert whole["_headers"] == [{"name": "x-signature", "value": "sig"}]
    assert (manifest.masked, manifest.unmask_reason) == ([], "ticket 7")


@pytest.mark.parametrize("name", ["rows", "rows.parquet", "rows.jsonl", "rows.csv"])
def test_an_export_at_a_pace_has_the_same_bytes_and_rests_at_each_step(log, tmp_path, name):
    slept: list[float] = []
    ticks = iter(range(1_000_000))
    paced = ReplayPace(20_000, sleep=slept.append, cpu_clock=lambda: next(ticks) / 500)
    hurried = export_to(log, REQUEST, TRANSACTIONS, tmp_path / "hurried" / name)
    result = tmp_path / "paced" / name
    assert export_to(log, REQUEST, TRANSACTIONS, result, pace=paced) == hurried
    # This clock shows 2 ms more at each reading: at a quarter of a core, 6 ms of rest.
    assert slept == pytest.approx([0.006] * len(slept))
    pieces = len(list(plan_export(log, REQUEST, TRANSACTIONS).pieces()))
    steps_of_a_piece = {"rows": 20, "rows.parquet": 40}.get(name, 2)
    assert len(slept) >= steps_of_a_piece * pieces
