"""The oracle: a second implementation of the ledger's rules that predicts every answer.

It is written from docs/explanation/ledger.md, not from the posting rules: it has no batches, books,
fingerprints or event ids. It gets every intent in the order of the ledger's commits and keeps all
of them.
"""

from __future__ import annotations

from lab.simulator.intents import AttemptKey, SimulatedIntent
from lab.simulator.oracle_ledger import Unbookable
from lab.simulator.oracle_rules import OracleRules
from lab.simulator.oracle_state import OracleAnswer, OracleDecision, OracleState

_DECISIONS_MAX = 100
_FINAL_OUTCOMES = ("TOMBSTONED", "UNRESOLVED")
"""A repeat gets these, as it gets refusals, unchanged; everything else becomes EXISTS."""


class Oracle(OracleState):
    """Predicts the ledger's answer to each attempt, in the order of the commits."""

    def answer(
        self, intent: SimulatedIntent, key: AttemptKey, player: str | None, intent_at_ms: int
    ) -> OracleAnswer:
        """Return the answer to one attempt, the same for the same attempt.

        `player` is the intent's own player, or the one that the resolver found.
        """
        known = self.answers.get((intent.identity, key))
        if known is None:
            known = self._answer(intent, key, player, intent_at_ms)
            self.answers[intent.identity, key] = known
        return known

    def _answer(
        self, intent: SimulatedIntent, key: AttemptKey, player: str | None, intent_at_ms: int
    ) -> OracleAnswer:
        known = self.decisions.get(intent.identity)
        if known and not self._may_decide_again(intent, player, known):
            return self._repeat(intent, player, known[-1])
        rules = OracleRules(self, intent, player, intent_at_ms)
        before = {key: dict(wallet) for key, wallet in self.money.items() if key[0] == player}
        closings, wagering = dict(self.closings), dict(self.wagering)
        try:
            verdict = rules.replace_debt_reason(rules.decide(), before)
        except Unbookable as error:
            rules.undo_movements()
            self.closings, self.wagering, verdict = closings, wagering, ("UNRESOLVED", str(error))
        answer = OracleAnswer(*verdict, self.available(player))
        self.decisions.setdefault(intent.identity, []).append(
            OracleDecision(player, intent, key, answer, rules.movements)
        )
        return answer

    def _repeat(
        self, intent: SimulatedIntent, player: str | None, last: OracleDecision
    ) -> OracleAnswer:
        """Return the answer to a further attempt of a decided transaction."""
        if intent.content != last.intent.content:
            return OracleAnswer("CONFLICT", "OTHER_CONTENT_UNDER_SAME_ID", self.available(player))
        if player and self.closings.get((intent.identity, player)) == "CANCELLED":
            return OracleAnswer("CANCELLED", "CONNECTOR_TIMED_OUT", self.available(player))
        outcome = last.answer.outcome
        if outcome.startswith("REFUSED_") or outcome in _FINAL_OUTCOMES:
            return last.answer
        return last.answer._replace(outcome="EXISTS")

    def _may_decide_again(
        self, intent: SimulatedIntent, player: str | None, known: list[OracleDecision]
    ) -> bool:
        last = known[-1]
        if len(known) >= _DECISIONS_MAX:
            return False
        if last.answer.reason == "PLAYER_UNKNOWN" and player is not None:
            return not last.movements and intent.content == last.intent.content
        if last.answer.reason == "BET_NOT_FOUND":
            bets = self.decisions_of(intent.reference, player)
            is_posted = any(bet.answer.outcome == "POSTED" for bet in bets)
            return intent.content == last.intent.content and is_posted
        may = self.policy(intent).refused_id_reusable and intent.decides
        return may and last.answer.outcome.startswith("REFUSED_") and last.player == player
