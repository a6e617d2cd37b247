"""What each event does to money, rule by rule; docs/explanation/guarantees.md links here."""

from __future__ import annotations

import msgspec
import pytest

from ledger_sink.rules.book import Book
from ledger_sink.rules.repeats import DECISIONS_MAX
from schemas.causes import PARKED, REDRIVE
from schemas.errors import InvariantBroken
from schemas.events import Cause
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


def attempt_text(event):
    attempt = event.attempt
    return f"{attempt.topic}-{attempt.partition}@{attempt.offset}#{attempt.record_index}"


def cancel(event):
    return transaction(
        "cancel",
        attempt_text(event),
        leg("CANCEL", None, None),
        reference=(event.operation, event.provider_tx_id),
        cause=Cause("connector", attempt_text(event), reason="gave up"),
    )


def house_cancel(event):
    return house(
        "cancel",
        attempt_text(event),
        leg("CANCEL", None, None),
        reference=(event.operation, event.provider_tx_id),
        cause=Cause("connector", attempt_text(event)),
    )


def totals(book: Book) -> dict[str, int]:
    sums: dict[str, int] = {}
    for _, _, transfer in book.new_transfers:
        sums[transfer.debit] = sums.get(transfer.debit, 0) - transfer.amount_minor
        sums[transfer.credit] = sums.get(transfer.credit, 0) + transfer.amount_minor
    return sums


def test_a_bet_and_its_win_move_money_between_player_and_provider():
    book = book_of(deposit("d", 10_000), bet("b", 150), win("w", 400, "b"))
    assert outcomes(book) == ["POSTED"] * 3
    assert purse(book) == (10_250, 0, 0)
    assert totals(book) == {"psp:adyen": -10_000, "player:p-1:cash": 10_250, "provider:hub88": -250}


def test_the_same_event_twice_changes_nothing_and_hears_the_first_answer():
    first, again = bet("b", 150), bet("b", 150)
    book = book_of(deposit("d", 10_000), first, again, win("w", 400, "b"), bet("b", 150))
    assert outcomes(book) == ["POSTED", "POSTED", "EXISTS", "POSTED", "EXISTS"]
    assert (
        last(book).answer.available_minor == 9_850
    )  # as it stood after the first, not as it stands now
    assert purse(book) == (10_250, 0, 0)


def test_the_same_attempt_again_gets_exactly_the_same_answer():
    first = bet("b", 150)
    book = book_of(deposit("d", 10_000), first, first)
    assert book.decisions[1].answer == book.decisions[2].answer
    assert last(book).redelivered


@pytest.mark.parametrize(
    "other", [bet("b", 151), bet("b", 150, player="p-2"), bet("b", 150, round_id="r-2")]
)
def test_other_content_under_one_id_is_a_conflict_and_moves_nothing(other):
    book = book_of(deposit("d", 10_000), bet("b", 150), other)
    assert last(book).answer.outcome == "CONFLICT"
    assert purse(book) == (9_850, 0, 0)
    assert purse(book, "p-2") == (0, 0, 0)


def test_operation_and_id_are_the_identity_not_the_id_alone():
    book = book_of(deposit("x", 10_000), bet("x", 150), win("x", 400, "x"), rollback("x", "x"))
    assert outcomes(book) == ["POSTED"] * 4


def test_a_bet_never_overdraws():
    book = book_of(deposit("d", 100), bet("b", 101), bet("c", 100), bet("e", 1))
    assert outcomes(book)[1:] == ["REFUSED_FUNDS", "POSTED", "REFUSED_FUNDS"]
    assert purse(book) == (0, 0, 0)


def test_a_correction_may_overdraw_but_a_bet_in_debt_may_not():
    chargeback = transaction(
        "CHARGEBACK", "c", leg("DEPOSIT_REVERSAL", 300), provider="adyen", round_id=None
    )
    book = book_of(deposit("d", 300), bet("b", 100), chargeback, bet("b2", 1))
    assert outcomes(book)[2:] == ["POSTED", "REFUSED_FUNDS"]
    assert purse(book) == (-100, 0, 0)


