"""Where one transaction ends and the next begins must not matter: the ledger over the simulator's tables, cut anywhere."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.simulator.checks import chains_of, debts_of, gaps_of
from lab.simulator.database import SimulatedDatabase
from lab.simulator.process import Process
from lab.simulator.run import SimulatedLoop
from lab.simulator.tables import Server
from ledger_sink.booking.positions import claim_positions
from ledger_sink.rules.debts import REASONS
from ledger_sink.store import ledger as ledger_module
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.reading import collect_read_set
from ledger_sink.store.writing import RowsMoved
from schemas.events import Cause
from schemas.policies import CARD_POLICY, LedgerPolicy
from tests.support.ledger_events import (
    bet,
    deposit,
    house,
    leg,
    log_event,
    rollback,
    transaction,
    win,
)

TABLES = (
    "entry",
    "repeat",
    "transfer",
    "wallet",
    "closing",
    "player_state",
    "proposal",
    "opened_deposit",
    "open_item",
    "operator_limit",
)
PLAYERS = st.sampled_from(["p-1", "p-1", "p-1", "p-2"])
IDS = st.sampled_from("ab")
AMOUNTS = st.sampled_from([0, 5, 50, 100, 301])
CURRENCIES = st.sampled_from(["EUR"] * 7 + ["USD"])
TREATMENTS = st.sampled_from(["BOOK", "BOOK", "REFUSE"])
POLICIES = st.builds(
    LedgerPolicy,
    st.booleans(),
    TREATMENTS,
    TREATMENTS,
    TREATMENTS,
    open_round_max_age_ms=st.sampled_from([None, 1]),
)


async def apply_all(server, events, policy, sizes):
    ledger = PostgresLedger(
        SimulatedDatabase(server, Process("ledger", Random(1), lambda _: None), "db"),
        {"hub88": policy, "adyen": CARD_POLICY},
    )
    ledger.epochs[0] = (await claim_positions(ledger.database, [0]))[0].epoch
    at = 0
    for size in sizes:
        placed = [
            log_event(event, 0, offset) for offset, event in enumerate(events[at : at + size], at)
        ]
        await ledger.commit_group([Slice(0, at, at + size, placed)])
        at += size
        if size % 2:
            ledger._players.clear()  # so that both are tried: to remember players, and to read them


def tables_after(events, policy, sizes):
    """The tables after so many events to a transaction."""
    loop = SimulatedLoop()
    try:

        async def run():
            server = Server()
            await apply_all(server, events, policy, sizes)
            return server

        return loop.run_until_complete(run())
    finally:
        loop.close()


def rows(server):
    return {
        name: sorted(
            repr(sorted(row.items(), key=repr)) for row in server.tables[name].rows.values()
        )
        for name in TABLES
    }


def cancel_of(event):
    text = f"{event.attempt.topic}-{event.attempt.partition}@{event.attempt.offset}#{event.attempt.record_index}"
    return transaction(
        "cancel",
        text,
        leg("CANCEL", None, None),
        player=event.player_id,
        provider=event.provider,
        reference=(event.operation, event.provider_tx_id),
        cause=Cause("connector", text),
    )


def with_player(event, player):
    """An event without a player as the resolver appends it: with the player, under the same fingerprint."""
    return msgspec.structs.replace(event, player_id=player)


@st.composite
def of_a_bet(draw):
    """A bet and what names it, wins and jackpots, alone and together, and what takes any of them back."""
    player, tx_id, minor, currency = draw(PLAYERS), draw(IDS), draw(AMOUNTS), draw(CURRENCIES)
    stake, won, jackpot, share = (
        leg("BET", minor, currency),
        leg("WIN", draw(AMOUNTS), currency),
        leg("JACKPOT_WIN", 7, currency),
        leg("JACKPOT_CONTRIBUTION", 3, currency),
    )
    kinds = [
        "bet",
        "bet",
        "share",
        "free",
        "net",
        "win",
        "win",
        "unnamed",
        "all",
        "all",
        "jackpot",
        "jackpot",
        "rollback",
        "rollback",
        "rollback",
        "sweep",
        "nobody",
        "found",
    ]
    story = []
    for number, kind in enumerate(draw(st.lists(st.sampled_from(kinds), min_size=3, max_size=7))):
        other = f"{tx_id}{number % 2}"
        of = ("bet", tx_id)
        by = {"player": player, "reference": of}
        back = ("rollback", other, leg("ROLLBACK", None, None))
        taken = {
            "player": player,
            "reference": draw(
                st.sampled_from([of, of, of, ("win", f"{tx_id}0"), ("jackpot", f"{tx_id}0")])
            ),
        }
        playerless = draw(st.sampled_from([back, ("win", other, won)]))
        match kind:
            case "bet":
                event = transaction("bet", tx_id, stake, player=player, decide=draw(st.booleans()))
            case "share":
                event = transaction("bet", tx_id, stake, share, player=player, decide=True)
            case "free":
                event = transaction(
                    "bet",
                    tx_id,
                    leg("BET", minor, currency, is_free=True),
                    player=player,
                    decide=True,
                )
            case "net":
                event = transaction("bet", tx_id, stake, won, player=player, decide=True)
            case "win":
                event = transaction("win", other, won, **by)
            case "unnamed":
                event = transaction("win", other, leg("WIN", 50, None), **by)
            case "all":
                event = transaction(
                    "win",
                    other,
                    won,
                    jackpot,
                    share,
                    player=player,
                    reference=draw(st.sampled_from([of, None])),
                )
            case "jackpot":
                event = transaction("jackpot", other, jackpot, **by)
            case "rollback":
                event = transaction(*back, **taken)
            case "sweep":
                event = transaction(*back, cause=Cause("sweep", "s"), **by)
            case "nobody":
                event = transaction(*playerless, player=None, reference=of)
            case _:
                event = with_player(transaction(*playerless, player=None, reference=of), player)
        story.append(event)
    return story


@st.composite
def of_the_house(draw):
    """Money that comes and goes besides, bonuses, proposals and limits."""
    player, tx_id, minor, currency = draw(PLAYERS), draw(IDS), draw(AMOUNTS), draw(CURRENCIES)
    request, proposal = ("withdrawal.requested", draw(IDS)), ("adjustment.proposed", draw(IDS))
    money: dict[str, Any] = {"provider": "adyen", "round_id": None}
    return draw(
        st.sampled_from(
            [
                deposit(tx_id, minor, player=player),
                house(
                    "deposit.opened",
                    tx_id,
                    leg("INFORMATIONAL", minor, currency),
                    player=player,
                    cause=Cause("psp", "adyen"),
                ),
                deposit(tx_id, minor, player=player, reference=("deposit.opened", draw(IDS))),
                transaction(
                    "AUTHORISATION", tx_id, leg("DEPOSIT", minor, currency), player=None, **money
                ),
                transaction(
                    "CHARGEBACK",
                    tx_id,
                    leg("DEPOSIT_REVERSAL", minor, currency),
                    player=player,
                    **money,
                ),
                house(
                    "bonus.granted",
                    tx_id,
                    leg("BONUS_GRANT", 300),
                    leg("WAGERING", draw(st.sampled_from([0, 100, 400]))),
                    player=player,
                ),
                house("bonus.granted", tx_id, leg("BONUS_GRANT", minor, currency), player=player),
                house("bonus.released", tx_id, leg("BONUS_RELEASE", minor), player=player),
                house("bonus.forfeited", tx_id, leg("BONUS_FORFEIT", minor), player=player),
                house(
                    "withdrawal.requested",
                    tx_id,
                    leg("WITHDRAWAL", minor, currency),
                    player=player,
                    decide=True,
                ),
                house(
                    "withdrawal.paid",
                    tx_id,
                    leg("WITHDRAWAL", None, None),
                    player=player,
                    reference=request,
                ),
                house(
                    "withdrawal.refused",
                    tx_id,
                    leg("WITHDRAWAL_REVERSAL", None, None),
                    player=player,
                    reference=request,
                ),
                house(
                    "adjustment.proposed",
                    tx_id,
                    leg("INFORMATIONAL", -minor),
                    player=player,
                    cause=Cause("operator", "x", "A"),
                ),
                house(
                    "adjustment.approved",
                    tx_id,
                    leg("ADJUSTMENT", None, None),
                    player=player,
                    reference=proposal,
                    cause=Cause("operator", "x", draw(st.sampled_from("AB"))),
                ),
                house("player.limited", tx_id, leg("PLAYER_STATE", minor), player=player),
            ]
        )
    )


@st.composite
def histories(draw):
    """The stories of one or two bets and some of the house's, shuffled into each other; cancels, and some of it again."""
    some = [
        event for story in draw(st.lists(of_a_bet(), min_size=1, max_size=2)) for event in story
    ]
    some += draw(st.lists(of_the_house(), max_size=4))
    some += [cancel_of(event) for event in some if event.decision_required and draw(st.booleans())]
    order = draw(st.permutations(some))
    again = draw(st.lists(st.sampled_from(some), max_size=3))
    return [deposit("first", draw(st.sampled_from([0, 1_000, 1_000]))), *order, *again]


