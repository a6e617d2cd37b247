"""What workers show does not grow with players: a hundred thousand of them, over every provider."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
import pytest
from aiokafka.structs import ConsumerRecord

from gateway.stats import SHOWN_AT_ZERO, GatewayStats
from lab.sandbox.poison import CATALOGUE
from lab.sandbox.scenario import Scenario, generate
from ledger_sink.booking.publisher import AnswerCounts
from ledger_sink.booking.traces import DecisionTraces
from ledger_sink.rules.book import DecidedEvent, LogEvent
from ledger_sink.rules.journal import Answer
from ledger_sink.store.groups import AppliedGroup
from runtime.telemetry.catalogue import metrics_of
from runtime.telemetry.exposition import format_exposition
from runtime.telemetry.meters import Meters
from runtime.telemetry.settings import TelemetrySettings
from runtime.telemetry.worker import WorkerTelemetry
from schemas.events import Outcome, Position, WalletTransaction
from schemas.topics import TRANSACTIONS, raw_topic
from streams.normalise.batch import NormalisedBatch
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser
from streams.normalise.stats import NormaliseStats
from streams.providers.registry import DIALECTS
from tests.support.sandbox_keys import shared_keys

pytestmark = pytest.mark.prove

START_MS = 1_790_000_000_000
FEW, MANY = 100, 100_000
OUTCOMES = [outcome.value for outcome in Outcome]


@cache
def results_by_provider() -> dict[str, list[tuple[Any, list[Any]]]]:
    """Return what the normaliser makes of traffic of every provider, record by record."""
    scenario = Scenario(
        seed=5,
        start_ms=START_MS,
        events=3_000,
        poison=len(CATALOGUE),
        providers=tuple(sorted(DIALECTS)),
    )
    normaliser = Normaliser(DIALECTS, shared_keys().keyring())
    found: dict[str, list[tuple[Any, list[Any]]]] = defaultdict(list)
    for n, raw in enumerate(generate(scenario, shared_keys())):
        topic = raw_topic(raw.provider)
        record = ConsumerRecord(
            topic, 0, n, START_MS + 1, 1, raw.key, raw.value, None, 0, 0, raw.headers
        )
        found[raw.provider].append((record, normaliser.normalise(record)))
    return found


def play(players: int) -> Iterator[tuple[str, Any, list[Any]]]:
    """Yield provider, record and items of so many records, each of another player."""
    whole = [(name, *one) for name, some in results_by_provider().items() for one in some]
    for number, (provider, record, items) in zip(
        range(players), itertools.cycle(whole), strict=False
    ):
        yield (
            provider,
            record,
            [
                msgspec.structs.replace(
                    item, transaction=of_player(item.transaction, f"player-{number}")
                )
                if isinstance(item, AcceptedTransaction)
                else item
                for item in items
            ],
        )


def of_player(transaction: WalletTransaction, player: str) -> WalletTransaction:
    return msgspec.structs.replace(transaction, player_id=player)


def show(players: int) -> dict[str, str]:
    """Return the scrape of each role that counts single events, after as many players."""
    normalise, gateway, answers = NormaliseStats(), GatewayStats(), AnswerCounts()
    ledger = WorkerTelemetry("ledger", "ledger-1", TelemetrySettings(otlp="http://127.0.0.1:1"))
    traces = DecisionTraces(ledger, (TRANSACTIONS, "o"))
    applied = AppliedGroup()
    for number, (provider, record, items) in enumerate(play(players)):
        batch = NormalisedBatch(provider)
        batch.add_results([(record, items)])
        batch.count_into(normalise)
        gateway.calls[provider] += 1
        decisions = [
            DecidedEvent(
                LogEvent(item.transaction, Position(TRANSACTIONS, 0, number), START_MS),
                Answer(OUTCOMES[number % len(OUTCOMES)], "R"),
                0,
            )
            for item in items
            if isinstance(item, AcceptedTransaction)
        ]
        answers.count(applied, decisions, None)
        traces.observe(applied, decisions, {})
    ledger.meters.add_source(answers.samples)
    of_normalise, of_gateway = Meters("normalise"), Meters("gateway")
    of_normalise.add_source(normalise.samples)
    of_gateway.add_source(gateway.samples)
    meters = {"normalise": of_normalise, "gateway": of_gateway, "ledger": ledger.meters}
    return {role: format_exposition(one.collect()) for role, one in meters.items()}


def series_of(text: str) -> set[str]:
    return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}


@pytest.fixture(scope="module")
def shown() -> dict[int, dict[str, str]]:
    return {players: show(players) for players in (3 * FEW, MANY)}


def test_the_traffic_is_of_every_provider():
    played = {provider for provider, _, _ in play(MANY // 10)}
    assert played == set(DIALECTS)
    assert len(played) >= 14


@pytest.mark.parametrize("role", ["normalise", "gateway", "ledger"])
def test_a_hundred_thousand_players_stay_within_every_bound(role, shown):
    text = shown[MANY][role]
    assert "player-" not in text
    assert "dropped_series" not in text
    for metric in metrics_of(role):
        suffix = "_count" if str(metric.type) == "histogram" else ""
        name = f"{metric.prometheus_name}{suffix}"
        count = sum(series.partition("{")[0] == name for series in series_of(text))
        assert count <= metric.series_max, metric.name


def test_series_are_those_of_providers_and_outcomes_not_of_players(shown):
    gateway = series_of(shown[MANY]["gateway"])
    assert len(gateway) == len(DIALECTS) + len(SHOWN_AT_ZERO)
    few, many = (series_of(shown[players]["ledger"]) for players in (3 * FEW, MANY))
    assert few == many
    versions = {series for series in series_of(shown[MANY]["normalise"]) if "version=" in series}
    assert len(versions) <= sum(len(DIALECTS.versions(name)) for name in DIALECTS)
