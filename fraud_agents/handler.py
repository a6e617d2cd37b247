"""The fraud worker: what its agent watches, and where the output goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fraud_agents.agent import AgentTopics, FraudAgent, WatchedTopics
from fraud_agents.detectors.global_signals import GlobalDetectors
from fraud_agents.detectors.shard import WATCHED, ShardDetectors
from fraud_agents.rule_feed import RuleFeed
from fraud_agents.rule_set import RuleSet
from fraud_agents.settings import GROUP, FraudSettings
from fraud_agents.snapshots import SnapshotStore
from runtime.dead_letters.sink import KafkaDeadLetterSink
from runtime.kafka.app import AppSettings, PitbossApp, add_agent
from runtime.kafka.app import create_app as create_faust_app
from runtime.kafka.intake.intake import Intake, IntakeSettings
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas.identity import HOUSE
from schemas.topics import ALERTS, RULES, SIGNALS, TRANSACTIONS, qualified_name, raw_topic

if TYPE_CHECKING:
    from runtime.telemetry.worker import WorkerTelemetry


def register(app: PitbossApp, settings: FraudSettings) -> Intake:
    """Attach the fraud agent and the services it needs to an app.

    It watches the log, the player events and the game results. What detectors with other keys than
    the player need of them goes to `risk.signals.v1`, which it watches as well.
    """
    broker, namespace = settings.broker, settings.namespace
    group = qualified_name(GROUP, namespace)
    producer = app.supervise(BatchProducer(ProducerSettings(broker, group)))
    store = app.supervise(SnapshotStore(settings.database_url, GROUP))
    rules_topic = qualified_name(RULES, namespace)
    feed = app.supervise(RuleFeed(broker, rules_topic, namespace, settings.rules))
    watches = _watched_topics(producer, namespace)
    names = {qualified_name(one, namespace): one for watch in watches for one in watch.topics}
    outputs = (qualified_name(one, namespace) for one in (ALERTS, raw_topic(HOUSE), SIGNALS))
    dead_letters = KafkaDeadLetterSink(producer, "fraud", settings.code_version)
    agent = FraudAgent(
        feed,
        store,
        producer,
        dead_letters,
        AgentTopics(names, *outputs),
        watches,
        enforcement=settings.enforcement,
        snapshot_interval_ms=settings.snapshot_interval_ms,
        snapshot_records=settings.snapshot_records,
    )

    async def follow() -> None:
        await agent.adopt_rules()
        await agent.announce_idle()

    feed.on_poll = follow
    app.when_observed(lambda telemetry: telemetry.meters.add_source(dead_letters.samples))
    app.when_observed(lambda telemetry: dead_letters.on_written.append(telemetry.observe_letters))

    def begin_to_observe(telemetry: WorkerTelemetry) -> None:
        telemetry.meters.add_source(agent.samples)
        if telemetry.spans is not None:
            agent.observe_alert = telemetry.observe_alert

    app.when_observed(begin_to_observe)
    intake = IntakeSettings(
        broker, group, group_instance_id=settings.group_instance_id, is_co_partitioned=True
    )
    return add_agent(app, intake, agent.handle, name=GROUP, topics=list(names), positions=agent)


def _watched_topics(producer: BatchProducer, namespace: str) -> tuple[WatchedTopics, ...]:
    async def make_shard(rules: Mapping[str, RuleSet], partition: int) -> ShardDetectors:
        return ShardDetectors(rules, partition)

    async def make_global(rules: Mapping[str, RuleSet], partition: int) -> GlobalDetectors:
        count = await producer.partition_count(qualified_name(TRANSACTIONS, namespace))
        return GlobalDetectors(rules[SIGNALS], partition, count)

    return WatchedTopics(WATCHED, make_shard), WatchedTopics((SIGNALS,), make_global)


def create_app(settings: FraudSettings) -> PitbossApp:
    """Create a Faust app with the fraud agent alone; nothing is connected or started."""
    app = create_faust_app(AppSettings(GROUP, settings.broker))
    register(app, settings)
    return app
