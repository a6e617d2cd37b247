"""The notebook of one player's bad week, over exported files."""

from __future__ import annotations

import importlib.util
import json
from decimal import Decimal
from pathlib import Path

import pytest

from replay.export.request import ExportRequest
from replay.export.run import export_to
from schemas.topics import OUTCOMES, TRANSACTIONS, raw_topic
from tests.support.memory_log import MemoryLog, MemoryRecord
from tests.unit.replay.test_plots import START_MS, log

__all__ = ["log"]  # the fixture

NOTEBOOK = Path(__file__).parents[3] / "docs" / "howto" / "bad_week.py"


def run_notebook(folder: Path) -> dict:
    spec = importlib.util.spec_from_file_location("bad_week", NOTEBOOK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    _, found = module.app.run(defs={"folder": str(folder)})
    return dict(found)


def export_week(log: MemoryLog, folder: Path) -> None:
    folder.mkdir()
    for name, topic in (("transactions", TRANSACTIONS), ("outcomes", OUTCOMES)):
        export_to(log, ExportRequest(topic, player="p-1"), topic, folder / f"{name}.parquet")


@pytest.fixture
def week(log, tmp_path) -> Path:
    export_week(log, tmp_path / "week")
    return tmp_path / "week"


def test_the_week_is_told_from_attempts_to_the_balance(week):
    found = run_notebook(week)
    story = found["story"]
    assert story["kind"].to_list() == ["BET", "BET", "WIN", "BET", "BET", "ROLLBACK"]
    refused = story.filter(story["outcome"] == "REFUSED_FUNDS")
    assert refused["amount"].to_list() == [Decimal("99.00")]
    [day] = found["days"].to_dicts()
    assert (day["staked"], day["won"], day["refused"]) == (70, 15, 99)
    assert found["worst"]["lost"].to_list() == [55]
    assert found["balance"]["moved"].to_list()[1:] == [-1, Decimal("1.5"), 0, -5, 5]
    assert found["final"].rows() == [("EUR", Decimal("9.5"))]
    assert found["raw"] is None


def test_each_attempt_has_its_raw_record(week):
    topic = raw_topic("hub88")
    records = [
        MemoryRecord(number, START_MS, b"p-1", json.dumps({"number": number}).encode())
        for number in range(6)
    ]
    request = ExportRequest(topic, where="_key = 'p-1'", is_raw=True, unmask_reason="a test")
    export_to(MemoryLog({topic: {0: records}}), request, topic, week / "raw.parquet")
    raw = run_notebook(week)["raw"]
    assert raw.height == 6
    assert '"number": 5' in raw["body"].to_list()[5]
