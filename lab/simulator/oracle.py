"""What the ledger must say, told as to a colleague: players, their money, and what became of each thing that was said.

Written from docs/ledger.md, not from the posting rules: no batches, books, fingerprints or event ids. It is told
everything in the order of the ledger's commits, and remembers all of it.
"""

from __future__ import annotations

from lab.simulator.intents import Place, Said
from lab.simulator.oracle_ledger import Unbookable
from lab.simulator.oracle_rules import Judge
from lab.simulator.oracle_state import BONUS, CASH, Decision, Memory, Told


class Oracle(Memory):
    """Listens to everything and answers."""

    def tell(self, said: Said, place: Place, player: str | None, said_at_ms: int) -> Told:
        """The answer to one attempt; `player` is whom the resolver found, where nobody was named."""
        heard = self.told.get((said.identity, place))
        if heard is None:
            heard = self.told[said.identity, place] = self._answer(said, place, player, said_at_ms)
        return heard

    def _answer(self, said: Said, place: Place, player: str | None, said_at_ms: int) -> Told:
        known = self.decided.get(said.identity)
        if known and not self._may_try_again(said, player, known):
            last = known[-1]
            if said.content != last.said.content:
                return Told("CONFLICT", "OTHER_CONTENT_UNDER_SAME_ID")
            if player and self.closed.get((said.identity, player)) == "CANCELLED":
                return Told("CANCELLED", "CONNECTOR_GAVE_UP")
            if last.told.outcome.startswith("REFUSED_") or last.told.outcome in ("TOMBSTONED", "UNRESOLVED"):
                return last.told
            return last.told._replace(outcome="EXISTS")
        judge = Judge(self, said, player, said_at_ms)
        before = {key: dict(wallet) for key, wallet in self.money.items() if key[0] == player}
        closed, wagering = dict(self.closed), dict(self.wagering)
        try:
            verdict = judge.into_debt(judge.decide(), before)
        except Unbookable as error:
            judge.give_back()
            self.closed, self.wagering, verdict = closed, wagering, ("UNRESOLVED", str(error))
        available = {currency: w[CASH] + w[BONUS] for (owner, currency), w in self.money.items() if owner == player}
        told = Told(*verdict, available)
        self.decided.setdefault(said.identity, []).append(Decision(player, said, place, told, judge.moved))
        return told

    def _may_try_again(self, said: Said, player: str | None, known: list[Decision]) -> bool:
        last = known[-1]
        if len(known) >= 100:
            return False
        if last.told.reason == "PLAYER_UNKNOWN" and player is not None:
            return not last.moved and said.content == last.said.content
        if last.told.reason == "BET_NOT_SEEN":
            bets = self.seen(said.reference, player)
            return said.content == last.said.content and any(bet.told.outcome == "POSTED" for bet in bets)
        may = self.policy(said).refused_id_reusable and said.decides
        return may and last.told.outcome.startswith("REFUSED_") and last.player == player
