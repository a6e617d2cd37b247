"""Blocks and holds by source, limits, corrections by two operators, debts, and currencies; the rules are in docs/explanation/ledger.md."""

from __future__ import annotations

import msgspec
import pytest

from schemas.events import Amount, Cause, Leg
from schemas.policies import LedgerPolicy
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

AT = 1_790_000_000_000
WITHDRAWAL = "withdrawal.requested"


def state_event(operation, tx_id, source="operator", at=None, what=None):
    event = house(
        operation,
        tx_id,
        what or leg("PLAYER_STATE", None, None),
        cause=Cause(source, tx_id, "kim", "because"),
    )
    return msgspec.structs.replace(event, provider_at=at)


def request(tx_id, minor=1):
    return house(WITHDRAWAL, tx_id, leg("WITHDRAWAL", minor), decide=True)


def verdicts(book):
    return [(decided.answer.outcome, decided.answer.reason) for decided in book.decisions]


def test_a_source_takes_back_only_its_own_block():
    book = book_of(
        deposit("d", 100),
        state_event("player.blocked", "1", "kyc"),
        state_event("player.blocked", "2"),
        state_event("player.released", "3"),
        bet("a", 1),
        state_event("player.released", "4", "alert"),
        bet("b", 1),
        state_event("player.released", "5", "kyc"),
        bet("c", 1),
    )
    assert [outcomes(book)[at] for at in (4, 6, 8)] == [
        "REFUSED_BLOCKED",
        "REFUSED_BLOCKED",
        "POSTED",
    ]


def test_a_hold_of_an_alert_does_not_weaken_the_block_of_another():
    book = book_of(
        deposit("d", 100),
        state_event("player.blocked", "1", "alert"),
        state_event("player.held", "2", "alert"),
        bet("a", 1),
        state_event("player.released", "3", "alert"),
        state_event("player.held", "4", "alert"),
        bet("b", 1),
        request("w"),
        state_event("player.blocked", "5"),
        state_event("player.held", "6"),
        bet("c", 1),
    )
    # An operator's hold is their last word; a detector's is one of many.
    assert [outcomes(book)[at] for at in (3, 6, 7, 10)] == [
        "REFUSED_BLOCKED",
        "POSTED",
        "REFUSED_BLOCKED",
        "POSTED",
    ]


@pytest.mark.parametrize("skew_ms", [0, 10**12])
def test_an_old_verdict_after_a_newer_one_changes_nothing(skew_ms):
    red, green = (
        state_event("player.blocked", "1", "kyc", AT - 5_000),
        state_event("player.released", "2", "kyc", AT),
    )
    assert verdicts(book_of(green, red, bet("b", 0)))[1:] == [
        ("POSTED", "STALE_STATE"),
        ("POSTED", "BOOKED"),
    ]
    assert outcomes(book_of(red, green, bet("b", 0)))[2] == "POSTED"
    # A clock that runs ahead does not shut out later statements.
    ahead = state_event("player.blocked", "3", "kyc", AT + skew_ms)
    later = msgspec.structs.replace(
        state_event("player.released", "4", "kyc", AT + 900), appended_at=AT + 1_000
    )
    assert outcomes(book_of(ahead, later, bet("b", 0)))[2] == "POSTED"


def test_a_hold_stops_withdrawals_and_no_bets():
    book = book_of(
        deposit("d", 100), state_event("player.held", "h", "alert"), bet("b", 1), request("w")
    )
    assert verdicts(book)[2:] == [("POSTED", "BOOKED"), ("REFUSED_BLOCKED", "WITHDRAWALS_HELD")]
    book = book_of(
        deposit("d", 100),
        state_event("player.held", "h", "alert"),
        state_event("player.released", "r", "alert"),
        request("w"),
    )
    assert outcomes(book)[3] == "POSTED"


def test_a_block_stops_withdrawals_too_and_wins_and_rollbacks_never():
    block = state_event("player.blocked", "x", "kyc")
    book = book_of(
        deposit("d", 100), bet("b", 10), block, request("w"), win("v", 5, "b"), rollback("r", "b")
    )
    assert outcomes(book)[3:] == ["REFUSED_BLOCKED", "POSTED", "POSTED"]


