"""Two versions of the code over the same raw records."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from hashlib import sha256
from itertools import count
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from fraud_agents.facts import PlayerFact
from pitboss.cli.main import cli
from pitboss.ops.code_versions import VersionFailed, open_version
from replay.archive.record import record_slice
from replay.archive.store import LocalStore
from replay.export.plan import plan_export
from replay.export.request import ExportRequest
from replay.versions import runner
from replay.versions.comparison import VersionOutput, compare_versions
from schemas import codec
from schemas.errors import UsageError
from schemas.events import Attempt, GameResult, PlayerEvent
from schemas.identity import event_id
from schemas.topics import GAME_RESULTS, PLAYER_EVENTS, raw_topic
from tests.support.dialect_records import vectors
from tests.support.memory_log import MemoryLog, MemoryRecord

ROOT = Path(__file__).parents[3]
PACKAGES = ("schemas", "runtime", "streams", "ledger_sink", "fraud_agents", "replay")
HUB88 = raw_topic("hub88")


def output(**rows) -> VersionOutput:
    kinds: dict[str, list] = {
        name: []
        for name in (
            *("events", "player_events", "settlements"),
            *("outcomes", "balances", "alerts", "rejected"),
        )
    }
    return VersionOutput(10, 10, 1_000, 500, {"p50": 5, "p99": 9}, **{**kinds, **rows})


def event(tx: str, unscaled: int, *, kind="BET", currency="EUR") -> dict:
    leg = {"kind": kind, "amount": {"unscaled": unscaled, "scale": 2}, "currency": currency}
    attempt = {"topic": HUB88, "partition": 0, "offset": 1, "record_index": 0}
    return {"event_id": tx, "attempt": attempt, "provider": "hub88", "legs": [leg]}


def found(kind: str, comparison):
    return next(one for one in comparison.differences if one.kind == kind)


class TestComparison:
    def test_equal_results_are_identical_whatever_they_took(self):
        first = output(events=[event("a", 100), event("b", 200)])
        slower = output(events=[event("b", 200), event("a", 100)])
        second = msgspec.structs.replace(slower, cpu_ns=9_000, latencies_ns={"p50": 7, "p99": 70})
        comparison = compare_versions(("v1", "v2"), first, second)
        assert comparison.identical
        assert (comparison.first.name, comparison.second.name) == ("v1", "v2")
        assert comparison.second.cpu_us_per_record == 0.9
        assert comparison.sums == []

    def test_what_is_added_dropped_and_changed_is_named_with_its_money(self):
        comparison = compare_versions(
            ("v1", "v2"),
            output(events=[event("a", 100), event("b", 200), event("c", 5, currency="GBP")]),
            output(events=[event("a", 101), event("c", 5, currency="GBP"), event("d", 7)]),
        )
        events = found("events", comparison)
        assert (events.added, events.dropped, events.changed) == (1, 1, 1)
        assert events.changed_fields == {"legs": 1}
        assert [each["what"] for each in events.examples] == ["added", "dropped", "changed"]
        [sums] = comparison.sums
        assert (sums.of, sums.provider, sums.kind, sums.currency) == (
            *("events", "hub88", "BET", "EUR"),
        )
        assert (sums.first, sums.second, sums.difference) == ("3.00", "1.08", "-1.92")

    def test_balances_are_compared_by_player_and_summed_by_currency(self):
        def wallet(player, total):
            return {"player_id": player, "currency": "EUR", "total": total}

        comparison = compare_versions(
            ("v1", "v2"),
            output(balances=[wallet("p", "1.50"), wallet("q", "2.00")]),
            output(balances=[wallet("p", "1.40"), wallet("q", "2.10")]),
        )
        assert found("balances", comparison).changed == 2
        assert comparison.sums == []  # the sum is the same, the players' money is not
        assert not comparison.identical

    def test_copies_of_a_row_are_counted(self):
        one = event("a", 100)
        comparison = compare_versions(("v1", "v2"), output(events=[one, one]), output(events=[one]))
        assert found("events", comparison).dropped == 1


@pytest.fixture
def slice_of_raw_records(tmp_path) -> Path:
    numbers = count()
    records = [
        MemoryRecord(
            number, vector.record.timestamp + number, vector.record.key, vector.record.value,
            [*vector.record.headers],
        )
        for vector in vectors()
        if vector.provider == "hub88"
        for number in [next(numbers)]
    ]  # fmt: skip
    log = MemoryLog({HUB88: {0: records}})
    plan = plan_export(log, ExportRequest(HUB88), HUB88)
    record_slice(log, plan, LocalStore(tmp_path / "slice"))
    return tmp_path / "slice"


def copy_of_sources(folder: Path) -> Path:
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def compare(*arguments: str | Path):
    return CliRunner().invoke(cli, ["replay", "compare", *map(str, arguments), "--json"])


def test_a_change_of_an_adapter_is_shown_with_its_money(slice_of_raw_records, tmp_path):
    changed = copy_of_sources(tmp_path / "changed")
    adapter = changed / "streams" / "providers" / "hub88.py"
    text = adapter.read_text()
    assert "AMOUNT_SCALE: Final = 5" in text
    adapter.write_text(text.replace("AMOUNT_SCALE: Final = 5", "AMOUNT_SCALE: Final = 4"))
    same = compare(ROOT, ROOT, "--slice", slice_of_raw_records)
    assert same.exit_code == 0, (same.output, same.exception)
    result = json.loads(same.stdout)
    assert result["identical"]
    assert result["first"]["events"] > 3
    assert result["first"]["records"] == result["second"]["records"] > 3
    other = compare(ROOT, changed, "--slice", slice_of_raw_records)
    assert other.exit_code == 1, (other.output, other.exception)
    result = json.loads(other.stdout)
    events = next(one for one in result["differences"] if one["kind"] == "events")
    assert events["changed_fields"]["legs"] == events["changed"] > 0
    [example, *_] = [one for one in events["examples"] if one["what"] == "changed"]
    [leg], [again] = example["first"]["legs"], example["second"]["legs"]
    assert (leg["amount"]["scale"], again["amount"]["scale"]) == (5, 4)
    assert {one["of"] for one in result["sums"]} >= {"events"}


def virtual_environment(folder: Path, sources: Path) -> Path:
    """An environment whose Pitboss are these sources, with the libraries that are installed here."""
    venv.create(folder, with_pip=False, symlinks=True)
    [packages] = (folder / "lib").glob("python*/site-packages")
    installed = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "pitboss.pth").write_text("\n".join([str(sources), *installed]))
    return folder


def test_the_version_of_a_virtual_environment_is_the_one_that_runs(slice_of_raw_records, tmp_path):
    changed = copy_of_sources(tmp_path / "changed")
    adapter = changed / "streams" / "providers" / "hub88.py"
    text = adapter.read_text()
    adapter.write_text(text.replace("AMOUNT_SCALE: Final = 5", "AMOUNT_SCALE: Final = 4"))
    old, new = (
        virtual_environment(tmp_path / name, sources)
        for name, sources in (("old", ROOT), ("new", changed))
    )
    same = compare(old, ROOT, "--slice", slice_of_raw_records)
    assert same.exit_code == 0, (same.output, same.exception)
    other = compare(old, new, "--slice", slice_of_raw_records)
    assert other.exit_code == 1, (other.output, other.exception)
    result = json.loads(other.stdout)
    assert (result["first"]["name"], result["second"]["name"]) == (str(old), str(new))
    [events] = [one for one in result["differences"] if one["kind"] == "events"]
    assert events["changed_fields"]["legs"] == events["changed"] > 0


SUMSUB, UOF = raw_topic("sumsub"), raw_topic("uof")
START_MS = 1_790_000_000_000
LOGINS = 3
"""Accounts on one device, of which the third is D08's; after each, its player bets from Ontario."""


