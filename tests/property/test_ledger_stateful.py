"""Hypothesis plays the simulated world itself: messages, faults and their times; and makes what fails short.

The same real ledger, normaliser and resolver as in `pitboss simulate`, held against the same oracle; only that here a
state machine decides, and not a seed.
"""

from __future__ import annotations

import asyncio
import logging
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from lab.conformance.intents import IntentLeg
from lab.simulator.checks import find_failures
from lab.simulator.faults import FAULT_POINTS
from lab.simulator.intents import SimulatedIntent, simulated_intent
from lab.simulator.run import SimulatedLoop
from lab.simulator.simulation import Simulation
from lab.simulator.workers import LEDGER, NORMALISE, RESOLVE
from schemas.policies import LedgerPolicy

PLAYERS = st.sampled_from(["p-1", "p-2"])
IDS = st.sampled_from(["a", "b", "c"])
AMOUNTS = st.integers(0, 400)
TREATMENTS = st.sampled_from(["BOOK", "REFUSE"])
STRIKES = st.sampled_from(
    [
        (role, point, fault)
        for role, points in FAULT_POINTS.items()
        for point, faults in points.items()
        for fault in faults
    ]
)


def intent(*arguments, **more) -> SimulatedIntent:
    operation, provider, tx_id, player, legs = arguments
    game = "7" if provider in {"hub88", "playngo"} else None
    return simulated_intent(("acme", provider, operation, tx_id), player, legs, game=game, **more)


