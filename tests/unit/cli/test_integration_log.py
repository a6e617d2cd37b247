"""The integration log: its contents, its rendering, and the log its schema changes refer to."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from lab.conformance.adapters import adapter_of
from lab.conformance.suite import Conformance, run_suite
from ledger_sink.queries.traffic import VersionTraffic
from pitboss.cli.main import cli
from pitboss.integration_log.markdown import render_markdown
from pitboss.integration_log.model import (
    EarlierLog,
    IntegrationLog,
    RejectedLine,
    SchemaChange,
    assemble_log,
    baseline_name,
    rejected_lines,
    schema_changes,
    schema_checksums,
    version_lines,
)
from runtime.dead_letters.letters import Action, DeadLetterCase, Letter
from schemas.errors import UsageError
from schemas.events import DeadLetter, Position, SchemaDrift
from schemas.topics import DAY_MS
from streams.providers.hub88 import Hub88
from streams.providers.registry import DIALECTS
from streams.providers.versions import VersionRow, VersionState

NOW = 1_792_000_000_000


def row(version: str, state: VersionState, **fields: Any) -> VersionRow:
    return VersionRow(
        provider="acme", version=version, adapter="a:B", state=state, source="x", **fields
    )


def drift(path: str = "$.a") -> SchemaDrift:
    place = Position("provider.acme.raw.v1", 1, 2)
    return SchemaDrift(
        "id", "acme", "1", "bet", "acme/bet/v1", "NEW_FIELD", path, "", "{}", place, NOW, None
    )


def case(
    topic: str, offset: int, codes: tuple[str, ...], at_ms: int = NOW, *, dropped: bool = False
) -> DeadLetterCase:
    source = Position(topic, 0, offset)
    letters = tuple(
        Letter(
            Position(f"{topic}.dlt", 0, offset),
            DeadLetter(source, index, None, None, [], at_ms, code, "", "normalise", "1", None),
        )
        for index, code in enumerate(codes)
    )
    actions = (
        (Action(1, source, "DROP", codes[0], "me", "why", False, 0, True, None),) if dropped else ()
    )
    return DeadLetterCase(source, letters, actions)


def test_versions_have_their_events_and_strangers_are_not_left_out():
    rows = [
        row("1", VersionState.DEPRECATED, retires_on=date(2026, 12, 1)),
        row("2", VersionState.LIVE),
    ]
    traffic = {("acme", "1"): VersionTraffic(5, "x", 0), ("acme", "9"): VersionTraffic(1, "y", 0)}
    lines = version_lines(rows, traffic, date(2026, 11, 22))
    assert [(line.version, line.state, line.events) for line in lines] == [
        ("1", "deprecated", 5),
        ("2", "live", 0),
        ("9", None, 1),
    ]
    assert lines[0].days_to_retirement == 9
    assert [line.events for line in version_lines(rows, None, date(2026, 11, 22))] == [None, None]


def test_rejected_records_are_counted_by_code_within_the_period():
    raw = "t.provider.acme.raw.v1"
    cases = [
        case(raw, 1, ("BAD_AMOUNT", "BAD_AMOUNT", "BAD_TIME")),
        case(raw, 2, ("BAD_AMOUNT",), dropped=True),
        case(raw, 3, ("BAD_AMOUNT",), at_ms=NOW - 1),
        case("t.wallet.transactions.v1", 4, ("BAD_CONTRACT",)),
    ]
    assert rejected_lines(cases, NOW) == [
        RejectedLine("acme", "BAD_AMOUNT", 2, 1),
        RejectedLine("acme", "BAD_TIME", 1, 1),
    ]


def test_schemas_are_known_by_what_they_say():
    found = schema_checksums()
    assert "avro/wallet-balance/v1" in found
    assert "providers/hub88/bet/v1.schema.json" in found
    assert "providers/playngo/reserve/v1.xsd" in found
    assert "providers/skylift/event/v2.avsc" in found
    assert {name.split("/")[1] for name in found if name.startswith("providers/")} == set(DIALECTS)
    assert found == schema_checksums()


def test_schema_changes_are_listed_by_name():
    before, now = {"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"}
    assert schema_changes(before, now) == [
        SchemaChange("b", "CHANGED"),
        SchemaChange("c", "REMOVED"),
        SchemaChange("d", "ADDED"),
    ]
    assert schema_changes(now, now) == []


def test_changes_are_those_since_the_last_log_before_the_period():
    earlier = {"a": EarlierLog(10, {}), "b": EarlierLog(20, {}), "c": EarlierLog(30, {})}
    assert baseline_name(earlier, 25) == "b"
    assert baseline_name(earlier, 20) == "b"
    assert baseline_name(earlier, 5) == "a", "the first one of the period, where none is older"
    assert baseline_name({}, 5) is None


def written(**fields: object) -> IntegrationLog:
    log = assemble_log(NOW - DAY_MS, NOW, [], [], [], [Conformance("acme/1", 3, 5, [])], {}, [])
    return replace(log, **fields)


def test_the_document_says_what_there_is_and_what_is_not_known():
    text = render_markdown(written())
    for expected in (
        "None was found.",
        "None was rejected.",
        "No earlier log to compare with",
        "| acme/1 | passed | 3 | 5 | 0 |",
    ):
        assert expected in text
    unknown = render_markdown(
        written(drift=None, rejected=None, unknown=["Drift is not known: gone"])
    )
    assert unknown.count("Not known, see above.") == 2
    assert "> Drift is not known: gone" in unknown
    changed = written(compared_with="x.json", schema_changes=[SchemaChange("a|b", "ADDED")])
    assert "| `a\\|b` | ADDED |" in render_markdown(changed)
    failed = render_markdown(written(conformance=[Conformance("acme/1", 3, 5, ["it broke"])]))
    assert "| acme/1 | FAILED | 3 | 5 | 1 |" in failed
    assert "- `it broke`" in failed


def test_what_a_provider_calls_its_fields_breaks_no_table():
    text = render_markdown(written(drift=[drift("$['a|b`c\nd']")]))
    [line] = [line for line in text.splitlines() if "NEW_FIELD" in line]
    assert line.replace("\\|", "").count("|") == 10
    assert "`$['a\\|b'c d']`" in line


# --- conformance ------------------------------------------------------------------------------------------------------


def test_an_adapter_that_keeps_its_promises_passes():
    [result] = run_suite([adapter_of(Hub88())])
    assert result.has_passed, result.faults
    assert result.examples >= 8
    assert result.fuzzed > 200


def test_an_adapter_that_breaks_one_does_not(monkeypatch):
    monkeypatch.setattr(Hub88, "answer", lambda *_: 1 / 0)
    [result] = run_suite([adapter_of(Hub88())])
    assert not result.has_passed
    assert "ZeroDivisionError" in result.faults[0]
    assert len(result.faults) <= 10


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("PITBOSS_HOME", str(tmp_path / "home"))
    for name in ("PITBOSS_KAFKA", "PITBOSS_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(
        "lab.conformance.suite.run_suite", lambda _: [Conformance("acme/1", 3, 5, [])]
    )
    return lambda *arguments: CliRunner().invoke(
        cli, ["providers", "log", *arguments], catch_exceptions=False
    )


def test_without_servers_it_tells_what_it_can(log):
    done = log("--json")
    assert done.exit_code == 0
    content = json.loads(done.stdout)
    assert content["drift"] is content["rejected"] is content["schema_changes"] is None
    assert {line["provider"] for line in content["versions"]} == set(DIALECTS)
    assert content["conformance"] == [
        {"adapter": "acme/1", "examples": 3, "fuzzed": 5, "faults": []}
    ]
    assert "not known: no stack was started" in done.stderr
    assert log().stdout.startswith("# Integration log, ")


def test_a_second_log_tells_what_changed_since_the_first(log, tmp_path, monkeypatch):
    assert log("--out", str(tmp_path), "--dry-run").stderr.count("would write") == 2
    assert list(tmp_path.glob("*.json")) == []
    assert log("--out", str(tmp_path)).exit_code == 0
    [first] = tmp_path.glob("*.json")
    content = json.loads(first.read_text())
    content["schemas"]["avro/gone/v1"] = "x"
    content["schemas"]["avro/wallet-balance/v1"] = "x"
    first.rename(tmp_path / "integration-log-2020-01-01T000000Z.json").write_text(
        json.dumps(content)
    )
    assert log("--out", str(tmp_path)).exit_code == 0
    [second] = set(tmp_path.glob("*.json")) - {tmp_path / "integration-log-2020-01-01T000000Z.json"}
    assert json.loads(second.read_text())["schema_changes"] == [
        {"name": "avro/gone/v1", "change": "REMOVED"},
        {"name": "avro/wallet-balance/v1", "change": "CHANGED"},
    ]


def test_a_log_that_cannot_be_read_is_named(log, tmp_path):
    (tmp_path / "integration-log-x.json").write_text("{}")
    done = log("--out", str(tmp_path))
    assert done.exit_code == UsageError.exit_code
    assert "integration-log-x.json is not an integration log" in done.stderr


def test_a_failing_adapter_ends_with_1(log, monkeypatch):
    monkeypatch.setattr(
        "lab.conformance.suite.run_suite", lambda _: [Conformance("acme/1", 3, 5, ["x"])]
    )
    assert log().exit_code == 1


def test_drift_of_a_stranger_is_no_question():
    done = CliRunner().invoke(cli, ["providers", "drift", "--provider", "nobody"])
    assert done.exit_code == UsageError.exit_code
    assert "provider 'nobody' is not known" in done.stderr
