"""The fraud role, put together: intake, detectors, snapshots, alerts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fraud_agents.handler import FraudAgent
from fraud_agents.rules import DEFAULT_RULES, Rule
from fraud_agents.snapshots import SnapshotStore
from runtime.dead_letters.sink import KafkaDeadLetterSink
from runtime.kafka.app import AppSettings, PitbossApp, add_agent
from runtime.kafka.app import create_app as create_faust_app
from runtime.kafka.intake.intake import Intake, IntakeSettings
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas.topics import ALERTS, TRANSACTIONS, qualified_name

GROUP: Final = "fraud.detect"


@dataclass(frozen=True)
class FraudSettings:
    """Everything that the fraud role is told from outside."""

    bootstrap_servers: str
    database_url: str
    namespace: str
    code_version: str
    """Written on dead letters."""
    rules: tuple[Rule, ...] = DEFAULT_RULES
    snapshot_interval_ms: int = 30_000
    """A successor reads at most this much again, which takes it seconds; writing state more often
    buys nothing.
    """
    snapshot_records: int = 200_000
    """The same bound for catching up, when half a minute is millions of records."""
    group_instance_id: str | None = None


def register(app: PitbossApp, settings: FraudSettings) -> Intake:
    """Attach the fraud agent and the services it needs to an app."""
    consumer = qualified_name(GROUP, settings.namespace)
    log = qualified_name(TRANSACTIONS, settings.namespace)
    producer = app.supervise(BatchProducer(ProducerSettings(settings.bootstrap_servers, consumer)))
    store = app.supervise(SnapshotStore(settings.database_url, GROUP, TRANSACTIONS))
    agent = FraudAgent(
        settings.rules,
        store,
        producer,
        KafkaDeadLetterSink(producer, "fraud", settings.code_version),
        alerts_topic=qualified_name(ALERTS, settings.namespace),
        snapshot_interval_ms=settings.snapshot_interval_ms,
        snapshot_records=settings.snapshot_records,
    )
    return add_agent(
        app,
        IntakeSettings(
            settings.bootstrap_servers, consumer, group_instance_id=settings.group_instance_id
        ),
        agent.handle,
        name=GROUP,
        topics=[log],
        positions=agent,
    )


def create_app(settings: FraudSettings) -> PitbossApp:
    """A Faust app with the fraud agent alone; nothing is connected or started."""
    app = create_faust_app(AppSettings(GROUP, settings.bootstrap_servers))
    register(app, settings)
    return app
