"""What is not signed, or comes from a test environment, moves nothing unless the installation says so."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from pitboss.cli.main import cli
from pitboss.setting_files import configure_dialects
from pitboss.settings import read_settings, read_worker_settings, show_values
from schemas.errors import RejectCode, UsageError
from streams.normalise.mapping.normaliser import AcceptedEvent, AcceptedTransaction, Normaliser
from streams.providers.registry import DIALECTS, policies
from tests.support.dialect_records import keyring, raw_record

CHARGEBACK = {
    "eventCode": "CHARGEBACK",
    "success": "true",
    "pspReference": "CB",
    "originalReference": "PSP1",
    "amount": {"currency": "EUR", "value": 99_999_900},
}
PAID = {
    "id": "evt_1",
    "type": "payment_intent.succeeded",
    "created": 1_790_000_000,
    "data": {
        "object": {
            "object": "payment_intent",
            "id": "pi_1",
            "amount_received": 1_500,
            "currency": "eur",
            "metadata": {"deposit_id": "dep-1"},
        }
    },
}
REVIEWED = {
    "applicantId": "a-1",
    "externalUserId": "p-1",
    "type": "applicantReviewed",
    "reviewResult": {"reviewAnswer": "RED", "reviewRejectType": "FINAL"},
    "levelName": "basic",
    "createdAtMs": "2026-09-21 14:13:20.000",
    "correlationId": "c-1",
}


def notice(item, live="true"):
    return {"live": live, "notificationItems": [{"NotificationRequestItem": item}]}


def normalise(provider, body, keys=None):
    record = raw_record(provider, json.dumps(body))
    return Normaliser(DIALECTS, keys or {}).normalise(record)


@pytest.fixture
def installation(tmp_path):
    """Write an installation's file of settings of dialects, and take it back."""

    def configure(text):
        file = tmp_path / "dialects.toml"
        file.write_text(text)
        worker = read_worker_settings({"PITBOSS_DIALECTS_FILE": str(file)})
        configure_dialects(worker)
        return str(file)

    yield configure
    DIALECTS.configure({})


def test_an_unsigned_chargeback_is_a_dead_letter():
    [item] = normalise("adyen", notice(CHARGEBACK), {"adyen": keyring()["adyen"]})
    assert getattr(item, "code", None) is RejectCode.MISSING_SIGNATURE


@pytest.mark.parametrize(
    ("provider", "body"),
    [
        ("adyen", notice(CHARGEBACK, live="false")),
        ("stripe", PAID | {"livemode": False}),
        ("sumsub", REVIEWED | {"sandboxMode": True}),
    ],
)
def test_a_test_notice_is_a_dead_letter(provider, body):
    items = normalise(provider, body)
    assert [getattr(item, "code", None) for item in items] == [RejectCode.BAD_FIELD]


@pytest.mark.parametrize(
    ("provider", "body", "text"),
    [
        ("adyen", notice(CHARGEBACK, live="false"), "[adyen]\naccept_test = true"),
        ("stripe", PAID | {"livemode": False}, "[stripe]\naccept_test = true"),
        ("sumsub", REVIEWED | {"sandboxMode": True}, "[sumsub]\naccept_sandbox = true"),
    ],
)
def test_an_installation_may_say_so(installation, provider, body, text):
    installation(text)
    items = normalise(provider, body)
    assert items
    assert all(isinstance(item, AcceptedTransaction | AcceptedEvent) for item in items)


def test_a_policy_is_a_setting_too_and_what_is_left_out_stays(installation):
    before = policies()["adyen"]
    installation(
        '[adyen]\nunsigned_allowed = ["CHARGEBACK"]\npolicy = {win_without_bet = "REFUSE"}'
    )
    after = policies()["adyen"]
    assert (before.win_without_bet, after.win_without_bet) == ("BOOK", "REFUSE")
    assert after.reversal_beyond_payment == before.reversal_beyond_payment == "SUSPENSE"
    [item] = normalise("adyen", notice(CHARGEBACK), {"adyen": keyring()["adyen"]})
    assert isinstance(item, AcceptedTransaction)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[adyn]\naccept_test = true", "'adyn' is not a provider: did you mean 'adyen'"),
        ("[adyen]\naccept_tests = true", "no setting 'accept_tests': did you mean 'accept_test'"),
        ('[adyen]\naccept_test = "yes"', "Expected `bool`"),
        (
            "[adyen.policy]\nwin_without_bets = 1",
            "a policy has no 'win_without_bets': did you mean",
        ),
        ("adyen = 1", "a table of settings"),
        ("[adyen", "cannot be read"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_place(installation, text, message):
    with pytest.raises(UsageError, match=message) as refused:
        installation(text)
    assert "PITBOSS_DIALECTS_FILE" in str(refused.value)


def test_doctor_prints_the_file(installation):
    file = installation("[adyen]\naccept_test = true")
    assert show_values(read_settings({"PITBOSS_DIALECTS_FILE": file}))["dialects_file"] == file


def test_providers_list_and_doctor_name_what_is_set(installation, monkeypatch):
    monkeypatch.setenv("PITBOSS_DIALECTS_FILE", installation("[adyen]\naccept_test = true"))
    monkeypatch.setenv("PITBOSS_KAFKA", "")
    listed = CliRunner().invoke(cli, ["providers", "list"])
    assert "of this installation: adyen.accept_test = true" in listed.stdout
    rows = json.loads(CliRunner().invoke(cli, ["providers", "list", "--json"]).stdout)
    assert [row["settings"] for row in rows if row["settings"]] == [{"accept_test": True}]
    checks = json.loads(CliRunner().invoke(cli, ["doctor", "--json"]).stdout)["checks"]
    [found] = [check for check in checks if check["name"] == "dialects"]
    assert found["detail"].endswith("dialects.toml: adyen.accept_test = true")
