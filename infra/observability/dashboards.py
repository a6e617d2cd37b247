"""The Grafana dashboard of Pitboss, made with grafana-foundation-sdk and rendered to JSON.

`make docs` writes grafana/pitboss.json beside this file. A test compares the two, and another one
runs every query against a Prometheus that scrapes a running installation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef

FILE: Final = Path(__file__).parent / "grafana" / "pitboss.json"
WINDOW: Final = "5m"
GROUP: Final = "messaging_consumer_group_name"
TOPIC: Final = "messaging_destination_name"


@dataclass(frozen=True)
class PanelSpec:
    """One panel: its title, unit, what it says, and its queries with their legends."""

    title: str
    unit: str
    description: str
    queries: Sequence[tuple[str, str]]


def _rate(metric: str, by: str, matchers: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{matchers}[{WINDOW}]))"


def _quantile(quantile: float, histogram: str, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({quantile}, {_rate(f'{histogram}_bucket', labels)})"


_DECISION: Final = "pitboss_decision_duration_seconds"
_PROCESS: Final = "messaging_process_duration_seconds"
_HTTP: Final = "http_server_request_duration_seconds"

ROWS: Final[Sequence[tuple[str, Sequence[PanelSpec]]]] = (
    (
        "Latency",
        (
            PanelSpec(
                "Decisions",
                "s",
                "From the append of a raw record to the acknowledgement of its outcome",
                [(_quantile(q, _DECISION), f"p{round(q * 100)}") for q in (0.5, 0.99)],
            ),
            PanelSpec(
                "Batches, p99",
                "s",
                "From the agent until the effects of a batch are durable",
                [(_quantile(0.99, _PROCESS, GROUP), f"{{{{{GROUP}}}}}")],
            ),
            PanelSpec(
                "Gateway, p99",
                "s",
                "How long providers wait for an answer",
                [(_quantile(0.99, _HTTP, "provider"), "{{provider}}")],
            ),
        ),
    ),
    (
        "Errors",
        (
            PanelSpec(
                "Batches tried again",
                "ops",
                "By the code of the error; nothing while all servers answer",
                [
                    (
                        _rate(f"{_PROCESS}_count", "error_type", '{error_type!=""}')
                        + " or vector(0)",
                        "{{error_type}}",
                    )
                ],
            ),
            PanelSpec(
                "Gateway calls by ending",
                "ops",
                "How calls ended: decided, refused, unavailable",
                [(_rate("pitboss_gateway_endings_total", "ending"), "{{ending}}")],
            ),
            PanelSpec(
                "Starts of workers in an hour",
                "none",
                "More than one a deployment: see the runbook of a worker that ends again and again",
                [("sum by (role) (changes(pitboss_worker_start_time_seconds[1h]))", "{{role}}")],
            ),
        ),
    ),
    (
        "Providers",
        (
            PanelSpec(
                "Events",
                "ops",
                "By provider; one that is silent while others play has a problem",
                [(_rate("pitboss_normalise_events_total", "provider"), "{{provider}}")],
            ),
            PanelSpec(
                "Rejected items by code",
                "ops",
                "Each becomes a dead letter",
                [(_rate("pitboss_normalise_rejected_total", "code"), "{{code}}")],
            ),
            PanelSpec(
                "Calls and records",
                "ops",
                "Calls of the gateway by provider, and raw records of all connectors",
                [
                    (_rate("pitboss_gateway_calls_total", "provider"), "{{provider}}"),
                    (f"sum(rate(pitboss_normalise_records_total[{WINDOW}]))", "records"),
                ],
            ),
        ),
    ),
    (
        "Lag",
        (
            PanelSpec(
                "Oldest record that is not durable",
                "s",
                "Exact, by the broker's time of its append",
                [(f"max by ({GROUP}) (pitboss_lag_seconds)", f"{{{{{GROUP}}}}}")],
            ),
            PanelSpec(
                "Records",
                "none",
                "From the last durable record to the end of the log",
                [(f"sum by ({GROUP}) (pitboss_lag_records)", f"{{{{{GROUP}}}}}")],
            ),
            PanelSpec(
                "Partitions that wait",
                "none",
                "`pitboss status` says for what",
                [(f"sum by ({GROUP}) (pitboss_partition_waiting)", f"{{{{{GROUP}}}}}")],
            ),
        ),
    ),
    (
        "Ledger",
        (
            PanelSpec(
                "Refusals by code",
                "ops",
                "By outcome and reason",
                [
                    (
                        _rate(
                            "pitboss_ledger_outcomes_total",
                            "outcome, reason",
                            '{outcome=~"REFUSED.*"}',
                        ),
                        "{{outcome}} {{reason}}",
                    )
                ],
            ),
            PanelSpec(
                "Outcomes",
                "ops",
                "EXISTS are doubles that were answered again",
                [(_rate("pitboss_ledger_outcomes_total", "outcome"), "{{outcome}}")],
            ),
            PanelSpec(
                "Imbalance",
                "none",
                "Currencies whose accounts do not sum to zero: always 0",
                [("max(pitboss_ledger_imbalance)", "currencies")],
            ),
        ),
    ),
    (
        "Dead letters, alerts, archive",
        (
            PanelSpec(
                "Dead letters in an hour",
                "none",
                "By topic and code",
                [
                    (
                        f"sum by ({TOPIC}, code) (increase(pitboss_dead_letters_total[1h]))",
                        f"{{{{{TOPIC}}}}} {{{{code}}}}",
                    )
                ],
            ),
            PanelSpec(
                "Fraud alerts in an hour",
                "none",
                "By rule and severity",
                [
                    (
                        "sum by (rule, severity) (increase(pitboss_fraud_alerts_total[1h]))",
                        "{{rule}} {{severity}}",
                    )
                ],
            ),
            PanelSpec(
                "Archived records",
                "none",
                "Sum of the offsets up to which partitions are archived",
                [("sum(pitboss_archive_position)", "records")],
            ),
        ),
    ),
    (
        "Workers",
        (
            PanelSpec("Up", "none", "1 where a worker is scraped", [("up", "{{role}}")]),
            PanelSpec(
                "CPU",
                "percentunit",
                "Of one core",
                [(_rate("process_cpu_time_seconds_total", "role"), "{{role}}")],
            ),
            PanelSpec(
                "Memory",
                "bytes",
                "Resident",
                [("sum by (role) (process_memory_usage_bytes)", "{{role}}")],
            ),
            PanelSpec(
                "Free disk",
                "bytes",
                "Of the disk of PITBOSS_HOME, beside what PITBOSS_DISK_FREE_MIN_MB asks for",
                [
                    ("min(pitboss_disk_free_bytes)", "free"),
                    ("max(pitboss_disk_free_min_bytes)", "asked for"),
                ],
            ),
        ),
    ),
)


def queries() -> Iterator[tuple[str, str]]:
    """Yield the title of each panel with each of its queries."""
    for _, panels in ROWS:
        for panel in panels:
            for query, _ in panel.queries:
                yield panel.title, query


def render() -> str:
    """Return the dashboard as JSON."""
    built = (
        dashboard.Dashboard("Pitboss")
        .uid("pitboss")
        .tags(["pitboss"])
        .editable()
        .refresh("10s")
        .time("now-1h", "now")
    )
    for title, panels in ROWS:
        built.with_row(dashboard.Row(title))
        for panel in panels:
            built.with_panel(_build_panel(panel))
    return JSONEncoder(sort_keys=True, indent=1).encode(built.build()) + "\n"


def _build_panel(panel: PanelSpec) -> timeseries.Panel:
    built = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .min(0)
        .span(8)
        .height(8)
        .datasource(DataSourceRef(type_val="prometheus", uid="prometheus"))
    )
    for number, (query, legend) in enumerate(panel.queries):
        target = prometheus.Dataquery().expr(query).legend_format(legend).ref_id(chr(65 + number))
        built.with_target(target.exemplar(exemplar=True))
    return built


if __name__ == "__main__":
    FILE.write_text(render(), encoding="utf-8")
