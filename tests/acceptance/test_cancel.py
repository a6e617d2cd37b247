"""A connector gives up before, at and after the decision: the bet nets to zero, end to end, through real workers.

The connector is the one of docs/howto/connectors.md, taken from the page.
"""

from __future__ import annotations

import asyncio
import json
import random
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ledger_sink.store.database import LedgerDatabase
from pitboss.demo.environment import running_workers
from pitboss.demo.quiescence import QuiescenceMonitor
from pitboss.ops.provision import provision
from pitboss.settings import Runtime
from tests.acceptance.documented import ROOT, blocks, page
from tests.support.fix_stack import SEED
from tests.support.whole_run import check_everything, failures

pytestmark = pytest.mark.integration

BET = {"content-type": "application/json", "http-path": "/transaction/bet"}
WIN = {**BET, "http-path": "/transaction/win"}
ROLLBACK = {**BET, "http-path": "/transaction/rollback"}
PATIENT_S = 180.0
START_MINOR = 1_000
STAKE_UNITS = 150_000  # 1.50
STAKE_MINOR = 150
RACING_AT_ONCE = 8


@pytest.fixture
def connector_class(tmp_path: Path) -> Any:
    file = tmp_path / "connector.py"
    file.write_text(blocks(page("connectors.md"), "python")[0])
    return runpy.run_path(str(file))["Connector"]


def adjustment(player: str) -> bytes:
    body = {
        "operation": "adjustment",
        "id": f"a-{player}",
        "player_id": player,
        "at": "2026-11-22T10:15:30.123Z",
        "amount": "10.00",
        "currency": "EUR",
        "actor": "test",
        "reason": "something to bet",
    }
    return json.dumps(body).encode()


async def propose(connector: Any, player: str) -> bytes:
    """Propose something to bet, and return the approval by a second person: no limit of one person is set here."""
    proposal = json.loads(adjustment(player)) | {"operation": "adjustment.proposed"}
    await connector.append("house", player, json.dumps(proposal).encode(), {})
    approval = {
        "operation": "adjustment.approved",
        "id": f"ok-{player}",
        "proposal_id": proposal["id"],
        "player_id": player,
        "at": proposal["at"],
        "actor": "second",
    }
    return json.dumps(approval).encode()


def hub88(
    player: str, transaction: str, units: int | None = STAKE_UNITS, of: str | None = None
) -> bytes:
    body: dict[str, Any] = {"user": player, "transaction_uuid": transaction, "round": "R-1"}
    if units is not None:
        body |= {"amount": units, "currency": "EUR"}
    if of is not None:
        body["reference_transaction_uuid"] = of
    return json.dumps(body).encode()


def cancel_of(attempt: tuple[str, int, int]) -> dict[str, str]:
    return {"cancel": "{}-{}@{}".format(*attempt)}


def attempt_of(answer: dict) -> tuple[str, int, int]:
    at = answer["attempt"]
    return at["topic"], at["partition"], at["offset"]


async def decide(connector: Any, *request: Any) -> tuple[str, str]:
    answer = await connector.decide(*request, PATIENT_S)
    assert answer is not None
    return answer["outcome"], answer["reason"]


async def balances(runtime: Runtime) -> dict[str, tuple[int, int]]:
    database = LedgerDatabase(runtime.database_url, "pitboss.test")
    try:
        rows = await database.query(
            "SELECT player_id, cash_minor, bonus_minor + held_minor FROM wallet"
        )
    finally:
        await database.close()
    return {player: (cash, rest) for player, cash, rest in rows}


async def wait_until_quiescent(runtime: Runtime) -> None:
    async with QuiescenceMonitor(runtime) as settling:
        await settling.wait_until_quiet(PATIENT_S, lambda _: None)


async def race(connector: Any, players: list[str], rng: random.Random) -> dict[str, dict | None]:
    """Bets with a patience that is drawn around what an answer takes on this machine now, so that some give up."""
    raced: dict[str, dict | None] = {}
    middle_s = 0.05
    for start in range(0, len(players), RACING_AT_ONCE):
        wave = players[start : start + RACING_AT_ONCE]
        bets = [
            connector.decide("hub88", p, hub88(p, f"b-{p}"), BET, rng.uniform(0, 2 * middle_s))
            for p in wave
        ]
        answers = await asyncio.gather(*bets)
        raced |= zip(wave, answers, strict=True)
        in_time = sum(answer is not None for answer in answers)
        middle_s *= 2 if in_time == 0 else 0.5 if in_time == len(wave) else 1
    return raced


