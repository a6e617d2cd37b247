"""Bonus money with a wagering requirement, free rounds and jackpot pools, rule by rule; docs/explanation/ledger.md lists them."""

from __future__ import annotations

from schemas.events import Amount, Leg
from tests.support.ledger_events import (
    bet,
    book_of,
    deposit,
    house,
    last,
    leg,
    outcomes,
    purse,
    rollback,
    transaction,
    win,
)


def grant(tx_id="g", bonus=100, required=1_000):
    legs = [
        leg("BONUS_GRANT", bonus, campaign_id="c"),
        *([leg("WAGERING", required)] if required else []),
    ]
    return house("bonus.granted", tx_id, *legs)


def left(book, currency="EUR", player="p-1"):
    requirement = book.player_state(player).wagering.get(currency)
    return None if requirement is None else requirement[0]


def totals(book):
    sums: dict[str, int] = {}
    for _, _, row in book.new_transfers:
        sums[row.debit] = sums.get(row.debit, 0) - row.amount_minor
        sums[row.credit] = sums.get(row.credit, 0) + row.amount_minor
    return sums


def test_every_bet_counts_and_the_one_that_meets_the_requirement_makes_cash_of_what_is_left():
    book = book_of(deposit("d", 300), grant(bonus=200, required=400), bet("a", 250), bet("b", 149))
    assert (purse(book), left(book)) == ((0, 101, 0), 1)
    book = book_of(deposit("d", 300), grant(bonus=200, required=400), bet("a", 250), bet("b", 150))
    assert (purse(book), left(book)) == ((100, 0, 0), 0)
    assert last(book).answer.reason == "WAGERING_MET"


def test_grants_add_up_and_free_rounds_and_refused_bets_count_nothing():
    free = transaction("bet", "f", leg("BET", 500, is_free=True), decide=True)
    book = book_of(grant("g", 100, 300), grant("h", 50, 70), free, bet("b", 1_000), bet("c", 10))
    assert outcomes(book)[2:] == ["POSTED", "REFUSED_FUNDS", "POSTED"]
    assert (purse(book), left(book)) == ((0, 140, 0), 360)


def test_a_grant_without_a_requirement_waits_for_the_house():
    book = book_of(grant(required=0), bet("b", 40), win("w", 90, "b"))
    assert (purse(book), left(book)) == ((90, 60, 0), None)
    released = house("bonus.released", "r", leg("BONUS_RELEASE", 60))
    assert purse(book_of(grant(required=0), bet("b", 40), released)) == (60, 0, 0)


def test_a_win_is_bonus_as_far_as_its_bet_was_while_the_requirement_is_open():
    book = book_of(
        deposit("d", 50), grant(), bet("b", 150), win("w", 100, "b"), win("w2", 301, "b")
    )
    # A third of the bet was cash: 33.3 and 100.3 of the wins; halves of minor units go to cash.
    assert purse(book) == (34 + 101, 66 + 200, 0)
    book = book_of(deposit("d", 150), grant(), bet("b", 150), win("w", 100, "b"))
    assert purse(book) == (100, 100, 0)


def test_a_win_that_names_no_bet_goes_where_the_next_bet_would_come_from():
    unnamed = transaction("release", "w", leg("WIN", 70))
    assert purse(book_of(grant(), unnamed)) == (0, 170, 0)
    assert purse(book_of(deposit("d", 1), grant(), unnamed)) == (71, 100, 0)


def test_bet_and_win_of_one_event_are_split_alike():
    net = transaction("TransferInOut", "n", leg("BET", 80), leg("WIN", 40), decide=True)
    assert purse(book_of(deposit("d", 40), grant(), net)) == (20, 80, 0)


def test_jackpots_prizes_and_wins_after_the_requirement_was_met_are_cash():
    jackpot = transaction(
        "jackpot", "j", leg("JACKPOT_WIN", 30), leg("PROMO_WIN", 5), reference=("bet", "b")
    )
    assert purse(book_of(grant(), bet("b", 100), jackpot)) == (35, 0, 0)
    assert purse(book_of(grant(required=100), bet("b", 100), win("w", 70, "b"))) == (70, 0, 0)


def test_a_bet_taken_back_returns_its_split_and_has_not_counted():
    book = book_of(
        deposit("d", 50), grant(), bet("b", 120), rollback("r", "b"), rollback("r2", "b")
    )
    assert (purse(book), left(book)) == ((50, 100, 0), 1_000)


