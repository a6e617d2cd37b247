"""Queries over a slice, and two outputs of one slice compared."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import msgspec
import pytest
from click.testing import CliRunner
from msgspec.structs import replace as changed

from pitboss.cli.main import cli
from replay.export.differences import compare_outputs
from replay.export.request import ExportRequest
from replay.export.run import export_to
from replay.export.views import VIEWS, export_views, open_views
from schemas import codec
from schemas.errors import UsageError
from schemas.events import Amount, WalletTransaction
from schemas.topics import TRANSACTIONS, raw_topic
from tests.support.memory_log import START_MS, MemoryLog, MemoryRecord, transactions_log

decode, encode = codec.decoder(WalletTransaction), codec.encoder(WalletTransaction)
RAW = raw_topic("hub88")


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    made = transactions_log(TRANSACTIONS, 2, 60)
    for topic in (*VIEWS.values(), RAW):
        made.records.setdefault(topic, {0: []})
    made.records[RAW][0].append(MemoryRecord(0, START_MS, b"p-1", b"{}"))
    return made


def test_views_are_typed_and_shut_off_from_everything_else(log, tmp_path):
    requests = {name: ExportRequest(topic) for name, topic in VIEWS.items()}
    requests["raw_hub88"] = ExportRequest(RAW)
    export_views(log, "", requests, tmp_path)
    outside = tmp_path.parent / "outside.csv"
    outside.write_text("a\n1\n")
    with open_views(tmp_path) as database:
        found = database.query("SELECT count(*), sum(amount) FROM legs WHERE kind = 'DEPOSIT'")
        assert found is not None
        assert found.rows == [(40, Decimal(4000))]
        for name in VIEWS:
            assert database.query(f"SELECT _offset FROM {name}") is not None
        raw = database.query("SELECT _topic, value FROM raw")
        assert raw is not None
        assert raw.rows == [(RAW, None)]
        database.query("CREATE VIEW mine AS SELECT 7 AS seven")
        mine = database.query("FROM mine")
        assert mine is not None
        assert (mine.columns, mine.rows) == (("seven",), [(7,)])
        for statement in (
            f"SELECT * FROM '{outside}'",
            f"COPY (SELECT 1) TO '{tmp_path.parent}/stolen.csv'",
            "SET enable_external_access = true",
            "SELEC 1",
        ):
            with pytest.raises(UsageError, match="DuckDB does not take"):
                database.query(statement)
    assert not (tmp_path.parent / "stolen.csv").exists()


def with_changes(log: MemoryLog, change) -> MemoryLog:
    records = {}
    for partition, rows in log.records[TRANSACTIONS].items():
        kept = []
        for row in rows:
            event = change(partition, decode(row.value or b""))
            if event is not None:
                kept.append(replace(row, value=encode(event)))
        records[partition] = kept
    return MemoryLog({TRANSACTIONS: records})


def output(log: MemoryLog, place):
    export_to(log, ExportRequest(TRANSACTIONS), TRANSACTIONS, place)
    return place


def test_equal_outputs_are_identical_whatever_their_form_and_order(log, tmp_path):
    first = output(log, tmp_path / "a.parquet")
    second = output(log, tmp_path / "b")
    found = compare_outputs(first, second)
    assert found.identical
    assert (found.first_rows, found.second_rows, found.sums) == (120, 120, [])


def test_added_dropped_and_changed_rows_are_counted_with_the_money_that_differs(log, tmp_path):
    def change(partition, event):
        if event.provider_tx_id == "0-3":
            return None
        if event.provider_tx_id == "1-5":
            return changed(event, legs=[changed(event.legs[0], amount=Amount(1_000_001, 2))])
        if event.provider_tx_id == "1-6":
            return changed(event, event_id="00000000-0000-4000-8000-000000000000")
        return changed(event, game_id="g-2") if event.provider_tx_id == "1-8" else event

    first = output(log, tmp_path / "a.parquet")
    second = output(with_changes(log, change), tmp_path / "b.parquet")
    found = compare_outputs(first, second)
    assert not found.identical
    assert (found.added, found.dropped, found.changed) == (1, 2, 2)
    assert found.changed_columns == {"legs": 1, "game_id": 1}
    assert found.key == ["event_id", "attempt"]
    assert sorted(one["what"] for one in found.examples) == [
        "added",
        "changed",
        "changed",
        "dropped",
        "dropped",
    ]
    sums = {(one.provider, one.currency, one.kind): Decimal(one.difference) for one in found.sums}
    assert sums == {
        ("adyen", "EUR", "DEPOSIT"): Decimal("9900.01"),
        ("hub88", "EUR", "BET"): Decimal("-0.21"),
    }
    result = CliRunner().invoke(cli, ["replay", "compare", str(first), str(second), "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout) == msgspec.to_builtins(found)
    shown = CliRunner().invoke(cli, ["replay", "compare", str(first), str(second)])
    assert "1 added, 2 dropped, 2 changed" in shown.stdout
    assert CliRunner().invoke(cli, ["replay", "compare", str(first), str(first)]).exit_code == 0


def test_outputs_of_different_columns_are_refused(log, tmp_path):
    first = output(log, tmp_path / "a.parquet")
    second = tmp_path / "b.parquet"
    export_to(log, ExportRequest(TRANSACTIONS, has_row_per_leg=True), TRANSACTIONS, second)
    with pytest.raises(UsageError, match="columns differ"):
        compare_outputs(first, second)
    (tmp_path / "c.parquet").write_text("x")
    with pytest.raises(UsageError, match="not an export in Parquet"):
        compare_outputs(first, tmp_path / "c.parquet")
