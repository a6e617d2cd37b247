"""What the ledger must say, told as to a colleague: players, their money, and what became of each
thing that was said.

Written from docs/ledger.md, not from the posting rules: no batches, books, fingerprints or event
ids. It is told everything in the order of the ledger's commits, and remembers all of it.
"""

from __future__ import annotations

from lab.simulator.intents import AttemptKey, Intent
from lab.simulator.oracle_ledger import Unbookable
from lab.simulator.oracle_rules import OracleRules
from lab.simulator.oracle_state import BONUS, CASH, OracleAnswer, OracleDecision, OracleState


class Oracle(OracleState):
    """Listens to everything and answers."""

    def answer(
        self, said: Intent, place: AttemptKey, player: str | None, said_at_ms: int
    ) -> OracleAnswer:
        """The answer to one attempt; `player` is whom the resolver found, where nobody was named."""
        heard = self.answers.get((said.identity, place))
        if heard is None:
            heard = self.answers[said.identity, place] = self._answer(
                said, place, player, said_at_ms
            )
        return heard

    def _answer(
        self, said: Intent, place: AttemptKey, player: str | None, said_at_ms: int
    ) -> OracleAnswer:
        known = self.decisions.get(said.identity)
        if known and not self._may_try_again(said, player, known):
            last = known[-1]
            if said.content != last.intent.content:
                return OracleAnswer("CONFLICT", "OTHER_CONTENT_UNDER_SAME_ID")
            if player and self.closings.get((said.identity, player)) == "CANCELLED":
                return OracleAnswer("CANCELLED", "CONNECTOR_TIMED_OUT")
            if last.answer.outcome.startswith("REFUSED_") or last.answer.outcome in (
                "TOMBSTONED",
                "UNRESOLVED",
            ):
                return last.answer
            return last.answer._replace(outcome="EXISTS")
        judge = OracleRules(self, said, player, said_at_ms)
        before = {key: dict(wallet) for key, wallet in self.money.items() if key[0] == player}
        closed, wagering = dict(self.closings), dict(self.wagering)
        try:
            verdict = judge.replace_debt_reason(judge.decide(), before)
        except Unbookable as error:
            judge.undo_movements()
            self.closings, self.wagering, verdict = closed, wagering, ("UNRESOLVED", str(error))
        available = {
            currency: w[CASH] + w[BONUS]
            for (owner, currency), w in self.money.items()
            if owner == player
        }
        told = OracleAnswer(*verdict, available)
        self.decisions.setdefault(said.identity, []).append(
            OracleDecision(player, said, place, told, judge.movements)
        )
        return told

    def _may_try_again(self, said: Intent, player: str | None, known: list[OracleDecision]) -> bool:
        last = known[-1]
        if len(known) >= 100:
            return False
        if last.answer.reason == "PLAYER_UNKNOWN" and player is not None:
            return not last.movements and said.content == last.intent.content
        if last.answer.reason == "BET_NOT_FOUND":
            bets = self.decisions_of(said.reference, player)
            return said.content == last.intent.content and any(
                bet.answer.outcome == "POSTED" for bet in bets
            )
        may = self.policy(said).refused_id_reusable and said.decides
        return may and last.answer.outcome.startswith("REFUSED_") and last.player == player
