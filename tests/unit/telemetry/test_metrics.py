"""Metrics: declared in one table, bounded, and written as Prometheus reads them."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner

from pitboss.cli.main import cli
from pitboss.provider_settings import ALL_PROVIDERS
from pitboss.workers import ALL_ROLES
from runtime.telemetry import catalogue
from runtime.telemetry.catalogue import METRICS, MetricType, metrics_of
from runtime.telemetry.exposition import format_exposition
from runtime.telemetry.meters import Meters
from runtime.telemetry.samples import MetricSample
from schemas.errors import InvariantBroken, RejectCode
from schemas.events import Outcome
from streams.providers.registry import DIALECTS

SEMCONV_1_44 = {
    "messaging.process.duration": ("histogram", "s"),
    "messaging.client.consumed.messages": ("counter", "{message}"),
    "messaging.client.sent.messages": ("counter", "{message}"),
    "http.server.request.duration": ("histogram", "s"),
    "process.cpu.time": ("counter", "s"),
    "process.memory.usage": ("gauge", "By"),
}
"""Names, types and units of https://opentelemetry.io/docs/specs/semconv/ 1.44 that we use.

`process.memory.usage` is an UpDownCounter there, which Prometheus has as a gauge.
"""


def test_every_metric_is_declared_once_with_a_bound_and_a_meaning():
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert len({metric.prometheus_name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.meaning
        assert metric.bound
        assert metric.series_max >= 1
        assert bool(metric.labels) == (metric.series_max > 1), metric.name
        assert re.fullmatch(r"[a-z][a-z0-9_]*", metric.prometheus_name)
        assert set(metric.roles) <= set(ALL_ROLES)
    assert catalogue.ALL_ROLES == ALL_ROLES


def test_names_of_others_are_those_of_the_conventions():
    ours = {
        metric.name: (str(metric.type), metric.unit)
        for metric in METRICS
        if not metric.name.startswith("pitboss.")
    }
    assert ours == SEMCONV_1_44


def test_no_label_grows_with_players_or_events_and_bounds_hold_the_contracts():
    labels = {label for metric in METRICS for label in metric.labels}
    assert not [label for label in labels if re.search(r"player|event_id|round|wallet", label)]
    bound = {metric.name: metric.series_max for metric in METRICS}
    assert bound["pitboss.normalise.rejected"] >= len(RejectCode)
    assert bound["pitboss.gateway.calls"] >= len(DIALECTS)
    assert bound["pitboss.ledger.outcomes"] >= len(Outcome)
    versions = sum(len(DIALECTS.versions(name)) for name in DIALECTS)
    assert bound["pitboss.normalise.events"] >= versions
    assert ALL_PROVIDERS not in labels


def test_prometheus_names_have_unit_and_total_once():
    names = {metric.name: metric.prometheus_name for metric in METRICS}
    assert names["messaging.process.duration"] == "messaging_process_duration_seconds"
    assert names["process.cpu.time"] == "process_cpu_time_seconds_total"
    assert names["process.memory.usage"] == "process_memory_usage_bytes"
    assert names["pitboss.lag"] == "pitboss_lag_seconds"
    assert names["pitboss.dead_letters"] == "pitboss_dead_letters_total"


def test_a_scrape_has_counters_gauges_and_buckets():
    meters = Meters("ledger")
    meters.add_source(
        lambda: [
            MetricSample("pitboss.ledger.outcomes", ("POSTED", 'a "b"\n\\'), 3),
            MetricSample("pitboss.ledger.imbalance", (), 0),
        ]
    )
    for seconds in (0.004, 0.3, 99.0):
        meters.record("messaging.process.duration", ("g", "t", ""), seconds)
    text = format_exposition(meters.collect())
    lines = text.splitlines()
    assert 'pitboss_ledger_outcomes_total{outcome="POSTED",reason="a \\"b\\"\\n\\\\"} 3' in lines
    assert "# TYPE pitboss_ledger_outcomes_total counter" in lines
    assert "pitboss_ledger_imbalance 0" in lines
    place = 'messaging_consumer_group_name="g",messaging_destination_name="t"'
    base = "messaging_process_duration_seconds"
    assert f'{base}_bucket{{{place},le="0.005"}} 1' in lines
    assert f'{base}_bucket{{{place},le="0.5"}} 2' in lines
    assert f'{base}_bucket{{{place},le="10"}} 2' in lines
    assert f'{base}_bucket{{{place},le="+Inf"}} 3' in lines
    assert f"{base}_count{{{place}}} 3" in lines
    assert f"{base}_sum{{{place}}} 99.304" in lines
    assert text.endswith("\n")


def test_a_value_at_a_bound_is_in_its_bucket():
    meters = Meters("ledger")
    meters.record("messaging.process.duration", ("g", "t", ""), 0.005)
    assert (
        '_bucket{messaging_consumer_group_name="g",messaging_destination_name="t",le="0.005"} 1'
        in (format_exposition(meters.collect()))
    )


@pytest.mark.parametrize(
    "sample", [MetricSample("pitboss.unheard_of", (), 1), MetricSample("pitboss.lag", ("g",), 1)]
)
def test_an_undeclared_metric_or_label_is_refused(sample):
    meters = Meters("ledger")
    meters.add_source(lambda: [sample])
    with pytest.raises(InvariantBroken, match="not declared"):
        meters.collect()


def test_series_beyond_the_bound_are_left_out_and_counted():
    meters = Meters("gateway")
    bound = {metric.name: metric.series_max for metric in METRICS}
    players = [MetricSample("pitboss.gateway.calls", (f"p{n}",), 1) for n in range(100_000)]
    meters.add_source(lambda: players)
    for number in range(5_000):
        meters.record("http.server.request.duration", ("p", str(number)), 0.1)
    for _ in range(2):
        lines = format_exposition(meters.collect()).splitlines()
    calls = [line for line in lines if line.startswith("pitboss_gateway_calls_total{")]
    assert len(calls) == bound["pitboss.gateway.calls"]
    counts = [
        line for line in lines if line.startswith("http_server_request_duration_seconds_count")
    ]
    assert len(counts) == bound["http.server.request.duration"]
    dropped = [line for line in lines if line.startswith("pitboss_telemetry_dropped_series_total{")]
    assert len(dropped) == 2


def test_sources_with_the_same_series_are_summed():
    meters = Meters("gateway")
    for _ in range(2):
        meters.add_source(lambda: [MetricSample("pitboss.gateway.calls", ("hub88",), 2)])
    assert 'pitboss_gateway_calls_total{provider="hub88"} 4' in format_exposition(meters.collect())


def test_the_command_lists_what_is_declared():
    result = CliRunner().invoke(cli, ["metrics", "list", "--json"])
    rows = [json.loads(line) for line in result.output.splitlines()]
    assert [row["name"] for row in rows] == [metric.name for metric in METRICS]
    assert all(
        {"type", "unit", "meaning", "cardinality_bound", "prometheus_name"} <= row.keys()
        for row in rows
    )
    result = CliRunner().invoke(cli, ["metrics", "list", "--role", "ledger"])
    assert "messaging_process_duration_seconds  histogram, s by" in result.output
    assert "pitboss_gateway_calls" not in result.output
    assert [metric for metric in metrics_of("ledger") if metric.type is MetricType.HISTOGRAM]
    with pytest.raises(ValueError, match="teleport"):
        metrics_of("teleport")