def test_limits_are_kept_by_currency_and_can_be_taken_away():
    dollars = transaction("AUTHORISATION", "u", leg("DEPOSIT", 900, "USD"), provider="adyen")
    limits = [
        state_event("player.limited", "l", what=leg("PLAYER_STATE", 100)),
        state_event("player.limited", "m", what=leg("PLAYER_STATE", 5, "USD")),
    ]
    in_dollars = transaction("bet", "b", leg("BET", 6, "USD"), decide=True)
    free = transaction("bet", "f", leg("BET", 600, is_free=True), decide=True)
    unlimited = state_event("player.unlimited", "n", what=leg("PLAYER_STATE", None))
    book = book_of(
        deposit("d", 900),
        dollars,
        *limits,
        bet("a", 101),
        in_dollars,
        free,
        unlimited,
        bet("c", 101),
    )
    assert outcomes(book)[4:] == ["REFUSED_LIMIT", "REFUSED_LIMIT", "POSTED", "POSTED", "POSTED"]


def proposal(minor=-5_000, actor="Ann"):
    return house(
        "adjustment.proposed",
        "a",
        leg("INFORMATIONAL", minor),
        cause=Cause("operator", "a", actor, "a correction"),
    )


def approval(tx_id, actor, **more):
    return house(
        "adjustment.approved",
        tx_id,
        leg("ADJUSTMENT", None, None),
        reference=("adjustment.proposed", "a"),
        cause=Cause("operator", tx_id, actor, "approved"),
        **more,
    )


def test_a_correction_needs_two_people_and_is_booked_once():
    book = book_of(
        approval("0", "bob"),
        proposal(),
        approval("1", " aNN "),
        approval("2", None),
        approval("3", "bob"),
        approval("4", "cy"),
        approval("5", "cy", player="p-2"),
    )
    assert verdicts(book) == [
        ("REFUSED_REFERENCE", "PROPOSAL_NOT_SEEN"),
        ("INFORMATIONAL", "NOTED"),
        ("REFUSED_REFERENCE", "SELF_APPROVAL"),
        ("REFUSED_REFERENCE", "SELF_APPROVAL"),
        ("POSTED", "BOOKED_INTO_DEBT"),
        ("POSTED", "ALREADY_CLOSED"),
        ("REFUSED_REFERENCE", "PROPOSAL_NOT_SEEN"),
    ]
    assert purse(book) == (-5_000, 0, 0)


def test_a_chargeback_into_debt_says_so_and_one_that_is_covered_does_not():
    def chargeback(tx_id, minor):
        return transaction("CHARGEBACK", tx_id, leg("DEPOSIT_REVERSAL", minor), provider="adyen")

    book = book_of(
        deposit("d", 300),
        chargeback("1", 300),
        chargeback("2", 1),
        deposit("e", 1),
        chargeback("3", 0),
    )
    assert [reason for _, reason in verdicts(book)] == [
        "BOOKED",
        "BOOKED",
        "BOOKED_INTO_DEBT",
        "BOOKED",
        "BOOKED",
    ]
    # Less debt than before is no alarm, more is.
    book = book_of(chargeback("1", 300), deposit("d", 100), chargeback("2", 1))
    assert [reason for _, reason in verdicts(book)] == [
        "BOOKED_INTO_DEBT",
        "BOOKED",
        "BOOKED_INTO_DEBT",
    ]


def test_a_settlement_that_is_taken_back_after_its_win_was_spent_leaves_a_debt():
    back = transaction("rollback", "r", leg("ROLLBACK", None, None), reference=("win", "w"))
    book = book_of(deposit("d", 10), bet("b", 10), win("w", 50, "b"), bet("c", 50), back)
    assert (verdicts(book)[-1], purse(book)) == (("POSTED", "BOOKED_INTO_DEBT"), (-50, 0, 0))