def bet_from_ontario(number: int) -> MemoryRecord:
    body = {
        "user": f"p-{number}",
        "transaction_uuid": f"b-{number}",
        "round": f"r-{number}",
        "game_code": "slot",
        "amount": 100_000,
        "currency": "EUR",
    }
    headers = [("http-path", b"/transaction/bet"), ("region", b"CA-ON")]
    value, at_ms = json.dumps(body).encode(), START_MS + 30_000 * number
    return MemoryRecord(number, at_ms, b"p-%d" % number, value, headers)


def login(number: int) -> MemoryRecord:
    """An event that the casino's own systems have written, not an adapter."""
    name, at_ms = f"l-{number}", START_MS + 30_000 * number
    event = PlayerEvent(
        event_id(*("acme", "house", "login", name)),
        *("acme", "house", "1", "CA-ON", "login", name),
        attempt=Attempt("cms", 0, number),
        player_id=f"p-{number}",
        type=PlayerFact.LOGIN.value,
        attributes={"device": "one-and-the-same"},
        occurred_at=at_ms,
        time_source="CONNECTOR",
        provider_at=None,
        received_at=at_ms,
        appended_at=at_ms,
        signature="VALID",
    )
    value = codec.encoder(PlayerEvent)(event)
    return MemoryRecord(number, at_ms, b"p-%d" % number, value)