def test_a_refusal_stands_for_every_later_attempt_unless_the_dialect_reuses_ids():
    events = [bet("b", 150), deposit("d", 1_000), bet("b", 150)]
    assert outcomes(book_of(*events)) == ["REFUSED_FUNDS", "POSTED", "REFUSED_FUNDS"]
    reusing = book_of(*events, bet("b", 225), policy=LedgerPolicy(refused_id_reusable=True))
    assert outcomes(reusing) == ["REFUSED_FUNDS", "POSTED", "POSTED", "CONFLICT"]


def test_a_refused_attempt_hears_its_refusal_for_ever_even_after_the_id_was_accepted():
    refused = bet("b", 150)
    policy = LedgerPolicy(refused_id_reusable=True)
    book = book_of(refused, deposit("d", 1_000), bet("b", 150), refused, policy=policy)
    assert outcomes(book) == ["REFUSED_FUNDS", "POSTED", "POSTED", "REFUSED_FUNDS"]
    assert purse(book) == (850, 0, 0)


def test_refused_attempts_hear_their_refusals_for_ever_though_the_id_may_be_decided_anew():
    # A normaliser that was killed appends its last records once more: both attempts, in their order.
    first, second = bet("b", 150), bet("b", 150)
    policy = LedgerPolicy(refused_id_reusable=True)
    book = book_of(first, second, deposit("d", 1_000), first, second, bet("b", 150), policy=policy)
    assert outcomes(book) == [
        "REFUSED_FUNDS",
        "REFUSED_FUNDS",
        "POSTED",
        "REFUSED_FUNDS",
        "REFUSED_FUNDS",
        "POSTED",
    ]
    assert purse(book) == (850, 0, 0)


def test_a_retry_that_comes_again_gets_the_same_answer_though_the_bet_was_cancelled_since():
    first, retry = bet("b", 150), bet("b", 150)
    book = book_of(deposit("d", 1_000), first, retry, cancel(first), first, retry, bet("b", 150))
    assert outcomes(book)[1:] == ["POSTED", "EXISTS", "CANCELLED", "POSTED", "EXISTS", "CANCELLED"]
    assert book.decisions[2].answer == book.decisions[5].answer
    assert [decided.redelivered for decided in book.decisions] == [False] * 4 + [True, True, False]


def test_an_id_is_decided_anew_only_so_often():
    policy = LedgerPolicy(refused_id_reusable=True)
    book = book_of(
        *[bet("b", 150) for _ in range(DECISIONS_MAX + 1)],
        deposit("d", 1_000),
        bet("b", 150),
        policy=policy,
    )
    assert len(book.entries[last(book).log_event.event.event_id]) == DECISIONS_MAX
    assert last(book).answer.outcome == "REFUSED_FUNDS"
    assert purse(book) == (1_000, 0, 0)


def test_a_rollback_takes_the_bet_back_once():
    book = book_of(
        deposit("d", 1_000),
        bet("b", 150),
        rollback("r", "b"),
        rollback("r", "b"),
        rollback("r2", "b"),
    )
    assert outcomes(book)[2:] == ["POSTED", "EXISTS", "POSTED"]
    assert last(book).answer.reason == "ALREADY_CLOSED"
    assert purse(book) == (1_000, 0, 0)


def test_a_rollback_before_its_bet_leaves_a_tombstone():
    book = book_of(deposit("d", 1_000), rollback("r", "b"), bet("b", 150), bet("b", 150))
    assert outcomes(book)[1:] == ["TOMBSTONED", "TOMBSTONED", "TOMBSTONED"]
    assert purse(book) == (1_000, 0, 0)


def test_a_rollback_of_a_refused_bet_moves_nothing_and_burns_its_id():
    policy = LedgerPolicy(refused_id_reusable=True)
    book = book_of(
        bet("b", 150), rollback("r", "b"), deposit("d", 1_000), bet("b", 150), policy=policy
    )
    assert outcomes(book) == ["REFUSED_FUNDS", "POSTED", "POSTED", "TOMBSTONED"]
    assert purse(book) == (1_000, 0, 0)


def test_another_players_rollback_cannot_touch_the_bet():
    book = book_of(deposit("d", 1_000), bet("b", 150), rollback("r", "b", player="p-2"))
    assert last(book).answer.outcome == "TOMBSTONED"
    assert purse(book) == (850, 0, 0)
    assert purse(book, "p-2") == (0, 0, 0)