def test_a_bet_from_before_the_grant_gives_no_requirement_back():
    book = book_of(deposit("d", 50), bet("b", 50), grant(), rollback("r", "b"))
    assert (purse(book), left(book)) == ((50, 100, 0), 1_000)


def test_what_was_met_stays_met_when_its_last_bet_is_taken_back():
    book = book_of(deposit("d", 100), grant(required=150), bet("b", 150), rollback("r", "b"))
    assert (purse(book), left(book)) == ((200, 0, 0), 0)
    # The 50 that stayed were released by the bet; the 50 that came back followed them.
    assert [
        row.debit[-5:] for _, _, row in book.new_transfers if row.credit == "player:p-1:cash"
    ].count("bonus") == 2


def test_forfeiting_takes_what_is_left_and_ends_the_requirement():
    forfeited = house("bonus.forfeited", "f", leg("BONUS_FORFEIT", 100))
    book = book_of(grant(), bet("b", 30), forfeited, deposit("d", 10))
    assert (purse(book), left(book)) == ((10, 0, 0), None)
    assert book.decisions[2].answer.reason == "BONUS_IN_PART"
    # A lost bonus: nothing moves, and its requirement burdens the next one no more.
    book = book_of(grant(), bet("b", 100), forfeited, grant("h", 10, 20))
    assert (purse(book), left(book)) == ((0, 10, 0), 20)
    some = house("bonus.forfeited", "f", leg("BONUS_FORFEIT", 40))
    assert (lambda b: (purse(b), left(b)))(book_of(grant(), some)) == ((0, 60, 0), 1_000)


def test_wallets_of_other_currencies_and_players_are_not_concerned():
    dollars = transaction("AUTHORISATION", "u", leg("DEPOSIT", 500, "USD"), provider="adyen")
    in_dollars = transaction("bet", "b", leg("BET", 200, "USD"), decide=True)
    other = bet("o", 100, player="p-2")
    book = book_of(grant(), dollars, in_dollars, deposit("d", 100, player="p-2"), other)
    assert (left(book), purse(book, currency="USD"), purse(book, "p-2")) == (
        1_000,
        (300, 0, 0),
        (0, 0, 0),
    )


def test_amounts_that_no_requirement_can_hold_move_nothing():
    most = 2**63 - 1
    book = book_of(grant("g", 1, most), grant("h", 1, 1))
    assert (outcomes(book), left(book), purse(book)) == (["POSTED", "UNRESOLVED"], most, (0, 1, 0))


def test_a_free_rounds_win_is_what_the_brand_gives_away():
    free = transaction("bet", "f", leg("BET", 150, is_free=True), decide=True)
    won = transaction("win", "w", leg("WIN", 40, is_free=True), reference=("bet", "f"))
    assert totals(book_of(free, won)) == {"promotions:acme": -40, "player:p-1:cash": 40}


def contribution(unscaled, scale=2):
    return Leg("JACKPOT_CONTRIBUTION", Amount(unscaled, scale), "EUR")


def test_a_contribution_beside_a_bet_is_a_share_of_it_and_comes_back_with_it():
    stake = transaction("bet", "b", leg("BET", 150), contribution(37, 3), decide=True)
    book = book_of(deposit("d", 50), grant(), stake)
    assert totals(book) | {} == {
        "psp:adyen": -50,
        "promotions:acme": -100,
        "player:p-1:cash": 0,
        "player:p-1:bonus": 0,
        "jackpot:hub88": 3,
        "provider:hub88": 147,
    }
    assert purse(book_of(deposit("d", 50), grant(), stake, rollback("r", "b"))) == (50, 100, 0)
    most = transaction("bet", "b", leg("BET", 150), contribution(200), decide=True)
    assert totals(book_of(deposit("d", 50), grant(), most))["jackpot:hub88"] == 150


def test_a_contribution_without_a_bet_moves_between_the_houses_accounts():
    released = transaction("release", "w", leg("WIN", 10), contribution(59, 3))
    payout = transaction("release", "j", leg("JACKPOT_WIN", 1_000))
    book = book_of(
        released,
        payout,
        transaction("undo", "u", leg("ROLLBACK", None, None), reference=("release", "w")),
    )
    assert totals(book) == {
        "provider:hub88": -5,
        "jackpot:hub88": 5 - 1_000,
        "player:p-1:cash": 1_000,
    }
    assert purse(book) == (1_000, 0, 0)
