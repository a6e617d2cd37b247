"""The checks that a whole run has beyond the six of `replay` can fail too: each is spoiled once."""

from __future__ import annotations

import msgspec
import psycopg
import pytest
import pytest_asyncio

from fraud_agents.detectors import D01_BET_VELOCITY
from ledger_sink.rules.debts import debt_alert
from pitboss.embedded.databases import create_database
from replay.audit.evidence import TopicEvidence
from replay.audit.rerun import rerun_detectors
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas import codec
from schemas.events import FraudAlert, Position
from schemas.topics import ALERTS, TRANSACTIONS
from tests.support.evidence_scene import SettledScene, settled_scene
from tests.support.fraud_log import T0, burst, make_topics
from tests.support.ledger_events import log_event
from tests.support.whole_run import _check_alerts, _check_movements, _check_single_decisions

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

BETS = D01_BET_VELOCITY.limits["warn"].value + 10  # one record an alert: a warning


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(stack, namespaces, leftovers):
    runtime = stack.runtime(namespaces())
    create_database(runtime)
    async with settled_scene(runtime) as scene:
        yield scene
    leftovers.append(runtime)


@pytest.fixture
def ledger(scene):
    """A database in which real events are decided and booked; whatever a test does to it is undone."""
    tables = ("entry", "transfer")
    with psycopg.connect(scene.runtime.database_url) as connection:
        saved = {table: connection.execute(f"TABLE {table}").fetchall() for table in tables}
    yield scene.database
    with psycopg.connect(scene.runtime.database_url) as connection:
        connection.execute(f"TRUNCATE {', '.join(tables)}")
        for table, rows in saved.items():
            places = ", ".join(["%s"] * len(rows[0]))
            connection.cursor().executemany(f"INSERT INTO {table} VALUES ({places})", rows)


def spoil(scene: SettledScene, statement: str) -> None:
    with psycopg.connect(scene.runtime.database_url) as connection:
        assert connection.execute(statement).rowcount == 1


async def test_a_settled_ledger_decided_once_and_moved_what_it_states(ledger):
    assert (await _check_single_decisions(ledger)).holds
    assert (await _check_movements(ledger)).holds


async def test_a_transaction_that_was_booked_under_two_ids_is_noticed(ledger, scene):
    spoil(scene, "UPDATE entry SET provider_tx_id = 'b' WHERE provider_tx_id = 'c'")
    check = await _check_single_decisions(ledger)
    assert (check.name, check.holds) == ("decided_once", False)
    assert "('acme', 'hub88', 'bet', 'b', 2)" in check.detail


async def test_a_refusal_before_the_decision_is_no_second_one(ledger, scene):
    spoil(
        scene,
        "UPDATE entry SET provider_tx_id = 'b', outcome = 'REFUSED_REFERENCE' WHERE provider_tx_id = 'c'",
    )
    assert (await _check_single_decisions(ledger)).holds


async def test_the_same_id_elsewhere_is_another_transaction(ledger, scene):
    for field, value in (("brand", "acme"), ("provider", "hub88"), ("operation", "bet")):
        spoil(
            scene,
            f"UPDATE entry SET provider_tx_id = 'b', {field} = 'other' WHERE provider_tx_id = 'c'",
        )
        assert (await _check_single_decisions(ledger)).holds, field
        spoil(
            scene,
            f"UPDATE entry SET provider_tx_id = 'c', {field} = '{value}' WHERE {field} = 'other'",
        )


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET transfers = transfers + 1 WHERE provider_tx_id = 'b'",
        "UPDATE entry SET transfers = transfers - 1 WHERE provider_tx_id = 'b'",
        "DELETE FROM transfer WHERE event_id = (SELECT event_id FROM entry WHERE provider_tx_id = 'b')",
        "UPDATE transfer SET decision = 9 WHERE event_id = (SELECT event_id FROM entry WHERE provider_tx_id = 'b')",
    ],
    ids=["one more is stated", "one less is stated", "one is gone", "one is of another decision"],
)
async def test_a_movement_too_few_or_too_many_is_noticed(ledger, scene, statement):
    spoil(scene, statement)
    check = await _check_movements(ledger)
    assert (check.name, check.holds) == ("movements_of_entries", False)


@pytest_asyncio.fixture(loop_scope="module")
async def bursts(runtime):
    """A log in which two players bet too fast, the alerts about them, and a way to publish."""
    await make_topics(runtime)
    events = burst("fast", T0, BETS) + burst("faster", T0, BETS)
    log = [log_event(event, 0, offset) for offset, event in enumerate(events)]
    alerts = list(rerun_detectors({0: log}).values())
    assert [alert.player_id for alert in alerts] == ["fast", "faster"]
    encode = codec.encoder(FraudAlert)

    async def looked_at(*published: FraudAlert):
        """The check over a topic that got these alerts, in their order."""
        async with BatchProducer(ProducerSettings(runtime.broker, "pitboss.test")) as producer:
            records = [(b"k", encode(alert), (), None) for alert in published]
            await producer.send_batch(runtime.topic(ALERTS), 0, records)
        return await _check_alerts(runtime, TopicEvidence(log={0: log}))

    return alerts, looked_at


async def test_the_alerts_of_the_log_are_expected_as_often_as_they_come(bursts):
    alerts, looked_at = bursts
    check = await looked_at(*alerts, *alerts)
    assert check.holds, check.detail
    assert check.detail.startswith("2 alerts")


async def test_an_alert_that_is_missing_is_noticed(bursts):
    [first, second], looked_at = bursts
    check = await looked_at(first)
    assert (check.name, check.holds) == ("alerts_equal", False)
    assert second.alert_id in check.detail


async def test_an_alert_that_the_log_does_not_raise_is_noticed(bursts):
    alerts, looked_at = bursts
    made_up = msgspec.structs.replace(alerts[0], alert_id="made up")
    check = await looked_at(*alerts, made_up)
    assert not check.holds
    assert "made up" in check.detail


@pytest.mark.parametrize("at", [0, 1], ids=["it comes first", "it comes second"])
async def test_an_alert_that_is_told_in_two_ways_is_noticed(bursts, at):
    alerts, looked_at = bursts
    published = list(alerts)
    published.insert(at, msgspec.structs.replace(alerts[0], observed=alerts[0].observed + 1))
    check = await looked_at(*published)
    assert not check.holds
    assert alerts[0].alert_id in check.detail


async def test_an_alert_that_is_told_once_and_wrongly_is_noticed(bursts):
    [first, second], looked_at = bursts
    check = await looked_at(first, msgspec.structs.replace(second, severity="info"))
    assert not check.holds
    assert second.alert_id in check.detail


async def test_the_ledgers_own_alerts_are_no_detectors(bursts):
    alerts, looked_at = bursts
    debt = debt_alert(
        "event",
        "acme",
        "p-1",
        "chargeback",
        "BOOKED_INTO_DEBT",
        "EUR",
        -5,
        T0,
        Position(TRANSACTIONS, 0, 0),
    )
    assert (await looked_at(*alerts, debt)).holds