def false_result() -> list[MemoryRecord]:
    """A spin whose segment is not that of its seeds, which is what D14 is about, and the hash before it."""
    reveal = GameResult(
        event_id(*("acme", "house", "result", "g-1")),
        *("acme", "house", "1", "CA-ON", "result", "g-1"),
        attempt=Attempt("games", 0, 1),
        round_id="r-1",
        game_id="wheel-1",
        game_version="1",
        player_id="p-1",
        stake_minor=100,
        payout_minor=218,
        currency="EUR",
        selection=None,
        outcome="7",
        scheme="wheel-hmac-sha256/1",
        committed_hash=sha256(b"seed").hexdigest(),
        server_seed="seed",
        client_seed="player",
        nonce=1,
        bets_closed_at=None,
        outcome_known_at=START_MS + 1_000,
        occurred_at=START_MS + 1_000,
        time_source="CONNECTOR",
        provider_at=None,
        received_at=START_MS + 1_000,
        appended_at=START_MS + 1_000,
        signature="VALID",
    )
    commitment = msgspec.structs.replace(
        reveal,
        event_id=event_id(*("acme", "house", "commitment", "g-1")),
        operation="commitment",
        attempt=Attempt("games", 0, 0),
        outcome=None,
        server_seed=None,
        payout_minor=None,
        outcome_known_at=None,
        occurred_at=START_MS,
        received_at=START_MS,
        appended_at=START_MS,
    )
    encode = codec.encoder(GameResult)
    return [
        MemoryRecord(number, result.occurred_at, b"wheel", encode(result))
        for number, result in enumerate((commitment, reveal))
    ]


def slice_of(folder: Path, records: dict[str, list[MemoryRecord]]) -> Path:
    log = MemoryLog({topic: {0: rows} for topic, rows in records.items()})
    for topic in records:
        record_slice(log, plan_export(log, ExportRequest(topic), topic), LocalStore(folder))
    return folder


@pytest.fixture
def slice_of_everything(tmp_path) -> Path:
    """Records whose meaning is no wallet transaction, or which detectors see only together."""
    review = {
        "applicantId": "a1",
        "inspectionId": "i1",
        "correlationId": "c1",
        "applicantType": "individual",
        "levelName": "basic",
        "externalUserId": "p-1001",
        "type": "applicantReviewed",
        "reviewStatus": "completed",
        "reviewResult": {"reviewAnswer": "GREEN"},
        "createdAtMs": "2026-11-22 10:15:30.123",
    }
    settled = (
        f'<bet_settlement product="1" event_id="sr:match:700001" timestamp="{START_MS}" certainty="2">'
        '<outcomes><market id="1"><outcome id="1" result="1"/></market></outcomes></bet_settlement>'
    )
    return slice_of(
        tmp_path / "everything",
        {
            SUMSUB: [MemoryRecord(0, START_MS, b"p-1001", json.dumps(review).encode())],
            UOF: [MemoryRecord(0, START_MS, b"sr:match:700001", settled.encode())],
            HUB88: [bet_from_ontario(number) for number in range(LOGINS)],
            PLAYER_EVENTS: [login(number) for number in range(LOGINS)],
            GAME_RESULTS: false_result(),
        },
    )


ADAPTERS = {
    "player_events": ("sumsub", '"applicantReviewed": "KYC_REVIEWED"', "type"),
    "settlements": ("uof", '_SETTLEMENT: "SETTLED"', "action"),
}


@pytest.mark.parametrize("kind", ADAPTERS)
def test_a_change_of_what_is_no_transaction_is_shown(slice_of_everything, tmp_path, kind):
    provider, wording, field = ADAPTERS[kind]
    changed = copy_of_sources(tmp_path / "changed")
    adapter = changed / "streams" / "providers" / f"{provider}.py"
    text = adapter.read_text()
    assert text.count(wording) == 1
    adapter.write_text(text.replace(wording, wording[:-1] + '_ANEW"'))
    done = compare(ROOT, changed, "--slice", slice_of_everything)
    assert done.exit_code == 1, (done.output, done.exception)
    [difference] = [one for one in json.loads(done.stdout)["differences"] if one["changed"]]
    assert (difference["kind"], difference["first_rows"]) == (kind, 1)
    assert difference["changed_fields"] == {field: 1}
    [example] = difference["examples"]
    assert example["second"][field] == example["first"][field] + "_ANEW"


