"""`pitboss fraud`: the contract of the features, and the score over little labelled traffic."""

from __future__ import annotations

import json
from functools import partial

import pytest
from click.testing import CliRunner

from fraud_agents.features import FEATURES
from lab.fraud import leakage, traffic
from lab.fraud.scoring import CATALOGUE
from pitboss.cli.main import cli

MADE = ("D02", "D15")


def pitboss(*arguments):
    return CliRunner().invoke(cli, ["fraud", *arguments])


def test_the_contract_says_of_each_feature_its_clock_bounds_and_rules():
    rows = json.loads(pitboss("features", "--json").stdout)
    assert [row["feature"] for row in rows] == [feature.name for feature in FEATURES]
    for row in rows:
        assert set(row) == {
            *("feature", "meaning", "clock", "bounds", "late", "currency", "null"),
        }
        assert all(row.values()), row
    text = pitboss("features")
    assert text.exit_code == 0
    assert all(feature.name in text.stdout for feature in FEATURES)


def test_the_check_of_leaks_fails_where_the_score_ranks_the_marked_otherwise(monkeypatch):
    fair = pitboss("leakage", "--marked", "150", "--json")
    found = json.loads(fair.stdout)
    assert (found["marked"], found["others"], fair.exit_code) == (150, 150, 0)
    assert 0.45 <= found["auc"] <= 0.55
    monkeypatch.setattr(leakage, "measure_leakage", partial(leakage.measure_leakage, leak=75))
    unfair = pitboss("leakage", "--marked", "150")
    assert unfair.exit_code == 1
    assert "fair from 0.45 to 0.55" in unfair.stdout


@pytest.fixture
def little_traffic(monkeypatch):
    little = partial(traffic.make_traffic, detectors=MADE, ordinary=2, injections=2)
    monkeypatch.setattr(traffic, "make_traffic", little)


def test_the_score_has_every_detector(little_traffic):
    found = json.loads(pitboss("score", "--seed", "1", "--json").stdout)
    assert found["seed"] == 1
    assert tuple(found["detectors"]) == CATALOGUE
    assert found["hard_negative_alerts"] == []
    for name, one in found["detectors"].items():
        assert {"recall", "precision", "seconds_to_alert", "exposed_minor"} <= set(one), name
        assert (one["injections"] >= 2) is (name in MADE), name
        assert (one["recall"], one["precision"]) == (1.0, 1.0), name
    table = pitboss("score", "--verbose")
    assert table.exit_code == 0
    assert all(name in table.stdout for name in CATALOGUE)
    assert f"over {found['records']} records" in table.stdout