class Casino(RuleBasedStateMachine):
    """Two players, three ids: everything meets everything."""

    @initialize(
        seed=st.integers(0, 2**16),
        workers=st.integers(1, 3),
        reusable=st.booleans(),
        treatments=st.tuples(TREATMENTS, TREATMENTS, TREATMENTS),
        funds=st.integers(0, 1_000),
    )
    def begin(self, seed, workers, reusable, treatments, funds):
        logging.getLogger("ledger_sink").setLevel(logging.CRITICAL)
        without_bet, after_rollback, rollback = treatments
        policy = LedgerPolicy(
            refused_id_reusable=reusable,
            win_without_bet=without_bet,
            win_after_rollback=after_rollback,
            rollback_after_win=rollback,
        )
        self.loop = SimulatedLoop()
        self.records = []
        self.loop.run_until_complete(
            self.make(Random(seed), {"hub88": policy, "playngo": policy}, workers)
        )
        for player in ("p-1", "p-2"):
            self.say(
                intent(
                    "adjustment",
                    "house",
                    f"first-{player}",
                    player,
                    (IntentLeg("ADJUSTMENT", funds, "EUR"),),
                )
            )

    async def make(self, rng, policies, workers):
        self.world = Simulation(rng, policies, lambda _: None, partitions=2)
        for role, size in ((NORMALISE, 1), (LEDGER, workers), (RESOLVE, 1)):
            for _ in range(size):
                self.world.groups[role].join()

    def say(self, *items: SimulatedIntent) -> None:
        async def append():
            self.records.append(self.world.append_intents(items))

        self.loop.run_until_complete(append())

    @rule(player=PLAYERS, tx_id=IDS, minor=AMOUNTS, is_free=st.booleans())
    def bet(self, player, tx_id, minor, is_free):
        leg = IntentLeg("BET", minor, "EUR", is_free, "free" if is_free else None)
        self.say(intent("bet", "hub88", tx_id, player, (leg,), round_id="r"))

    @rule(player=PLAYERS, tx_id=IDS, of=IDS, minor=AMOUNTS)
    def win(self, player, tx_id, of, minor):
        bet = ("acme", "hub88", "bet", of)
        self.say(
            intent(
                "win",
                "hub88",
                tx_id,
                player,
                (IntentLeg("WIN", minor, "EUR"),),
                reference=bet,
                round_id="r",
            )
        )

    @rule(player=PLAYERS, tx_id=IDS, of=IDS)
    def rollback(self, player, tx_id, of):
        bet = ("acme", "hub88", "bet", of)
        self.say(
            intent(
                "rollback",
                "hub88",
                tx_id,
                player,
                (IntentLeg("ROLLBACK"),),
                reference=bet,
                round_id="r",
            )
        )

    @rule(player=PLAYERS, tx_id=IDS, minor=AMOUNTS, is_cancelled=st.booleans())
    def reserve(self, player, tx_id, minor, is_cancelled):
        """Play'n GO cancels under the bet's own id."""
        reserve = ("acme", "playngo", "reserve", tx_id)
        operation, kind, reference = (
            ("cancelReserve", "ROLLBACK", reserve) if is_cancelled else ("reserve", "BET", None)
        )
        legs = (IntentLeg(kind, minor, "EUR"),)
        self.say(
            intent(
                operation,
                "playngo",
                tx_id,
                player,
                legs,
                reference=reference,
                round_id="r",
            )
        )

    @rule(player=PLAYERS, tx_id=IDS, minor=AMOUNTS, wagering=st.none() | AMOUNTS)
    def bonus(self, player, tx_id, minor, wagering):
        leg = IntentLeg("BONUS_GRANT", minor, "EUR", campaign="c")
        legs = (leg,) if wagering is None else (leg, leg._replace(kind="WAGERING", minor=wagering))
        self.say(intent("bonus.granted", "house", tx_id, player, legs))

    @rule(
        player=PLAYERS,
        tx_id=IDS,
        of=IDS,
        minor=AMOUNTS,
        what=st.sampled_from(["requested", "paid", "refused"]),
    )
    def withdrawal(self, player, tx_id, of, minor, what):
        request = ("acme", "house", "withdrawal.requested", of)
        if what == "requested":
            leg = IntentLeg("WITHDRAWAL", minor, "EUR")
            self.say(intent("withdrawal.requested", "house", of, player, (leg,)))
        else:
            leg = IntentLeg("WITHDRAWAL" if what == "paid" else "WITHDRAWAL_REVERSAL")
            self.say(
                intent(f"withdrawal.{what}", "house", tx_id, player, (leg,), reference=request)
            )

    @rule(
        player=PLAYERS,
        tx_id=IDS,
        of=IDS,
        minor=AMOUNTS,
        is_opened=st.booleans(),
        is_refund=st.booleans(),
    )
    def deposit(self, player, tx_id, of, minor, is_opened, is_refund):
        leg = IntentLeg("INFORMATIONAL", minor, "EUR")
        if is_opened:
            self.say(intent("deposit.opened", "house", of, player, (leg,)))
        opened, paid = (
            ("acme", "house", "deposit.opened", of),
            ("acme", "adyen", "AUTHORISATION", tx_id),
        )
        self.say(simulated_intent(paid, None, (leg._replace(kind="DEPOSIT"),), opened))
        if is_refund:
            refund = ("acme", "adyen", "REFUND", tx_id)
            self.say(simulated_intent(refund, None, (leg._replace(kind="DEPOSIT_REVERSAL"),), paid))

    @rule(player=PLAYERS, tx_id=IDS, what=st.sampled_from(["blocked", "held", "released"]))
    def state(self, player, tx_id, what):
        self.say(intent(f"player.{what}", "house", tx_id, player, (IntentLeg("PLAYER_STATE"),)))

    @rule(which=st.integers(0, 50), gives_up=st.booleans())
    def connector_comes_again(self, which, gives_up):
        record = self.records[which % len(self.records)]

        async def again():
            (self.world.append_cancel if gives_up else self.world.append_again)(record)

        self.loop.run_until_complete(again())

    @rule(strike=STRIKES, seconds=st.sampled_from([1.0, 20.0]))
    def strike(self, strike, seconds):
        role, point, fault = strike
        self.world.arm(role, point, fault, seconds)

    @rule(role=st.sampled_from([LEDGER, RESOLVE, NORMALISE]), is_new=st.booleans())
    def rebalance(self, role, is_new):
        async def change():
            group = self.world.groups[role]
            group.join() if is_new and group.size < 3 else group.rebalance()

        self.loop.run_until_complete(change())

    @rule(seconds=st.sampled_from([0.01, 0.3, 3.0]))
    def time_passes(self, seconds):
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @invariant()
    def no_worker_has_written_what_another_has_claimed(self):
        if hasattr(self, "world"):
            assert self.world.server.violations == []

    def teardown(self):
        if not hasattr(self, "world"):
            return
        try:
            self.loop.run_until_complete(self.world.settle())
            assert self.loop.run_until_complete(find_failures(self.world)) == []
        finally:
            self.loop.run_until_complete(self.world.close())
            self.loop.close()


def play_settings(examples: int, steps: int):
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def test_any_casino_with_any_misfortune():
    run_state_machine_as_test(Casino, settings=play_settings(20, 40))


@pytest.mark.prove
@pytest.mark.timeout(1_800)
def test_many_casinos():
    run_state_machine_as_test(Casino, settings=play_settings(2_000, 60))
