"""Every alert fires on a real fault in a running installation, and clears once the fault is mended."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import psycopg
import pytest
from psycopg import sql

from pitboss.embedded.free_space import free_bytes
from pitboss.embedded.processes import poll
from pitboss.settings import Runtime
from schemas.topics import TRANSACTIONS, raw_topic
from tests.support.alert_rules import (
    ONLY_IN_A_FAULT,
    load_rules,
    rules_of,
    speed_up,
    without_default,
)
from tests.support.alert_scene import (
    DEADLINE_S,
    FACTOR,
    IDLE,
    RAW_ONLY,
    AlertScene,
    alert_scene,
)
from tests.support.leaky_worker import leaky_worker
from tests.unit.telemetry.test_observability import load_dashboards

MB: Final = 1024 * 1024
SPARE_MB: Final = 2_048
"""So far above what is asked for is the free space while nothing is wrong."""
QUIET_S: Final = 20.0
"""For so long nothing fires before the first fault."""


@contextmanager
def fraud_is_down(scene: AlertScene) -> Iterator[None]:
    scene.workers["fraud"].kill()
    yield
    scene.start("fraud")


@contextmanager
def resolve_ends_again_and_again(scene: AlertScene) -> Iterator[None]:
    for _ in range(4):
        scene.restart("resolve")
    yield


@contextmanager
def foreign_records_are_appended(scene: AlertScene) -> Iterator[None]:
    topic = scene.runtime.topic(TRANSACTIONS)
    before = scene.traffic.appended[topic]
    scene.traffic.garbage.append(topic)
    assert poll(lambda: scene.traffic.appended[topic] > before, DEADLINE_S)
    scene.traffic.garbage.remove(topic)
    yield


@contextmanager
def calls_are_signed_with_another_key(scene: AlertScene) -> Iterator[None]:
    scene.traffic.is_forging = True
    yield
    scene.traffic.is_forging = False


@contextmanager
def a_provider_sends_what_cannot_be_read(scene: AlertScene) -> Iterator[None]:
    topic = scene.runtime.topic(raw_topic(RAW_ONLY))
    scene.traffic.garbage.append(topic)
    yield
    scene.traffic.garbage.remove(topic)


@contextmanager
def players_bet_without_money(scene: AlertScene) -> Iterator[None]:
    scene.traffic.is_poor = True
    yield
    scene.traffic.is_poor = False


@contextmanager
def a_provider_stops(scene: AlertScene) -> Iterator[None]:
    scene.traffic.playing.remove("skylift")
    yield
    scene.traffic.playing.add("skylift")


@contextmanager
def tables_are_written_by_hand(scene: AlertScene) -> Iterator[None]:
    def add(minor: int) -> None:
        with psycopg.connect(scene.runtime.database_url) as connection:
            done = connection.execute(
                "UPDATE wallet SET cash_minor = cash_minor + %s WHERE player_id = %s", (minor, IDLE)
            )
            assert done.rowcount == 1

    add(700)
    yield
    add(-700)


@contextmanager
def the_disk_fills_up(scene: AlertScene) -> Iterator[None]:
    file = scene.folder / "ballast"
    with file.open("wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, 2 * SPARE_MB * MB)
    yield
    file.unlink()


@contextmanager
def a_worker_counts_by_player(scene: AlertScene) -> Iterator[None]:
    normal = {role: (role, port) for role, port in scene.ports.items()}
    with leaky_worker() as port:
        scene.prometheus.scrape({**normal, "leaky": ("gateway", port)})
        yield
        scene.prometheus.scrape(normal)


@contextmanager
def the_database_is_refused(scene: AlertScene) -> Iterator[None]:
    def execute(statement: str) -> None:
        with psycopg.connect(scene.runtime.maintenance_url, autocommit=True) as connection:
            name = scene.runtime.database
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )

    execute("ALTER DATABASE {} ALLOW_CONNECTIONS false")
    yield
    execute("ALTER DATABASE {} ALLOW_CONNECTIONS true")


@dataclass(frozen=True)
class Fault:
    """A fault: what makes and mends it, and which alerts it fires, with labels that are its own."""

    make: Callable[[AlertScene], AbstractContextManager[None]]
    during: Mapping[str, str]
    after: Mapping[str, str] = field(default_factory=dict)
    """Alerts that fire when it is mended, on what it has left behind."""

    @property
    def alerts(self) -> dict[str, str]:
        return {**self.during, **self.after}


SINGLE: Final = (
    Fault(fraud_is_down, {"PitbossWorkerDown": 'role="fraud"'}),
    Fault(resolve_ends_again_and_again, {"PitbossWorkerRestarts": 'role="resolve"'}),
    Fault(foreign_records_are_appended, {"PitbossDeadLetters": ""}),
    Fault(calls_are_signed_with_another_key, {"PitbossSignatures": ""}),
    Fault(a_provider_sends_what_cannot_be_read, {"PitbossRejections": ""}),
    Fault(players_bet_without_money, {"PitbossRefusals": ""}),
    Fault(a_provider_stops, {"PitbossProviderSilent": 'provider="skylift"'}),
    Fault(tables_are_written_by_hand, {"PitbossImbalance": ""}),
    Fault(the_disk_fills_up, {"PitbossDiskLow": ""}),
    Fault(a_worker_counts_by_player, {"PitbossSeriesDropped": ""}),
)
"""Faults that do not touch each other, and are made side by side."""

DATABASE: Final = Fault(
    the_database_is_refused,
    {
        "PitbossPartitionWaits": "",
        "PitbossLag": "",
        "PitbossGatewayUnavailable": "",
        "PitbossArchiveBehind": "",
    },
    {"PitbossDecisionsSlow": ""},
)


def test_every_rule_has_a_fault_that_fires_it():
    covered = [alert for fault in (*SINGLE, DATABASE) for alert in fault.alerts]
    assert sorted(covered) == sorted(rule["alert"] for rule in rules_of(load_rules()))


@pytest.mark.integration
@pytest.mark.prove
@pytest.mark.timeout(1_800)
def test_every_alert_fires_on_its_fault_and_clears_when_it_is_mended(
    runtime: Runtime, tmp_path: Path
):
    required_mb = free_bytes(tmp_path) // MB - SPARE_MB
    assert required_mb > SPARE_MB, "the disk is too full to fill it"
    panels = panel_queries()
    with alert_scene(runtime, tmp_path, PITBOSS_DISK_FREE_MIN_MB=str(required_mb)) as scene:
        stay_quiet(scene)
        single = {alert: labels for fault in SINGLE for alert, labels in fault.during.items()}
        with ExitStack() as mend:
            for fault in SINGLE:
                mend.enter_context(fault.make(scene))
            wait_for_all(scene, single, fires=True)
        wait_for_all(scene, single, fires=False)
        with DATABASE.make(scene):
            wait_for_all(scene, DATABASE.during, fires=True)
            have_data(scene, panels)
        wait_for_all(scene, DATABASE.after, fires=True)
        wait_for_all(scene, DATABASE.alerts, fires=False)


def stay_quiet(scene: AlertScene) -> None:
    """Play until no alert has fired for a while: on a busy machine the start itself is slow."""
    answered = scene.traffic.answered
    quiet_since_s = begin_s = time.monotonic()
    while time.monotonic() - quiet_since_s < QUIET_S:
        firing = scene.prometheus.firing()
        assert time.monotonic() - begin_s < DEADLINE_S, firing
        if firing:
            quiet_since_s = time.monotonic()
        time.sleep(1)
    up = scene.prometheus.query('count(up{job="pitboss"} == 1)')
    assert [one["value"][1] for one in up] == [str(len(scene.ports))]
    assert scene.traffic.answered > answered


def panel_queries() -> dict[str, str]:
    """Return the panels on series that only a fault makes, with what is more than 0 while it is there."""
    return {
        title: f"{without_default(query)} > 0"
        for title, query in load_dashboards().queries()
        if title in ONLY_IN_A_FAULT
    }


def alert_queries() -> dict[str, str]:
    """Return the alerts on such series, with their rules as the scene has them."""
    return {
        rule["alert"]: without_default(rule["expr"])
        for rule in rules_of(speed_up(load_rules(), FACTOR))
        if rule["alert"] in ONLY_IN_A_FAULT
    }


def has_data(scene: AlertScene, text: str) -> bool:
    return bool(scene.prometheus.query(text))


def have_data(scene: AlertScene, queries: Mapping[str, str]) -> None:
    for name, text in queries.items():
        assert poll(partial(has_data, scene, text), DEADLINE_S), f"no data: {name}: {text}"


def wait_for_all(scene: AlertScene, alerts: Mapping[str, str], *, fires: bool) -> None:
    queries = alert_queries()
    for alert, labels in alerts.items():
        scene.wait_for(alert, labels, fires=fires)
        if fires and alert in queries:
            have_data(scene, {alert: queries[alert]})
        print(f"{time.strftime('%X')} {alert} {'fires' if fires else 'has cleared'}", flush=True)
