"""`pitboss bench adapters`: that it measures what it says, on one look at each adapter."""

from __future__ import annotations

import json
from unittest.mock import Mock

import pytest
from click.testing import CliRunner

from lab.bench.adapters import AdapterBenchFigures, AdapterFigures, run
from lab.bench.machine import this_machine
from lab.bench.rates import Spread
from lab.bench.report import BenchEnvironment
from lab.conformance.adapters import registered_versions
from lab.conformance.examples.find import examples_of
from pitboss.cli.main import cli
from streams.providers.hub88 import Hub88
from streams.providers.registry import Version


def has_keys(version: Version) -> bool:
    return bool(examples_of(version.dialect).keys)


def figures(us: float, *, wallet: bool) -> AdapterFigures:
    return AdapterFigures("x/1", wallet, 10, 10, Spread(us, us - 1, us + 1), Spread(5.0, 4.0, 6.0))


def test_a_rate_is_held_against_the_target_of_its_kind():
    assert figures(24.9, wallet=True).holds
    assert not figures(25.1, wallet=True).holds
    assert figures(199.0, wallet=False).holds
    assert not figures(201.0, wallet=False).holds
    output = figures(25.0, wallet=True).as_json()
    assert (output["events_per_s"], output["with_signature_per_s"], output["target_per_s"]) == (
        40_000,
        33_333,
        40_000,
    )
    assert not AdapterBenchFigures(
        [figures(10, wallet=True), figures(300, wallet=False)],
        1,
        BenchEnvironment(this_machine(), None, {}),
    ).holds


def test_every_registered_adapter_is_measured(monkeypatch):
    monkeypatch.setattr("lab.bench.adapters._ROUND_S", 0.01)
    monkeypatch.setattr("lab.bench.adapters._FILLS", 2)
    # The whole heap of a test session is gone through for each adapter otherwise.
    monkeypatch.setattr("lab.bench.adapters.gc", Mock())
    steps: list[str] = []
    output = run(registered_versions(), 1, steps.append).as_json()
    names = [f"{version.row.provider}/{version.row.version}" for version in registered_versions()]
    assert [adapter["adapter"] for adapter in output["adapters"]] == steps == names
    by_name = {adapter["adapter"]: adapter for adapter in output["adapters"]}
    hub88, playngo = by_name["hub88/1"], by_name["playngo/1"]
    assert hub88["json_wallet"]
    assert not playngo["json_wallet"]
    assert not by_name["adyen/1"]["json_wallet"]
    assert all(adapter["us_per_event"] > 0 for adapter in output["adapters"])
    unsigned = {version.row.provider for version in registered_versions() if not has_keys(version)}
    assert unsigned == {
        name.partition("/")[0]
        for name, adapter in by_name.items()
        if adapter["signature_us_per_event"] is None
    }
    assert by_name["adyen/1"]["events"] > by_name["adyen/1"]["messages"]
    assert {"machine", "commit", "rounds"} <= set(output)


def test_the_signature_is_what_a_reader_with_keys_costs_more(monkeypatch):
    """With a clock that only the adapter moves: 2 µs to read a record, 5 µs with its signature."""
    clock_us, read_us, keyed_us = 0.0, 2.0, 5.0
    right_reader = Hub88.reader

    def reader(dialect, material):
        read, cost_us = right_reader(dialect, material), read_us if material is None else keyed_us

        def timed(raw, headers):
            nonlocal clock_us
            clock_us += cost_us
            return read(raw, headers)

        return timed

    monkeypatch.setattr(Hub88, "reader", reader)
    monkeypatch.setattr("lab.bench.adapters.time", Mock(process_time=lambda: clock_us / 1e6))
    monkeypatch.setattr("lab.bench.adapters._ROUND_S", 0.001)
    monkeypatch.setattr("lab.bench.adapters._FILLS", 2)
    [hub88] = [version for version in registered_versions() if isinstance(version.dialect, Hub88)]
    [output] = run([hub88], 2, lambda _: None).as_json()["adapters"]
    assert output["events"] == output["messages"]
    assert output["us_per_event"] == pytest.approx(read_us)
    assert output["signature_us_per_event"] == pytest.approx(keyed_us - read_us)
    assert output["with_signature_per_s"] == 200_000


def test_an_example_that_is_rejected_ends_the_measurement(monkeypatch):
    monkeypatch.setattr("lab.conformance.writers.hub88.DECIMALS", 40)
    [hub88] = [version for version in registered_versions() if isinstance(version.dialect, Hub88)]
    with pytest.raises(AssertionError, match="an example was rejected"):
        run([hub88], 1, lambda _: None)


def test_the_command_prints_one_object(monkeypatch):
    monkeypatch.setattr("lab.bench.adapters._ROUND_S", 0.01)
    monkeypatch.setattr("lab.bench.adapters._FILLS", 8)
    result = CliRunner().invoke(
        cli, ["bench", "adapters", "--rounds", "1", "--provider", "hub88", "--json"]
    )
    assert result.exit_code == 0, result.stderr
    output = json.loads(result.stdout)
    assert [adapter["adapter"] for adapter in output["adapters"]] == ["hub88/1"]
    table = CliRunner().invoke(cli, ["bench", "adapters", "--rounds", "1", "--provider", "hub88"])
    assert "hub88/1" in table.stdout
    assert CliRunner().invoke(cli, ["bench", "adapters", "--provider", "nobody"]).exit_code == 2
