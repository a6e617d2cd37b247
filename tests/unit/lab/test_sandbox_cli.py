"""`pitboss sandbox`: what it writes, what it keeps, what it refuses."""

from __future__ import annotations

import base64
import json
import stat
import time

import pytest
from click.testing import CliRunner

from lab.sandbox.keys import SandboxKeys
from lab.sandbox.scenario import Scenario, generate
from pitboss.cli import sandbox as command
from pitboss.cli.sandbox import sandbox
from pitboss.settings import runtime_of
from pitboss.workers.role_locks import hold_roles
from runtime.security import BrokerAddress
from schemas.errors import UsageError


@pytest.fixture
def pitboss(tmp_path, monkeypatch):
    for name in ("PITBOSS_KAFKA", "PITBOSS_DATABASE", "PITBOSS_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PITBOSS_HOME", str(tmp_path / "home"))
    return lambda *arguments: CliRunner().invoke(sandbox, arguments, catch_exceptions=False)


def test_generate_writes_the_very_records_of_the_scenario(pitboss, tmp_path):
    out = tmp_path / "traffic.jsonl"
    done = pitboss(
        "generate",
        "--events",
        "400",
        "--seed",
        "9",
        "--start-ms",
        "1760000000000",
        "--out",
        str(out),
    )
    assert done.exit_code == 0, done.output
    keys = SandboxKeys.load(tmp_path / "home" / "sandbox-keys.json")
    records = generate(Scenario(seed=9, start_ms=1_760_000_000_000, events=400, speeders=0), keys)
    lines = [json.loads(line) for line in out.read_bytes().splitlines()]
    assert [
        (
            line["provider"],
            base64.b64decode(line["key"]),
            base64.b64decode(line["value"]),
            tuple((name, base64.b64decode(value)) for name, value in line["headers"]),
            line["event_time_ms"],
            line["phase"],
            line["origin"],
            line["expected_reject"],
        )
        for line in lines
    ] == [
        (
            r.provider,
            r.key,
            r.value,
            r.headers,
            r.event_time_ms,
            r.phase,
            r.origin,
            r.expected_reject,
        )
        for r in records
    ]


def test_without_a_start_the_traffic_ends_just_before_now(pitboss, tmp_path):
    out, begun_ms = tmp_path / "traffic.jsonl", time.time() * 1000
    assert pitboss("generate", "--events", "400", "--out", str(out)).exit_code == 0
    last = max(json.loads(line)["event_time_ms"] for line in out.read_bytes().splitlines())
    assert begun_ms - 60_000 < last < time.time() * 1000


def test_keys_are_made_once_and_the_keyring_follows_them(pitboss, tmp_path):
    out, keys, ring = str(tmp_path / "t.jsonl"), tmp_path / "my.json", tmp_path / "my.keyring.json"
    first = pitboss("generate", "--events", "200", "--out", out, "--keys", str(keys))
    assert f"PITBOSS_KEYS_FILE={ring}" in first.output
    made = keys.read_bytes()
    assert (
        "PITBOSS_KEYS_FILE"
        not in pitboss("generate", "--events", "200", "--out", out, "--keys", str(keys)).output
    )
    assert keys.read_bytes() == made
    assert json.loads(ring.read_bytes()) == SandboxKeys.load(keys).keyring()
    assert stat.S_IMODE(ring.stat().st_mode) == 0o600
    SandboxKeys.generate().save(keys)
    assert (
        "PITBOSS_KEYS_FILE"
        in pitboss("generate", "--events", "200", "--out", out, "--keys", str(keys)).output
    )
    assert json.loads(ring.read_bytes()) == SandboxKeys.load(keys).keyring()


def test_feed_refuses_servers_that_are_not_ours_without_the_option(pitboss, monkeypatch):
    monkeypatch.setenv("PITBOSS_KAFKA", "kafka.example:9092")
    monkeypatch.setenv("PITBOSS_DATABASE", "postgresql://u:p@db.example:5432/postgres")
    with pytest.raises(UsageError, match="--yes-use-these-servers"):
        pitboss("feed", "--events", "200")


def test_feed_without_a_stack_says_how_to_start_one(pitboss):
    with pytest.raises(UsageError, match="pitboss up"):
        pitboss("feed", "--events", "200")


@pytest.fixture
def feed(pitboss, monkeypatch):
    """`sandbox feed` to a broker that has some topics, and whether a record was fed."""
    fed: list[object] = []

    async def append(*_arguments):
        fed.append(True)

    async def find_missing(_broker, topics):
        return sorted(topics)[:2] if "missing" in fed else []

    runtime = runtime_of(BrokerAddress("b:1"), "postgresql://u@h/d", "")
    monkeypatch.setattr(command, "resolve_runtime", lambda _: runtime)
    monkeypatch.setattr(command, "find_missing_topics", find_missing)
    monkeypatch.setattr(command, "_append", append)
    return fed, lambda *options: pitboss("feed", "--events", "300", *options)


def test_feed_refuses_workers_with_other_keys_and_names_the_way_to_both(
    feed, pitboss, tmp_path, monkeypatch
):
    fed, run = feed
    own = tmp_path / "keys.json"
    own.touch(mode=0o600)
    own.write_text(json.dumps({"house": {"hmac_hex": "aa" * 32}}))
    # Only the workers have it, not this shell.
    with (
        hold_roles(tmp_path / "home", "", ["normalise"], workers=1, keys_file=own),
        pytest.raises(UsageError, match=f"keyring --with {own} --out FILE") as refused,
    ):
        run()
    assert "other keys of house," in str(refused.value)
    assert fed == []
    monkeypatch.setenv("PITBOSS_KEYS_FILE", str(own))
    both = tmp_path / "both.json"
    assert pitboss("keyring", "--out", str(both)).exit_code == 0
    monkeypatch.setenv("PITBOSS_KEYS_FILE", str(both))
    assert run().exit_code == 0
    monkeypatch.setenv("PITBOSS_KEYS_FILE", str(own))
    assert run("--providers", "hub88").exit_code == 0
    assert fed == [True, True]


def test_feed_checks_all_topics_before_the_first_record(feed):
    fed, run = feed
    fed.append("missing")
    with pytest.raises(
        UsageError, match=r"no topic game\.results\.v1, provider\.adyen\.raw\.v1: run `pitboss prov"
    ):
        run()
    assert fed == ["missing"]
