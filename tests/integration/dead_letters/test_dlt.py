"""`pitboss dlt` as a person uses it: over real topics and tables, with the real normaliser and ledger behind it."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner, Result

from lab.conformance.writers.hub88 import signature
from lab.sandbox.keys import SandboxKeys
from ledger_sink.booking.handler import create_ledger_app
from ledger_sink.booking.settings import LedgerSettings
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.migrate import migrate
from pitboss.cli.main import cli
from pitboss.ops.topic_admin import create_topics
from pitboss.settings import Runtime, worker_environment
from replay.audit.checks import check_offsets
from replay.audit.evidence import read_all_topics, read_tables
from runtime.dead_letters.actions import ActionStore
from runtime.dead_letters.key_holds import ParkLimits
from runtime.dead_letters.park_store import ParkStore
from runtime.dead_letters.sink import KafkaDeadLetterSink
from runtime.kafka.topic_reader import read_topics
from schemas import codec
from schemas.errors import RejectCode, Unavailable
from schemas.events import WalletOutcome, WalletTransaction
from schemas.policies import DEFAULT_POLICY
from schemas.topics import OUTCOMES, TRANSACTIONS, raw_topic
from streams.normalise.handler import NormaliseWorker, create_worker
from streams.normalise.settings import NormaliseSettings, ParkSettings
from streams.providers.adyen import Adyen
from streams.providers.dialect import UnreadableItem
from streams.providers.hub88 import Hub88
from streams.providers.playngo import PlayNGo
from streams.providers.registry import by_provider
from tests.support.sandbox_keys import shared_keys

pytestmark = pytest.mark.integration

PARTITIONS = 2
PROVIDERS = ["adyen", "hub88", "playngo"]
KEYS = shared_keys()
DO = ("--by", "ann", "--reason", "the key was rotated")


class Picky(Hub88):
    """Reads no amount of 13 units, until it is repaired."""

    is_repaired = False

    def _draft(self, operation: str, body: Any, player_id: str, verdict: str) -> Any:
        if body.amount == 13 * 1000 and not Picky.is_repaired:
            raise UnreadableItem(RejectCode.BAD_AMOUNT, "thirteen", player_id)
        return super()._draft(operation, body, player_id, verdict)


@pytest.fixture(autouse=True)
def reset_picky() -> None:
    Picky.is_repaired = False


@pytest.fixture
def installation(runtime: Runtime) -> Runtime:
    migrate(runtime.database_url)
    asyncio.run(create_topics(runtime.broker, runtime.namespace, PROVIDERS, PARTITIONS, PARTITIONS))
    return runtime


@pytest.fixture
def pitboss(installation: Runtime, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    for name, value in worker_environment(installation).items():
        if name.startswith("PITBOSS_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("PITBOSS_KEYS_FILE", "")
    return lambda *arguments: CliRunner().invoke(cli, ["dlt", *arguments], catch_exceptions=False)


def hub88(
    operation: str, tx: str, player: str, units: int = 1, bet: str | None = None
) -> dict[str, Any]:
    body = {
        "user": player,
        "transaction_uuid": tx,
        "round": "R",
        "amount": units * 1000,
        "currency": "EUR",
    }
    if bet is not None:
        body["reference_transaction_uuid"] = bet
    value = json.dumps(body).encode()
    headers = [
        ("http-path", f"/transaction/{operation}".encode()),
        ("x-hub88-signature", signature(value, KEYS.of("hub88"))),
        ("authorization", b"Bearer s3cret"),
        ("empty", None),
    ]
    return {"key": player.encode(), "value": value, "headers": headers, "partition": 1}


async def append(
    runtime: Runtime, records: Sequence[dict[str, Any]], topic: str = raw_topic("hub88")
) -> list[str]:
    """The places of the appended records, as text."""
    producer = AIOKafkaProducer(**runtime.broker.aiokafka_options(), acks="all")
    await producer.start()
    try:
        sent = [await producer.send_and_wait(runtime.topic(topic), **record) for record in records]
    finally:
        await producer.stop()
    return [f"{one.topic}-{one.partition}@{one.offset}" for one in sent]


def normaliser(runtime: Runtime, *, key: SandboxKeys = KEYS, park: bool = False) -> NormaliseWorker:
    settings = (
        ParkSettings(runtime.database_url, frozenset({"hub88"}), ParkLimits(records_max=5))
        if park
        else None
    )
    return create_worker(
        NormaliseSettings(
            runtime.broker, runtime.namespace, "test-1", key.keyring(), park=settings
        ),
        by_provider([Adyen(), Picky(), PlayNGo()]),
    )


@asynccontextmanager
async def running(*apps: Any) -> AsyncIterator[None]:
    for app in apps:
        await app.start()
    try:
        yield
    finally:
        for app in apps:
            await app.stop()


def ledger(runtime: Runtime) -> Any:
    settings = LedgerSettings(runtime.broker, runtime.database_url, runtime.namespace, "test-1")
    return create_ledger_app(settings, {"hub88": DEFAULT_POLICY})


async def until(condition: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - counters and tables know no event
            await asyncio.sleep(0.02)


async def run_normaliser(runtime: Runtime, count: int, **options: Any) -> NormaliseWorker:
    """A normaliser from where the last one ended, until it has handled so many more records."""
    worker = normaliser(runtime, **options)
    async with running(worker.app):
        await until(
            lambda: worker.stats.records + waiting(runtime) >= count,
            f"{count} records read or waiting",
        )
    return worker


def waiting(runtime: Runtime) -> int:
    with psycopg.connect(runtime.database_url) as connection:
        [(count,)] = connection.execute(
            "SELECT count(*) FROM dead_letters.parked WHERE released_at IS NULL"
        ).fetchall()
    return count


async def log_of(runtime: Runtime, player: str | None = "p") -> list[WalletTransaction]:
    """The events of a player (or of nobody) in their order; across partitions there is none."""
    decode = codec.decoder(WalletTransaction)
    topic = {runtime.topic(TRANSACTIONS)}
    events = [decode(record.value) async for record in read_topics(runtime.broker, topic)]
    return [event for event in events if event.player_id == player]


async def run_ledger(runtime: Runtime, count: int) -> dict[str, WalletOutcome]:
    """Outcomes by attempt, once the ledger has answered so many."""
    decode = codec.decoder(WalletOutcome)
    outcomes: dict[str, WalletOutcome] = {}
    app = ledger(runtime)
    async with running(app), asyncio.timeout(60):
        while len(outcomes) < count:
            async for record in read_topics(runtime.broker, {runtime.topic(OUTCOMES)}):
                outcome = decode(record.value)
                at = outcome.attempt
                outcomes[f"{at.topic}-{at.partition}@{at.offset}"] = outcome
            await asyncio.sleep(0.05)
    return outcomes


async def check_accounting(runtime: Runtime) -> None:
    database = LedgerDatabase(runtime.database_url, "pitboss.test")
    try:
        tables = await read_tables(database)
    finally:
        await database.close()
    topics = await read_all_topics(runtime.broker, runtime.namespace, PROVIDERS)
    check = check_offsets(topics, tables)
    assert check.holds, check.detail


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
        async with running(ledger(installation)), asyncio.timeout(60):
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


# --- parking ----------------------------------------------------------------------------------------------------------


def story_of(player: str) -> list[dict[str, Any]]:
    return [
        hub88("win", f"{player}-1", player, 1, "x"),
        hub88("win", f"{player}-13", player, 13, "x"),
        hub88("win", f"{player}-3", player, 3, "x"),
        hub88("bet", f"{player}-4", player, 4),
        hub88("win", f"{player}-other", f"{player}-other", 5, "x"),
    ]


def test_a_player_waits_behind_his_dead_letter_and_a_redrive_keeps_his_order(installation, pitboss):
    places = asyncio.run(append(installation, story_of("p")))
    asyncio.run(run_normaliser(installation, 5, park=True))
    assert waiting(installation) == 2
    assert [event.provider_tx_id for event in asyncio.run(log_of(installation))] == ["p-1"]
    assert [event.provider_tx_id for event in asyncio.run(log_of(installation, "p-other"))] == [
        "p-other"
    ]
    [hold] = json.loads(pitboss("parked", "--json").stdout)
    assert (hold["player"], hold["waits_for"], hold["code"]) == ("p", places[1], "BAD_AMOUNT")
    assert (hold["waiting"], hold["is_full"]) == (2, False)
    assert places[1] in pitboss("parked").stdout
    assert "2 records wait behind 1" in pitboss("list").stderr
    assert "2 records of the same key wait behind it" in pitboss("show", places[1]).stdout
    asyncio.run(run_ledger(installation, 2))
    asyncio.run(check_accounting(installation))

    Picky.is_repaired = True
    redriven = pitboss("redrive", places[1], *DO)
    assert "2 records are released behind it" in redriven.stdout
    asyncio.run(append(installation, [hub88("win", "p-new", "p", 6, "x")]))
    asyncio.run(until_none_waits(installation, 4))
    events = asyncio.run(log_of(installation))
    assert [event.provider_tx_id for event in events] == ["p-1", "p-13", "p-3", "p-4", "p-new"]
    assert [event.cause and event.cause.type for event in events] == [
        None,
        "redrive",
        "parked",
        "parked",
        None,
    ]
    outcomes = asyncio.run(run_ledger(installation, 6))
    assert [outcomes[place].outcome for place in (places[2], places[3])] == [
        "POSTED",
        "REFUSED_EXPIRED",
    ]
    assert json.loads(pitboss("parked", "--json").stdout) == []
    asyncio.run(check_accounting(installation))


async def until_none_waits(runtime: Runtime, handled: int) -> None:
    worker = normaliser(runtime, park=True)
    async with running(worker.app):
        await until(
            lambda: worker.stats.records >= handled and waiting(runtime) == 0, "no record waits"
        )


def test_a_drop_tells_the_log_and_lets_the_others_go_on(installation, pitboss):
    places = asyncio.run(append(installation, story_of("p")))
    asyncio.run(run_normaliser(installation, 5, park=True))
    dropped = pitboss("drop", "--code", "BAD_AMOUNT", *DO)
    assert f"{places[1]} → " in dropped.stdout
    asyncio.run(until_none_waits(installation, 3))
    assert [event.provider_tx_id for event in asyncio.run(log_of(installation))] == [
        "p-1",
        "p-3",
        "p-4",
    ]
    [mark] = asyncio.run(log_of(installation, None))
    assert mark.cause is not None
    assert (mark.operation, mark.cause.type, mark.cause.actor, mark.cause.id) == (
        "dead_letter.dropped",
        "drop",
        "ann",
        places[1],
    )
    asyncio.run(run_ledger(installation, 5))
    asyncio.run(check_accounting(installation))


@pytest.mark.parametrize("broken", ["save", "publish"])
def test_a_worker_that_ends_in_between_is_followed_by_one_that_parks_the_same(
    installation, pitboss, monkeypatch, broken
):
    """Before the park table is written, and after it while the dead letter is not: nothing is lost or overtaken."""
    asyncio.run(append(installation, story_of("p")))
    owner, name = {"save": (ParkStore, "save"), "publish": (KafkaDeadLetterSink, "publish_all")}[
        broken
    ]

    async def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("killed")

    async def crashing() -> None:
        worker = normaliser(installation, park=True)
        async with running(worker.app):
            await until(lambda: worker.app.crashed, "the worker ends")

    with monkeypatch.context() as cut:
        cut.setattr(owner, name, fail)
        asyncio.run(crashing())
    assert waiting(installation) == (0 if broken == "save" else 2)
    asyncio.run(run_normaliser(installation, 5, park=True))
    assert waiting(installation) == 2
    Picky.is_repaired = True
    assert pitboss("redrive", "--all", *DO).exit_code == 0

    # The same on the way out: the events are sent, and it was not saved that they were.
    with monkeypatch.context() as cut:
        cut.setattr(ParkStore, "save", fail)
        asyncio.run(crashing())
    asyncio.run(until_none_waits(installation, 3))
    first_seen = list(
        dict.fromkeys(event.provider_tx_id for event in asyncio.run(log_of(installation)))
    )
    assert first_seen == ["p-1", "p-13", "p-3", "p-4"]
    asyncio.run(run_ledger(installation, 5))
    asyncio.run(check_accounting(installation))


def test_no_more_wait_than_the_limit(installation, pitboss):
    asyncio.run(
        append(
            installation, [hub88("win", f"w{n}", "p", 13 if n == 0 else 1, "x") for n in range(8)]
        )
    )
    worker = asyncio.run(run_normaliser(installation, 8, park=True))
    assert dict(worker.stats.rejected) == {"BAD_AMOUNT": 1, "PARK_FULL": 2}
    [hold] = json.loads(pitboss("parked", "--json", "--player", "p").stdout)
    assert (hold["waiting"], hold["is_full"]) == (5, True)
    asyncio.run(check_accounting(installation))
