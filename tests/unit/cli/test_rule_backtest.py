"""`pitboss rules test` of a rule that is limited to a segment of players, over a log in memory."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest
from click.testing import CliRunner

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.rule_book import RuleBook
from pitboss.cli import rule_backtest
from pitboss.cli.main import cli
from pitboss.ops.rule_changes import make_change
from schemas import codec
from schemas.events import WalletTransaction
from schemas.rule_changes import RuleChangeKind
from schemas.topics import TRANSACTIONS
from tests.support.fraud_log import T0, burst
from tests.support.memory_log import MemoryLog, MemoryRecord

SERVERS = {"PITBOSS_KAFKA": "127.0.0.1:1", "PITBOSS_DATABASE": "postgresql://u@127.0.0.1:1/d"}
PERIOD = ("--from", "2020-01-01", "--to", "2099-01-01", "--rate", "0", "--json")


@pytest.fixture
def rules(monkeypatch, tmp_path):
    """Return a function that tries D01 over two players' bursts, limited to a segment."""
    encode = codec.encoder(WalletTransaction)
    events = burst("in", T0, 150) + burst("out", T0, 150)
    rows = [
        MemoryRecord(offset, event.occurred_at, str(event.player_id).encode(), encode(event))
        for offset, event in enumerate(sorted(events, key=lambda one: one.occurred_at))
    ]
    log = MemoryLog({TRANSACTIONS: {0: rows}}, append_time=True)
    book = RuleBook(DEFAULT_RULES)
    by = {"actor": "kim", "reason": "a test"}
    kind = RuleChangeKind.SEGMENT
    book.apply(make_change(kind, "vip", 0, player_id="in", state="in", **by), 0)

    async def read_book(_: object) -> RuleBook:
        return book

    monkeypatch.setattr(rule_backtest, "read_book", read_book)
    monkeypatch.setattr(rule_backtest, "open_log", lambda *_: nullcontext(log))

    def run(segment: str):
        document = {"rule": "D01", "version": 3, "detector": "D01", "owner": "risk"}
        document |= {"reason": "for the best players", "scope": {"segments": [segment]}}
        path = tmp_path / "rule.json"
        path.write_text(json.dumps(document))
        return CliRunner().invoke(cli, ["rules", "test", str(path), *PERIOD], env=SERVERS)

    return run


def test_the_players_of_the_segment_are_found(rules):
    result = rules("vip")
    assert result.exit_code == 0, (result.output, result.exception)
    report = json.loads(result.stdout)
    assert report["draft"]["flagged"] == report["kept"] == 1
    assert [one["player_id"] for one in report["dropped"]] == ["out"]


def test_a_segment_without_players_is_named(rules):
    result = rules("vpi")
    assert json.loads(result.stdout)["draft"]["flagged"] == 0
    assert "the segment vpi has no players" in result.stderr
