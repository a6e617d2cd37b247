"""`pitboss providers explain`: the same code as the pipeline, and no server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lab.conformance.examples.fill import Fill
from lab.conformance.examples.hub88 import KEYS, examples
from pitboss.cli.main import cli

REPORTED = Path(__file__).parents[2] / "vectors" / "reported"
EVENT_KEYS = {
    *("file", "operation", "provider_tx_id", "event_id", "legs"),
    *("player_id", "outcome", "reason"),
}
SETTLEMENT_KEYS = {"file", "event_id", "market_id", "specifiers", "outcome_id", "kind"}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["providers", "explain", *map(str, arguments)])


def explain(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    explained = json.loads(result.stdout)
    assert isinstance(explained, dict)
    return explained


def write_bet(folder: Path, headers: Mapping[str, bytes] | None = None) -> Path:
    """Write Hub88's example bet with its headers."""
    bet = examples(Fill(1))[0]
    file = folder / "01.hub88.json"
    file.write_bytes(bet.value)
    texts = {name: text.decode() for name, text in (bet.headers | dict(headers or {})).items()}
    (folder / "01.hub88.json.headers.json").write_text(json.dumps(texts))
    return file


def test_a_folder_is_read_in_the_order_of_its_names() -> None:
    explained = explain(REPORTED / "07-stripe-partial-capture")
    assert set(explained) == {
        *("events", "rejected", "balances", "house", "settlements", "player_events")
    }
    assert [event["file"] for event in explained["events"]] == [
        *("01.house.json", "02.stripe.json", "03.stripe.json", "04.stripe.json")
    ]
    assert all(set(event) == EVENT_KEYS for event in explained["events"])
    paid = explained["events"][1]
    assert (paid["player_id"], paid["outcome"], paid["reason"]) == ("p-1", "POSTED", "BOOKED")
    leg = {"kind": "DEPOSIT", "amount": "60.00", "currency": "EUR"}
    assert paid["legs"] == [leg | {"is_free": False, "campaign_id": None}]
    assert explained["balances"] == {"p-1": {"EUR": "60.00"}}
    assert explained["house"] == {"psp:stripe": {"EUR": "-60.00"}}


def test_files_are_read_in_the_order_given_each_at_its_own_place() -> None:
    folder = REPORTED / "20-camt-one-statement-twice-in-one-file"
    files = sorted(folder.iterdir())
    assert explain(*files)["balances"] == {"p-1": {"EUR": "50.00"}}
    twice = explain(*files, *files)
    assert twice["balances"] == {"p-1": {"EUR": "50.00"}}
    outcomes = [event["outcome"] for event in twice["events"]]
    assert outcomes == ["INFORMATIONAL", "POSTED", *["EXISTS"] * 4]


def test_markets_and_facts_about_players_are_no_wallet_money() -> None:
    settlements = explain(REPORTED / "27-uof-rollback-one-market-element-per-outcome")
    assert {row["outcome_id"] for row in settlements["settlements"]} == {
        *("sr:player:1", "sr:player:2")
    }
    for row in settlements["settlements"]:
        assert set(row) == SETTLEMENT_KEYS
        assert (row["market_id"], row["kind"]) == ("40", "SETTLEMENT_ROLLED_BACK")
    facts = explain(REPORTED / "22-sumsub-types-that-the-document-lists")
    assert facts["events"] == []
    assert [row["player_id"] for row in facts["player_events"]] == ["p-1"] * 3


def test_what_cannot_be_read_is_shown_with_its_code(tmp_path: Path) -> None:
    (tmp_path / "01.adyen.json").write_bytes(b"{")
    explained = explain(tmp_path)
    [rejected] = explained["rejected"]
    assert set(rejected) == {"file", "code", "detail"}
    assert (rejected["file"], rejected["code"]) == ("01.adyen.json", "MALFORMED")
    assert explained["events"] == []


def test_signatures_are_checked_with_keys_only(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.touch(mode=0o600)
    keys.write_text(json.dumps({"hub88": dict(KEYS)}))
    folder = tmp_path / "bodies"
    folder.mkdir()
    file = write_bet(folder)
    assert "NOT_CHECKED" in run(file).stdout
    [event] = explain(file, "--keys", keys)["events"]
    assert event["signature"] == "VALID"
    assert set(event) == EVENT_KEYS | {"signature"}
    write_bet(folder, {"x-hub88-signature": b"AAAA"})
    assert explain(file)["rejected"] == []
    assert explain(file, "--keys", keys)["rejected"][0]["code"] == "BAD_SIGNATURE"


def test_a_person_gets_tables() -> None:
    shown = run(REPORTED / "11-adyen-refund-failed").stdout
    for text in ("REFUND_FAILED", "POSTED BOOKED", "DEPOSIT_REVERSAL 100.00 EUR", "p-1"):
        assert text in shown
    assert "SETTLEMENT_ROLLED_BACK" in run(REPORTED / "15-uof-rollback-of-one-outcome").stdout
    facts = run(REPORTED / "22-sumsub-types-that-the-document-lists").stdout
    assert "applicantAwaitingUser" in facts


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("01.hub-88.json", "'hub-88' is not a registered provider: did you mean 'hub88'?"),
        ("01.zzzzzz.json", "'zzzzzz' is not a registered provider: take one of adyen, "),
        ("body.json", "name it NN.<provider>.<ext>"),
    ],
)
def test_a_file_must_name_its_provider(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / name).write_bytes(b"{}")
    for path in (tmp_path, tmp_path / name):
        result = run(path)
        assert result.exit_code == 2
        assert sentence in result.stderr


def test_a_folder_must_hold_bodies_and_headers_their_body(tmp_path: Path) -> None:
    (tmp_path / ".hidden.hub88.json").write_bytes(b"{}")
    empty = run(tmp_path)
    assert (empty.exit_code, "no bodies" in empty.stderr) == (2, True)
    headers = tmp_path / "01.hub88.json.headers.json"
    headers.write_text("{}")
    for path in (tmp_path, headers):
        lone = run(path)
        assert (lone.exit_code, "headers" in lone.stderr) == (2, True)
    (tmp_path / "01.hub88.json").write_bytes(b"{}")
    headers.write_text("[]")
    broken = run(tmp_path)
    assert (broken.exit_code, "expected a JSON object of texts" in broken.stderr) == (2, True)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "01.hub88.json"
    file.symlink_to(tmp_path / "nothing")
    missing = run(file)
    assert missing.exit_code == 2
    assert "does not exist" in missing.stderr
    keys = tmp_path / "keys"
    keys.touch(mode=0o600)
    keys.write_text('{"hub-88": {}}')
    (tmp_path / "02.hub88.json").write_bytes(b"{}")
    wrong = run(tmp_path / "02.hub88.json", "--keys", keys)
    assert wrong.exit_code == 2
    assert "--keys" in wrong.stderr
    assert "did you mean 'hub88'?" in wrong.stderr


def test_a_body_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "01.hub88.json").write_bytes(b"{}")

    def refuse(file: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "FILE_FAILED" in result.stderr
    assert "01.hub88.json: Permission denied" in result.stderr
