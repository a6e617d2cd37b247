"""Random histories of a few players against an oracle of a few dozen lines that knows no batches, books or wallets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ledger_sink.book import Book
from ledger_sink.posting import post
from schemas.policies import DEFAULT_POLICY
from tests.unit.ledger_events import bet, deposit, house, leg, rollback, sourced, transaction, win

PLAYERS = ("p-1", "p-2")
IDS = st.sampled_from("abc")
AMOUNTS = st.integers(0, 300)


@st.composite
def rounds(draw):
    """What can happen to one bet, in any order: it, its wins, more than one rollback of it, and all of them again."""
    player, tx_id, minor = draw(st.sampled_from(PLAYERS)), draw(IDS), draw(AMOUNTS)
    bet_id = f"{player}-{tx_id}"
    possible = [
        bet(bet_id, minor, player=player),
        bet(bet_id, draw(AMOUNTS), player=player),
        win(f"{bet_id}-w", draw(AMOUNTS), bet_id, player=player),
        rollback(f"{bet_id}-r1", bet_id, player=player),
        rollback(f"{bet_id}-r2", bet_id, player=player),
    ]
    return draw(st.lists(st.sampled_from(possible), min_size=1, max_size=6))


@st.composite
def other_events(draw):
    """Money and states from elsewhere."""
    player, tx_id, minor = draw(st.sampled_from(PLAYERS)), draw(IDS), draw(AMOUNTS)
    tx_id = f"{player}-{tx_id}"
    return draw(
        st.sampled_from(
            [
                deposit(tx_id, minor, player=player),
                transaction(
                    "CHARGEBACK", tx_id, leg("DEPOSIT_REVERSAL", minor), provider="adyen", player=player, round_id=None
                ),
                house("bonus.granted", tx_id, leg("BONUS_GRANT", minor), player=player),
                house("player.blocked", tx_id, leg("PLAYER_STATE", None, None), player=player),
                house("player.released", tx_id, leg("PLAYER_STATE", None, None), player=player),
            ]
        )
    )


@st.composite
def histories(draw):
    """Rounds shuffled into each other; most players have funds, or nearly every bet would be refused."""
    funds = draw(st.integers(0, 1_000))
    opening = [deposit(f"first-{player}", funds, player=player) for player in PLAYERS]
    lanes = [*draw(st.lists(rounds(), min_size=1, max_size=5)), draw(st.lists(other_events(), max_size=5))]
    lanes = [lane[:] for lane in lanes if lane]
    history = []
    while lanes:
        lane = lanes[draw(st.integers(0, len(lanes) - 1))]
        history.append(lane.pop(0))
        lanes = [lane for lane in lanes if lane]
    return opening + history


class Oracle:
    """Cash and bonus by player, and what each event did; the rules as one would tell them to a colleague."""

    def __init__(self):
        self.cash = dict.fromkeys(PLAYERS, 0)
        self.bonus = dict.fromkeys(PLAYERS, 0)
        self.blocked = set()
        self.first = {}
        self.took = {}
        self.dead = set()

    def tell(self, event):
        if event.event_id in self.first:
            return  # a repeat or a conflict: nothing moves
        self.first[event.event_id] = event
        player, operation = event.player_id, event.operation
        amount = event.legs[0].amount.unscaled if event.legs[0].amount else 0
        if operation == "bet":
            self.bet(event, player, amount)
        elif operation in ("win", "AUTHORISATION"):
            self.cash[player] += amount
        elif operation == "CHARGEBACK":
            self.cash[player] -= amount
        elif operation == "bonus.granted":
            self.bonus[player] += amount
        elif operation == "player.blocked":
            self.blocked.add(player)
        elif operation == "player.released":
            self.blocked.discard(player)
        elif operation == "rollback":
            target = event.reference.tx_id
            if target not in self.dead:
                cash, bonus = self.took.pop(target, (0, 0))
                self.cash[player] += cash
                self.bonus[player] += bonus
                self.dead.add(target)

    def bet(self, event, player, amount):
        funds = self.cash[player] + self.bonus[player]
        if event.provider_tx_id in self.dead or player in self.blocked or amount > max(funds, 0):
            return
        cash = amount if amount <= self.cash[player] else max(self.cash[player], 0)
        self.cash[player] -= cash
        self.bonus[player] -= amount - cash
        self.took[event.provider_tx_id] = (cash, amount - cash)


def booked(history):
    book = Book()
    for offset, event in enumerate(history):
        post(book, sourced(event, offset=offset), DEFAULT_POLICY)
    return book


def balances(book):
    found = dict.fromkeys(PLAYERS, (0, 0, 0))
    for (player, _), wallet in book.wallets.items():
        found[player] = (wallet.cash_minor, wallet.bonus_minor, wallet.held_minor)
    return found


@given(histories())
def test_the_ledger_says_what_the_oracle_says(history):
    oracle = Oracle()
    for event in history:
        oracle.tell(event)
    assert balances(booked(history)) == {player: (oracle.cash[player], oracle.bonus[player], 0) for player in PLAYERS}


@given(histories())
def test_money_is_conserved_and_versions_have_no_gaps(history):
    book = booked(history)
    accounts = {}
    for _, _, transfer in book.new_transfers:
        accounts[transfer.debit] = accounts.get(transfer.debit, 0) - transfer.amount_minor
        accounts[transfer.credit] = accounts.get(transfer.credit, 0) + transfer.amount_minor
    assert sum(accounts.values()) == 0
    for (player, _), wallet in book.wallets.items():
        assert accounts.get(f"player:{player}:cash", 0) == wallet.cash_minor
        assert accounts.get(f"player:{player}:bonus", 0) == wallet.bonus_minor
        versions = [t.version for _, _, t in book.new_transfers if t.player_id == player]
        assert versions == list(range(1, wallet.version + 1))


@given(histories())
def test_telling_everything_twice_changes_nothing(history):
    once, twice = booked(history), booked(history * 2)
    assert balances(once) == balances(twice)
    assert len(once.new_transfers) == len(twice.new_transfers)
    first = [(decided.answer.outcome, decided.answer.version) for decided in once.decided]
    again = [(d.answer.outcome, d.answer.version) for d in twice.decided[len(history) :]]
    # The same attempt hears the same again, word for word.
    assert first == again


@given(histories())
def test_no_bet_leaves_a_wallet_below_zero(history):
    book = booked(history)
    for said, _, transfer in book.new_transfers:
        if said.event.operation == "bet":
            assert transfer.bonus_minor >= 0
            assert transfer.cash_minor + transfer.bonus_minor >= 0
