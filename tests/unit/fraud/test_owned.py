"""The partitions that a fraud worker owns: every alert is shown to who observes alerts, with its record."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fraud_agents.activations import Marker, Timeline
from fraud_agents.owned import OwnedShard, WatchedInput
from fraud_agents.rule_set import RuleSet
from runtime.kafka.batches import RecordBatch
from schemas import codec
from schemas.events import AlertStatus, FraudAlert, WalletTransaction
from schemas.topics import TRANSACTIONS
from tests.support.ledger_events import bet

SWITCH = 2


def alert(alert_id: str, status: AlertStatus) -> FraudAlert:
    return FraudAlert(
        *(alert_id, "D01", 1, "high", "p-1", "p-1", "title", 0, 0, 0, 3, 2, "bets", 0),
        sources=[],
        sample_event_ids=[],
        evidence={},
        status=status.value,
    )


class Detectors:
    """Raise an alert on the first record, and end it with the rules."""

    def observe(self, _topic: str, _event: Any, offset: int) -> list[FraudAlert]:
        return [alert("a", AlertStatus.OPEN)] if offset == 0 else []

    def switch_rules(self, _topic: str, _rules: RuleSet) -> list[FraudAlert]:
        return [alert("a", AlertStatus.CLOSED)]

    def plan_switches(self, *_) -> None:
        pass

    def take_signals(self, *_) -> list[Any]:
        return []


@pytest.mark.parametrize("is_observed", [True, False])
def test_an_alert_is_observed_with_the_record_that_raised_or_ended_it(is_observed):
    value = codec.encoder(WalletTransaction)(bet("tx-1", 100))
    records: list[Any] = [
        SimpleNamespace(offset=offset, value=value) for offset in range(SWITCH + 1)
    ]
    seen: list[Any] = []
    detectors: Any = Detectors()
    timeline = Timeline([Marker(SWITCH, 1)])
    shard = OwnedShard(
        {TRANSACTIONS: WatchedInput(TRANSACTIONS, 0, 1, 0, 0, timeline)},
        detectors,
        0.0,
        observe_alert=(lambda *given: seen.append(given)) if is_observed else None,
    )
    batch = RecordBatch(TRANSACTIONS, 0, 0, len(records), records, 1)
    shard.observe(TRANSACTIONS, batch, lambda _: RuleSet(()))
    assert len(shard.alerts) == 2
    found = [(one.status, record.offset) for one, record in seen]
    assert found == ([("OPEN", 0), ("CLOSED", SWITCH)] if is_observed else [])
