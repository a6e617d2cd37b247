"""Keys: who may read them, which are revoked, and by which clock a record is judged."""

from __future__ import annotations

import hmac
import json
import stat

import pytest

from pitboss.setting_files import read_keyring
from pitboss.settings import WorkerSettings, runtime_of
from pitboss.workers.supervisor import WorkerProcess
from runtime.security import BrokerAddress
from schemas.errors import RejectCode, UsageError
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser, RejectedItem
from streams.providers.dialect import Draft
from streams.providers.registry import DIALECTS
from streams.providers.stripe import Stripe
from streams.providers.times import ms_of_text
from tests.support.dialect_records import raw_record
from tests.unit.providers.test_dialect_stripe import BODY as PAID
from tests.unit.providers.test_dialect_stripe import KEYS, SIGNED_AT, signature_headers, v1

OLD, NEW = "aa" * 32, "bb" * 32
BODY = json.dumps({"operation": "heartbeat", "id": "h-1", "at": "2026-11-22T00:00:00Z"}).encode()
HOUR_MS = 3_600_000
ENDED = "2026-01-01T00:00:00Z"


def verdict(entry, key_hex, appended, received=None):
    signature = hmac.digest(bytes.fromhex(key_hex), BODY, "sha256").hex()
    headers = {"x-house-signature": signature}
    if received is not None:
        headers["received-at"] = str(received)
    record = raw_record("house", BODY, headers, timestamp=appended)
    [item] = Normaliser(DIALECTS, {"house": entry}).normalise(record)
    if isinstance(item, AcceptedTransaction):
        return item.transaction.signature
    assert isinstance(item, RejectedItem)
    return item.code


def test_a_retired_key_stays_retired_under_a_back_dated_receipt():
    entry = [{"id": "old", "hmac_hex": OLD, "valid_until": ENDED}]
    today, before = ms_of_text("2026-11-22T00:00:00Z"), ms_of_text("2025-06-01T00:00:00Z")
    assert verdict(entry, OLD, today) is RejectCode.BAD_SIGNATURE
    assert verdict(entry, OLD, today, before) is RejectCode.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("late_ms", "expected"),
    [(0, "VALID"), (HOUR_MS, "VALID"), (HOUR_MS + 1, RejectCode.BAD_SIGNATURE)],
)
def test_a_record_that_waited_an_hour_at_most_is_judged_by_its_receipt(late_ms, expected):
    entry = [{"id": "old", "hmac_hex": OLD, "valid_until": ENDED}]
    received = ms_of_text(ENDED) - 1
    assert verdict(entry, OLD, received + late_ms, received) == expected


def test_a_receipt_after_the_append_is_not_believed():
    entry = [{"id": "new", "hmac_hex": NEW, "valid_from": ENDED}]
    appended = ms_of_text(ENDED) - 1
    assert verdict(entry, NEW, appended, appended + 1) is RejectCode.BAD_SIGNATURE


def test_a_back_dated_receipt_does_not_open_stripes_window_again():
    signed_ms = SIGNED_AT * 1_000
    headers = signature_headers(f"t={SIGNED_AT},v1={v1(PAID, SIGNED_AT)}", signed_ms)
    for late_ms, expected in ((HOUR_MS, "VALID"), (8 * HOUR_MS, "STALE")):
        late = raw_record("stripe", PAID, headers, timestamp=signed_ms + late_ms)
        [item] = Stripe().reader(KEYS)(late, dict(late.headers))
        assert isinstance(item, Draft)
        assert item.signature == expected


def test_a_revoked_key_signs_nothing_and_the_letter_names_it():
    entry = [
        {"id": "leaked", "hmac_hex": OLD, "revoked": True},
        {"id": "new", "hmac_hex": NEW},
    ]
    now = ms_of_text("2026-11-22T00:00:00Z")
    assert verdict(entry, OLD, now) is RejectCode.BAD_SIGNATURE
    assert verdict(entry, NEW, now) == "VALID"
    signature = hmac.digest(bytes.fromhex(OLD), BODY, "sha256").hex()
    record = raw_record("house", BODY, {"x-house-signature": signature}, timestamp=now)
    [item] = Normaliser(DIALECTS, {"house": entry}).normalise(record)
    assert isinstance(item, RejectedItem)
    assert "'leaked', which is revoked" in item.detail


@pytest.mark.parametrize("revoked", ["true", 1, None])
def test_revoked_is_true_or_false(revoked):
    entry = [{"id": "a", "hmac_hex": OLD, "revoked": revoked}]
    with pytest.raises(UsageError, match="revoked must be true or false"):
        Normaliser(DIALECTS, {"house": entry})


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_keys_file_that_others_can_read_is_refused_with_what_to_do(tmp_path, mode):
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"house": {"hmac_hex": OLD}}))
    file.chmod(mode)
    with pytest.raises(UsageError, match=f"chmod 600 {file}"):
        read_keyring(WorkerSettings(keys_file=file))
    file.chmod(0o600)
    assert "house" in read_keyring(WorkerSettings(keys_file=file))


def test_a_workers_log_is_its_owners_alone(tmp_path):
    nowhere = runtime_of(
        BrokerAddress("127.0.0.1:1"), "postgresql://u@127.0.0.1:1/postgres", "logs"
    )
    process = WorkerProcess("steady", nowhere, home=tmp_path, module="tests.faults.stub_worker")
    process.log.parent.mkdir(parents=True)
    process.log.write_text("of an earlier release")
    try:
        process.start()
        assert stat.S_IMODE(process.log.stat().st_mode) == 0o600
    finally:
        process.kill()
