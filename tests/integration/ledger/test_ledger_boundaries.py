"""Where one transaction ends and the next begins must not matter: random histories, cut anywhere, on the real database."""

from __future__ import annotations

from itertools import pairwise

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_sink.booking.positions import claim_positions
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.migrate import migrate
from pitboss.embedded.databases import create_database, drop_database
from schemas.events import Amount, Cause, Leg
from schemas.policies import LedgerPolicy
from tests.support.examples import examples
from tests.support.ledger_events import (
    bet,
    book_of,
    deposit,
    house,
    leg,
    log_event,
    rollback,
    transaction,
    win,
)

pytestmark = pytest.mark.integration

POLICIES = [
    LedgerPolicy(refused_id_reusable=True),
    LedgerPolicy(
        win_without_bet="REFUSE", win_after_rollback="REFUSE", rollback_after_win="REFUSE"
    ),
    LedgerPolicy(win_after_rollback="REFUSE", open_round_max_age_ms=1),
]
MOST = 2**63 - 1
ROWS = {
    "entry": "SELECT source_offset, event_id::text, decision, outcome, reason, currency, available_minor, version, transfers"
    " FROM entry ORDER BY source_offset",
    "repeat": "SELECT source_offset, event_id::text, outcome, reason, currency, available_minor, version, redelivered"
    " FROM repeat ORDER BY source_offset",
    "transfer": "SELECT player_id, currency, version, debit, credit, amount_minor, cash_minor, bonus_minor, held_minor,"
    " event_id::text, decision FROM transfer ORDER BY player_id, currency, version",
    "wallet": "SELECT player_id, currency, cash_minor, bonus_minor, held_minor, version FROM wallet ORDER BY 1, 2",
    "closing": "SELECT event_id::text, player_id, action, by_event_id::text FROM closing ORDER BY 1, 2",
    "player_state": "SELECT player_id, standings, limits, wagering, event_id::text FROM player_state ORDER BY 1",
    "proposal": "SELECT event_id::text, player_id, currency, amount_minor, actor, reason, brand, id, occurred_at_ms,"
    " act, item_id::text FROM proposal ORDER BY 1",
    "open_item": "SELECT event_id::text, decision, provider, player_id, currency, amount_minor, in_suspense FROM open_item"
    " ORDER BY 1",
    "opened_deposit": "SELECT event_id::text, player_id, psp, currency, amount_minor FROM opened_deposit ORDER BY 1",
}


def cancel_of(event):
    text = f"{event.attempt.topic}-{event.attempt.partition}@{event.attempt.offset}#{event.attempt.record_index}"
    return transaction(
        "cancel",
        text,
        leg("CANCEL", None, None),
        reference=(event.operation, event.provider_tx_id),
        provider=event.provider,
        player=event.player_id,
        cause=Cause("connector", text),
    )


@st.composite
def of_one_bet(draw):
    player, tx_id = draw(st.sampled_from(["p-1", "p-2"])), draw(st.sampled_from("ab"))
    first = bet(tx_id, draw(st.sampled_from([0, 50, 150, 2_000])), player=player)
    return [
        first,
        bet(tx_id, 150, player=player),
        transaction("bet", tx_id, leg("BET", 150, is_free=True), decide=True, player=player),
        transaction("bet", tx_id, leg("BET", 100), leg("WIN", 30), decide=True, player=player),
        win(f"{tx_id}-w", draw(st.sampled_from([0, 30])), tx_id, player=player),
        rollback(f"{tx_id}-r", tx_id, player=player),
        rollback(f"{tx_id}-r2", tx_id, player=player),
        transaction(
            "jackpot", f"{tx_id}-j", leg("JACKPOT_WIN", 7), reference=("bet", tx_id), player=player
        ),
        cancel_of(first),
        transaction("win", f"{tx_id}-big", Leg("WIN", Amount(MOST, 2), "EUR"), player=player),
    ]


