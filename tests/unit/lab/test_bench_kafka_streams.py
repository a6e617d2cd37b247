"""The figures of the Kafka Streams peer: what of its run is timed, and what is said where it did not run."""

from __future__ import annotations

import json

import pytest

from lab.bench.kafka_streams import (
    Jdk,
    NoJdk,
    StreamsFigures,
    StreamsPeer,
    compile_peer,
    find_jdk,
    split_run,
)
from lab.bench.processes import BenchFailed
from lab.bench.rates import Rate, RateSample


def samples(total: int, cold_cpu_us: float, first_cpu_us: float, steady_cpu_us: float, events: int):
    """A sample each 1,000 outputs, a tenth of a second apart."""
    cold = StreamsPeer.cold_events(events)
    found, cpu_s = [RateSample(0.0, 0, 0.0)], 0.0
    for done in range(1_000, total + 1, 1_000):
        us = cold_cpu_us if done <= cold else first_cpu_us
        cpu_s += (us if done <= cold + events else steady_cpu_us) / 1_000
        found.append(RateSample(done / 10_000, done, cpu_s))
    return found


def test_the_cold_start_is_left_out_and_what_comes_after_as_many_events_as_ours_is_steady():
    events = 450_000
    assert StreamsPeer.cold_events(events) == 50_000
    assert StreamsPeer.events(events) == 1_000_000
    run = split_run(samples(1_000_000, 100.0, 14.0, 8.0, events), events)
    assert run.first.events == 450_000
    assert run.first.cpu_s_per_million == pytest.approx(14.0)
    assert run.steady.events == 450_000
    assert run.steady.cpu_s_per_million == pytest.approx(8.0)


def test_a_run_that_is_too_short_is_an_error():
    with pytest.raises(ValueError, match="use more events"):
        split_run([RateSample(0.0, 0, 0.0), RateSample(1.0, 1_000, 1.0)], 450)


def rate(cpu_s: float) -> Rate:
    return Rate(1_000_000, 10.0, cpu_s)


def test_our_cost_is_divided_by_the_peers_pair_by_pair():
    runs = [split_run(samples(40_000, 50.0, first, 5.0, 18_000), 18_000) for first in (10.0, 20.0)]
    figures = StreamsFigures([rate(12.0), rate(12.0)], runs)
    output = json.loads(json.dumps(figures.as_json()))
    assert output["cpu_ratio_kafka_streams"] == 0.9
    assert output["cpu_ratio_kafka_streams_spread"] == {
        "median": 0.9,
        "lowest": 0.6,
        "highest": 1.2,
    }
    assert output["cpu_ratio_kafka_streams_steady"] == 2.4
    assert len(output["kafka_streams"]) == 2
    assert output["kafka_streams_missing"] is None
    assert [row.name for row in figures.rows()] == ["Kafka Streams", "Kafka Streams, steady"]


def test_a_peer_that_did_not_run_is_null_and_says_why():
    figures = StreamsFigures([rate(12.0)], [], "javac is not in the PATH")
    output = figures.as_json()
    assert output["cpu_ratio_kafka_streams"] is None
    assert output["kafka_streams"] is None
    assert output["kafka_streams_missing"] == "javac is not in the PATH"
    assert [row.remark for row in figures.rows()] == ["javac is not in the PATH"]
    assert StreamsFigures([rate(12.0)], []).rows() == []


def test_a_machine_without_a_jdk_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoJdk, match="javac is not in the PATH"):
        find_jdk()


def test_what_a_compiler_refuses_is_shown_and_leaves_nothing_that_looks_complete(tmp_path):
    javac = tmp_path / "javac"
    javac.write_text("#!/bin/sh\necho 'no such class' >&2\nexit 1\n")
    javac.chmod(0o755)
    for _ in range(2):
        with pytest.raises(BenchFailed, match="no such class"):
            compile_peer(Jdk("java", str(javac)), [], tmp_path / "cache")