@pytest.mark.timeout(900)
async def test_a_bet_that_was_given_up_nets_to_zero_whenever_that_was(
    runtime, tmp_path, connector_class
):
    await asyncio.to_thread(
        provision, runtime, partitions=4, raw_partitions=4, providers=["house", "hub88"]
    )
    rng = random.Random(SEED)
    early, racing, late = (
        [f"{when}-{n}" for n in range(count)] for when, count in (("e", 40), ("r", 120), ("l", 20))
    )
    async with connector_class(
        runtime.broker.servers, ROOT / "schemas" / "avro", runtime.namespace
    ) as connector:
        # Before: without workers there are no decisions, and the connector gives up on every bet.
        for player in early:
            await connector.append("house", player, await propose(connector, player), {})
        gave_up = await asyncio.gather(
            *[
                connector.decide("hub88", player, hub88(player, f"b-{player}"), BET, 0)
                for player in early
            ]
        )
        assert gave_up == [None] * len(early)
        with running_workers(runtime, tmp_path, print):
            funded = await asyncio.gather(
                *[
                    decide(connector, "house", player, await propose(connector, player), {})
                    for player in (*racing, *late)
                ]
            )
            assert set(funded) == {("POSTED", "BOOKED")}
            # At: patience ends somewhere around the decision.
            raced = await race(connector, racing, rng)
            # After: the answer was there, and the provider could not be reached with it.
            answers = [
                await connector.decide("hub88", p, hub88(p, f"b-{p}"), BET, PATIENT_S) for p in late
            ]
            attempts = [
                await connector.append(
                    "hub88", p, hub88(p, f"b-{p}"), BET | cancel_of(attempt_of(answer))
                )
                for p, answer in zip(late, answers, strict=True)
            ]
            answers_to_cancels = [
                await connector.answer_to(attempt, PATIENT_S) for attempt in attempts
            ]
            assert {(one["outcome"], one["reason"]) for one in answers_to_cancels} == {
                ("CANCELLED", "REVERSED")
            }

            cancelled = [
                *early,
                *late,
                *(player for player, answer in raced.items() if answer is None),
            ]
            standing = {player: answer for player, answer in raced.items() if answer is not None}
            assert {answer["outcome"] for answer in standing.values()} == {"POSTED"}
            print(f"seed {SEED}: {len(standing)} of {len(racing)} were answered in time")
            assert len(cancelled) > len(early) + len(late), "every bet was answered in time"

            # What a provider does next: it sends the bet again, and at last rolls it back.
            again = Counter(
                [await decide(connector, "hub88", p, hub88(p, f"b-{p}"), BET) for p in cancelled]
            )
            assert set(again) == {("CANCELLED", "CONNECTOR_TIMED_OUT")}
            back = Counter(
                [
                    await decide(
                        connector, "hub88", p, hub88(p, f"r-{p}", None, f"b-{p}"), ROLLBACK
                    )
                    for p in cancelled
                ]
            )
            assert set(back) == {("POSTED", "ALREADY_CLOSED")}
            await wait_until_quiescent(runtime)
    found = await balances(runtime)
    assert {p: found[p] for p in cancelled} == dict.fromkeys(cancelled, (START_MINOR, 0))
    assert {p: found[p] for p in standing} == dict.fromkeys(
        standing, (START_MINOR - STAKE_MINOR, 0)
    )
    checks, _ = await check_everything(runtime, ("house", "hub88"))
    assert failures(checks) == {}


async def test_what_a_cancel_does_not_touch(installation, connector_class):
    async with connector_class(
        installation.broker.servers, ROOT / "schemas" / "avro", installation.namespace
    ) as connector:
        player = "untouched"

        async def tell(body: bytes, headers: dict[str, str]) -> tuple[str, str]:
            return await decide(connector, "hub88", player, body, headers)

        assert await decide(connector, "house", player, adjustment(player), {}) == (
            "POSTED",
            "BOOKED",
        )

        # A retry's cancel: the bet that the first attempt made stands.
        first = await connector.decide("hub88", player, hub88(player, "u-b-1"), BET, PATIENT_S)
        retry = await connector.decide("hub88", player, hub88(player, "u-b-1"), BET, PATIENT_S)
        assert (first["outcome"], retry["outcome"]) == ("POSTED", "EXISTS")
        assert await tell(hub88(player, "u-b-1"), BET | cancel_of(attempt_of(retry))) == (
            "CANCELLED",
            "ATTEMPT_MOVED_NOTHING",
        )
        # A win's cancel: its provider sends it until it hears an answer.
        win = await connector.decide(
            "hub88", player, hub88(player, "u-w-1", of="u-b-1"), WIN, PATIENT_S
        )
        assert await tell(hub88(player, "u-w-1", of="u-b-1"), WIN | cancel_of(attempt_of(win))) == (
            "INFORMATIONAL",
            "NOTED",
        )
        # A refused bet's cancel: there is nothing to take back.
        refused = await connector.decide(
            "hub88", player, hub88(player, "u-b-2", 10**9), BET, PATIENT_S
        )
        assert refused["outcome"] == "REFUSED_FUNDS"
        assert await tell(hub88(player, "u-b-2", 10**9), BET | cancel_of(attempt_of(refused))) == (
            "CANCELLED",
            "NOTHING_TO_REVERSE",
        )
        # The same cancel twice: a connector that was not sure of its append.
        gone = await connector.decide("hub88", player, hub88(player, "u-b-3"), BET, PATIENT_S)
        cancel = BET | cancel_of(attempt_of(gone))
        assert await tell(hub88(player, "u-b-3"), cancel) == ("CANCELLED", "REVERSED")
        assert await tell(hub88(player, "u-b-3"), cancel) == ("EXISTS", "REVERSED")
        await wait_until_quiescent(installation)
    assert (await balances(installation))[player] == (
        START_MINOR,
        0,
    )  # the bet of b-1, and its win of the same amount
