"""Intents: what providers mean to send, before their writers encode it in their formats.

Amounts are minor units of the currency, times are epoch milliseconds. The sandbox's casino, the
simulator's traffic and the conformance examples make intents; `lab.conformance.writers` encode
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

import msgspec

from schemas.money import EXPONENTS

Identity: TypeAlias = tuple[str, str, str, str]
"""Brand, provider, operation, transaction id."""

DEFAULT_BRAND: Final = "default"


class Verb(StrEnum):
    """Meaning of a message, whatever the provider calls it.

    A writer maps the verbs that its provider knows to the provider's operations, and the sandbox's
    casino plays only those.
    """

    # Games. A SPIN is a bet and its win in one transaction. The FREE_ ones belong to a campaign
    # and cost the player nothing; their legs name it.
    BET = "bet"
    WIN = "win"
    SPIN = "spin"
    FREE_BET = "free_bet"
    FREE_WIN = "free_win"
    FREE_SPIN = "free_spin"
    ROLLBACK = "rollback"  # of a BET or a SPIN, which `reference` names
    ROUND_CLOSE = "round_close"
    JACKPOT_WIN = "jackpot_win"
    PROMO_WIN = "promo_win"  # a prize of a campaign, outside any round
    GAME_ADJUSTMENT = "game_adjustment"

    # Payments. `deposit_id` is the cashier's DEPOSIT_OPENED; all but DEPOSIT and DEPOSIT_REFUSED
    # refer to the DEPOSIT.
    DEPOSIT = "deposit"
    DEPOSIT_REFUSED = "deposit_refused"
    CAPTURE = "capture"  # a notice beside the deposit: moves no money
    REFUND = "refund"
    REFUND_REFUSED = "refund_refused"  # moves no money
    REFUND_RETURNED = "refund_returned"  # an earlier REFUND failed: its money is back
    CHARGEBACK = "chargeback"
    CHARGEBACK_WON = "chargeback_won"  # an earlier CHARGEBACK is taken back
    PAYOUT = "payout"  # money to the casino or a player, booked elsewhere: moves no wallet

    # The casino's own cashier and back office.
    DEPOSIT_OPENED = "deposit_opened"
    WITHDRAWAL_REQUESTED = "withdrawal_requested"
    WITHDRAWAL_APPROVED = "withdrawal_approved"
    WITHDRAWAL_PAID = "withdrawal_paid"
    WITHDRAWAL_REFUSED = "withdrawal_refused"
    ADJUSTMENT = "adjustment"
    ADJUSTMENT_PROPOSED = "adjustment_proposed"
    ADJUSTMENT_APPROVED = "adjustment_approved"
    # Acts on what waits for a person: `reference` is the event whose item is meant, or the
    # proposal that is approved.
    SUSPENSE_ASSIGNED = "suspense_assigned"
    ASSIGNMENT_PROPOSED = "assignment_proposed"
    ASSIGNMENT_APPROVED = "assignment_approved"
    SUSPENSE_RETURNED = "suspense_returned"
    RETURN_PROPOSED = "return_proposed"
    RETURN_APPROVED = "return_approved"
    ITEM_ANSWERED = "item_answered"
    LIMIT_PROPOSED = "limit_proposed"
    LIMIT_APPROVED = "limit_approved"
    BONUS_GRANTED = "bonus_granted"
    BONUS_RELEASED = "bonus_released"
    BONUS_FORFEITED = "bonus_forfeited"
    PLAYER_BLOCKED = "player_blocked"
    PLAYER_RELEASED = "player_released"
    PLAYER_HELD = "player_held"
    PLAYER_LIMITED = "player_limited"
    PLAYER_UNLIMITED = "player_unlimited"
    HEARTBEAT = "heartbeat"

    # A feed of results: `markets` has them; no wallet moves.
    ODDS_CHANGED = "odds_changed"
    MARKET_SETTLED = "market_settled"
    MARKET_UNSETTLED = "market_unsettled"  # an earlier settlement is taken back
    MARKET_CANCELLED = "market_cancelled"
    FEED_ALIVE = "feed_alive"

    # Identity checks of a player.
    CHECK_STARTED = "check_started"
    CHECK_PENDING = "check_pending"
    CHECK_FAILED = "check_failed"  # may be tried again
    CHECK_REJECTED = "check_rejected"  # final: blocks the player
    CHECK_PASSED = "check_passed"  # releases the player

    # A regulator's report: one intent a player. Its legs are the bets of the month, the balance at
    # its end, pending transfers and chips.
    REPORT_ROW = "report_row"


DECIDED_VERBS: Final = frozenset({Verb.BET, Verb.FREE_BET, Verb.SPIN, Verb.WITHDRAWAL_REQUESTED})
"""Verbs whose sender waits for a yes or no."""

FREE_VERBS: Final = frozenset({Verb.FREE_BET, Verb.FREE_WIN, Verb.FREE_SPIN})
"""Verbs of free rounds: their legs are free and name a campaign."""

KINDS: Final[Mapping[Verb, str]] = {
    Verb.BET: "BET",
    Verb.FREE_BET: "BET",
    Verb.WIN: "WIN",
    Verb.FREE_WIN: "WIN",
    Verb.FREE_SPIN: "WIN",
    Verb.ROLLBACK: "ROLLBACK",
    Verb.ROUND_CLOSE: "ROUND_CLOSE",
    Verb.JACKPOT_WIN: "JACKPOT_WIN",
    Verb.PROMO_WIN: "PROMO_WIN",
    Verb.GAME_ADJUSTMENT: "ADJUSTMENT",
    Verb.DEPOSIT: "DEPOSIT",
    Verb.DEPOSIT_REFUSED: "INFORMATIONAL",
    Verb.CAPTURE: "INFORMATIONAL",
    Verb.REFUND: "DEPOSIT_REVERSAL",
    Verb.REFUND_REFUSED: "INFORMATIONAL",
    Verb.REFUND_RETURNED: "DEPOSIT",
    Verb.CHARGEBACK: "DEPOSIT_REVERSAL",
    Verb.CHARGEBACK_WON: "DEPOSIT",
    Verb.PAYOUT: "INFORMATIONAL",
    Verb.DEPOSIT_OPENED: "INFORMATIONAL",
    Verb.WITHDRAWAL_REQUESTED: "WITHDRAWAL",
    Verb.WITHDRAWAL_APPROVED: "INFORMATIONAL",
    Verb.WITHDRAWAL_PAID: "WITHDRAWAL",
    Verb.WITHDRAWAL_REFUSED: "WITHDRAWAL_REVERSAL",
    Verb.ADJUSTMENT: "ADJUSTMENT",
    Verb.ADJUSTMENT_PROPOSED: "INFORMATIONAL",
    Verb.ADJUSTMENT_APPROVED: "ADJUSTMENT",
    Verb.SUSPENSE_ASSIGNED: "SUSPENSE_ASSIGNMENT",
    Verb.ASSIGNMENT_PROPOSED: "PROPOSAL",
    Verb.ASSIGNMENT_APPROVED: "SUSPENSE_ASSIGNMENT",
    Verb.SUSPENSE_RETURNED: "SUSPENSE_RETURN",
    Verb.RETURN_PROPOSED: "PROPOSAL",
    Verb.RETURN_APPROVED: "SUSPENSE_RETURN",
    Verb.ITEM_ANSWERED: "ANSWER",
    Verb.LIMIT_PROPOSED: "PROPOSAL",
    Verb.LIMIT_APPROVED: "OPERATOR_LIMIT",
    Verb.BONUS_GRANTED: "BONUS_GRANT",
    Verb.BONUS_RELEASED: "BONUS_RELEASE",
    Verb.BONUS_FORFEITED: "BONUS_FORFEIT",
    Verb.PLAYER_BLOCKED: "PLAYER_STATE",
    Verb.PLAYER_RELEASED: "PLAYER_STATE",
    Verb.PLAYER_HELD: "PLAYER_STATE",
    Verb.PLAYER_LIMITED: "PLAYER_STATE",
    Verb.PLAYER_UNLIMITED: "PLAYER_STATE",
    Verb.HEARTBEAT: "HEARTBEAT",
    Verb.ODDS_CHANGED: "INFORMATIONAL",
    Verb.FEED_ALIVE: "INFORMATIONAL",
    Verb.REPORT_ROW: "INFORMATIONAL",
}
"""Kind of the leg that a verb's message moves, as the ledger knows kinds.

