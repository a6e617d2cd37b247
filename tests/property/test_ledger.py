"""Random histories of a few players against an oracle of a few dozen lines that knows no batches, books or wallets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ledger_sink.rules.book import Book
from ledger_sink.rules.posting import post
from schemas.events import Cause
from schemas.policies import DEFAULT_POLICY
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
    state = leg("PLAYER_STATE", None, None)
    return draw(
        st.sampled_from(
            [
                deposit(tx_id, minor, player=player),
                transaction(
                    "CHARGEBACK",
                    tx_id,
                    leg("DEPOSIT_REVERSAL", minor),
                    provider="adyen",
                    player=player,
                    round_id=None,
                ),
                bonus_grant(tx_id, minor, draw(st.sampled_from([0, 0, 150, 900])), player),
                house("bonus.forfeited", tx_id, leg("BONUS_FORFEIT", minor), player=player),
                house("bonus.released", tx_id, leg("BONUS_RELEASE", minor), player=player),
                *[
                    house(
                        f"player.{what}",
                        f"{tx_id}{source}",
                        state,
                        player=player,
                        cause=Cause(source, tx_id),
                    )
                    for source in ("kyc", "operator")
                    for what in ("blocked", "held", "released")
                ],
                house("player.limited", tx_id, leg("PLAYER_STATE", minor), player=player),
                house(
                    "withdrawal.requested",
                    tx_id,
                    leg("WITHDRAWAL", minor),
                    player=player,
                    decide=True,
                ),
                transaction(
                    "release",
                    tx_id,
                    leg("WIN", minor),
                    leg("JACKPOT_CONTRIBUTION", 7),
                    player=player,
                ),
            ]
        )
    )


def bonus_grant(tx_id, minor, required, player):
    legs = [leg("BONUS_GRANT", minor), *([leg("WAGERING", required)] if required else [])]
    return house("bonus.granted", tx_id, *legs, player=player)


@st.composite
def histories(draw):
    """Rounds shuffled into each other; most players have funds, or nearly every bet would be refused."""
    funds = draw(st.integers(0, 1_000))
    opening = [deposit(f"first-{player}", funds, player=player) for player in PLAYERS]
    if draw(st.booleans()):  # bonus money is only bet where there is little cash
        opening = [deposit(f"first-{player}", funds % 100, player=player) for player in PLAYERS]
        required = draw(st.integers(0, 3_000))
        opening += [
            bonus_grant(f"first-{player}", draw(st.integers(100, 900)), required, player)
            for player in PLAYERS
        ]
    lanes = [
        *draw(st.lists(rounds(), min_size=1, max_size=5)),
        draw(st.lists(other_events(), max_size=5)),
    ]
    lanes = [lane[:] for lane in lanes if lane]
    history = []
    while lanes:
        lane = lanes[draw(st.integers(0, len(lanes) - 1))]
        history.append(lane.pop(0))
        lanes = [lane for lane in lanes if lane]
    return opening + history


class Oracle:
    """The money of each player, and what each event did; docs/explanation/ledger.md as one would tell it to a colleague."""

    def __init__(self):
        self.cash = dict.fromkeys(PLAYERS, 0)
        self.bonus = dict.fromkeys(PLAYERS, 0)
        self.held = dict.fromkeys(PLAYERS, 0)
        self.standings: dict[str, dict[str, str]] = {player: {} for player in PLAYERS}
        self.limit = dict.fromkeys(PLAYERS)
        # To be wagered: None without a requirement, 0 when it was met.
        self.left: dict[str, int | None] = dict.fromkeys(PLAYERS)
        self.under = {}  # bet: the requirement that it counted for
        self.requirement = dict.fromkeys(PLAYERS, 0)
        self.seen = set()
        self.took = {}
        self.dead_letters = set()

    def tell(self, event):
        if event.event_id in self.seen:
            return  # a repeat or a conflict: nothing moves
        self.seen.add(event.event_id)
        name = event.operation.replace(".", "_")
        amount = event.legs[0].amount.unscaled if event.legs[0].amount else 0
        getattr(self, name, self.unknown)(event, event.player_id, amount)

    def unknown(self, event, player, amount):
        raise AssertionError(event.operation)

    def bet(self, event, player, amount):
        tx_id, most = event.provider_tx_id, self.limit[player]
        if tx_id in self.dead_letters or "blocked" in self.standings[player].values():
            return
        if (most is not None and amount > most) or amount > max(
            self.cash[player] + self.bonus[player], 0
        ):
            return
        cash = amount if amount <= self.cash[player] else max(self.cash[player], 0)
        self.cash[player] -= cash
        self.bonus[player] -= amount - cash
        self.took[tx_id] = (cash, amount - cash)
        self.under[tx_id] = self.requirement[player]
        if self.left[player]:
            self.left[player] = max(self.left[player] - amount, 0)
            if not self.left[player]:
                self.to_cash(player, self.bonus[player])

    def win(self, event, player, amount):
        bonus = 0
        if self.left[player]:
            cash, taken = (
                self.took.get(event.reference.tx_id, (0, 0)) if event.reference else (0, 0)
            )
            if cash + taken:
                bonus = amount * taken // (cash + taken)
            elif self.cash[player] <= 0:
                bonus = amount
        self.cash[player] += amount - bonus
        self.bonus[player] += bonus

    def release(self, event, player, amount):
        self.win(event, player, amount)

    def rollback(self, event, player, amount):
        tx_id = event.reference.tx_id
        if tx_id in self.dead_letters:
            return
        self.dead_letters.add(tx_id)
        cash, bonus = self.took.get(tx_id, (0, 0))
        self.cash[player] += cash
        self.bonus[player] += bonus
        if (
            self.left[player] is not None
            and cash + bonus
            and self.under[tx_id] == self.requirement[player]
        ):
            if self.left[player]:
                self.left[player] += cash + bonus
            else:
                self.to_cash(player, min(bonus, self.bonus[player]))

    def AUTHORISATION(self, event, player, amount):  # noqa: N802  # the provider's own word
        self.cash[player] += amount

    def CHARGEBACK(self, event, player, amount):  # noqa: N802  # the same
        self.cash[player] -= amount

    def withdrawal_requested(self, event, player, amount):
        stopped = {"blocked", "held"} & set(self.standings[player].values())
        if not stopped and amount <= max(
            min(self.cash[player], self.cash[player] + self.bonus[player]), 0
        ):
            self.cash[player] -= amount
            self.held[player] += amount

    def bonus_granted(self, event, player, amount):
        self.bonus[player] += amount
        required = event.legs[1].amount.unscaled if len(event.legs) > 1 else 0
        left = self.left[player]
        if not left:
            self.left[player] = required or None
            self.requirement[player] += 1
        else:
            self.left[player] = left + required

    def bonus_forfeited(self, event, player, amount):
        self.bonus[player] -= min(amount, max(self.bonus[player], 0))
        self.end_if_empty(player)

    def bonus_released(self, event, player, amount):
        self.to_cash(player, min(amount, self.bonus[player]))
        self.end_if_empty(player)

    def to_cash(self, player, amount):
        self.cash[player] += max(amount, 0)
        self.bonus[player] -= max(amount, 0)

    def end_if_empty(self, player):
        if self.bonus[player] <= 0 and self.left[player]:
            self.left[player] = None

    def player_blocked(self, event, player, amount):
        self.standings[player][event.cause.type] = event.operation.split(".")[1]

    player_held = player_released = player_blocked

    def player_limited(self, event, player, amount):
        self.limit[player] = amount


def book_all(history):
    book = Book()
    for offset, event in enumerate(history):
        post(book, log_event(event, offset=offset), DEFAULT_POLICY)
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
    book = book_all(history)
    assert balances(book) == {p: (oracle.cash[p], oracle.bonus[p], oracle.held[p]) for p in PLAYERS}
    assert {p: book.player_state(p).wagering.get("EUR", (None,))[0] for p in PLAYERS} == oracle.left


@given(histories())
def test_money_is_conserved_and_versions_have_no_gaps(history):
    book = book_all(history)
    accounts: dict[str, int] = {}
    for _, _, transfer in book.new_transfers:
        accounts[transfer.debit] = accounts.get(transfer.debit, 0) - transfer.amount_minor
        accounts[transfer.credit] = accounts.get(transfer.credit, 0) + transfer.amount_minor
    assert sum(accounts.values()) == 0
    for (player, _), wallet in book.wallets.items():
        assert accounts.get(f"player:{player}:cash", 0) == wallet.cash_minor
        assert accounts.get(f"player:{player}:bonus", 0) == wallet.bonus_minor
        assert accounts.get(f"player:{player}:held", 0) == wallet.held_minor
        versions = [t.version for _, _, t in book.new_transfers if t.player_id == player]
        assert versions == list(range(1, wallet.version + 1))


@given(histories())
def test_telling_everything_twice_changes_nothing(history):
    once, twice = book_all(history), book_all(history * 2)
    assert balances(once) == balances(twice)
    assert len(once.new_transfers) == len(twice.new_transfers)
    first = [(decided.answer.outcome, decided.answer.version) for decided in once.decisions]
    again = [(d.answer.outcome, d.answer.version) for d in twice.decisions[len(history) :]]
    # The same attempt gets the same answer again, field for field.
    assert first == again


@given(histories())
def test_no_bet_leaves_a_wallet_below_zero(history):
    book = book_all(history)
    for placed, _, transfer in book.new_transfers:
        if placed.event.operation == "bet":
            assert transfer.bonus_minor >= 0
            assert transfer.cash_minor + transfer.bonus_minor >= 0