def test_a_bet_in_a_currency_that_the_player_has_not_is_refused_and_a_newcomer_only_lacks_money():
    dollars = transaction("bet", "b", leg("BET", 6, "USD"), decide=True)
    free = transaction("bet", "f", leg("BET", 6, "USD", is_free=True), decide=True)
    withdrawal = house(WITHDRAWAL, "w", leg("WITHDRAWAL", 6, "USD"), decide=True)
    book = book_of(dollars, deposit("d", 100), free, withdrawal)
    assert verdicts(book)[0] == ("REFUSED_FUNDS", "NOT_ENOUGH_MONEY")
    assert verdicts(book)[2:] == [("REFUSED_CURRENCY", "NO_WALLET_IN_CURRENCY")] * 2
    # Wins, deposits and grants open a wallet: what was given is not sent back, and nothing is converted.
    won = transaction("win", "w", leg("WIN", 7, "USD"))
    book = book_of(
        deposit("d", 100), won, transaction("bet", "b2", leg("BET", 6, "USD"), decide=True)
    )
    assert (outcomes(book)[2], purse(book, currency="USD")) == ("POSTED", (1, 0, 0))


def test_two_currencies_in_one_event_do_not_stop_the_ledger():
    decided = transaction("bet", "b", leg("BET", 6), leg("BET", 6, "USD"), decide=True)
    won = transaction("win", "w", leg("WIN", 6), leg("WIN", 6, "USD"))
    mixed = transaction("bet", "m", leg("BET", 6), leg("WIN", 6, "USD"), decide=True)
    book = book_of(deposit("d", 100), decided, won, mixed)
    assert verdicts(book)[1:] == [
        ("REFUSED_CURRENCY", "CURRENCIES_DIFFER"),
        ("UNRESOLVED", "CURRENCIES_DIFFER"),
        ("REFUSED_CURRENCY", "CURRENCIES_DIFFER"),
    ]
    assert purse(book) == (100, 0, 0)


def nameless(tx_id, minor, of="b", **more):
    return transaction("deposit", tx_id, leg("WIN", minor, None), reference=("bet", of), **more)


def test_a_win_without_a_currency_takes_that_of_its_bet():
    book = book_of(deposit("d", 100), bet("b", 10), nameless("w", 25))
    assert purse(book) == (115, 0, 0)
    yen = transaction("AUTHORISATION", "d", leg("DEPOSIT", 50_000, "JPY"), provider="adyen")
    stake = transaction("bet", "b", leg("BET", 10_000, "JPY"), decide=True)
    book = book_of(yen, stake, nameless("w", 2_500), nameless("v", 2_550))
    assert verdicts(book)[2:] == [("POSTED", "BOOKED"), ("UNRESOLVED", "AMOUNT_DOES_NOT_FIT")]
    assert purse(book, currency="JPY") == (425, 0, 0)


def test_a_win_without_a_currency_or_a_bet_does_not_stop_the_ledger():
    assert verdicts(book_of(nameless("w", 25))) == [("UNRESOLVED", "CURRENCY_UNKNOWN")]
    assert verdicts(book_of(nameless("w", 25, player=None))) == [("UNRESOLVED", "PLAYER_UNKNOWN")]
    refusing = LedgerPolicy(win_without_bet="REFUSE")
    assert verdicts(book_of(nameless("w", 25, player=None), policy=refusing)) == [
        ("REFUSED_REFERENCE", "BET_NOT_FOUND")
    ]
    # The resolver found the player when the provider sent it again.
    early, again = (
        nameless("w", 25, player=None),
        msgspec.structs.replace(nameless("w", 25, player=None), player_id="p-1"),
    )
    book = book_of(early, deposit("d", 100), bet("b", 10), again, policy=refusing)
    assert (verdicts(book)[3], purse(book)) == (("POSTED", "BOOKED"), (115, 0, 0))


def test_a_rollback_without_a_player_still_stops_the_late_bet():
    lost = transaction(
        "rollback", "r", leg("ROLLBACK", None, None), reference=("bet", "b"), player=None
    )
    book = book_of(deposit("d", 100), lost, bet("b", 10), lost, rollback("r2", "b"))
    assert verdicts(book)[1:] == [
        ("UNRESOLVED", "PLAYER_UNKNOWN"),
        ("TOMBSTONED", "ROLLBACK_PRECEDED"),
        ("UNRESOLVED", "PLAYER_UNKNOWN"),
        ("POSTED", "ALREADY_CLOSED"),
    ]
    assert purse(book) == (100, 0, 0)
    # One that is booked already is another matter: its player's partition has decided, and a person looks at the rest.
    book = book_of(deposit("d", 100), bet("b", 10), lost, rollback("r2", "b"))
    assert (verdicts(book)[3], purse(book)) == (("POSTED", "BOOKED"), (100, 0, 0))
    assert last(book).answer.available_minor == 100


