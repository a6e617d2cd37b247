"""The oracle: a second implementation of the ledger's rules that predicts every answer.

It is written from docs/explanation/ledger.md, not from the posting rules: it has no batches, books,
fingerprints or event ids. It gets every intent in the order of the ledger's commits and keeps all
of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Final, TypeAlias

from lab.conformance.intents import Identity
from lab.simulator.intents import AttemptKey, SimulatedIntent
from lab.simulator.oracle_ledger import Unbookable
from lab.simulator.oracle_rules import OracleRules
from lab.simulator.oracle_state import (
    Movement,
    OracleAnswer,
    OracleDecision,
    OracleState,
    Verdict,
)

Attempted: TypeAlias = tuple[SimulatedIntent, AttemptKey]
"""An intent, and the attempt by which it came."""

_OF_CURRENCY: Final = ("CURRENCY_UNKNOWN", "CURRENCIES_DIFFER")
_DECISIONS_MAX = 100
_FINAL_OUTCOMES = ("TOMBSTONED", "UNRESOLVED")
"""A repeat gets these, as it gets refusals, unchanged; everything else becomes EXISTS."""


class Oracle(OracleState):
    """Predicts the ledger's answer to each attempt, in the order of the commits."""

    def answer(
        self,
        intent: SimulatedIntent,
        key: AttemptKey,
        player: str | None,
        intent_at_ms: int,
        group: Sequence[Attempted] = (),
    ) -> OracleAnswer:
        """Return the answer to one attempt, the same for the same attempt.

        `player` is the intent's own player, or the one that the resolver found. `group` are the
        attempts that are decided together with this one, itself included.
        """
        known = self.answers.get((intent.identity, key))
        if known is not None:
            return known
        if len(group) > 1:
            for (one, attempt), answer in zip(
                group, self._answer_group(group, player, intent_at_ms), strict=True
            ):
                self.answers[one.identity, attempt] = answer
        else:
            self.answers[intent.identity, key] = self._answer(intent, key, player, intent_at_ms)
        return self.answers[intent.identity, key]

    def _answer(
        self, intent: SimulatedIntent, key: AttemptKey, player: str | None, intent_at_ms: int
    ) -> OracleAnswer:
        known = self.decisions.get(intent.identity)
        if known and not self._may_decide_again(intent, player, known):
            return self._repeat(intent, player, known[-1])
        verdict, movements, _ = self._try(intent, player, intent_at_ms, is_decision=intent.decides)
        return self._record(intent, key, player, verdict, movements)

    def _answer_group(
        self, group: Sequence[Attempted], player: str | None, at_ms: int
    ) -> list[OracleAnswer]:
        """Book all of a call, or nothing of it."""
        identities = frozenset(intent.identity for intent, _ in group)
        known = [intent for intent, _ in group if intent.identity in self.decisions]
        if known and not self._may_decide_call_again(known, player):
            return self._repeat_call(group, player, identities)
        before = deepcopy((self.money, self.versions, self.house, self.closings, self.wagering))
        brands = dict(self.brands)
        decisions = {identity: list(seen) for identity, seen in self.decisions.items()}
        is_decision = any(intent.decides for intent, _ in group)
        answers = []
        for intent, key in group:
            verdict, movements, is_booked = self._try(
                intent, player, at_ms, is_decision=is_decision
            )
            if not is_booked or verdict[0].startswith("REFUSED_"):
                self.money, self.versions, self.house, self.closings, self.wagering = before
                self.decisions, self.brands = decisions, brands
                return [
                    self._record(one, attempt, player, verdict, [], identities)
                    for one, attempt in group
                ]
            answers.append(self._record(intent, key, player, verdict, movements, identities))
        return answers

    def _repeat_call(
        self, group: Sequence[Attempted], player: str | None, identities: frozenset[Identity]
    ) -> list[OracleAnswer]:
        """Answer a call again that was decided; any other composition of it is a conflict."""
        lasts = [self.decisions.get(intent.identity, [None])[-1] for intent, _ in group]
        reason = None
        if any(last is None or last.group != identities for last in lasts):
            reason = "DECIDED_WITH_OTHERS"
        elif any(
            last is not None and last.intent.content != intent.content
            for last, (intent, _) in zip(lasts, group, strict=True)
        ):
            reason = "OTHER_CONTENT_UNDER_SAME_ID"
        if reason is not None:
            return [OracleAnswer("CONFLICT", reason, self.available(player))] * len(group)
        return [
            self._repeat(intent, player, last)
            for last, (intent, _) in zip(lasts, group, strict=True)
            if last is not None
        ]

    def _may_decide_call_again(self, known: Sequence[SimulatedIntent], player: str | None) -> bool:
        lasts = [self.decisions[intent.identity][-1] for intent in known]
        refused = all(last.answer.outcome.startswith("REFUSED_") for last in lasts)
        counts = [len(self.decisions[intent.identity]) for intent in known]
        if not refused or max(counts) >= _DECISIONS_MAX:
            return False
        if any(last.player != player for last in lasts):
            return False
        if self.policy(known[0]).refused_id_reusable and any(one.decides for one in known):
            return True
        return all(
            last.answer.reason == "BET_NOT_FOUND" and last.intent.content == intent.content
            for last, intent in zip(lasts, known, strict=True)
        ) and any(self._is_target_posted(intent, player) for intent in known)

    def _try(
        self, intent: SimulatedIntent, player: str | None, at_ms: int, *, is_decision: bool
    ) -> tuple[Verdict, list[Movement], bool]:
        """Return the verdict, the movements, and whether the intent could be booked at all."""
        rules = OracleRules(self, self.resolve(intent, player), player, at_ms)
        before = {key: dict(wallet) for key, wallet in self.money.items() if key[0] == player}
        closings, wagering, reversals = (
            dict(self.closings),
            dict(self.wagering),
            dict(self.reversals),
        )
        try:
            verdict = rules.replace_debt_reason(rules.decide(), before)
        except Unbookable as error:
            rules.undo_movements()
            self.closings, self.wagering, self.reversals = closings, wagering, reversals
            is_refused = is_decision and str(error) in _OF_CURRENCY
            return ("REFUSED_CURRENCY" if is_refused else "UNRESOLVED", str(error)), [], False
        return verdict, rules.movements, True

    def _record(
        self,
        intent: SimulatedIntent,
        key: AttemptKey,
        player: str | None,
        verdict: Verdict,
        movements: list[Movement],
        group: frozenset[Identity] = frozenset(),
    ) -> OracleAnswer:
        if player is not None and any(version for *_, version in movements):
            self.brands.setdefault(player, intent.brand)
        answer = OracleAnswer(*verdict, self.available(player))
        self.decisions.setdefault(intent.identity, []).append(
            OracleDecision(player, intent, key, answer, movements, group)
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
        if len(known) >= _DECISIONS_MAX or intent.identity in self.item_ends:
            return False
        if last.answer.reason == "PLAYER_UNKNOWN" and player is not None:
            return not last.movements and intent.content == last.intent.content
        if last.answer.reason == "BET_NOT_FOUND":
            is_posted = self._is_target_posted(intent, player)
            return intent.content == last.intent.content and is_posted
        may = self.policy(intent).refused_id_reusable and intent.decides
        return may and last.answer.outcome.startswith("REFUSED_") and last.player == player

    def _is_target_posted(self, intent: SimulatedIntent, player: str | None) -> bool:
        bets = self.decisions_of(self.resolve(intent, player).reference, player)
        return any(bet.answer.outcome == "POSTED" for bet in bets)