@st.composite
def of_one_withdrawal(draw):
    player, reference = draw(st.sampled_from(["p-1", "p-2"])), ("withdrawal.requested", "w")
    request = house(
        "withdrawal.requested",
        "w",
        leg("WITHDRAWAL", draw(st.sampled_from([0, 60]))),
        decide=True,
        player=player,
    )
    return [
        request,
        house(
            "withdrawal.paid",
            "wp",
            leg("WITHDRAWAL", None, None),
            reference=reference,
            player=player,
        ),
        house(
            "withdrawal.paid",
            "wp2",
            leg("WITHDRAWAL", None, None),
            reference=reference,
            player=player,
        ),
        house(
            "withdrawal.refused",
            "wr",
            leg("WITHDRAWAL_REVERSAL", None, None),
            reference=reference,
            player=player,
        ),
        cancel_of(request),
        house("bonus.granted", "g", leg("BONUS_GRANT", 70), player=player),
        house("player.blocked", f"x-{player}", leg("PLAYER_STATE", None, None), player=player),
        house("player.released", f"y-{player}", leg("PLAYER_STATE", None, None), player=player),
        house("player.limited", f"l-{player}", leg("PLAYER_STATE", 120), player=player),
        deposit(f"d-{player}", 300, player=player),
        deposit("playerless", 100, player=None),
    ]


@st.composite
def of_one_bonus(draw):
    """A grant that has to be wagered, bets that it pays, and wins that find theirs in another transaction."""
    player, tx_id = "p-1", draw(st.sampled_from("ab"))
    first = bet(tx_id, draw(st.sampled_from([50, 150, 2_000])), player=player)
    grant = house(
        "bonus.granted",
        "g",
        leg("BONUS_GRANT", 500),
        leg("WAGERING", draw(st.sampled_from([200, 5_000]))),
    )
    return [
        grant,
        first,
        first,
        bet(f"{tx_id}-2", 100, player=player),
        win(f"{tx_id}-w", 300, tx_id, player=player),
        transaction("win", f"{tx_id}-w2", leg("WIN", 40, None), reference=("bet", tx_id)),
        transaction(
            "win",
            f"{tx_id}-w3",
            leg("WIN", 40),
            leg("JACKPOT_CONTRIBUTION", 3),
            reference=("bet", tx_id),
        ),
        transaction(
            "bet", f"{tx_id}-3", leg("BET", 90), leg("JACKPOT_CONTRIBUTION", 3), decide=True
        ),
        rollback(f"{tx_id}-r", tx_id, player=player),
        rollback(f"{tx_id}-r3", f"{tx_id}-3", player=player),
        rollback("playerless", tx_id, player=None),
        transaction("rollback", "rw", leg("ROLLBACK", None, None), reference=("win", f"{tx_id}-w")),
        house("bonus.forfeited", "f", leg("BONUS_FORFEIT", 10_000)),
        cancel_of(first),
    ]


@st.composite
def of_one_adjustment(draw):
    def by(actor):
        return Cause("operator", "c", actor, "goodwill")

    proposed = house(
        "adjustment.proposed",
        "a",
        leg("INFORMATIONAL", draw(st.sampled_from([70, -70]))),
        cause=by("ann"),
    )
    return [
        proposed,
        *[
            house(
                "adjustment.approved",
                tx_id,
                leg("ADJUSTMENT", None, None),
                reference=("adjustment.proposed", "a"),
                cause=by(actor),
                player=player,
            )
            for tx_id, actor, player in [
                ("1", "ann", "p-1"),
                ("2", "bob", "p-1"),
                ("3", "cy", "p-1"),
                ("4", "bob", "p-2"),
            ]
        ],
    ]


@st.composite
def cut_histories(draw):
    """Events of which some come again as the very same attempt, and the places where transactions end."""
    pool = draw(st.sampled_from([of_one_bet, of_one_withdrawal, of_one_bonus, of_one_adjustment]))()
    some = draw(st.lists(st.sampled_from(draw(pool)), min_size=2, max_size=5))
    events = draw(st.lists(st.sampled_from(some), min_size=1, max_size=12))
    funds = draw(st.sampled_from([0, 200, 10_000]))
    history = [
        deposit("first", funds, player="p-1"),
        deposit("second", funds, player="p-2"),
        *events,
    ]
    cuts = sorted(draw(st.sets(st.integers(1, len(history) - 1), max_size=6)))
    return history, [0, *cuts, len(history)]