@given(histories(), POLICIES, st.data())
def test_however_events_are_grouped_they_come_out_alike(history, policy, data):
    sizes, left = [], len(history)
    while left:
        sizes.append(data.draw(st.integers(1, min(left, 5))))
        left -= sizes[-1]
    whole = tables_after(history, policy, [len(history)])
    expected = rows(whole)
    assert rows(tables_after(history, policy, [1] * len(history))) == expected
    assert rows(tables_after(history, policy, sizes)) == expected
    assert list(gaps_of(whole)) == []
    # And each fall below zero, or further below, has raised an alert.
    alerted = {
        row["event_id"] for row in whole.tables["entry"].rows.values() if row["reason"] in REASONS
    }
    assert alerted == {
        event_id for chain in chains_of(whole).values() for event_id in debts_of(chain)
    }


def jackpot(tx_id, minor, of):
    return transaction("jackpot", tx_id, leg("JACKPOT_WIN", minor), reference=("bet", of))


REFUNDED_TWICE = [
    deposit("d", 1_000),
    bet("b", 100),
    rollback("r1", "b"),
    jackpot("j", 5, "b"),
    rollback("r2", "b"),
]
REFUNDED_BEFORE = [deposit("d", 1_000), rollback("r1", "b"), jackpot("j", 5, "b"), bet("b", 100)]
MARKS = [LedgerPolicy(rollback_after_win="REFUSE"), LedgerPolicy(open_round_max_age_ms=1)]


