"""Hostile traffic: few players and ids, repeats, wrong order, other transactions' ids."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from msgspec.structs import replace

from lab.conformance.intents import DEFAULT_BRAND, KINDS, IntentLeg, Verb
from lab.simulator.bundle import BUNDLE
from lab.simulator.intents import SimulatedIntent, operation_of, simulated_intent
from lab.simulator.operator_traffic import BRANDS, RECENT, OperatorTraffic

BETS: Final = (0, 10, 100, 400, 2_500)
WINS: Final = (0, 0, 50, 400, 3_000)
_REVERSALS: Final = (
    Verb.REFUND,
    Verb.CHARGEBACK,
    Verb.REFUND_REFUSED,
    Verb.REFUND_RETURNED,
    Verb.CHARGEBACK_WON,
)
_MISFIT_SHARE: Final = 0.1
DEPOSITS: Final = (100, 500, 2_000, 6_000)
WITHDRAWALS: Final = (10, 100, 400, 3_000, 20_000)


class SimulatedTraffic(OperatorTraffic):
    """Draws intents; one step may give several."""

    def __init__(self, rng: Random, players: int = 6) -> None:
        super().__init__(rng, players)
        self._calls: list[list[SimulatedIntent]] = []
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
            (5, self.open_item),
            (1, self.limit),
            (6, self.bonus),
            (4, self.state),
            (7, self.repeat),
            (3, self.conflict),
            (3, self.repeat_under_other_brand),
            (2, self.repeat_as_other_operation),
            (14, self.call),
            (4, self.call_again),
            (5, self.pop_held_back),
            (1, self.heartbeat),
        )

    def opening(self) -> list[SimulatedIntent]:
        """Return a deposit for each player, without which every bet would be refused."""
        intents: list[SimulatedIntent] = []
        for player in self.players:
            intents += self._deposit(player, self.rng.choice(DEPOSITS), is_opened=True)
        limits = [intent for _ in range(3) for intent in self.limit()]
        return [*limits, *self.held_back_intents(), *intents]

    def step(self) -> list[SimulatedIntent]:
        """Return the next intents, in their order."""
        weights, steps = zip(*self._steps, strict=True)
        intents: list[SimulatedIntent] = self.rng.choices(steps, weights)[0]()
        self._history += intents
        return intents

    def held_back_intents(self) -> list[SimulatedIntent]:
        """Return and clear the intents that were held back, for the end of the traffic."""
        intents, self._held_back = self._held_back, []
        return intents

    def _new_bet(self) -> SimulatedIntent:
        player, is_free = self._player(), self.rng.random() < 0.08
        provider = self.rng.choice(("hub88", "hub88", "playngo"))
        minor = self.rng.choice(BETS) if self.rng.random() < 0.97 else 50_000
        leg = IntentLeg(
            "BET", minor, self._currency(player), is_free, "free-1" if is_free else None
        )
        identity = self._identity(player, provider, Verb.BET)
        return simulated_intent(identity, player, (leg,), round_id=f"r-{identity[3]}", game="7")

    def bet(self) -> list[SimulatedIntent]:
        """Return a bet of Hub88 or Play'n GO."""
        return [self._remember("bet", self._new_bet())]

    def win(self) -> list[SimulatedIntent]:
        """Return a win of a bet, or of a bet that never comes."""
        bet = self._recent_intent("bet")
        if bet is None or bet.provider != "hub88" or bet.player is None:
            return self.release()
        leg = bet.legs[0]._replace(kind="WIN", minor=self.rng.choice(WINS))
        reference = bet.identity if self.rng.random() < 0.95 else (*bet.identity[:3], "never")
        return [
            simulated_intent(
                self._identity(bet.player, "hub88", Verb.WIN),
                bet.player,
                (leg,),
                reference,
                round_id=bet.round_id,
                game="7",
                round_closed=True,
            )
        ]

    def release(self) -> list[SimulatedIntent]:
        """Return a win of Play'n GO, which names no bet.

        Its id may be the bet's, and it may contain a jackpot.
        """
        player = self._player()
        bet = self._recent_intent("bet", player)
        currency = bet.legs[0].currency if bet else self._currency(player)
        legs = [IntentLeg("WIN", self.rng.choice(WINS), currency)]
        if self.rng.random() < 0.2:
            legs.append(IntentLeg("JACKPOT_WIN", 5_000, currency))
        identity = self._identity(player, "playngo", Verb.WIN)
        is_of_bet = bet is not None and bet.provider == "playngo" and self.rng.random() < 0.5
        if is_of_bet and bet is not None:
            identity = (*bet.identity[:2], "release", bet.identity[3])
        return [
            simulated_intent(
                identity,
                player,
                tuple(legs),
                round_id=f"r-{identity[3]}",
                game="7",
                round_closed=self.rng.random() < 0.5,
            )
        ]

    def rollback(self) -> list[SimulatedIntent]:
        """Return a rollback of an earlier bet, a later one, or another player's; repeats occur."""
        before = self.rng.random() < 0.25
        bet = self._new_bet() if before else self._recent_intent("bet")
        if bet is None:
            return self.bet()
        if before:
            self._held_back.append(bet)
        player = bet.player if self.rng.random() < 0.95 else self._player()
        if bet.provider == "playngo":
            leg = IntentLeg("ROLLBACK", bet.legs[0].minor, bet.legs[0].currency)
            identity = (*bet.identity[:2], "cancelReserve", bet.identity[3])
        else:
            leg = IntentLeg("ROLLBACK")
            identity = self._identity(bet.player or "", "hub88", Verb.ROLLBACK)
        return [
            simulated_intent(
                identity,
                player,
                (leg,),
                bet.identity,
                round_id=bet.round_id,
                game="7",
                round_closed=bet.provider == "hub88",
            )
        ]

    def hundredhp(self) -> list[SimulatedIntent]:
        """Return a bet of 100HP, its win or its rollback, which share one id.

        Win and rollback name neither player nor currency, and may come before the bet.
        """
        bet = self._recent_intent("withdrawal of 100HP") if self.rng.random() < 0.6 else None
        if bet is None:
            player = self._player()
            identity = self._identity(player, "hundredhp", Verb.BET)
            leg = IntentLeg("BET", self.rng.choice(BETS[1:]), self._currency(player))
            bet = self._remember(
                "withdrawal of 100HP",
                simulated_intent(identity, player, (leg,), round_id=identity[3]),
            )
            if self.rng.random() < 0.7:
                return [bet]
            self._held_back.append(bet)
        operation = self.rng.choice(("deposit", "deposit", "rollback"))
        leg = (
            IntentLeg("WIN", self.rng.choice((0, 50, 400, 3_000)))
            if operation == "deposit"
            else IntentLeg("ROLLBACK")
        )
        identity = (*bet.identity[:2], operation, bet.identity[3])
        return [
            simulated_intent(
                identity,
                None,
                (leg,),
                bet.identity,
                round_id=bet.identity[3],
                round_closed=True,
            )
        ]

    def deposit(self) -> list[SimulatedIntent]:
        """Return a deposit: opened by the cashier, confirmed by the payment provider.

        The two come in either order; some are never opened, and a few are over another amount.
        """
        return self._deposit(
            self._player(),
            self.rng.choice(DEPOSITS),
            is_opened=self.rng.random() < 0.9,
            may_differ=True,
        )

    def _deposit(
        self, player: str, minor: int, *, is_opened: bool, may_differ: bool = False
    ) -> list[SimulatedIntent]:
        leg = IntentLeg("INFORMATIONAL", minor, self._currency(player))
        identity = self._identity(player, "house", Verb.DEPOSIT_OPENED)
        opened = simulated_intent(identity, player, (leg,))
        moved = leg._replace(kind="DEPOSIT")
        if may_differ and self.rng.random() < _MISFIT_SHARE:
            moved = moved._replace(minor=minor + 10)
        identity = self._identity(player, "adyen", Verb.DEPOSIT)
        paid = simulated_intent(identity, None, (moved,), opened.identity)
        self._remember("payment", paid)
        if not is_opened or moved.minor != minor:
            self._remember("misfit", paid)
        if not is_opened:
            return [paid]
        return [opened, paid] if self.rng.random() < 0.7 else [paid, opened]

    def reversal(self) -> list[SimulatedIntent]:
        """Return a refund or chargeback of a payment, or one that came back.

        It may come before the payment's own notice; a few are above the payment, or in another
        currency.
        """
        payment = self._recent_intent("payment")
        if payment is None:
            return self.deposit()
        verb = self.rng.choice(_REVERSALS)
        identity = self._identity(self.players[BRANDS.index(payment.brand)], "adyen", verb)
        leg = payment.legs[0]._replace(kind=KINDS[verb])
        draw = self.rng.random()
        if draw < _MISFIT_SHARE:
            leg = leg._replace(minor=2 * (leg.minor or 0))
        elif draw < 2 * _MISFIT_SHARE:
            leg = leg._replace(currency="SEK")
        reversal = simulated_intent(identity, None, (leg,), payment.identity)
        return [self._remember("misfit", reversal) if draw < 2 * _MISFIT_SHARE else reversal]

    def withdrawal(self) -> list[SimulatedIntent]:
        """Return one of a withdrawal's four messages, in any order."""
        request = self._recent_intent("withdrawal")
        if request is None or self.rng.random() < 0.4:
            player = self._player()
            leg = IntentLeg("WITHDRAWAL", self.rng.choice(WITHDRAWALS), self._currency(player))
            identity = self._identity(player, "house", Verb.WITHDRAWAL_REQUESTED)
            request = simulated_intent(identity, player, (leg,))
            self._remember("withdrawal", request)
            if self.rng.random() < 0.8:
                return [request]
            self._held_back.append(request)
        player = request.player or ""
        verb = self.rng.choice(
            (
                Verb.WITHDRAWAL_APPROVED,
                Verb.WITHDRAWAL_PAID,
                Verb.WITHDRAWAL_PAID,
                Verb.WITHDRAWAL_REFUSED,
            )
        )
        identity = self._identity(player, "house", verb)
        return [simulated_intent(identity, player, (IntentLeg(KINDS[verb]),), request.identity)]

    def bonus(self) -> list[SimulatedIntent]:
        """Return a bonus that is granted, mostly with a requirement, released or forfeited."""
        player = self._player()
        verb = self.rng.choice(
            (
                Verb.BONUS_GRANTED,
                Verb.BONUS_GRANTED,
                Verb.BONUS_RELEASED,
                Verb.BONUS_FORFEITED,
            )
        )
        leg = IntentLeg(
            KINDS[verb], self.rng.choice((0, 100, 500)), self._currency(player), campaign="c-1"
        )
        legs = [leg]
        if verb is Verb.BONUS_GRANTED and self.rng.random() < 0.7:
            legs.append(leg._replace(kind="WAGERING", minor=self.rng.choice((0, 300, 1_500))))
        return [simulated_intent(self._identity(player, "house", verb), player, tuple(legs))]

    def repeat(self) -> list[SimulatedIntent]:
        """Return an earlier intent again."""
        return [self.rng.choice(self._history[-40:])] if self._history else self.bet()

    def repeat_under_other_brand(self) -> list[SimulatedIntent]:
        """Return an earlier intent again, by a connector whose brand header has changed or is gone.

        What it refers to is then of that brand, too.
        """
        intent = self.repeat()[0]
        if intent.cancels is not None:
            return [intent]
        other = self.rng.choice([one for one in (*BRANDS, DEFAULT_BRAND) if one != intent.brand])
        identities = (intent.reference, *intent.other_references)
        reference, *others = ((other, *one[1:]) if one else None for one in identities)
        own, more = (other, *intent.identity[1:]), tuple(filter(None, others))
        return [replace(intent, identity=own, reference=reference, other_references=more)]

    def repeat_as_other_operation(self) -> list[SimulatedIntent]:
        """Return a bet's bytes as a win, or those of a win without a bet as a bet."""
        intent = self.repeat()[0]
        kinds = {"BET": Verb.WIN, "WIN": Verb.BET}
        leg = intent.legs[0]
        if intent.provider != "hub88" or intent.reference is not None or leg.kind not in kinds:
            return [intent]
        verb = kinds[leg.kind]
        legs = (leg._replace(kind=KINDS[verb]),)
        identity = (*intent.identity[:2], operation_of("hub88", verb), intent.identity[3])
        return [replace(intent, verb=verb, identity=identity, legs=legs)]

    def conflict(self) -> list[SimulatedIntent]:
        """Return an earlier intent with another amount."""
        intent = self.repeat()[0]
        leg = intent.legs[0]
        if leg.minor is None:
            return [intent]
        return [replace(intent, legs=(leg._replace(minor=leg.minor + 10), *intent.legs[1:]))]

    def call(self) -> list[SimulatedIntent]:
        """Return a call of several transactions, which stands or falls as a whole."""
        player, currency = self._player(), None
        items: list[SimulatedIntent] = []
        for verb in self.rng.choices(
            (Verb.BET, Verb.BET, Verb.WIN, Verb.ROLLBACK), k=self.rng.randint(1, 4)
        ):
            if currency is None or self.rng.random() < 0.1:
                currency = self._currency(player)
            items.append(self._call_item(player, verb, currency))
        kept = list({intent.identity: intent for intent in items}.values())
        self._calls = [*self._calls, kept][-RECENT:]
        return kept

    def _call_item(self, player: str, verb: Verb, currency: str) -> SimulatedIntent:
        identity = self._identity(player, BUNDLE, verb)
        round_id = f"r-{self.rng.randrange(1, 8)}"
        if verb is Verb.ROLLBACK:
            earlier = self._recent_intent("item of a call", player)
            tx_id = f"t{self.rng.randrange(1, 30)}" if earlier is None else earlier.identity[3]
            bet, win = ((*identity[:2], operation, tx_id) for operation in ("bet", "win"))
            leg = IntentLeg("ROLLBACK")
            return simulated_intent(
                identity, player, (leg,), bet, other_references=(win,), round_id=round_id
            )
        minor = self.rng.choice(BETS if verb is Verb.BET else WINS)
        leg = IntentLeg(KINDS[verb], minor, currency)
        intent = simulated_intent(identity, player, (leg,), round_id=round_id)
        return self._remember("item of a call", intent)

    def call_again(self) -> list[SimulatedIntent]:
        """Return an earlier call again: as it was, in another order, or of other transactions."""
        if not self._calls:
            return self.call()
        call = list(self.rng.choice(self._calls))
        draw = self.rng.random()
        if draw < 0.2:
            self.rng.shuffle(call)
        elif draw < 0.35:
            call.pop(self.rng.randrange(len(call)))
        elif draw < 0.5 and call:
            call.append(self._call_item(call[0].player or "", Verb.BET, "EUR"))
        elif draw < 0.6:
            leg = call[0].legs[0]
            changed = leg._replace(minor=None if leg.minor is None else leg.minor + 10)
            call[0] = replace(call[0], legs=(changed,))
        return list({intent.identity: intent for intent in call}.values()) or self.call()

    def pop_held_back(self) -> list[SimulatedIntent]:
        """Return an intent that was held back, after others that refer to it."""
        return (
            [self._held_back.pop(self.rng.randrange(len(self._held_back)))]
            if self._held_back
            else self.bet()
        )

    def heartbeat(self) -> list[SimulatedIntent]:
        """Return a heartbeat of the cashier."""
        identity = self._identity(self.players[0], "house", Verb.HEARTBEAT)
        return [simulated_intent(identity, None, (IntentLeg("HEARTBEAT"),))]


def group_into_records(
    intents: Sequence[SimulatedIntent], rng: Random
) -> list[list[SimulatedIntent]]:
    """Group intents into records: some payment notices of a brand share one, a call is one."""
    records: list[list[SimulatedIntent]] = []
    for intent in intents:
        last = records[-1] if records else None
        is_joined = (
            last is not None
            and last[0].identity[:2] == intent.identity[:2]
            and (intent.provider == BUNDLE or (intent.provider == "adyen" and rng.random() < 0.7))
        )
        if last is not None and is_joined:
            last.append(intent)
        else:
            records.append([intent])
    return records