def lists(values):
    return {name: list(value) for name, value in values.items()}


def expected_rows(history, policy):
    book = book_of(*history, policy=policy)
    decisions = [
        (at, d.log_event.event.event_id, d.decision, d.answer, d.redelivered)
        for at, d in enumerate(book.decisions)
    ]

    def answer(a):
        return (a.outcome, a.reason, a.currency, a.available_minor, a.version)

    return {
        "entry": [
            (at, e, n, *answer(a), len(book.transfers_of[e, n]))
            for at, e, n, a, _ in decisions
            if n is not None
        ],
        "repeat": [(at, e, *answer(a), again) for at, e, n, a, again in decisions if n is None],
        "transfer": sorted(
            (
                (
                    t.player_id,
                    t.currency,
                    t.version,
                    t.debit,
                    t.credit,
                    t.amount_minor,
                    t.cash_minor,
                    t.bonus_minor,
                    t.held_minor,
                    s.event.event_id,
                    n,
                )
                for s, n, t in book.new_transfers
            ),
            key=lambda row: (row[0] is None, row[:3]),
        ),
        "wallet": [
            (w.player_id, w.currency, w.cash_minor, w.bonus_minor, w.held_minor, w.version)
            for _, w in sorted(book.changed_wallets.items())
        ],
        "closing": sorted(
            (c.event_id, c.player_id, c.action, c.by_event_id) for c in book.closings.values()
        ),
        "player_state": [
            (s.player_id, lists(s.standings), lists(s.limits), lists(s.wagering), s.event_id)
            for _, s in sorted(book.changed_states.items())
        ],
        "proposal": sorted(
            (
                p.event_id,
                p.player_id,
                p.currency,
                p.amount_minor,
                p.actor,
                p.reason,
                p.brand,
                p.id,
                p.occurred_at_ms,
                p.act,
                p.item_id,
            )
            for p in book.proposals.values()
        ),
        "open_item": sorted(
            (
                o.event_id,
                o.decision,
                o.provider,
                o.player_id,
                o.currency,
                o.amount_minor,
                o.in_suspense,
            )
            for o in book.open_items.values()
        ),
        "opened_deposit": sorted(
            (d.event_id, d.player_id, d.psp, d.currency, d.amount_minor)
            for d in book.opened_deposits.values()
        ),
    }


@pytest.fixture(scope="module")
def tables(stack, namespaces):
    runtime = stack.runtime(namespaces())
    create_database(runtime)
    migrate(runtime.database_url)
    yield runtime.database_url
    drop_database(runtime)


@examples(70)
@given(cut_histories(), st.sampled_from(POLICIES))
async def test_a_history_cut_anywhere_leaves_the_rows_that_the_rules_say(tables, cut, policy):
    history, cuts = cut
    with psycopg.connect(tables, autocommit=True) as connection:
        connection.execute(
            "TRUNCATE entry, repeat, transfer, wallet, closing, player_state, proposal, opened_deposit, open_item,"
            " operator_limit, batch, stream_position"
        )
        database = LedgerDatabase(tables, "pitboss.ledger")
        ledger = PostgresLedger(database, dict.fromkeys(["hub88", "house", "adyen"], policy))
        ledger.epochs.update(
            {partition: c.epoch for partition, c in (await claim_positions(database, [0])).items()}
        )
        for start, end in pairwise(cuts):
            rows = [
                log_event(event, 0, offset)
                for offset, event in enumerate(history[start:end], start)
            ]
            await ledger.commit_group([Slice(0, start, end, rows)])
        await database.close()
        assert {
            name: connection.execute(query).fetchall() for name, query in ROWS.items()
        } == expected_rows(history, policy)