def test_a_bet_takes_cash_first_and_its_rollback_returns_the_same_split():
    grant = house("bonus.granted", "g", leg("BONUS_GRANT", 500))
    book = book_of(deposit("d", 100), grant, bet("b", 150))
    assert purse(book) == (0, 450, 0)
    book = book_of(deposit("d", 100), grant, bet("b", 150), win("w", 30, "b"), rollback("r", "b"))
    assert purse(book) == (130, 500, 0)


def test_a_withdrawal_is_held_then_paid_once():
    request = house("withdrawal.requested", "w", leg("WITHDRAWAL", 600), decide=True)
    paid = house(
        "withdrawal.paid",
        "wp",
        leg("WITHDRAWAL", None, None),
        reference=("withdrawal.requested", "w"),
    )
    again = house(
        "withdrawal.paid",
        "wp2",
        leg("WITHDRAWAL", None, None),
        reference=("withdrawal.requested", "w"),
    )
    book = book_of(deposit("d", 1_000), request)
    assert purse(book) == (400, 0, 600)
    book = book_of(deposit("d", 1_000), request, paid, again)
    assert purse(book) == (400, 0, 0)
    assert last(book).answer.reason == "ALREADY_CLOSED"


def test_a_refused_withdrawal_comes_back_and_one_paid_before_its_request_still_nets_out():
    request = house("withdrawal.requested", "w", leg("WITHDRAWAL", 600), decide=True)
    reference = ("withdrawal.requested", "w")
    refused = house(
        "withdrawal.refused", "wr", leg("WITHDRAWAL_REVERSAL", None, None), reference=reference
    )
    assert purse(book_of(deposit("d", 1_000), request, refused)) == (1_000, 0, 0)
    paid = house("withdrawal.paid", "wp", leg("WITHDRAWAL", None, None), reference=reference)
    assert purse(book_of(deposit("d", 1_000), paid, request)) == (400, 0, 0)


@pytest.mark.parametrize("ended_by", ["refused", "cancelled"])
def test_a_payment_whose_hold_was_given_back_is_for_a_person_and_moves_nothing(ended_by):
    request = house("withdrawal.requested", "w", leg("WITHDRAWAL", 600), decide=True)
    reference = ("withdrawal.requested", "w")
    refused = house(
        "withdrawal.refused", "wr", leg("WITHDRAWAL_REVERSAL", None, None), reference=reference
    )
    paid = house("withdrawal.paid", "wp", leg("WITHDRAWAL", None, None), reference=reference)
    given_back = refused if ended_by == "refused" else house_cancel(request)
    book = book_of(deposit("d", 1_000), request, given_back, paid)
    assert (last(book).answer.outcome, last(book).answer.reason) == (
        "UNRESOLVED",
        "PAID_WITHOUT_HOLD",
    )
    assert purse(book) == (1_000, 0, 0)
    # And the other way round: what is reported as refused after it was paid.
    book = book_of(deposit("d", 1_000), request, paid, refused)
    assert (last(book).answer.outcome, last(book).answer.reason) == (
        "UNRESOLVED",
        "REFUSED_AFTER_PAYMENT",
    )
    assert purse(book) == (400, 0, 0)


def test_bonus_money_cannot_be_withdrawn():
    grant = house("bonus.granted", "g", leg("BONUS_GRANT", 500))
    request = house("withdrawal.requested", "w", leg("WITHDRAWAL", 100), decide=True)
    assert outcomes(book_of(grant, request)) == ["POSTED", "REFUSED_FUNDS"]


def test_cash_that_a_bonus_below_zero_has_to_cover_cannot_be_withdrawn():
    # A win went to bonus, was bet, and is then taken back by its provider.
    grant = house("bonus.granted", "g", leg("BONUS_GRANT", 100), leg("WAGERING", 1_000))
    back = transaction("rollback", "r", leg("ROLLBACK", None, None), reference=("win", "w"))
    request = house("withdrawal.requested", "w", leg("WITHDRAWAL", 101), decide=True)
    less = house("withdrawal.requested", "w2", leg("WITHDRAWAL", 100), decide=True)
    book = book_of(
        grant,
        bet("b", 100),
        win("w", 200, "b"),
        bet("c", 200),
        deposit("d", 300),
        back,
        request,
        less,
    )
    assert outcomes(book)[5:] == ["POSTED", "REFUSED_FUNDS", "POSTED"]
    assert book.decisions[5].answer.reason == "BOOKED_INTO_DEBT"
    assert purse(book) == (200, -200, 100)