def with_player(event, player="p-1"):
    """The provider sends it once more, and now the resolver finds the player: the fingerprint stays."""
    attempt = msgspec.structs.replace(event.attempt, offset=event.attempt.offset + 1_000_000)
    return msgspec.structs.replace(event, player_id=player, attempt=attempt)


def test_an_event_without_a_player_is_decided_anew_once_it_has_one():
    lost = transaction(
        "rollback", "r", leg("ROLLBACK", None, None), reference=("bet", "b"), player=None
    )
    # Given up just before its bet came; between the two the player was unknown.
    book = book_of(
        deposit("d", 100),
        bet("b", 10),
        lost,
        with_player(lost),
        with_player(with_player(lost)),
        lost,
        rollback("r2", "b"),
    )
    assert verdicts(book)[2:] == [
        ("UNRESOLVED", "PLAYER_UNKNOWN"),
        ("POSTED", "BOOKED"),
        ("EXISTS", "BOOKED"),
        ("UNRESOLVED", "PLAYER_UNKNOWN"),
        ("POSTED", "ALREADY_CLOSED"),
    ]
    assert purse(book) == (100, 0, 0)
    # One that has closed its bet in advance finds it closed.
    book = book_of(
        deposit("d", 100), lost, bet("b", 10), with_player(lost), with_player(with_player(lost))
    )
    assert verdicts(book)[3:] == [("POSTED", "ALREADY_CLOSED"), ("EXISTS", "ALREADY_CLOSED")]
    assert purse(book) == (100, 0, 0)
    # A win is paid once.
    early = nameless("w", 25, player=None)
    book = book_of(
        early, deposit("d", 100), bet("b", 10), with_player(early), with_player(with_player(early))
    )
    assert verdicts(book)[3:] == [("POSTED", "BOOKED"), ("EXISTS", "BOOKED")]
    assert purse(book) == (115, 0, 0)


def test_an_event_without_a_player_is_not_decided_anew_with_other_content_or_money_in_suspense():
    lost = transaction(
        "rollback", "r", leg("ROLLBACK", None, None), reference=("bet", "b"), player=None
    )
    book = book_of(deposit("d", 100), bet("b", 10), lost, rollback("r", "b"), with_player(lost))
    assert verdicts(book)[3:] == [("CONFLICT", "OTHER_CONTENT_UNDER_SAME_ID"), ("POSTED", "BOOKED")]
    paid = deposit("psp-1", 70, player=None)
    book = book_of(paid, with_player(paid))
    assert verdicts(book) == [("UNRESOLVED", "PLAYER_UNKNOWN")] * 2
    assert purse(book) == (0, 0, 0)


def test_a_win_hides_no_rollback_without_a_player():
    lost = transaction(
        "rollback", "r", leg("ROLLBACK", None, None), reference=("bet", "b"), player=None
    )
    policy = LedgerPolicy(rollback_after_win="REFUSE")
    book = book_of(
        deposit("d", 100), win("w", 5, "b"), lost, bet("b", 10), rollback("r2", "b"), policy=policy
    )
    assert verdicts(book)[2:] == [
        ("UNRESOLVED", "PLAYER_UNKNOWN"),
        ("TOMBSTONED", "ROLLBACK_PRECEDED"),
        ("POSTED", "ALREADY_CLOSED"),
    ]
    assert purse(book) == (105, 0, 0)


