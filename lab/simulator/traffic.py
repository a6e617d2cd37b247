"""A hostile casino: few players, few ids, everything twice, in the wrong order, under somebody
else's id.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from lab.simulator.intents import Identity, Intent, IntentLeg

CURRENCIES: Final = ("EUR", "EUR", "EUR", "EUR", "JPY", "KWD")
BRANDS: Final = ("acme", "zeta")
BETS: Final = (0, 10, 100, 400, 2_500)
WINS: Final = (0, 0, 50, 400, 3_000)
DEPOSITS: Final = (100, 500, 2_000, 6_000)
WITHDRAWALS: Final = (10, 100, 400, 3_000, 20_000)
HUGE: Final = 9 * 10**18
"""Two of these are more than a wallet can hold."""
_RECENT: Final = 12


class SimulatedTraffic:
    """Draws what is said next; `step` may say several things at once."""

    def __init__(self, chance: Random, players: int = 6) -> None:
        self.chance = chance
        self.players = [f"p-{number}" for number in range(players)]
        self._counts: dict[tuple[str, str], int] = {}
        self._recent: dict[str, list[Intent]] = {}
        self._later: list[Intent] = []
        # In few casinos only: whoever has so much is never refused again.
        self._is_huge = chance.random() < 0.1
        self._past: list[Intent] = []
        self._steps = (
            (30, self.bet),
            (16, self.win),
            (9, self.rollback),
            (5, self.release),
            (9, self.hundredhp),
            (8, self.deposit),
            (3, self.reversal),
            (9, self.withdrawal),
            (2, self.adjustment),
            (6, self.bonus),
            (4, self.state),
            (7, self.again),
            (3, self.conflict),
            (5, self.late),
            (1, self.heartbeat),
        )

    def opening(self) -> list[Intent]:
        """Money for everybody, or every bet would be refused."""
        said = []
        for player in self.players:
            said += self._deposit(player, self.chance.choice(DEPOSITS), is_opened=True)
        return said

    def step(self) -> list[Intent]:
        """The next few things that are said, in this order."""
        weights, steps = zip(*self._steps, strict=True)
        said: list[Intent] = self.chance.choices(steps, weights)[0]()
        self._past += said
        return said

    def held_back_intents(self) -> list[Intent]:
        """What was kept back and has to be said in the end."""
        said, self._later = self._later, []
        return said

    def _player(self) -> str:
        return self.chance.choice(self.players)

    def _brand(self, player: str) -> str:
        return BRANDS[self.players.index(player) % len(BRANDS)]

    def _currency(self, player: str) -> str:
        if self.chance.random() < 0.03:
            return self.chance.choice(CURRENCIES)
        return CURRENCIES[self.players.index(player) % len(CURRENCIES)]

    def _identity(self, player: str, provider: str, operation: str) -> Identity:
        """A new id; the same ids are used by all brands and providers, and now and then by two
        players.
        """
        brand = self._brand(player)
        count = self._counts.get((brand, provider), 0) + 1
        if count > 1 and self.chance.random() < 0.02:
            return (brand, provider, operation, f"t{self.chance.randrange(1, count)}")
        self._counts[brand, provider] = count
        return (brand, provider, operation, f"t{count}")

    def _some(self, kind: str, player: str | None = None) -> Intent | None:
        recent = [
            said for said in self._recent.get(kind, []) if player is None or said.player == player
        ]
        return self.chance.choice(recent) if recent else None

    def _remember(self, kind: str, said: Intent) -> Intent:
        self._recent[kind] = [*self._recent.get(kind, []), said][-_RECENT:]
        return said

    def _new_bet(self) -> Intent:
        player, is_free = self._player(), self.chance.random() < 0.08
        provider = self.chance.choice(("hub88", "hub88", "playngo"))
        operation = "bet" if provider == "hub88" else "reserve"
        minor = self.chance.choice(BETS) if self.chance.random() < 0.97 else 50_000
        leg = IntentLeg(
            "BET", minor, self._currency(player), is_free, "free-1" if is_free else None
        )
        identity = self._identity(player, provider, operation)
        return Intent(identity, player, (leg,), None, f"r-{identity[3]}", "7", decides=True)

    def bet(self) -> list[Intent]:
        """A bet of either provider."""
        return [self._remember("bet", self._new_bet())]

    def win(self) -> list[Intent]:
        """A win of a bet, or of none."""
        bet = self._some("bet")
        if bet is None or bet.provider != "hub88" or bet.player is None:
            return self.release()
        leg = bet.legs[0]._replace(kind="WIN", minor=self.chance.choice(WINS))
        reference = bet.identity if self.chance.random() < 0.95 else (*bet.identity[:3], "never")
        return [
            Intent(
                self._identity(bet.player, "hub88", "win"),
                bet.player,
                (leg,),
                reference,
                bet.round_id,
                "7",
                True,
            )
        ]

    def release(self) -> list[Intent]:
        """Play'n GO's win: it names no bet; its own id may be the bet's, and a jackpot may be in
        it.
        """
        player = self._player()
        bet = self._some("bet", player)
        currency = bet.legs[0].currency if bet else self._currency(player)
        legs = [IntentLeg("WIN", self.chance.choice(WINS), currency)]
        if self.chance.random() < 0.2:
            legs.append(IntentLeg("JACKPOT_WIN", 5_000, currency))
        identity = self._identity(player, "playngo", "release")
        is_of_bet = bet is not None and bet.provider == "playngo" and self.chance.random() < 0.5
        if is_of_bet and bet is not None:
            identity = (*bet.identity[:2], "release", bet.identity[3])
        return [
            Intent(
                identity,
                player,
                tuple(legs),
                None,
                f"r-{identity[3]}",
                "7",
                self.chance.random() < 0.5,
            )
        ]

    def rollback(self) -> list[Intent]:
        """Of a bet that is there, that comes later, or that is somebody else's; sometimes twice."""
        before = self.chance.random() < 0.25
        bet = self._new_bet() if before else self._some("bet")
        if bet is None:
            return self.bet()
        if before:
            self._later.append(bet)
        player = bet.player if self.chance.random() < 0.95 else self._player()
        if bet.provider == "playngo":
            leg = IntentLeg("ROLLBACK", bet.legs[0].minor, bet.legs[0].currency)
            identity = (*bet.identity[:2], "cancelReserve", bet.identity[3])
            return [Intent(identity, player, (leg,), bet.identity, bet.round_id, "7")]
        identity = self._identity(bet.player or "", "hub88", "rollback")
        return [
            Intent(
                identity, player, (IntentLeg("ROLLBACK"),), bet.identity, bet.round_id, "7", True
            )
        ]

    def hundredhp(self) -> list[Intent]:
        """One id for a bet and what becomes of it, which names neither player nor currency, and may
        come first.
        """
        bet = self._some("withdrawal of 100HP") if self.chance.random() < 0.6 else None
        if bet is None:
            player = self._player()
            identity = self._identity(player, "hundredhp", "withdrawal")
            leg = IntentLeg("BET", self.chance.choice(BETS[1:]), self._currency(player))
            bet = self._remember(
                "withdrawal of 100HP",
                Intent(identity, player, (leg,), None, identity[3], decides=True),
            )
            if self.chance.random() < 0.7:
                return [bet]
            self._later.append(bet)
        operation = self.chance.choice(("deposit", "deposit", "rollback"))
        leg = (
            IntentLeg("WIN", self.chance.choice((0, 50, 400, 3_000)))
            if operation == "deposit"
            else IntentLeg("ROLLBACK")
        )
        identity = (*bet.identity[:2], operation, bet.identity[3])
        return [Intent(identity, None, (leg,), bet.identity, bet.identity[3], None, True)]

    def deposit(self) -> list[Intent]:
        """Opened by the cashier and confirmed by the payment provider, in either order, or never
        opened.
        """
        return self._deposit(
            self._player(), self.chance.choice(DEPOSITS), is_opened=self.chance.random() < 0.9
        )

    def _deposit(self, player: str, minor: int, *, is_opened: bool) -> list[Intent]:
        leg = IntentLeg("INFORMATIONAL", minor, self._currency(player))
        opened = Intent(self._identity(player, "house", "deposit.opened"), player, (leg,))
        paid = Intent(
            self._identity(player, "adyen", "AUTHORISATION"),
            None,
            (leg._replace(kind="DEPOSIT"),),
            opened.identity,
        )
        self._remember("payment", paid)
        if not is_opened:
            return [paid]
        return [opened, paid] if self.chance.random() < 0.7 else [paid, opened]

    def reversal(self) -> list[Intent]:
        """A refund or a chargeback of some payment, maybe before the payment's own notice."""
        payment = self._some("payment")
        if payment is None:
            return self.deposit()
        operation = self.chance.choice(("REFUND", "CHARGEBACK", "REFUND:false"))
        kind = "INFORMATIONAL" if operation.endswith("false") else "DEPOSIT_REVERSAL"
        brand = payment.identity[0]
        identity = self._identity(self.players[BRANDS.index(brand)], "adyen", operation)
        return [Intent(identity, None, (payment.legs[0]._replace(kind=kind),), payment.identity)]

    def withdrawal(self) -> list[Intent]:
        """One of a withdrawal's four messages, in any order."""
        request = self._some("withdrawal")
        if request is None or self.chance.random() < 0.4:
            player = self._player()
            leg = IntentLeg("WITHDRAWAL", self.chance.choice(WITHDRAWALS), self._currency(player))
            request = Intent(
                self._identity(player, "house", "withdrawal.requested"),
                player,
                (leg,),
                decides=True,
            )
            self._remember("withdrawal", request)
            if self.chance.random() < 0.8:
                return [request]
            self._later.append(request)
        player = request.player or ""
        operation, kind = self.chance.choice(
            (
                ("withdrawal.approved", "INFORMATIONAL"),
                ("withdrawal.paid", "WITHDRAWAL"),
                ("withdrawal.paid", "WITHDRAWAL"),
                ("withdrawal.refused", "WITHDRAWAL_REVERSAL"),
            )
        )
        return [
            Intent(
                self._identity(player, "house", operation),
                player,
                (IntentLeg(kind),),
                request.identity,
            )
        ]

    def adjustment(self) -> list[Intent]:
        """An operator's correction, either way; some are proposed, and approved by whoever feels
        called to.
        """
        player, minor = self._player(), self.chance.choice((-700, 30, 200))
        if self._is_huge and self.chance.random() < 0.6:
            player, minor = self.players[-1], self.chance.choice((HUGE, HUGE, -HUGE))
        leg = IntentLeg("ADJUSTMENT", minor, self._currency(player))
        if self.chance.random() < 0.5:
            return [Intent(self._identity(player, "house", "adjustment"), player, (leg,))]
        identity = self._identity(player, "house", "adjustment.proposed")
        proposed = Intent(identity, player, (leg._replace(kind="INFORMATIONAL"),), actor="anna")
        proposal = self._some("proposal") or proposed
        whose = proposal.player if self.chance.random() < 0.9 else player
        identity = self._identity(whose or "", "house", "adjustment.approved")
        reference = (identity[0], *proposal.identity[1:])
        actor = self.chance.choice(("anna", "bert"))
        approved = Intent(identity, whose, (IntentLeg("ADJUSTMENT"),), reference, actor=actor)
        return [self._remember("proposal", proposed), approved]

    def bonus(self) -> list[Intent]:
        """Granted, mostly with a requirement, released or forfeited."""
        player = self._player()
        operation, kind = self.chance.choice(
            (
                ("bonus.granted", "BONUS_GRANT"),
                ("bonus.granted", "BONUS_GRANT"),
                ("bonus.released", "BONUS_RELEASE"),
                ("bonus.forfeited", "BONUS_FORFEIT"),
            )
        )
        leg = IntentLeg(
            kind, self.chance.choice((0, 100, 500)), self._currency(player), campaign="c-1"
        )
        legs = [leg]
        if kind == "BONUS_GRANT" and self.chance.random() < 0.7:
            legs.append(leg._replace(kind="WAGERING", minor=self.chance.choice((0, 300, 1_500))))
        return [Intent(self._identity(player, "house", operation), player, tuple(legs))]

    def state(self) -> list[Intent]:
        """Block, hold, release or limit a player, on somebody's behalf."""
        player = self._player()
        operation = self.chance.choice(
            (
                "player.blocked",
                "player.held",
                "player.released",
                "player.released",
                "player.released",
                "player.limited",
                "player.unlimited",
            )
        )
        leg = IntentLeg("PLAYER_STATE")
        if operation.endswith("limited"):
            leg = leg._replace(currency=self._currency(player))
        if operation == "player.limited":
            leg = leg._replace(minor=self.chance.choice((200, 10_000)))
        source = self.chance.choice(("operator", "operator", "kyc"))
        return [Intent(self._identity(player, "house", operation), player, (leg,), source=source)]

    def again(self) -> list[Intent]:
        """Something that was said before."""
        return [self.chance.choice(self._past[-40:])] if self._past else self.bet()

    def conflict(self) -> list[Intent]:
        """Something else under an id that was used before."""
        said = self.again()[0]
        leg = said.legs[0]
        if leg.minor is None:
            return [said]
        return [said._replace(legs=(leg._replace(minor=leg.minor + 10), *said.legs[1:]))]

    def late(self) -> list[Intent]:
        """What was overtaken."""
        return (
            [self._later.pop(self.chance.randrange(len(self._later)))]
            if self._later
            else self.bet()
        )

    def heartbeat(self) -> list[Intent]:
        """The cashier's sign of life."""
        return [
            Intent(
                self._identity(self.players[0], "house", "heartbeat"),
                None,
                (IntentLeg("HEARTBEAT"),),
            )
        ]


def group_into_records(said: Sequence[Intent], chance: Random) -> list[list[Intent]]:
    """Notices of one brand travel together now and then; everything else alone."""
    records: list[list[Intent]] = []
    for one in said:
        last = records[-1] if records else None
        if (
            one.provider == "adyen"
            and last
            and last[0].identity[:2] == one.identity[:2]
            and chance.random() < 0.7
        ):
            last.append(one)
        else:
            records.append([one])
    return records
