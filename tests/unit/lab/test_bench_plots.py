"""The plots of kept results: what is drawn of each kind, and that the documents show what the results say."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
from click.testing import CliRunner

pytest.importorskip("matplotlib", reason="needs pitboss[analysis]")

from lab.bench.plots import BarPanel, draw, kind_of, panels_of
from pitboss.cli.bench import bench
from pitboss.cli.bench_environment import RESULTS
from pitboss.cli.bench_plot import PLOTS
from schemas.errors import UsageError

SVG = "{http://www.w3.org/2000/svg}"


def result(stem: str):
    return msgspec.json.decode((RESULTS / f"{stem}.json").read_bytes())


@pytest.mark.parametrize(
    ("stem", "kind"),
    [
        ("latency-hops-6345015", "latency-hops"),
        ("pipeline-secured-6345015", "pipeline-secured"),
        ("pipeline-6345015-dirty", "pipeline"),
        ("adapters-6345015", ""),
    ],
)
def test_a_name_says_the_kind(stem, kind):
    assert kind_of(stem) == kind


def test_the_hops_are_stacked_to_the_whole_time():
    found = result("latency-hops-6345015")
    [panel] = panels_of("latency-hops", found)
    assert panel.is_stacked
    for number, load in enumerate(panel.places):
        total_ms = sum(values[number] for values in panel.series.values())
        assert total_ms == pytest.approx(found["hops"][load]["whole"]["mean_ms"], abs=0.1)


def test_the_parts_of_the_pipeline_are_stacked_to_the_total():
    found = result("pipeline-6345015")
    cpu, rate = panels_of("pipeline", found)
    assert cpu.places == ("Pitboss", "base")
    assert "total" not in cpu.series
    totals = [
        found["cpu_s_per_million"]["total"],
        found["peers"]["base"]["cpu_s_per_million"]["total"],
    ]
    sums = [sum(values[number] for values in cpu.series.values()) for number in range(2)]
    assert sums == pytest.approx(totals, abs=0.1)
    assert rate.series == {"settled": (11949.0, 7812.0)}


def test_both_sides_of_a_closed_loop_stand_beside_each_other():
    found = result("latency-closed-59e6833-dirty")
    rate, p50, _ = panels_of("latency-closed", found)
    assert rate.series["bare hops"][0] == found["closed"]["16"]["bare_hops"]["calls_per_s"]
    assert p50.series["Pitboss"][0] == found["closed"]["16"]["p50_ms"]
    found["closed"]["16"]["cpu_ms_a_call"] = None  # servers of another machine
    assert len(panels_of("latency-closed", found)) == 2


def test_a_secured_run_and_one_with_peers_have_their_panels():
    side = {
        "closed": {"calls_per_s": 900.0},
        "at_rate": {"p50_ms": 8.0, "p99_ms": 20.0},
    }
    found = {"secured": side, "plain": side, "rate": 200, "in_flight": 16}
    assert [panel.places for panel in panels_of("latency-secured", found)] == [
        ("16 in flight",),
        ("200 a second",),
        ("200 a second",),
    ]
    run = {"per_s": 10, "cpu_s_per_million": 2.0}
    found = {
        "pairs": [{"ours": run, "plain_faust": run}],
        "others": {"quix_streams": [run]},
        "kafka_streams": [{"first": run, "steady": {"per_s": 30, "cpu_s_per_million": 1.0}}],
    }
    rate, _ = panels_of("normalise", found)
    assert rate.places == (
        "Pitboss",
        "plain Faust",
        "Quix Streams",
        "Kafka Streams",
        "Kafka Streams, steady",
    )
    assert rate.series["rate"][-1] == 30
    assert panels_of("adapters", {}) == []


def test_a_plot_names_its_series_and_places_and_is_the_same_each_time(tmp_path):
    panel = BarPanel("CPU", "s", ("a", "b"), {"one": (1.0, 2.0), "two": (3.0, 4.0)})
    for name in ("first.svg", "second.svg"):
        draw([panel, panel], "a result", tmp_path / name)
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()
    root = ET.fromstring((tmp_path / "first.svg").read_text())
    texts = {"".join(text.itertext()).strip() for text in root.iter(f"{SVG}text")}
    assert {"a result", "CPU", "one", "two", "a", "b", "s"} <= texts


def test_the_plots_in_the_documents_are_those_of_the_kept_results(tmp_path):
    done = CliRunner().invoke(bench, ["plot", "--out", str(tmp_path)])
    assert done.exception is None, done.output
    drawn = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    kept = {file.name: file.read_bytes() for file in PLOTS.iterdir()}
    assert kept.keys() == drawn.keys(), "make docs"
    assert [name for name in drawn if kept[name] != drawn[name]] == [], "make docs"
    page = (PLOTS.parent / "performance.md").read_text()
    shown = set(re.findall(r"\(plots/([^)]+)\)", page))
    assert shown == kept.keys()


def test_results_without_a_plot_are_refused(tmp_path):
    file = tmp_path / "adapters-1234567.json"
    file.write_text("{}")
    failed = CliRunner().invoke(bench, ["plot", str(file), "--out", str(tmp_path)])
    assert isinstance(failed.exception, UsageError)
    assert list(Path(tmp_path).glob("*.svg")) == []