@pytest.mark.parametrize("player", ["p-1", None])
@pytest.mark.parametrize(
    "legs",
    [
        [leg("WIN", 500), leg("JACKPOT_CONTRIBUTION", 7, "USD")],
        [leg("JACKPOT_CONTRIBUTION", 7, "USD"), leg("WIN", 500)],
        [leg("WIN", 500), leg("WIN", 0, "USD")],
        [leg("BET", 5), leg("JACKPOT_CONTRIBUTION", 1, "USD")],
        [leg("JACKPOT_CONTRIBUTION", 1), leg("JACKPOT_CONTRIBUTION", 1, "USD")],
        [leg("DEPOSIT", 5), leg("DEPOSIT", 1, "USD")],
        [leg("BONUS_GRANT", 5), leg("WAGERING", 5, "USD")],
    ],
    ids=lambda legs: "+".join(one.kind for one in legs),
)
def test_an_event_of_two_currencies_moves_nothing(legs, player):
    book = book_of(transaction("x", "x", *legs, player=player))
    moves_house = legs[0].kind == "DEPOSIT"
    assert verdicts(book) == [
        ("UNRESOLVED", "CURRENCIES_DIFFER" if player or moves_house else "PLAYER_UNKNOWN")
    ]
    assert (book.new_transfers, book.changed_wallets) == ([], {})


def test_a_contribution_that_no_column_holds_does_not_stop_the_ledger():
    most = Leg("JACKPOT_CONTRIBUTION", Amount(2**63 - 1, 0), "EUR")
    book = book_of(
        deposit("d", 100),
        transaction("share", "s", most),
        transaction("win", "w", leg("WIN", 5), most),
    )
    assert verdicts(book)[1:] == [("UNRESOLVED", "BALANCE_OUT_OF_RANGE")] * 2
    assert (purse(book), len(book.new_transfers)) == ((100, 0, 0), 1)
    # Beside a bet it is a part of the bet, however large it claims to be.
    book = book_of(deposit("d", 100), transaction("bet", "b", leg("BET", 40), most, decide=True))
    assert [row.amount_minor for _, _, row in book.new_transfers] == [100, 40]


def test_a_cancel_takes_a_bet_back_that_a_win_has_named_whatever_the_policy_says():
    policy = LedgerPolicy(rollback_after_win="REFUSE")
    first = bet("b", 10)
    text = f"{first.attempt.topic}-{first.attempt.partition}@{first.attempt.offset}#{first.attempt.record_index}"
    cancel = transaction(
        "cancel",
        text,
        leg("CANCEL", None, None),
        reference=("bet", "b"),
        cause=Cause("connector", text),
    )
    book = book_of(
        deposit("d", 100),
        first,
        win("w", 5, "b"),
        cancel,
        bet("b", 10),
        rollback("r", "b"),
        policy=policy,
    )
    assert verdicts(book)[3:] == [
        ("CANCELLED", "REVERSED"),
        ("CANCELLED", "CONNECTOR_TIMED_OUT"),
        ("POSTED", "ALREADY_CLOSED"),
    ]
    assert purse(book) == (105, 0, 0)


def test_a_sweep_never_takes_back_what_a_win_has_named():
    policy = LedgerPolicy(open_round_max_age_ms=1)
    sweep = rollback("s", "b", cause=Cause("sweep", "r-1"))
    book = book_of(deposit("d", 100), bet("b", 10), win("w", 0, "b"), sweep, policy=policy)
    assert verdicts(book)[3] == ("REFUSED_REFERENCE", "BET_SETTLED")
    book = book_of(
        deposit("d", 100), bet("b", 10), sweep, win("w", 7, "b"), rollback("r", "b"), policy=policy
    )
    assert verdicts(book)[2:] == [
        ("POSTED", "BOOKED"),
        ("POSTED", "BOOKED"),
        ("POSTED", "ALREADY_CLOSED"),
    ]


def test_a_bet_settled_in_parts_and_resettled():
    legs_of_settlement = [win("w1", 30, "b"), win("w2", 0, "b"), win("w3", 12, "b")]
    back = transaction("rollback", "u", leg("ROLLBACK", None, None), reference=("win", "w1"))
    book = book_of(deposit("d", 100), bet("b", 100), *legs_of_settlement, back, win("w4", 15, "b"))
    assert (set(outcomes(book)), purse(book)) == ({"POSTED"}, (27, 0, 0))
