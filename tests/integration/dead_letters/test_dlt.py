"""`pitboss dlt` as a person uses it: over real topics and tables, with the real normaliser and ledger behind it."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from aiokafka import AIOKafkaProducer

from lab.sandbox.keys import SandboxKeys
from runtime.dead_letters.actions import ActionStore
from runtime.kafka.topic_reader import read_topics
from schemas.errors import Unavailable
from schemas.topics import TRANSACTIONS, raw_topic
from tests.support.dead_letter_scene import (
    DO,
    KEYS,
    append,
    check_accounting,
    hub88,
    installation,
    ledger,
    log_of,
    pitboss,
    reset_picky,
    run_ledger,
    run_normaliser,
    running,
)

__all__ = ["installation", "pitboss", "reset_picky"]

pytestmark = pytest.mark.integration


def test_a_rotated_key_is_put_right_and_what_it_cost_is_redriven(installation, pitboss):
    """Facts are booked, decisions come too late, and doing it again changes nothing."""
    wrong = SandboxKeys.generate()
    bet, win, other = asyncio.run(
        append(
            installation,
            [
                hub88("bet", "b", "p"),
                hub88("win", "w", "p", 7, "b"),
                hub88("win", "w2", "q", 5, "x"),
            ],
        )
    )
    asyncio.run(run_normaliser(installation, 3, key=wrong))

    [group] = json.loads(pitboss("list", "--json").stdout)
    assert (group["topic"], group["code"], group["stage"]) == (
        installation.topic(raw_topic("hub88")),
        "BAD_SIGNATURE",
        "normalise",
    )
    assert (group["count"], group["open"], group["redriven"], group["dropped"]) == (3, 3, 0, 0)
    assert group["sample"] == other
    assert 0 < group["first_at"] <= group["last_at"]
    listed = pitboss("list")
    assert "BAD_SIGNATURE" in listed.stdout
    assert listed.stderr == "3 open\n"

    planned = pitboss("redrive", "--topic", "hub88", *DO, "--dry-run")
    assert (planned.exit_code, planned.stdout.count("planned")) == (0, 3)
    assert "3 would be" in planned.stderr
    done = json.loads(
        pitboss("redrive", "--code", "bad_signature", "--player", "p", *DO, "--json").stdout
    )
    assert [one["status"] for one in done] == ["DONE", "DONE"]
    bet_again, win_again = (position_text(one["appended_at"]) for one in done)
    asyncio.run(run_normaliser(installation, 2))
    outcomes = asyncio.run(run_ledger(installation, 2))
    assert (outcomes[bet_again].outcome, outcomes[bet_again].reason) == (
        "REFUSED_EXPIRED",
        "DECISION_EXPIRED",
    )
    assert (outcomes[win_again].outcome, outcomes[win_again].balance_minor) == ("POSTED", 7)

    again = pitboss("redrive", win, *DO)
    assert again.exit_code == 0
    assert (
        f"skipped  {win}: redriven by ann before as {win_again}: the key was rotated"
        in again.stdout
    )
    [forced] = json.loads(pitboss("redrive", win, *DO, "--force", "--json").stdout)
    asyncio.run(run_normaliser(installation, 1))
    outcomes = asyncio.run(run_ledger(installation, 3))
    third = outcomes[position_text(forced["appended_at"])]
    assert (third.outcome, third.balance_minor) == ("EXISTS", 7)

    events = asyncio.run(log_of(installation))
    causes = [event.cause for event in events if event.cause is not None]
    assert len(causes) == len(events)
    assert {cause.type for cause in causes} == {"redrive"}
    assert {(cause.actor, cause.reason) for cause in causes} == {("ann", "the key was rotated")}
    assert {cause.id for cause in causes} == {bet, win}

    assert pitboss("drop", other, "--by", "bob", "--reason", "a test of theirs").exit_code == 0
    assert "dropped by bob" in pitboss("redrive", other, *DO).stdout
    [group] = json.loads(pitboss("list", "--json").stdout)
    assert (group["open"], group["redriven"], group["dropped"]) == (0, 2, 1)
    assert json.loads(pitboss("list", "--state", "open", "--json").stdout) == []
    history = json.loads(pitboss("history", "--json").stdout)
    assert [(one["action"], one["by"], one["is_forced"], one["is_done"]) for one in history] == [
        ("REDRIVE", "ann", False, True),
        ("REDRIVE", "ann", False, True),
        ("REDRIVE", "ann", True, True),
        ("DROP", "bob", False, True),
    ]
    assert pitboss("history").stdout.count("the key was rotated") == 3
    asyncio.run(check_accounting(installation))


def position_text(position: dict[str, Any]) -> str:
    return f"{position['topic']}-{position['partition']}@{position['offset']}"


def test_a_redrive_that_is_cut_off_is_done_again_and_the_ledger_knows_it(
    installation, pitboss, monkeypatch
):
    [win] = asyncio.run(append(installation, [hub88("win", "w", "p", 7, "b")]))
    asyncio.run(run_normaliser(installation, 1, key=SandboxKeys.generate()))

    async def away(*_: Any) -> None:
        raise Unavailable("the database went away")

    with monkeypatch.context() as cut:
        cut.setattr(ActionStore, "complete", away)
        assert pitboss("redrive", "--all", *DO).exit_code == 69
    [group] = json.loads(pitboss("list", "--json").stdout)
    assert (group["open"], group["redriven"]) == (1, 0)
    assert "not known to have been appended" in pitboss("show", win).stdout
    assert pitboss("redrive", "--all", *DO).exit_code == 0
    asyncio.run(run_normaliser(installation, 2))
    outcomes = asyncio.run(run_ledger(installation, 2))
    assert sorted(outcome.outcome for outcome in outcomes.values()) == ["EXISTS", "POSTED"]
    assert {outcome.balance_minor for outcome in outcomes.values()} == {7}


def test_what_is_shown_and_what_is_not(installation, pitboss, monkeypatch, tmp_path):
    token = KEYS.of("playngo")["access_token"]
    body = f"<reserve><externalId>p</externalId><accessToken>{token}</accessToken><real>1.00001</real></reserve>".encode()
    # A body that is not what the dialect expects may hide the secret from its redaction.
    odd = f"<?xml?>{token}".encode("utf-16")
    [place, oddly] = asyncio.run(
        append(
            installation,
            [{"key": b"p", "value": value, "partition": 0} for value in (body, odd)],
            raw_topic("playngo"),
        )
    )
    [signed] = asyncio.run(append(installation, [hub88("bet", "b", "p")]))
    asyncio.run(run_normaliser(installation, 3, key=SandboxKeys.generate()))
    shown = pitboss("show", place)
    assert shown.exit_code == 0
    assert token not in shown.stdout
    assert "<externalId>p</externalId>" in shown.stdout
    assert "body (redacted)" in shown.stdout
    view = json.loads(pitboss("show", f"provider.playngo.raw.v1.dlt-0@{0}", "--json").stdout)
    assert (view["source"], view["is_redacted"], view["state"]) == (place, True, "OPEN")
    assert view["letters"][0]["stage"] == "normalise"
    assert view["letters"][0]["code_version"] == "test-1"

    assert pitboss("show", place, "--raw").exit_code == 2
    assert pitboss("show", place, "--raw", "--reveal-secrets").stdout_bytes == body
    assert token in pitboss("show", place, "--reveal-secrets").stdout

    keys_file = tmp_path / "keys.json"
    keys_file.touch(mode=0o600)
    keys_file.write_text(json.dumps(KEYS.keyring()))
    monkeypatch.setenv("PITBOSS_KEYS_FILE", str(keys_file))
    hidden = json.loads(pitboss("show", oddly, "--json").stdout)
    assert hidden["is_redacted"]
    assert token.encode("utf-16-le").hex() not in pitboss("show", oddly).stdout.replace(" ", "")
    assert "(not shown: this is not UTF-8" in pitboss("show", oddly).stdout

    headers = dict(json.loads(pitboss("show", signed, "--json").stdout)["headers"])
    assert (headers["authorization"], headers["http-path"], headers["empty"]) == (
        "***",
        "/transaction/bet",
        None,
    )
    assert "s3cret" in pitboss("show", signed, "--reveal-secrets").stdout


def notice(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    body = {
        "live": "true",
        "notificationItems": [{"NotificationRequestItem": item} for item in items],
    }
    return {
        "key": b"merchant",
        "value": json.dumps(body, separators=(",", ":")).encode(),
        "partition": 1,
    }


def signed_notice(reference: str) -> dict[str, Any]:
    text, key = f"{reference}::::::CHARGEBACK:false", bytes.fromhex(KEYS.of("adyen")["hmac_hex"])
    signature = base64.b64encode(hmac.digest(key, text.encode(), "sha256")).decode()
    item = {"eventCode": "CHARGEBACK", "success": "false", "pspReference": reference}
    return item | {"additionalData": {"hmacSignature": signature}}


def test_a_record_of_more_unusable_items_than_letters_is_shown_redriven_and_dropped(
    installation, pitboss
):
    late = {"eventCode": "CAPTURE", "success": "true", "pspReference": "unsigned"}
    items = [signed_notice("c1"), *[{}] * 2_000, late, signed_notice("c2")]
    sent = notice(items)
    [place] = asyncio.run(append(installation, [sent], raw_topic("adyen")))
    worker = asyncio.run(run_normaliser(installation, 1))
    assert dict(worker.stats.rejected) == {"MISSING_FIELD": 2_000, "MISSING_SIGNATURE": 1}

    async def letters() -> list[Any]:
        dead = {installation.topic(raw_topic("adyen") + ".dlt")}
        return [record async for record in read_topics(installation.broker, dead)]

    written = asyncio.run(letters())
    assert (
        sum(len(record.key) + len(record.value) for record in written) < len(sent["value"]) + 3_000
    )
    groups = json.loads(pitboss("list", "--json").stdout)
    assert {(group["code"], group["count"], group["sample"]) for group in groups} == {
        ("MISSING_FIELD", 1, place),
        ("MISSING_SIGNATURE", 1, place),
    }
    for shown in (place, f"provider.adyen.raw.v1.dlt-{written[-1].partition}@{written[-1].offset}"):
        view = json.loads(pitboss("show", shown, "--json").stdout)
        assert (view["source"], view["key"], view["value"]) == (
            place,
            "merchant",
            sent["value"].decode(),
        )
        assert [(one["item"], one["code"]) for one in view["letters"]] == [
            (None, "MISSING_FIELD"),
            (1, "MISSING_FIELD"),
            (2_001, "MISSING_SIGNATURE"),
        ]
    assert (
        "2,000 MISSING_FIELD (items 1, 2, 3, 4, 5, …); 1 MISSING_SIGNATURE (item 2001)"
        in pitboss("show", place).stdout
    )
    assert pitboss("show", place, "--raw", "--reveal-secrets").stdout_bytes == sent["value"]
    asyncio.run(run_ledger(installation, 1))
    asyncio.run(check_accounting(installation))

    [done] = json.loads(pitboss("redrive", "--code", "missing_signature", *DO, "--json").stdout)
    again = position_text(done["appended_at"])
    asyncio.run(run_normaliser(installation, 1))
    outcomes = asyncio.run(run_ledger(installation, 2))
    assert (outcomes[place].outcome, outcomes[again].outcome) == ("INFORMATIONAL", "EXISTS"), (
        "what was good of it counts once"
    )
    dropped = pitboss("drop", again, "--by", "bob", "--reason", "rubbish")
    assert (dropped.exit_code, "1 dropped" in dropped.stderr) == (0, True)
    assert json.loads(pitboss("list", "--state", "open", "--json").stdout) == []
    asyncio.run(check_accounting(installation))


def test_a_record_with_a_key_as_large_as_a_record_may_be_has_one_letter_and_holds_no_player_up(
    installation, pitboss
):
    huge = {"key": b"k" * 1_040_000, "value": b"{}", "partition": 1}
    headers = [("h", b"x" * 1_040_000)]
    large = {"key": b"p", "value": b"{}", "headers": headers, "partition": 1}

    async def append_large() -> list[str]:
        producer = AIOKafkaProducer(
            **installation.broker.aiokafka_options(),
            max_request_size=1_048_588,
            max_batch_size=1_048_588,
        )
        await producer.start()
        try:
            topic = installation.topic(raw_topic("hub88"))
            sent = [await producer.send_and_wait(topic, **record) for record in (huge, large)]
        finally:
            await producer.stop()
        return [f"{one.topic}-{one.partition}@{one.offset}" for one in sent]

    [first, second] = asyncio.run(append_large())
    asyncio.run(append(installation, [hub88("win", "w", "p", 7, "b")]))
    worker = asyncio.run(run_normaliser(installation, 3))
    assert (worker.stats.accepted_count, worker.stats.rejected.total()) == (1, 2)
    for place, key in ((first, None), (second, "p")):
        view = json.loads(pitboss("show", place, "--json").stdout)
        assert (view["key"], view["headers"], view["value"], len(view["letters"])) == (
            key,
            [],
            None,
            1,
        )
        assert f"read them at {place}" in view["letters"][0]["detail"]
    done = json.loads(pitboss("redrive", "--all", *DO, "--json").stdout)
    assert [one["status"] for one in done] == ["DONE", "DONE"], (
        "the bytes were fetched where they are"
    )
    asyncio.run(run_normaliser(installation, 2))
    assert "2 dropped" in pitboss("drop", "--all", *DO).stderr
    asyncio.run(run_ledger(installation, 1))
    asyncio.run(check_accounting(installation))


def test_what_makes_no_sense_is_refused_with_a_way_out(installation, pitboss):
    assert json.loads(pitboss("list", "--json").stdout) == []
    assert pitboss("list").stderr == "0 open\n"
    assert "--all" in pitboss("redrive", *DO).stderr
    assert "dlt list" in pitboss("show", "provider.hub88.raw.v1-0@7").stderr
    assert "dlt list" in pitboss("drop", "hub88-0@7", *DO).stderr
    assert "<topic>-<partition>@<offset>" in pitboss("show", "somewhere").stderr
    assert "name them as TOPIC-PARTITION" in pitboss("redrive", "--all", "--force", *DO).stderr
    for actor, reason in ((" ", "why"), ("ann", "x" * 201), ("a\nb", "why")):
        assert pitboss("redrive", "--all", "--by", actor, "--reason", reason).exit_code == 2
    assert pitboss("redrive", "--all", "--by", "ann").exit_code == 2


def test_garbage_on_the_log_is_redriven_only_if_it_can_be_read_by_now(installation, pitboss):
    async def garbage() -> list[str]:
        return await append(
            installation, [{"key": b"p", "value": b"rubbish", "partition": 1}], TRANSACTIONS
        )

    [place] = asyncio.run(garbage())

    dead = installation.topic(TRANSACTIONS + ".dlt")

    async def has_letter() -> bool:
        return bool([record async for record in read_topics(installation.broker, {dead})])

    async def wait_for_letter() -> None:
        async with running(ledger(installation)), asyncio.timeout(120):
            while not await has_letter():  # noqa: ASYNC110 - topics know no event
                await asyncio.sleep(0.05)

    asyncio.run(wait_for_letter())
    refused = pitboss("redrive", place, *DO)
    assert refused.exit_code == 1
    assert "this release cannot read it either" in refused.stdout
    assert pitboss("drop", "--topic", TRANSACTIONS, *DO).exit_code == 0
    assert "rubbish" in pitboss("show", place).stdout


def test_an_audit_row_is_completed_once_and_never_changed_or_removed(installation, pitboss):
    asyncio.run(append(installation, [hub88("win", "w", "p", 7, "b")]))
    asyncio.run(run_normaliser(installation, 1, key=SandboxKeys.generate()))
    assert pitboss("redrive", "--all", *DO).exit_code == 0
    for statement in (
        "UPDATE dead_letters.action SET actor = 'eve'",
        "UPDATE dead_letters.action SET to_offset = 0",
        "DELETE FROM dead_letters.action",
        "TRUNCATE dead_letters.action",
    ):
        with (
            psycopg.connect(installation.database_url) as connection,
            pytest.raises(psycopg.errors.RaiseException),
        ):
            connection.execute(statement)


def test_two_operators_do_not_redrive_at_once(installation, pitboss):
    async def both() -> None:
        one, other = (ActionStore(installation.database_url, "pitboss.test") for _ in range(2))
        async with one.exclusive_lock():
            with pytest.raises(Unavailable, match="another process"):
                async with other.exclusive_lock():
                    pass
        async with other.exclusive_lock():
            pass

    asyncio.run(both())