RULES = {
    # Over a player's records of two topics, over those of all players, over game results.
    "D12": ("d12_geofence", '"regions": ["CA-ON", "US-NJ"]', '"regions": ["US-NJ"]', LOGINS),
    "D08": ("d08_multi_accounting", "Limit(3, ", "Limit(4, ", 1),
    "D14": (
        "d14_result_integrity",
        "expected and expected != event.outcome:",
        "event.outcome is None:",
        1,
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_change_of_a_detector_over_several_topics_is_shown(slice_of_everything, tmp_path, rule):
    module, wording, other, dropped = RULES[rule]
    changed = copy_of_sources(tmp_path / "changed")
    detector = changed / "fraud_agents" / "detectors" / f"{module}.py"
    text = detector.read_text()
    assert text.count(wording) == 1
    detector.write_text(text.replace(wording, other))
    done = compare(ROOT, changed, "--slice", slice_of_everything)
    assert done.exit_code == 1, (done.output, done.exception)
    result = json.loads(done.stdout)
    [alerts] = [one for one in result["differences"] if one["dropped"] or one["changed"]]
    assert alerts["kind"] == "alerts"
    assert (alerts["added"], alerts["dropped"], alerts["changed"]) == (0, dropped, 0)


def test_what_an_adapter_makes_again_is_not_read_from_a_recorded_topic(tmp_path):
    """A recorded player event whose raw record is in the slices would hide that the adapter has changed."""
    copied = msgspec.structs.replace(
        codec.decoder(PlayerEvent)(login(0).value or b""), attempt=Attempt(f"acme.{SUMSUB}", 0, 0)
    )
    rows = [
        [SUMSUB, 0, 0, START_MS, b"p", b"{", []],
        *(
            [PLAYER_EVENTS, 0, n, START_MS, b"p", codec.encoder(PlayerEvent)(one), []]
            for n, one in enumerate(
                [copied, msgspec.structs.replace(copied, attempt=Attempt("cms", 0, 0))]
            )
        ),
        [PLAYER_EVENTS, 0, 2, START_MS, b"p", b"not Avro", []],
    ]
    split = runner.split_records(rows)
    assert [row[0] for row in split.raw] == [SUMSUB]
    assert [one.attempt.topic for one in split.watched[PLAYER_EVENTS]] == ["cms"]
    [unreadable] = split.unreadable
    assert unreadable["place"] == f"{PLAYER_EVENTS}-0@2"


def test_a_version_that_fails_says_why(slice_of_raw_records, tmp_path):
    broken = copy_of_sources(tmp_path / "broken")
    (broken / "replay" / "explain.py").write_text("raise RuntimeError('half a release')\n")
    done = compare(ROOT, broken, "--slice", slice_of_raw_records)
    assert done.exit_code == VersionFailed.exit_code == 70
    assert "half a release" in done.stderr


class TestNames:
    def test_a_revision_is_extracted_and_removed(self, tmp_path):
        repository = tmp_path / "repository"
        (repository / "replay").mkdir(parents=True)
        (repository / "replay" / "explain.py").write_text("'first'\n")
        git = ("git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t@localhost")
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
            subprocess.run([*git, *command], check=True, env={**os.environ, "HOME": str(tmp_path)})
        (repository / "replay" / "explain.py").write_text("'second'\n")
        with open_version("HEAD", repository) as version:
            assert version.sources is not None
            assert (version.sources / "replay" / "explain.py").read_text() == "'first'\n"
            assert version.name.startswith("HEAD (")
        assert not version.sources.exists()

    def test_a_virtual_environment_is_its_interpreter(self, tmp_path):
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "python").touch()
        with open_version(str(tmp_path), tmp_path) as version:
            assert (version.interpreter, version.sources) == (
                str(tmp_path / "bin" / "python"),
                None,
            )

    @pytest.mark.parametrize("text", ["no-such-revision", "--upload-pack=x"])
    def test_something_else_is_refused(self, text, tmp_path):
        with (
            pytest.raises(UsageError, match="neither a revision"),
            open_version(text, tmp_path),
        ):
            pass