def test_a_block_stops_free_rounds_too():
    block = house("player.blocked", "x", leg("PLAYER_STATE", None, None))
    free = transaction("bet", "f", leg("BET", 150, is_free=True), decide=True)
    assert outcomes(book_of(block, free)) == ["POSTED", "REFUSED_BLOCKED"]


def test_a_block_stops_bets_but_not_wins_and_rollbacks():
    block = house("player.blocked", "x", leg("PLAYER_STATE", None, None))
    release = house("player.released", "y", leg("PLAYER_STATE", None, None))
    book = book_of(
        deposit("d", 1_000),
        bet("b", 100),
        block,
        bet("c", 100),
        win("w", 50, "b"),
        rollback("r", "b"),
        release,
        bet("e", 100),
    )
    assert outcomes(book)[3:] == ["REFUSED_BLOCKED", "POSTED", "POSTED", "POSTED", "POSTED"]


def test_a_limit_stops_a_larger_bet():
    limit = house("player.limited", "l", leg("PLAYER_STATE", 100))
    book = book_of(deposit("d", 1_000), limit, bet("b", 101), bet("c", 100))
    assert outcomes(book)[2:] == ["REFUSED_LIMIT", "POSTED"]


def test_a_cancelled_attempt_nets_to_zero_and_its_retry_learns_so():
    first = bet("b", 150)
    book = book_of(deposit("d", 1_000), first, cancel(first), bet("b", 150), rollback("r", "b"))
    assert outcomes(book)[1:] == ["POSTED", "CANCELLED", "CANCELLED", "POSTED"]
    assert purse(book) == (1_000, 0, 0)


def test_cancelling_a_retry_leaves_the_bet_that_the_first_attempt_made():
    first, retry = bet("b", 150), bet("b", 150)
    book = book_of(deposit("d", 1_000), first, retry, cancel(retry))
    assert (last(book).answer.outcome, last(book).answer.reason) == (
        "CANCELLED",
        "ATTEMPT_MOVED_NOTHING",
    )
    assert purse(book) == (850, 0, 0)


def test_a_cancel_before_the_decision_leaves_a_tombstone():
    first = bet("b", 150)
    book = book_of(deposit("d", 1_000), cancel(first), first)
    assert outcomes(book)[1:] == ["CANCELLED", "TOMBSTONED"]
    assert purse(book) == (1_000, 0, 0)


def test_bet_and_win_of_one_transaction_are_decided_together():
    net = transaction("TransferInOut", "n", leg("BET", 500), leg("WIN", 9_000), decide=True)
    assert outcomes(book_of(deposit("d", 499), net)) == ["POSTED", "REFUSED_FUNDS"]
    assert purse(book_of(deposit("d", 500), net)) == (9_000, 0, 0)


def test_money_without_a_player_waits_in_suspense():
    book = book_of(deposit("d", 1_000, player=None))
    assert outcomes(book) == ["UNRESOLVED"]
    assert totals(book) == {"psp:adyen": -1_000, "suspense:adyen": 1_000}


def test_free_rounds_and_zero_wins_are_events_without_movements():
    book = book_of(
        transaction("bet", "f", leg("BET", 150, is_free=True), decide=True), win("w", 0, "f")
    )
    assert outcomes(book) == ["POSTED", "POSTED"]
    assert book.new_transfers == []