@pytest.mark.parametrize("policy", MARKS, ids=["refuse", "open rounds"])
@pytest.mark.parametrize("history", [REFUNDED_TWICE, REFUNDED_BEFORE], ids=["after", "before"])
def test_a_jackpot_does_not_undo_what_an_earlier_transaction_has_closed(history, policy):
    for sizes in ([len(history)], [1] * len(history)):
        server = tables_after(history, policy, sizes)
        assert [row["action"] for row in server.tables["closing"].rows.values()] == ["REVERSED"]
        assert [row["cash_minor"] for row in server.tables["wallet"].rows.values()] == [1_005]


def test_an_end_that_was_not_read_is_not_overwritten(monkeypatch):
    """What decides must know it; should it not, nothing is written."""

    def forgetful(events, policies):
        read_set = collect_read_set(events, policies)
        return replace(read_set, event_ids={one.event.event_id for one in events})

    loop, server = SimulatedLoop(), Server()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(ledger_module, "collect_read_set", forgetful)
            with pytest.raises(RowsMoved, match="0 of 1 rows were written"):
                loop.run_until_complete(apply_all(server, REFUNDED_BEFORE[:3], MARKS[0], [1, 1, 1]))
    finally:
        loop.close()
    assert [row["action"] for row in server.tables["closing"].rows.values()] == ["REVERSED"]
    assert len(server.tables["entry"].rows) == 2


def test_a_win_is_taken_back_and_not_what_came_before_the_share_that_it_gave_to_the_pool():
    share = leg("JACKPOT_CONTRIBUTION", 3)
    history = [
        deposit("d", 1_000),
        win("w0", 500, "b"),
        transaction("win", "w", leg("WIN", 40), share),
        transaction("rollback", "r", leg("ROLLBACK", None, None), reference=("win", "w")),
    ]
    for sizes in ([4], [1, 1, 1, 1]):
        [wallet] = tables_after(history, LedgerPolicy(), sizes).tables["wallet"].rows.values()
        assert wallet["cash_minor"] == 1_500