A SPIN has two, BET and WIN; settlements of markets and identity checks have none.
"""


class IntentLeg(NamedTuple):
    """Leg of a transaction: a kind, and an amount in minor units of a currency if it has one."""

    kind: str
    minor: int | None = None
    currency: str | None = None
    is_free: bool = False
    campaign: str | None = None


class Game(NamedTuple):
    """A game by the id that its provider's messages carry; some carry a number beside it."""

    id: str
    number: int = 0


class GameSession(msgspec.Struct, frozen=True):
    """One sitting of a player at one game of one provider."""

    provider: str
    token: str
    number: int
    game: Game


class MarketOutcome(NamedTuple):
    """Result of one outcome of a market: won, or not; factors are decimal text, empty where none.

    `void_factor` is the part of the stake that is given back, `dead_heat_factor` the part of the
    odds that is paid.
    """

    id: str
    has_won: bool
    void_factor: str = ""
    dead_heat_factor: str = ""


class Market(NamedTuple):
    """One market of a match, with the results of its outcomes where it is settled."""

    match_id: str
    market_id: str
    specifiers: str
    outcomes: tuple[MarketOutcome, ...] = ()


class Intent(msgspec.Struct, frozen=True):
    """One transaction or notice, independent of the provider's format.

    `identity` is what must be read of it. Where a format has no transaction ids (files, feeds, a
    round's end), its last part is what the message prints instead: a booking reference, a match.
    `player` is whom it is about, even where the message names no player; None where unknown.
    `at_ms` is the time of the event itself, the same in every sending. `details` are texts special
    to the operation (`reason`, `actor`, `psp`, …), by name.
    """

    verb: Verb
    identity: Identity
    player: str | None = None
    legs: tuple[IntentLeg, ...] = ()
    reference: Identity | None = None
    round_id: str | None = None
    session: GameSession | None = None
    round_closed: bool = False
    at_ms: int = 0
    region: str = ""
    deposit_id: str | None = None
    markets: tuple[Market, ...] = ()
    details: tuple[tuple[str, str], ...] = ()

    @property
    def brand(self) -> str:
        """Brand of the casino that it is sent to."""
        return self.identity[0]

    @property
    def provider(self) -> str:
        """Provider that sends it."""
        return self.identity[1]

    @property
    def operation(self) -> str:
        """Operation in the provider's own words."""
        return self.identity[2]

    @property
    def tx_id(self) -> str:
        """The provider's id of the transaction."""
        return self.identity[3]

    @property
    def referred_id(self) -> str | None:
        """Id of the transaction that it refers to."""
        return None if self.reference is None else self.reference[3]

    @property
    def game(self) -> str | None:
        """Id of the game."""
        return None if self.session is None else self.session.game.id

    @property
    def decides(self) -> bool:
        """Whether its sender waits for a yes or no."""
        return self.verb in DECIDED_VERBS

    def leg(self, kind: str) -> IntentLeg | None:
        """Return its leg of this kind."""
        return next((leg for leg in self.legs if leg.kind == kind), None)

    def detail(self, name: str, default: str = "") -> str:
        """Return one of its details."""
        return dict(self.details).get(name, default)


def scale_of(currency: str) -> int:
    """Return the decimals of the currency's minor unit; 2 for an unknown code."""
    return EXPONENTS.get(currency.upper(), 2)
