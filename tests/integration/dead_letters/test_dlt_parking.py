"""Players whose records wait behind a dead letter: over real topics and tables, with the real normaliser and ledger."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from pitboss.settings import Runtime
from runtime.dead_letters.park_store import ParkStore
from runtime.dead_letters.sink import KafkaDeadLetterSink
from tests.support.dead_letter_scene import (
    DO,
    Picky,
    append,
    check_accounting,
    hub88,
    installation,
    log_of,
    normaliser,
    pitboss,
    reset_picky,
    run_ledger,
    run_normaliser,
    running,
    until,
    waiting,
)

__all__ = ["installation", "pitboss", "reset_picky"]

pytestmark = pytest.mark.integration


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
