"""infra/observability: what is rendered, that every name is declared, and that each alert fires and clears."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
from ruamel.yaml import YAML

from pitboss.setting_table import BY_NAME
from pitboss.telemetry_settings import read_telemetry_settings, worker_port
from pitboss.workers import ALL_ROLES
from runtime.telemetry.catalogue import METRICS, MetricType
from runtime.telemetry.pages import HOST
from schemas.errors import UsageError
from tests.support.alert_rules import SCRAPE_S

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "infra" / "observability"

FAULTS = {
    "PitbossWorkerDown": {'up{job="pitboss",role="ledger",instance="a"}': "1x9 0x9 1x60"},
    "PitbossWorkerRestarts": {
        'pitboss_worker_start_time_seconds{role="fraud"}': "1x9 2 3 4 5 6 6x60"
    },
    "PitbossPartitionWaits": {
        'pitboss_partition_waiting{messaging_consumer_group_name="g"}': "0x9 1x15 0x60"
    },
    "PitbossLag": {'pitboss_lag_seconds{messaging_consumer_group_name="g"}': "1x9 90x9 1x60"},
    "PitbossDecisionsSlow": {
        'pitboss_decision_duration_seconds_count{outcome="POSTED"}': "0+100x90",
        'pitboss_decision_duration_seconds_bucket{outcome="POSTED",le="1"}': (
            "0+100x9 900+20x15 1300+100x60"
        ),
    },
    "PitbossImbalance": {"pitboss_ledger_imbalance": "0x9 2x9 0x60"},
    "PitbossRejections": {
        "pitboss_normalise_records_total": "0+100x90",
        'pitboss_normalise_rejected_total{code="BAD_AMOUNT"}': "0x9 0+20x25 500x60",
    },
    "PitbossDeadLetters": {
        'pitboss_dead_letters_total{role="ledger",messaging_destination_name="t",code="c"}': "_x10 1x80",
        'pitboss_dead_letters_total{role="normalise",messaging_destination_name="r",code="c"}': "0+1x90",
    },
    "PitbossSignatures": {
        'pitboss_normalise_rejected_total{code="BAD_SIGNATURE"}': "0x9 0+6x25 150x60",
        'pitboss_normalise_rejected_total{code="BAD_AMOUNT"}': "0+6x90",
        'pitboss_gateway_endings_total{ending="decided"}': "0+100x90",
    },
    "PitbossProviderSilent": {
        'pitboss_normalise_events_total{provider="a",version="1"}': "0+10x10 100x30 100+10x60",
        'pitboss_normalise_events_total{provider="b",version="1"}': "0+10x90",
        'pitboss_normalise_events_total{provider="c",version="1"}': "0x90",
    },
    "PitbossRefusals": {
        'pitboss_ledger_outcomes_total{outcome="POSTED",reason="BOOKED"}': "0+10x90",
        'pitboss_ledger_outcomes_total{outcome="REFUSED_FUNDS",reason="r"}': "0x9 0+20x25 500x60",
    },
    "PitbossGatewayUnavailable": {
        'pitboss_gateway_endings_total{ending="decided"}': "0+100x90",
        'pitboss_gateway_endings_total{ending="refused, unknown session"}': "0+100x90",
        'pitboss_gateway_endings_total{ending="taken back"}': "0x9 0+20x25 500x60",
        'pitboss_gateway_endings_total{ending="refused, the circuit is open"}': "0x9 0+20x25 500x60",
    },
    "PitbossArchiveBehind": {"pitboss_archive_passes_total": "0+1x5 5x30 5+1x60"},
    "PitbossDiskLow": {
        "pitboss_disk_free_bytes": "9x9 1x9 9x60",
        "pitboss_disk_free_min_bytes": "5x90",
    },
    "PitbossSeriesDropped": {'pitboss_telemetry_dropped_series_total{metric="m"}': "0x9 4x9 0x60"},
}
"""For each alert, series with its fault after the first five minutes, at 30 s a value."""


def load_dashboards() -> ModuleType:
    pytest.importorskip("grafana_foundation_sdk", reason="needs grafana-foundation-sdk")
    spec = importlib.util.spec_from_file_location("dashboards", FOLDER / "dashboards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["dashboards"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def rules() -> list[dict[str, object]]:
    [group] = YAML(typ="safe").load(FOLDER / "alerts.yml")["groups"]
    return list(group["rules"])


def load_yaml(name: str) -> Any:
    return YAML(typ="safe").load(FOLDER / name)


def scrape_targets() -> list[dict[str, Any]]:
    [job] = load_yaml("prometheus.yml")["scrape_configs"]
    return list(job["static_configs"])


def run_promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool of Debian's package prometheus")
    return subprocess.run(
        [promtool, *arguments], check=False, capture_output=True, text=True, timeout=120
    )


def series_in(query: str) -> set[str]:
    return set(re.findall(r"\b(?:pitboss|messaging|process|http)_\w+(?=[\[{) ])", query + " "))


def declared_series() -> set[str]:
    names = set()
    for metric in METRICS:
        name = metric.prometheus_name
        is_histogram = metric.type is MetricType.HISTOGRAM
        names |= {f"{name}_{end}" for end in ("bucket", "count", "sum")} if is_histogram else {name}
    return names


def labels_of(query: str) -> set[str]:
    grouped = re.findall(r"by \(([^)]*)\)", query)
    return {label.strip() for one in grouped for label in one.split(",")}


def test_the_dashboard_is_as_it_was_rendered_last():
    module = load_dashboards()
    assert module.FILE.read_text() == module.render(), "run `make docs`"
    panels = json.loads(module.FILE.read_text())["panels"]
    titles = [panel["title"] for panel in panels if panel["type"] == "timeseries"]
    assert titles == [panel.title for _, row in module.ROWS for panel in row]
    assert len(set(titles)) == len(titles)


def test_every_query_names_series_and_labels_that_workers_show():
    known = {label.replace(".", "_") for metric in METRICS for label in metric.labels}
    known |= {"le", "role", "instance", "job"}
    queries = [query for _, query in load_dashboards().queries()]
    queries += [str(rule["expr"]) for rule in rules()]
    words = {
        GROUPED
        for query in queries
        for GROUPED in series_in(query) - {label.replace(".", "_") for label in known}
    }
    assert words <= declared_series(), words - declared_series()
    assert set().union(*map(labels_of, queries)) <= known


def test_every_alert_names_a_section_of_the_runbooks():
    text = (ROOT / "docs" / "howto" / "runbooks.md").read_text()
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^## (.+)$", text, re.MULTILINE)
    }
    for rule in rules():
        annotations = rule["annotations"]
        assert isinstance(annotations, dict)
        page, _, anchor = annotations["runbook"].partition("#")
        assert page == "docs/howto/runbooks.md"
        assert anchor in headings, anchor


def test_prometheus_scrapes_the_ports_that_workers_have():
    base = int(BY_NAME["telemetry_port"].example)
    targets = {one["labels"]["role"]: one["targets"] for one in scrape_targets()}
    assert targets == {role: [f"127.0.0.1:{worker_port(base, role, 1)}"] for role in ALL_ROLES}


def test_prometheus_takes_its_configuration_and_its_rules():
    done = run_promtool("check", "config", str(FOLDER / "prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(rules())} rules found" in done.stdout


def test_promtool_refuses_a_configuration_that_is_wrong(tmp_path):
    text = (FOLDER / "prometheus.yml").read_text()
    file = tmp_path / "prometheus.yml"
    file.write_text(text.replace("scrape_interval: 10s", "scrape_interval: soon"))
    (tmp_path / "alerts.yml").write_text((FOLDER / "alerts.yml").read_text())
    assert run_promtool("check", "config", str(file)).returncode != 0


def test_prometheus_scrapes_as_often_as_the_rules_are_meant_for():
    own = load_yaml("prometheus.yml")["global"]
    assert own == {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"}


def test_the_collector_listens_where_the_documents_send_to():
    protocols = load_yaml("collector.yml")["receivers"]["otlp"]["protocols"]
    assert protocols.keys() == {"http"}, "our exporter speaks OTLP over HTTP"
    url = f"http://{protocols['http']['endpoint']}"
    assert read_telemetry_settings({"PITBOSS_OTLP": url}).otlp == url
    assert (BY_NAME["otlp"].example, urlsplit(url).hostname) == (url, HOST)
    for file in (ROOT / "docs" / "howto" / "telemetry.md", FOLDER / "collector.yml"):
        assert re.findall(r"PITBOSS_OTLP=(http://[\w.:]+\d)", file.read_text()) == [url], file
    with pytest.raises(UsageError) as refused:
        read_telemetry_settings({"PITBOSS_OTLP": "collector"})
    assert str(refused.value).endswith(f"write it as {url}")


def test_the_collector_sends_on_what_workers_send():
    config = load_yaml("collector.yml")
    pipelines = config["service"]["pipelines"]
    assert pipelines.keys() == {"traces", "metrics"}, "what OtlpExport sends"
    for kind in ("receivers", "processors", "exporters"):
        assert {name for one in pipelines.values() for name in one[kind]} == config[kind].keys()
    ends = {name: urlsplit(one["endpoint"]) for name, one in config["exporters"].items()}
    assert {end.hostname for end in ends.values()} == {HOST}
    [prometheus] = [ends[name] for name in pipelines["metrics"]["exporters"]]
    assert (prometheus.port, prometheus.path) == (9090, "/api/v1/otlp"), "Prometheus's own"
    listening = config["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    scraped = [place for one in scrape_targets() for place in one["targets"]]
    taken = {int(place.rpartition(":")[2]) for place in (listening, *scraped)}
    assert not taken & {end.port for end in ends.values()}
    assert len({end.port for end in ends.values()}) == len(ends)


def test_every_alert_has_a_fault_that_makes_it():
    assert set(FAULTS) == {rule["alert"] for rule in rules()}


@pytest.mark.parametrize("alert", FAULTS)
def test_an_alert_fires_on_its_fault_and_clears_after_it(alert, tmp_path):
    firing = f'sum(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)'

    def at(minutes: int, value: int) -> dict[str, object]:
        samples = [{"labels": "{}", "value": value}]
        return {"expr": firing, "eval_time": f"{minutes}m", "exp_samples": samples}

    times = {
        "PitbossPartitionWaits": 12,
        "PitbossRejections": 14,
        "PitbossDecisionsSlow": 12,
        "PitbossSignatures": 14,
        "PitbossGatewayUnavailable": 12,
        "PitbossRefusals": 14,
        "PitbossProviderSilent": 18,
        "PitbossArchiveBehind": 16,
    }
    case = {
        "rule_files": [str(FOLDER / "alerts.yml")],
        "evaluation_interval": "30s",
        "tests": [
            {
                "interval": "30s",
                "input_series": [
                    {"series": series, "values": values} for series, values in FAULTS[alert].items()
                ],
                "promql_expr_test": [at(4, 0), at(times.get(alert, 8), 1), at(35, 0)],
            }
        ],
    }
    file = tmp_path / "test.yml"
    file.write_text(json.dumps(case))
    done = run_promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