@pytest.mark.parametrize(
    ("operation", "kind"),
    [("win", "WIN"), ("bonus.granted", "BONUS_GRANT"), ("adjustment", "ADJUSTMENT")],
)
def test_amounts_that_no_wallet_can_hold_do_not_stop_the_ledger_and_move_nothing(operation, kind):
    most = 2**63 - 1
    first, second = (transaction(operation, tx_id, leg(kind, most)) for tx_id in "ab")
    book = book_of(first, second, bet("c", 1), second)
    assert outcomes(book) == ["POSTED", "UNRESOLVED", "POSTED", "UNRESOLVED"]
    assert book.decisions[1].answer.reason == "BALANCE_OUT_OF_RANGE"
    assert sum(purse(book)) == most - 1
    assert [transfer.version for _, _, transfer in book.new_transfers] == [1, 2]


def test_an_event_that_overflows_half_way_leaves_no_trace():
    """A rollback closes its bet and then cannot pay it back; a transfer of two legs fails at the second."""
    most = 2**63 - 1
    book = book_of(deposit("d", 150), bet("b", 150), win("w", most, "b"), rollback("r", "b"))
    assert last(book).answer.reason == "BALANCE_OUT_OF_RANGE"
    assert book.closings == {}
    assert book.new_closings == {}
    assert purse(book) == (most, 0, 0)
    net = transaction("TransferInOut", "n", leg("BET", 50), leg("WIN", most), decide=True)
    book = book_of(deposit("d", 150), net, bet("b", 150))
    assert outcomes(book)[1:] == ["UNRESOLVED", "POSTED"]
    assert [transfer.version for _, _, transfer in book.new_transfers] == [1, 2]
    assert purse(book) == (0, 0, 0)
    # A wallet that nothing has moved is not written either.
    assert book_of(transaction("x", "y", leg("WIN", most), leg("WIN", most))).changed_wallets == {}


def test_an_unknown_kind_stops_the_ledger_and_is_never_skipped():
    with pytest.raises(InvariantBroken, match="TELEPORT"):
        book_of(transaction("teleport", "t", leg("TELEPORT", 1)))


def test_every_version_is_there_and_every_balance_follows_from_the_one_before():
    book = book_of(
        deposit("d", 1_000), bet("b", 150), win("w", 30, "b"), rollback("r", "b"), bet("c", 10)
    )
    versions = [transfer.version for _, _, transfer in book.new_transfers]
    assert versions == list(range(1, len(versions) + 1))


@pytest.mark.parametrize("cause", [Cause(REDRIVE, "t-0@1", "ann", "fixed"), Cause(PARKED, "t-0@1")])
def test_a_decision_that_comes_late_is_refused_and_a_fact_is_booked(cause):
    late_bet = transaction("bet", "b", leg("BET", 150), decide=True, cause=cause)
    late_win = transaction("win", "w", leg("WIN", 400), reference=("bet", "b"), cause=cause)
    book = book_of(deposit("d", 10_000), late_bet, late_win, bet("b", 150))
    assert outcomes(book) == ["POSTED", "REFUSED_EXPIRED", "POSTED", "REFUSED_EXPIRED"]
    assert book.decisions[1].answer.reason == "DECISION_EXPIRED"
    assert purse(book) == (10_400, 0, 0)


def test_a_late_copy_of_a_decided_bet_hears_that_it_is_known():
    first = bet("b", 150)
    late = msgspec.structs.replace(bet("b", 150), cause=Cause(REDRIVE, "t-0@1", "ann", "fixed"))
    book = book_of(deposit("d", 10_000), first, late)
    assert outcomes(book) == ["POSTED", "POSTED", "EXISTS"]
    assert purse(book) == (9_850, 0, 0)


def test_a_late_free_round_is_refused_and_a_late_request_that_is_paid_is_booked():
    late = Cause(PARKED, "t-0@1")
    free = transaction("bet", "f", leg("BET", 100, is_free=True), decide=True, cause=late)
    request = house("withdrawal.requested", "x", leg("WITHDRAWAL", 500), decide=True)
    paid = house(
        "withdrawal.paid",
        "y",
        leg("WITHDRAWAL", None, None),
        reference=("withdrawal.requested", "x"),
    )
    book = book_of(deposit("d", 10_000), free, paid, msgspec.structs.replace(request, cause=late))
    assert outcomes(book) == ["POSTED", "REFUSED_EXPIRED", "TOMBSTONED", "POSTED"]
    assert last(book).answer.reason == "PAYMENT_PRECEDED"
