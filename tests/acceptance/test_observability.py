"""A running installation with every role: its metrics, its traces, and what a real Prometheus makes of them."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import psycopg
import pytest
from click.testing import CliRunner

from gateway.decisions.routes import RouteTable
from lab.conformance.calls import CallOrder
from lab.conformance.intents import Verb
from lab.sandbox.actions import PROVIDERS
from lab.sandbox.feeder import feed_records
from pitboss.cli.main import cli
from pitboss.embedded.ports import choose_port
from pitboss.embedded.processes import poll
from pitboss.ops.provision import provision
from pitboss.settings import Runtime, worker_environment
from pitboss.workers import ALL_ROLES, ROLES
from pitboss.workers.supervisor import WorkerProcess
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.telemetry.catalogue import BY_NAME, METRICS, metrics_of
from streams.providers.registry import DIALECTS
from tests.acceptance.gateway.conftest import Client, Door
from tests.support.alert_rules import (
    ONLY_IN_A_FAULT,
    compared_side,
    load_rules,
    rules_of,
    without_default,
)
from tests.support.prometheus import run_prometheus
from tests.support.sandbox_keys import shared_keys
from tests.support.whole_run import make_traffic
from tests.unit.telemetry.test_observability import load_dashboards
from tests.unit.telemetry.test_traces import Collector

pytestmark = [pytest.mark.integration, pytest.mark.prove, pytest.mark.timeout(900)]

DEADLINE_S = 240
FOREIGN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
EVENTS = 1_500

NOT_IN_A_HEALTHY_RUN = {"pitboss.normalise.fallbacks", "pitboss.telemetry.dropped.series"}
"""What only a fault makes."""
OF_SOME_ROLES = {"messaging.client.sent.messages", "pitboss.dead_letters", "pitboss.drift.checked"}
"""What a role shows once it has had a record that makes it."""


@dataclass
class Scene:
    """An installation with a worker of every role, traffic, and a collector."""

    runtime: Runtime
    ports: dict[str, int]
    collector: Collector
    home: Path
    gateway_port: int

    def get(self, role: str, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.ports[role]}{path}", timeout=20
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""
        except OSError:
            return 0, ""

    def scrape(self, role: str) -> str:
        status, text = self.get(role, "/metrics")
        assert status == 200
        return text

    def type(self, *arguments: str) -> str:
        environment = {**worker_environment(self.runtime), "PITBOSS_HOME": str(self.home)}
        done = CliRunner().invoke(cli, arguments, env=environment, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout


def until(condition) -> None:
    assert poll(lambda: bool(condition()), DEADLINE_S)


@pytest.fixture
def scene(runtime: Runtime, tmp_path: Path) -> Iterator[Scene]:
    provision(runtime, partitions=1, raw_partitions=1, providers=PROVIDERS)
    keys_file = tmp_path / "keys.json"
    keys_file.touch(mode=0o600)
    keys_file.write_bytes(orjson.dumps(shared_keys().keyring()))
    gateway_port, *found = choose_ports(len(ALL_ROLES) + 1)
    ports = dict(zip(ALL_ROLES, found, strict=True))
    with ExitStack() as at_end:
        collector = Collector()
        at_end.callback(collector.server.server_close)
        at_end.callback(collector.server.shutdown)
        for role in ALL_ROLES:
            environment = {
                "PITBOSS_KEYS_FILE": str(keys_file),
                "PITBOSS_OTLP": collector.url,
                "PITBOSS_GATEWAY_PORT": str(gateway_port),
                "PITBOSS_ARCHIVE": str(tmp_path / "archive"),
                "PITBOSS_ARCHIVE_SPAN_MS": "1000",
                "PITBOSS_RESOLVE_MIN_AGE_MS": "1000",
                "PITBOSS_TRACE_SAMPLE": "0.01",
                # `worker_port` counts up from this base.
                "PITBOSS_TELEMETRY_PORT": str(ports[role] - ALL_ROLES.index(role)),
            }
            worker = WorkerProcess(role, runtime, home=tmp_path, environment=environment)
            worker.start()
            at_end.callback(worker.kill)
        made = Scene(runtime, ports, collector, tmp_path, gateway_port)
        until(lambda: all(made.get(role, "/readyz")[0] == 200 for role in ALL_ROLES))
        asyncio.run(feed(runtime, seed=3))
        call_gateway(gateway_port)
        until(lambda: settled(made))
        yield made


def choose_ports(count: int) -> list[int]:
    """Return so many different free ports."""
    found: set[int] = set()
    while len(found) < count:
        found.add(choose_port())
    return sorted(found)


async def feed(runtime: Runtime, seed: int) -> None:
    async def before_phase(_: int) -> None:
        return

    async with BatchProducer(ProducerSettings(runtime.broker, "pitboss.test")) as producer:
        await feed_records(
            make_traffic(seed, EVENTS, shared_keys()),
            producer,
            namespace=runtime.namespace,
            rate=None,
            before_phase=before_phase,
            progress=lambda *_: None,
        )


def call_gateway(port: int) -> None:
    """Make a call that no provider signed: it is refused, counted and timed."""
    routes = RouteTable(DIALECTS).routes
    path = next(route.path for route in routes if route.provider == "playngo")
    call = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=b"{}", method="POST")
    try:
        urllib.request.urlopen(call, timeout=20).close()
    except urllib.error.HTTPError as error:
        error.close()


def call_signed(scene: Scene) -> None:
    """Make a call that its provider signed, of a player without money, in a trace that is not ours."""

    async def call() -> None:
        keys, port = shared_keys(), scene.gateway_port
        door = Door(scene.runtime, keys, keys, port, port, {}, [], scene.home)
        async with aiohttp.ClientSession() as session:
            client = Client(door, session)
            order = CallOrder(Verb.BET, "penniless", "990001", 150)
            request = client.request("playngo", order)
            await client.send("playngo", request, headers={"traceparent": FOREIGN})

    asyncio.run(call())


def settled(scene: Scene) -> bool:
    for role in ROLES:
        _, text = scene.get(role, "/status")
        if not text or any(one["records"] for one in json.loads(text)["partitions"]):
            return False
    with psycopg.connect(scene.runtime.database_url) as connection:
        row = connection.execute("SELECT count(*) FROM entry").fetchone()
    has_archive = "pitboss_archive_position" in scene.scrape("archive")
    return row is not None and row[0] > EVENTS // 2 and has_archive


def names_in(text: str) -> set[str]:
    return set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))


def test_an_installation_shows_what_is_declared_traces_what_matters_and_feeds_the_dashboard(scene):
    check_declared(scene)
    check_traces(scene)
    check_call(scene)
    check_prometheus(scene)


def check_declared(scene: Scene) -> None:
    declared = {metric.prometheus_name for metric in METRICS}
    listed = [json.loads(line) for line in scene.type("metrics", "list", "--json").splitlines()]
    rows = {row["prometheus_name"]: row for row in listed}
    assert rows.keys() == declared
    seen: set[str] = set()
    for role in ALL_ROLES:
        text = scene.scrape(role)
        names = names_in(text)
        of_role = {metric.prometheus_name for metric in metrics_of(role)}
        assert names <= of_role, role
        check_listed(text, rows)
        assert json.loads(scene.get(role, "/status")[1])["role"] == role
        seen |= names
        optional = {BY_NAME[name].prometheus_name for name in NOT_IN_A_HEALTHY_RUN | OF_SOME_ROLES}
        assert of_role - names <= optional, f"{role} shows no {of_role - names - optional}"
    faults = {BY_NAME[name].prometheus_name for name in NOT_IN_A_HEALTHY_RUN}
    assert seen | faults == declared
    assert "pitboss_ledger_imbalance 0" in scene.scrape("ledger").splitlines()


def check_listed(text: str, rows: dict[str, Any]) -> None:
    """Compare a scrape with the rows of `pitboss metrics list`: type, unit, meaning, labels and bound."""
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    meanings = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))
    assert types == {name: rows[name]["type"] for name in types}
    assert meanings == {name: rows[name]["meaning"] for name in types}
    series: dict[str, set[str]] = {name: set() for name in types}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        matched = re.fullmatch(r"(\w+)(?:\{(.*)\})? \S+", line)
        assert matched is not None, line
        full, labels = matched.groups()
        name = full if full in rows else re.sub(r"_(bucket|count|sum)$", "", full)
        shown = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or ""))
        shown.pop("le", None)
        row = rows[name]
        assert shown.keys() <= {label.replace(".", "_") for label in row["labels"]}, line
        assert {"s": "_seconds", "By": "_bytes"}.get(row["unit"], "") in name
        series[name].add(str(sorted(shown.items())))
    for name, found in series.items():
        assert 1 <= len(found) <= rows[name]["cardinality_bound"], name


def check_traces(scene: Scene) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs pitboss[telemetry]")
    with psycopg.connect(scene.runtime.database_url) as connection:
        row = connection.execute(
            "SELECT event_id FROM entry WHERE outcome LIKE 'REFUSED%' ORDER BY source_offset LIMIT 1"
        ).fetchone()
    assert row is not None
    trace = row[0].bytes
    until(lambda: len(scene_spans(scene).get(trace, ())) >= 5)
    spans = scene_spans(scene)[trace]
    root = next(span for span in spans if not span.parent_span_id)
    hops = sorted(
        (span for span in spans if span.parent_span_id == root.span_id),
        key=lambda span: (span.start_time_unix_nano, span.end_time_unix_nano),
    )
    assert len({hop.name for hop in hops}) == len(hops) == 4, "every hop once"
    [attempt, *_] = json.loads(scene.type("trace", str(row[0]), "--json"))["attempts"]
    at_ms = {hop["step"]: hop["at_ms"] for hop in attempt["hops"]}
    ends = {hop.name.split(".")[-2] + hop.name[:4]: hop.end_time_unix_nano // 10**6 for hop in hops}
    assert at_ms["raw"] in ends.values()
    assert at_ms["log"] in ends.values()
    assert "outcome" in at_ms


def check_call(scene: Scene) -> None:
    """Find the one trace of a call: from its request to its answer, with every hop of the ledger below it."""
    call_signed(scene)

    def find_trace() -> list[Any]:
        for spans in scene_spans(scene).values():
            calls = [span for span in spans if attribute(span, "pitboss.ending") == "decided"]
            if calls and len(spans) >= 6:
                return spans
        return []

    until(find_trace)
    spans = find_trace()
    [root] = [span for span in spans if not span.parent_span_id]
    [decide] = [span for span in spans if span.parent_span_id == root.span_id]
    hops = [span for span in spans if span.parent_span_id == decide.span_id]
    assert len(spans) == 6
    assert root.name.startswith("POST /playngo")
    assert root.kind == root.SPAN_KIND_SERVER
    assert attribute(root, "pitboss.outcome") == "REFUSED_FUNDS"
    assert len({hop.name for hop in hops}) == len(hops) == 4, "every hop once"
    # A receipt is noted in whole milliseconds.
    assert root.start_time_unix_nano - 10**6 <= min(hop.start_time_unix_nano for hop in hops)
    assert all(hop.start_time_unix_nano <= root.end_time_unix_nano for hop in hops)
    assert root.trace_id.hex() not in FOREIGN


def attribute(span: Any, name: str) -> str:
    found: dict[str, str] = {one.key: one.value.string_value for one in span.attributes}
    return found.get(name, "")


def scene_spans(scene: Scene) -> dict[bytes, list]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    found: dict[bytes, list] = {}
    for body in list(scene.collector.bodies.get("/v1/traces", ())):
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    found.setdefault(span.trace_id, []).append(span)
    return found


# --- what Prometheus makes of it --------------------------------------------------------------------------------------


def check_prometheus(scene: Scene) -> None:
    """Run every query of the dashboard, and what every alert compares; each has data."""
    with run_prometheus(scene.home, scene.ports, load_rules()) as prometheus:
        until(lambda: prometheus.query("min_over_time(up[2s]) == 1 and on() count(up) == 7"))
        # Rates need counters that rise between two scrapes.
        asyncio.run(feed(scene.runtime, seed=4))
        call_gateway(scene.gateway_port)
        empty = {
            f"{title}: {text}": without_default(text)
            for title, text in load_dashboards().queries()
            if title not in ONLY_IN_A_FAULT
        } | {
            rule["alert"]: compared_side(rule["expr"])
            for rule in rules_of(load_rules())
            if rule["alert"] not in ONLY_IN_A_FAULT
        }

        def have_data() -> bool:
            for name, text in list(empty.items()):
                if prometheus.query(text):
                    del empty[name]
            return not empty

        assert poll(have_data, DEADLINE_S), f"no data: {sorted(empty)}"
        quiet = 'ALERTS{alertstate="firing",alertname=~"Pitboss(Imbalance|WorkerDown|DeadLetters)"}'
        assert prometheus.query(quiet) == []
