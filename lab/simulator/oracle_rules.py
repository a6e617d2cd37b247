"""The oracle's rules: the tables of docs/explanation/ledger.md, one method for each line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lab.conformance.intents import Identity, IntentLeg
from lab.simulator.oracle_ledger import (
    BOOKED,
    CLOSED,
    NOTED,
    NOTHING,
    Unbookable,
    bet_movements,
)
from lab.simulator.oracle_operators import OPERATOR_KINDS, OperatorRules
from lab.simulator.oracle_state import BONUS, CASH, HELD, OracleDecision, Verdict
from schemas.money import exponent_of

OTHER_OPERATION: Final = "ID_OF_OTHER_OPERATION"
OTHER_BRAND: Final = "PLAYER_OF_OTHER_BRAND"
_IN_DEBT: Final = {"POSTED": "BOOKED_INTO_DEBT", "CANCELLED": "REVERSED_INTO_DEBT"}


class OracleRules(OperatorRules):
    """Decides one intent and applies the decision to the oracle's state."""

    def decide(self) -> Verdict:
        """Return outcome and reason; the first rule that applies decides."""
        state, intent, player = self.state, self.intent, self.player
        if player is None:
            return self._decide_without_player()
        foreign = self._refuse_foreign(player)
        if foreign is not None:
            return foreign
        closed = state.closing_of(intent.identity, player)
        if closed not in (None, "PAID", "SETTLED"):
            return ("TOMBSTONED", "ROLLBACK_PRECEDED")
        if closed != "PAID":
            refusal = self._refusal(player) if intent.decides else self._win_refusal(player)
            if refusal:
                return refusal
        verdicts = [self._leg(leg) for leg in intent.legs]
        if closed == "PAID":
            for currency, _, _, minor, _ in list(self.movements):
                self.move(currency, HELD, f"psp:{intent.provider}", minor)
            return ("POSTED", "PAYMENT_PRECEDED")
        is_win = any(leg.kind in ("WIN", "JACKPOT_WIN") for leg in intent.legs)
        policy = state.policy(intent)
        is_kept = policy.rollback_after_win == "REFUSE" or policy.open_round_max_age_ms is not None
        if is_win and is_kept and intent.reference and not self.reference_closing():
            state.closings[intent.reference, player] = "SETTLED"
        return next(
            (v for v in verdicts if v not in (BOOKED, NOTED)),
            BOOKED if BOOKED in verdicts else NOTED,
        )

    def _refuse_foreign(self, player: str) -> Verdict | None:
        if self._is_of_other_brand(player):
            return self._refuse_other_brand()
        if self._is_known_as_other_operation():
            return ("REFUSED_REFERENCE" if self.intent.decides else "UNRESOLVED", OTHER_OPERATION)
        return None

    def _is_of_other_brand(self, player: str) -> bool:
        kinds = {leg.kind for leg in self.intent.legs}
        moves_money = bool(kinds - {"PLAYER_STATE", "INFORMATIONAL", "HEARTBEAT", "ROUND_CLOSE"})
        return moves_money and self.state.brands.get(player, self.intent.brand) != self.intent.brand

    def _is_known_as_other_operation(self) -> bool:
        brand, provider, own, tx_id = self.intent.identity
        exclusive = self.state.policy(self.intent).exclusive_operations
        if own not in exclusive:
            return False
        return any(
            decision.answer.reason != OTHER_OPERATION
            for operation in exclusive
            if operation != own
            for decision in self.state.decisions.get((brand, provider, operation, tx_id), [])
        )

    def _refuse_other_brand(self) -> Verdict:
        """Refuse a decision; put payments into suspense; do nothing about anything else."""
        if self.intent.decides:
            return ("REFUSED_BLOCKED", OTHER_BRAND)
        self._suspend_payments()
        return ("UNRESOLVED", OTHER_BRAND)

    def replace_debt_reason(
        self, verdict: Verdict, before: Mapping[tuple[str, str], Mapping[str, int]]
    ) -> Verdict:
        """Replace the reason if a wallet's cash or bonus fell below zero, or further below."""
        empty = {CASH: 0, BONUS: 0}
        for currency in {move[0] for move in self.movements} if self.player else ():
            was, now = before.get((self.player or "", currency), empty), self.wallet(currency)
            if any(now[account] < min(was[account], 0) for account in (CASH, BONUS)):
                return (verdict[0], _IN_DEBT[verdict[0]])
        return verdict

    def _refusal(self, player: str) -> Verdict | None:
        state, (leg, *_) = self.state, self.intent.legs
        currency, minor, is_bet = leg.currency or "", leg.minor or 0, leg.kind == "BET"
        levels = {level for (owner, _), (_, level) in state.standings.items() if owner == player}
        if "player.blocked" in levels:
            return ("REFUSED_BLOCKED", "PLAYER_BLOCKED")
        if "player.held" in levels and not is_bet:
            return ("REFUSED_BLOCKED", "WITHDRAWALS_HELD")
        has_others = any(
            version for (owner, _), version in state.versions.items() if owner == player
        )
        if has_others and not state.versions[player, currency]:
            return ("REFUSED_CURRENCY", "NO_WALLET_IN_CURRENCY")
        if leg.is_free:
            return None
        _, most = state.limits.get((player, currency), (0, None))
        if is_bet and most is not None and minor > most:
            return ("REFUSED_LIMIT", "BET_OVER_LIMIT")
        cash, bonus, _ = self.wallet(currency).values()
        funds = cash + bonus if is_bet else min(cash, cash + bonus)
        return ("REFUSED_FUNDS", "NOT_ENOUGH_MONEY") if minor > max(funds, 0) else None

    def _win_refusal(self, player: str) -> Verdict | None:
        state, intent = self.state, self.intent
        if intent.reference is None or not any(leg.kind == "WIN" for leg in intent.legs):
            return None
        policy, closed = state.policy(intent), self.reference_closing()
        if closed in ("REVERSED", "CANCELLED"):
            if policy.win_after_rollback == "REFUSE":
                return ("REFUSED_REFERENCE", "BET_ROLLED_BACK")
            if state.decisions_of(intent.reference, player):
                return None
        if policy.win_without_bet == "REFUSE" and not state.posted_decision(
            intent.reference, player
        ):
            return ("REFUSED_REFERENCE", "BET_NOT_FOUND")
        return None

    def _leg(self, leg: IntentLeg) -> Verdict:
        brand, provider = self.intent.identity[:2]
        currency, minor = leg.currency or "", leg.minor or 0
        psp, promotions = f"psp:{provider}", f"promotions:{brand}"
        simple = {
            "JACKPOT_WIN": (f"jackpot:{provider}", CASH),
            "DEPOSIT": (psp, CASH),
            "DEPOSIT_REVERSAL": (CASH, psp),
            "BONUS_GRANT": (promotions, BONUS),
        }
        if leg.kind in simple:
            misfit = self._payment_misfit(leg) or self._opened_misfit(leg)
            if misfit and misfit[0] == "UNRESOLVED":
                self.move_in_house(currency, *self._suspense_accounts(leg), minor)
                return misfit
            suspended = self._suspended_by_sum(leg)
            self.move_in_house(currency, *self._suspense_accounts(leg), suspended)
            if suspended < minor or not minor:
                self.move(currency, *simple[leg.kind], minor - suspended)
            if suspended:
                return ("UNRESOLVED", "ABOVE_PAYMENT")
            return misfit or BOOKED if leg.kind != "BONUS_GRANT" else self._grant(currency)
        if leg.kind == "WIN":
            return self._win(promotions if leg.is_free else f"provider:{provider}", currency, minor)
        if leg.kind in ("BONUS_RELEASE", "BONUS_FORFEIT"):
            return self._end_bonus(
                currency, CASH if leg.kind == "BONUS_RELEASE" else promotions, minor
            )
        rules = {
            "BET": self._bet,
            "ADJUSTMENT": self.adjustment,
            "PLAYER_STATE": self._state,
            "ROLLBACK": self._rollback,
            "CANCEL": self._cancel,
            "WITHDRAWAL": self._withdrawal,
            "WITHDRAWAL_REVERSAL": self._refuse,
            **dict.fromkeys(OPERATOR_KINDS, self.operator_leg),
        }
        return rules[leg.kind](leg) if leg.kind in rules else NOTED

    def _bet(self, leg: IntentLeg) -> Verdict:
        if leg.is_free:
            return ("POSTED", "FREE_ROUND")
        currency, minor = leg.currency or "", leg.minor or 0
        wallet, table = self.wallet(currency), f"provider:{self.intent.provider}"
        from_bonus = min(max(wallet[BONUS], 0), max(minor - max(wallet[CASH], 0), 0))
        self.move(currency, CASH, table, minor - from_bonus)
        self.move(currency, BONUS, table, from_bonus)
        left, since = self.wagering_requirement(currency)
        if not left or not minor:
            return BOOKED
        self.state.wagering[self.player or "", currency] = (max(left - minor, 0), since)
        if left > minor:
            return BOOKED
        self.move(currency, BONUS, CASH, max(wallet[BONUS], 0))
        return ("POSTED", "WAGERING_MET")

    def _win(self, payer: str, currency: str, minor: int) -> Verdict:
        if not currency:
            currency, minor = self._currency_of_bet(minor)
        to_bonus = 0
        if self.wagering_requirement(currency)[0]:
            bet = self.state.posted_decision(self.intent.reference, self.player)
            taken = bet_movements(bet)
            to_bonus = minor if self.wallet(currency)[CASH] <= 0 else 0
            if taken:
                to_bonus = (
                    minor * sum(m[3] for m in taken if m[1] == BONUS) // sum(m[3] for m in taken)
                )
        self.move(currency, payer, CASH, minor - to_bonus)
        self.move(currency, payer, BONUS, to_bonus)
        return BOOKED

    def _currency_of_bet(self, hundredths: int) -> tuple[str, int]:
        """Return currency and minor units of a win that names no currency, from its bet.

        Raises Unbookable.
        """
        bet = self.state.posted_decision(self.intent.reference, self.player)
        currency = bet.intent.legs[0].currency if bet else None
        if currency is None:
            raise Unbookable("CURRENCY_UNKNOWN")
        minor, rest = divmod(hundredths * 10 ** exponent_of(currency), 100)
        if rest:
            raise Unbookable("AMOUNT_DOES_NOT_FIT")
        return currency, minor

    def wagering_requirement(self, currency: str) -> tuple[int, int]:
        """Return the amount that is left to bet, and the wallet's version at its grant."""
        return self.state.wagering.get((self.player or "", currency), (0, 0))

    def _grant(self, currency: str) -> Verdict:
        key = (self.player or "", currency)
        left, since = self.wagering_requirement(currency)
        required = sum(leg.minor or 0 for leg in self.intent.legs if leg.kind == "WAGERING")
        self.state.wagering[key] = (left + required, since if left else self.state.versions[key])
        if not left + required:
            del self.state.wagering[key]
        return BOOKED

    def _end_bonus(self, currency: str, target: str, minor: int) -> Verdict:
        taken = min(minor, max(self.wallet(currency)[BONUS], 0))
        self.move(currency, BONUS, target, taken)
        if self.wallet(currency)[BONUS] <= 0 and self.wagering_requirement(currency)[0]:
            del self.state.wagering[self.player or "", currency]
        return BOOKED if taken == minor else ("POSTED", "BONUS_IN_PART")

    def _state(self, leg: IntentLeg) -> Verdict:
        intent, player, at_ms = self.intent, self.player or "", self.intent_at_ms
        limits, standings = self.state.limits, self.state.standings
        is_limit = intent.operation in ("player.limited", "player.unlimited")
        old = (
            limits.get((player, leg.currency or ""))
            if is_limit
            else standings.get((player, intent.source))
        )
        if old and old[0] > at_ms and intent.source not in ("operator", "alert"):
            return ("POSTED", "STALE_STATE")
        if is_limit:
            limits[player, leg.currency or ""] = (at_ms, leg.minor)
        else:
            operation = intent.operation
            if intent.source == "alert" and operation == "player.held" and old:
                operation = old[1] if old[1] == "player.blocked" else operation
            standings[player, intent.source] = (at_ms, operation)
        return BOOKED

    def _withdrawal(self, leg: IntentLeg) -> Verdict:
        if self.intent.reference:
            return self._pay(self.intent.reference)
        self.move(leg.currency or "", CASH, HELD, leg.minor or 0)
        return BOOKED

    def _refuse(self, _: IntentLeg) -> Verdict:
        was = self.reference_closing()
        verdict = self.reverse("REFUSED")
        return (
            ("UNRESOLVED", "REFUSED_AFTER_PAYMENT")
            if (verdict, was) == (CLOSED, "PAID")
            else verdict
        )

    def _rollback(self, _: IntentLeg) -> Verdict:
        if (
            self.reference_closing() == "SETTLED"
            and self.state.policy(self.intent).rollback_after_win == "REFUSE"
        ):
            return ("REFUSED_REFERENCE", "BET_SETTLED")
        return self.reverse("REVERSED")

    def _cancel(self, _: IntentLeg) -> Verdict:
        seen = self.state.decisions_of(self.intent.reference, self.player)
        if seen and seen[-1].attempt_key != self.intent.cancels:
            return ("CANCELLED", "ATTEMPT_MOVED_NOTHING")
        verdict = self.reverse("CANCELLED")
        return ("CANCELLED", "REVERSED" if verdict == BOOKED else verdict[1])

    def _pay(self, request: Identity) -> Verdict:
        target, was = self.referenced_decision(), self.reference_closing()
        if target == NOTHING or (target == CLOSED and was != "PAID"):
            return ("UNRESOLVED", "PAID_WITHOUT_HOLD")
        self.state.closings[request, self.player or ""] = "PAID"
        if not isinstance(target, OracleDecision):
            return target
        for currency, _, _, minor, _ in target.movements:
            self.move(currency, HELD, f"psp:{self.intent.provider}", minor)
        return BOOKED

    def _payment_misfit(self, leg: IntentLeg) -> Verdict | None:
        """Return why a reversal, or what comes back, cannot be of the payment that it names."""
        state, intent = self.state, self.intent
        if leg.kind not in ("DEPOSIT", "DEPOSIT_REVERSAL") or intent.reference is None:
            return None
        if state.policy(intent).reversal_beyond_payment == "BOOK":
            return None
        payment = state.posted_decision(intent.reference, self.player)
        if intent.reference[1] == "house":
            return None
        payment = payment or self.assigned_payment(intent.reference)
        if payment is None:
            seen = state.decisions_of(intent.reference, self.player)
            is_suspended = bool(seen) and seen[-1].answer.reason.startswith("OPENED_")
            return ("UNRESOLVED", "PAYMENT_IN_SUSPENSE") if is_suspended else None
        currency = payment.intent.legs[0].currency or payment.movements[0][0]
        if currency != leg.currency:
            return ("UNRESOLVED", "PAYMENT_CURRENCY_DIFFERS")
        paid = sum(minor for _, _, _, minor, _ in payment.movements)
        return ("UNRESOLVED", "ABOVE_PAYMENT") if (leg.minor or 0) > paid else None

    def _suspended_by_sum(self, leg: IntentLeg) -> int:
        """Return how much of a leg waits in suspense, by what was taken of its payment before."""
        state, intent, minor = self.state, self.intent, leg.minor or 0
        payment = intent.reference
        if leg.kind not in ("DEPOSIT", "DEPOSIT_REVERSAL") or payment is None:
            return 0
        is_compared = state.policy(intent).reversal_beyond_payment != "BOOK"
        if payment[1] == "house" or not is_compared:
            return 0
        key = (self.player, payment, leg.currency or "")
        taken, waiting = state.reversals.get(key, (0, 0))
        if leg.kind == "DEPOSIT":
            given = min(waiting, minor)
            state.reversals[key] = (taken - minor + given, waiting - given)
            return given
        posted = state.posted_decision(payment, self.player) or self.assigned_payment(payment)
        if posted is not None and taken + minor > sum(move[3] for move in posted.movements):
            state.reversals[key] = (taken, waiting + minor)
            return minor
        state.reversals[key] = (taken + minor, waiting)
        return 0

    def _opened_misfit(self, leg: IntentLeg) -> Verdict | None:
        """Return how a payment differs from the deposit that was opened for its provider."""
        state, intent = self.state, self.intent
        if leg.kind != "DEPOSIT" or intent.reference is None or intent.reference[1] != "house":
            return None
        opened = state.decisions.get(intent.reference, [])
        if not opened or opened[0].player != self.player:
            return None
        expected = opened[0].intent
        if expected.detail("psp") != intent.provider:
            return None
        placed = state.policy(intent).opened_amount_differs
        outcome = "UNRESOLVED" if placed == "SUSPENSE" else "POSTED"
        if expected.legs[0].currency != leg.currency:
            return (outcome, "OPENED_CURRENCY_DIFFERS")
        return (outcome, "OPENED_AMOUNT_DIFFERS") if expected.legs[0].minor != leg.minor else None

    def _suspense_accounts(self, leg: IntentLeg) -> tuple[str, str]:
        psp, suspense = f"psp:{self.intent.provider}", f"suspense:{self.intent.provider}"
        return (psp, suspense) if leg.kind == "DEPOSIT" else (suspense, psp)

    def _suspend_payments(self) -> None:
        for leg in self.intent.legs:
            if leg.kind in ("DEPOSIT", "DEPOSIT_REVERSAL"):
                self.move_in_house(
                    leg.currency or "", *self._suspense_accounts(leg), leg.minor or 0
                )

    def _decide_without_player(self) -> Verdict:
        self._suspend_payments()
        kinds, reference = {leg.kind for leg in self.intent.legs}, self.intent.reference
        if kinds <= OPERATOR_KINDS:
            return self.operator_leg(self.intent.legs[0])
        if kinds <= {"INFORMATIONAL", "HEARTBEAT"}:
            return NOTED
        if reference is not None and reference not in self.state.decisions:
            if "WIN" in kinds and self.state.policy(self.intent).win_without_bet == "REFUSE":
                return ("REFUSED_REFERENCE", "BET_NOT_FOUND")
            if "ROLLBACK" in kinds:
                self.state.closings.setdefault((reference, None), "REVERSED")
        return ("UNRESOLVED", "PLAYER_UNKNOWN")
