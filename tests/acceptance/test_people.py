"""Operators' commands through real workers: blocks, limits, corrections by two people, sweeps."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ledger_sink.queries.people import read_player
from ledger_sink.queries.rounds import propose_endings, read_open_rounds
from ledger_sink.store.database import LedgerDatabase
from pitboss.cli.main import cli
from pitboss.embedded.processes import poll
from pitboss.ops import operator_events
from pitboss.settings import Runtime, WorkerSettings, worker_environment
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.kafka.topic_reader import read_topics
from schemas import codec
from schemas.errors import UsageError
from schemas.events import FraudAlert, Leg, WalletTransaction
from schemas.topics import ALERTS, DAY_MS, TRANSACTIONS
from streams.providers.registry import policies
from tests.support.ledger_events import deposit, transaction

pytestmark = pytest.mark.integration

WAIT_S = 180.0
WHO = ["--by", "kim", "--reason", "a test", "--wait", str(WAIT_S)]


def run(runtime: Runtime, *arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(
        cli,
        list(arguments),
        env={**worker_environment(runtime), "PITBOSS_WORKER_ID": "", **environment},
    )


def read_json(result: Result) -> Any:
    """Parse the last line: a supervisor of the session may print lines meanwhile."""
    return json.loads(result.stdout.splitlines()[-1])


def outcome_of(runtime: Runtime, *arguments: str, **environment: str) -> tuple[int, str]:
    result = run(runtime, *arguments, "--json", **environment)
    assert result.exit_code in (0, 1), result.output
    outcome = read_json(result)["outcome"]
    return result.exit_code, f"{outcome['outcome']} {outcome['reason']}"


def submit(runtime: Runtime, **event: Any) -> str:
    outcome = asyncio.run(
        operator_events.submit(runtime, WorkerSettings(), event, "default", WAIT_S)
    ).outcome
    assert outcome is not None
    return f"{outcome.outcome} {outcome.reason}"


def show_player(runtime: Runtime, player: str) -> dict[str, Any]:
    return read_json(run(runtime, "player", "show", player, "--json"))


def withdraw(runtime: Runtime, player: str, tx_id: str) -> str:
    return submit(
        runtime,
        operation="withdrawal.requested",
        id=tx_id,
        player_id=player,
        amount="1.00",
        currency="EUR",
    )


def test_blocks_holds_and_limits_are_events_of_the_log(installation: Runtime):
    player = "ruled"
    assert outcome_of(installation, "ledger", "adjust", player, "50", "EUR", *WHO) == (
        0,
        "POSTED BOOKED",
    )
    assert outcome_of(installation, "player", "block", player, "--alert", "A-1", *WHO) == (
        0,
        "POSTED BOOKED",
    )
    assert outcome_of(installation, "player", "release", player, *WHO) == (0, "POSTED BOOKED")
    assert withdraw(installation, player, "w-1") == "REFUSED_BLOCKED PLAYER_BLOCKED"
    assert outcome_of(installation, "player", "release", player, "--alert", "A-1", *WHO)[0] == 0
    assert outcome_of(installation, "player", "hold", player, "--source", "kyc", *WHO)[0] == 0
    assert withdraw(installation, player, "w-2") == "REFUSED_BLOCKED WITHDRAWALS_HELD"
    assert outcome_of(installation, "player", "limit", player, "2.50", "eur", *WHO)[0] == 0
    found = show_player(installation, player)
    assert (found["is_blocked"], found["is_held"], found["limits"]["EUR"]["bet_minor"]) == (
        False,
        True,
        250,
    )
    assert found["standings"]["alert"]["level"] == "FREE"
    assert [wallet["cash_minor"] for wallet in found["wallets"]] == [5_000]
    assert outcome_of(installation, "player", "limit", player, "none", "EUR", *WHO)[0] == 0
    assert show_player(installation, player)["limits"]["EUR"]["bet_minor"] is None
    assert "held by kyc since" in run(installation, "player", "show", player).output
    # An unknown player is one error, whichever command asks.
    for command in ("player show", "ledger balance", "ledger history", "player show --json"):
        done = run(installation, *command.split(), "nobody-at-all")
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith("error: UNKNOWN_PLAYER the ledger has no wallet")
    done = run(installation, "ledger", "balance", "ruled", PITBOSS_NAMESPACE="nowhere")
    assert done.exit_code == 2
    assert done.stderr == (
        "error: USAGE namespace nowhere is not provisioned, so it has no database pitboss_nowhere: "
        "check PITBOSS_NAMESPACE, or run `pitboss provision`\n"
    )
    # Why was this refused?
    [later, earlier] = read_json(
        run(installation, "ledger", "history", player, "--refused", "--json")
    )
    assert (earlier["reason"], later["reason"]) == ("PLAYER_BLOCKED", "WITHDRAWALS_HELD")
    assert (earlier["amount"], earlier["provider_tx_id"]) == ("1.00 EUR", "w-1")
    shown = run(installation, "ledger", "history", player, "--refused", "--limit", "1")
    assert "WITHDRAWALS_HELD" in shown.stdout
    assert "older ones are left out" in shown.stderr


def test_a_large_correction_needs_a_second_person_and_a_debt_is_an_alert(installation: Runtime):
    player = "corrected"
    dry = run(installation, "ledger", "adjust", player, "-60.00", "EUR", "--dry-run", *WHO)
    assert "adjustment.proposed" in dry.output
    proposed = run(
        installation,
        "ledger",
        "adjust",
        player,
        "-60.00",
        "EUR",
        *WHO,
        "--json",
    )
    event = read_json(proposed)["said"]
    assert event["operation"] == "adjustment.proposed"
    assert player in run(installation, "ledger", "proposals").output
    approve = ["ledger", "approve", event["id"], "--wait", str(WAIT_S)]
    assert outcome_of(installation, *approve, "--by", "Kim ") == (
        1,
        "REFUSED_REFERENCE SELF_APPROVAL",
    )
    assert outcome_of(installation, *approve, "--by", "lee") == (0, "POSTED BOOKED_INTO_DEBT")
    assert "no open proposal" in run(installation, *approve, "--by", "lee").output
    assert [w["cash_minor"] for w in show_player(installation, player)["wallets"]] == [-6_000]
    assert player in run(installation, "ledger", "debts").output
    assert player in {
        one["player_id"] for one in read_json(run(installation, "ledger", "debts", "--json"))
    }
    assert asyncio.run(_alert_of(installation, player)).observed == 6_000


async def _alert_of(runtime: Runtime, player: str) -> FraudAlert:
    decode, deadline = codec.decoder(FraudAlert), time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        alerts = [
            decode(record.value)
            async for record in read_topics(runtime.broker, {runtime.topic(ALERTS)})
        ]
        for alert in alerts:
            if alert.player_id == player and alert.rule_id == "L01":
                return alert
    message = "no alert"
    raise AssertionError(message)


def test_amounts_and_durations_that_are_none_are_refused_before_anything_is_written(
    installation: Runtime,
):
    for arguments in (
        ["ledger", "adjust", "p", "1.001", "EUR", *WHO],
        ["ledger", "adjust", "p", "0", "EUR", *WHO],
        ["ledger", "adjust", "p", "1", "XQQ", *WHO],
        ["player", "limit", "p", "x", "EUR", *WHO],
        ["ledger", "rounds", "--older-than", "soon"],
    ):
        result = run(installation, *arguments)
        assert result.exit_code == 2, (arguments, result.output)


def test_an_event_that_is_rejected_is_answered_by_its_dead_letter(
    installation: Runtime, monkeypatch: pytest.MonkeyPatch
):
    """Such an event seemed to wait for the ledger for ever (issue 12).

    One that this shell can read is refused before it is appended, so what remains are workers of another release.
    """
    event = {"operation": "nonsense", "player_id": "misspelled"}
    with pytest.raises(UsageError, match=r"UNKNOWN_OPERATION.*nothing was appended"):
        asyncio.run(
            operator_events.submit(installation, WorkerSettings(), event, "default", WAIT_S)
        )
    monkeypatch.setattr(operator_events, "check_event", lambda _: None)
    found = asyncio.run(
        operator_events.submit(installation, WorkerSettings(), event, "default", WAIT_S)
    )
    assert found.outcome is None
    assert found.letter is not None
    assert found.letter.source.offset == found.attempt.offset


def test_a_shell_without_the_key_warns_once_house_records_are_signed(installation: Runtime):
    event = {"operation": "player.unlimited", "player_id": "unsigned", "currency": "EUR"}
    event |= {"actor": "kim", "reason": "a test"}
    raw = installation.topic("provider.house.raw.v1")

    async def append_signed() -> None:
        body, headers = operator_events.build_record(event, {"hmac_hex": "aa"}, "default", 1)
        producer = BatchProducer(ProducerSettings(installation.broker, "test"))
        async with producer:
            await producer.send(raw, b"unsigned", body, headers)

    asyncio.run(append_signed())
    warnings: list[str] = []
    found = asyncio.run(
        operator_events.submit(
            installation, WorkerSettings(), event, "default", WAIT_S, warn=warnings.append
        )
    )
    assert warnings == [operator_events.UNSIGNED]
    assert found.outcome is not None


def test_a_round_that_is_open_too_long_is_swept_once(installation: Runtime):
    player = "forgetful"
    assert (
        outcome_of(
            installation,
            "ledger",
            "adjust",
            player,
            "50",
            "EUR",
            *WHO,
        )[0]
        == 0
    )
    bets = [f"01929c5e-7e3d-7000-8000-00000000000{n}" for n in (1, 2)]

    async def play() -> None:
        producer = BatchProducer(ProducerSettings(installation.broker, "test"))
        raw = installation.topic("provider.hundredhp.raw.v1")
        async with producer:
            for tx_id in bets:
                body = json.dumps(
                    {"secret": "s", "sessionId": "x", "txId": tx_id, "amount": "10.00"}
                ).encode()
                headers = {"http-path": "/withdrawal", "player": player, "currency": "EUR"}
                encoded = [(name, value.encode()) for name, value in headers.items()]
                await producer.send(raw, player.encode(), body, encoded)
            # One of them is settled, for nothing: a deposit names neither player nor currency.
            body = json.dumps({"secret": "s", "txId": bets[0], "amount": "0"}).encode()
            await producer.send(raw, bets[0].encode(), body, [("http-path", b"/deposit")])

    async def until(cash_minor: int, rounds: int) -> list[Any]:
        database, deadline = (
            LedgerDatabase(installation.database_url, "test"),
            time.monotonic() + WAIT_S,
        )
        try:
            while True:
                view = await read_player(database, player)
                found = await read_open_rounds(database, 2**62, "hundredhp", player)
                if [w.cash_minor for w in view.wallets] == [cash_minor] and len(found) == rounds:
                    return found
                assert time.monotonic() < deadline, (view, found)
                await asyncio.sleep(0.2)
        finally:
            await database.close()

    async def sweep() -> None:
        found = await until(3_000, 1)
        now_ms = time.time_ns() // 1_000_000
        assert propose_endings(found, policies(), now_ms, "sweeper", "log") == []
        log = installation.topic(TRANSACTIONS)
        for _ in range(2):  # two sweepers propose the same
            events = propose_endings(found, policies(), now_ms + 15 * DAY_MS, "sweeper", log)
            assert [event.operation for event in events] == ["sweep.rollback"]
            await operator_events.append_events(installation.broker, log, events)
        await until(4_000, 0)

    asyncio.run(play())
    asyncio.run(sweep())
    listed = run(installation, "ledger", "rounds", "--open", "--player", player)
    assert "no round is open" in listed.output
    assert (
        "0 would be proposed"
        in run(installation, "ledger", "sweep", "--by", "kim", "--dry-run").output
    )


async def append_to_log(runtime: Runtime, *events: WalletTransaction) -> None:
    encode, topic = codec.encoder(WalletTransaction), runtime.topic(TRANSACTIONS)
    settings = ProducerSettings(runtime.broker, "test")
    async with BatchProducer(settings) as producer:
        await producer.send_keyed(
            topic, [((event.player_id or "").encode(), encode(event), (), None) for event in events]
        )


async def find_in_log(runtime: Runtime, tx_id: str) -> str:
    """The place of the record of the log that holds a transaction."""
    decode, topic = codec.decoder(WalletTransaction), runtime.topic(TRANSACTIONS)
    async for record in read_topics(runtime.broker, [topic]):
        if decode(record.value).provider_tx_id == tx_id:
            return f"{topic}-{record.partition}@{record.offset}"
    raise AssertionError(tx_id)


def stuck_places(runtime: Runtime) -> list[str]:
    result = run(runtime, "status", "--json")
    return [one["reason"].split(":")[0] for one in read_json(result)["stuck"]]


def wait_until(condition: Callable[[], bool]) -> None:
    assert poll(condition, WAIT_S)


def test_two_people_quarantine_a_record_that_the_ledger_cannot_book(installation: Runtime):
    player = "stuck"
    unknown = transaction("teleport", "unbookable", Leg("TELEPORT"), player=player)
    good = deposit("behind", 500, player=player)
    asyncio.run(append_to_log(installation, unknown, good))
    place = asyncio.run(find_in_log(installation, "unbookable"))
    wait_until(lambda: stuck_places(installation) == [place])
    shown = run(installation, "status")
    assert shown.exit_code == 1
    assert f"pitboss ledger quarantine {place}" in shown.stderr
    command, wait = ["ledger", "quarantine", place], ["--wait", str(WAIT_S)]
    alone = run(installation, *command, "--by", "ann", "--approve")
    assert alone.exit_code == 2
    assert "is not proposed" in alone.stderr
    proposed = run(installation, *command, "--by", "ann", "--why", "of no release", *wait)
    assert proposed.exit_code == 0, proposed.output
    assert f"{place} --approve --by <who>" in proposed.stdout
    same = run(installation, *command, "--by", " Ann", "--approve", *wait)
    assert same.exit_code == 2
    assert "a second person has to approve it" in same.stderr
    assert outcome_of(installation, *command, "--by", "bob", "--approve", *wait) == (
        0,
        "POSTED RECORD_QUARANTINED",
    )
    wait_until(lambda: stuck_places(installation) == [])
    how = ["--operation", "teleport", "--brand", "acme", "--json"]
    entry = run(installation, "ledger", "entry", "unbookable", "--provider", "hub88", *how)
    assert '"QUARANTINED"' in entry.stdout, entry.output
    [wallet] = show_player(installation, player)["wallets"]
    assert wallet["cash_minor"] == 500
    late = ["ledger", "quarantine", asyncio.run(find_in_log(installation, "behind"))]
    assert outcome_of(installation, *late, "--by", "ann", "--why", "a try", *wait) == (
        1,
        "REFUSED_REFERENCE RECORD_NOT_WAITING",
    )


def test_an_order_to_skip_is_kept_with_who_and_why_and_harms_nothing_that_can_be_read(
    installation: Runtime,
):
    topic = installation.topic("provider.house.raw.v1")
    end = submit(
        installation,
        operation="withdrawal.requested",
        id="before-skip",
        player_id="skipped",
        amount="1.00",
        currency="EUR",
    )
    assert end == "REFUSED_FUNDS NOT_ENOUGH_MONEY"
    command = ["topics", "skip", f"{topic}-0@1000000", "--by", "ann", "--why", "a broken disk"]
    dry = read_json(run(installation, *command, "--dry-run", "--json"))
    assert (dry["dry_run"], dry["is_stuck"]) == (True, False)
    assert read_json(run(installation, "topics", "skips", "--json")) == []
    done = run(installation, *command)
    assert done.exit_code == 0
    assert "no worker says that it is stuck" in done.stderr
    [order] = read_json(run(installation, "topics", "skips", "--json"))
    assert (order["topic"], order["partition"], order["offset"]) == (topic, 0, 1_000_000)
    assert (order["by"], order["reason"]) == ("ann", "a broken disk")
    assert "a broken disk" in run(installation, "topics", "skips").stdout
    log = installation.topic(TRANSACTIONS)
    refused = run(installation, "topics", "skip", f"{log}-0@1", "--by", "ann", "--why", "x")
    assert refused.exit_code == 2
    assert "pitboss ledger quarantine" in refused.stderr
