"""The oracle's rules of operators: limits of one person, proposals, and what waits for a person."""

from __future__ import annotations

from typing import Final

from lab.conformance.intents import Identity, IntentLeg
from lab.simulator.oracle_ledger import BOOKED, CLOSED, NOTED, OracleLedger
from lab.simulator.oracle_state import CASH, OracleDecision, Verdict

OPERATOR_KINDS: Final = frozenset(
    {"SUSPENSE_ASSIGNMENT", "SUSPENSE_RETURN", "ANSWER", "PROPOSAL", "OPERATOR_LIMIT"}
)
_TWO_NEEDED: Final = ("REFUSED_LIMIT", "SECOND_PERSON_REQUIRED")
_NOT_SEEN: Final = ("REFUSED_REFERENCE", "PROPOSAL_NOT_SEEN")


class OperatorRules(OracleLedger):
    """Decides the acts of operators."""

    def operator_leg(self, leg: IntentLeg) -> Verdict:
        """Apply an act on a limit or on an open item."""
        if leg.kind == "OPERATOR_LIMIT":
            return self._set_limit()
        if leg.kind == "PROPOSAL":
            return self._propose()
        return self._answer() if leg.kind == "ANSWER" else self._move_item()

    def adjustment(self, leg: IntentLeg) -> Verdict:
        """Correct a wallet, alone up to the limit or with the approval of a proposal."""
        currency, minor = leg.currency or "", leg.minor or 0
        if self.intent.reference:
            proposal = self._approve("adjustment.proposed", "APPROVED")
            if not isinstance(proposal, OracleDecision):
                return proposal
            proposed = proposal.intent.legs[0]
            currency, minor = proposed.currency or "", proposed.minor or 0
        elif self._is_above_limit(currency, minor):
            return _TWO_NEEDED
        accounts = ("adjustments", CASH) if minor >= 0 else (CASH, "adjustments")
        self.move(currency, *accounts, abs(minor))
        return BOOKED

    def assigned_payment(self, payment: Identity) -> OracleDecision | None:
        """Return the assignment by which an operator gave a payment to this player."""
        act = self.state.item_ends.get(payment)
        decided = self.state.decisions.get(act, []) if act else []
        is_own = bool(decided) and decided[-1].player == self.player
        return decided[-1] if is_own and decided[-1].answer.outcome == "POSTED" else None

    def _is_above_limit(self, currency: str, minor: int) -> bool:
        return abs(minor) > self.state.operator_limits.get(currency, 0)

    def _approve(self, operation: str, closing: str) -> OracleDecision | Verdict:
        """Return the proposal that is approved, or why it is not; close it."""
        reference, player = self.intent.reference, self.player
        proposals = self.state.decisions.get(reference, []) if reference else []
        is_meant = bool(proposals) and proposals[0].intent.operation == operation
        if reference is None or not is_meant or proposals[0].player != player:
            return _NOT_SEEN
        if proposals[0].answer.outcome != "INFORMATIONAL":
            return _NOT_SEEN
        if (reference, player) in self.state.closings:
            return CLOSED
        if self.intent.actor == proposals[0].intent.actor:
            return ("REFUSED_REFERENCE", "SELF_APPROVAL")
        if closing:
            self.state.closings[reference, player] = closing
        return proposals[0]

    def _set_limit(self) -> Verdict:
        proposal = self._approve("limit.proposed", "APPROVED")
        if not isinstance(proposal, OracleDecision):
            return proposal
        leg = proposal.intent.legs[0]
        self.state.operator_limits[leg.currency or ""] = leg.minor or 0
        return BOOKED

    def _propose(self) -> Verdict:
        item = self.intent.reference
        if item is None:
            return NOTED
        found = self._find_item(item)
        if isinstance(found, dict):
            return NOTED if any(found.values()) else ("REFUSED_REFERENCE", "NOTHING_IN_SUSPENSE")
        return found

    def _answer(self) -> Verdict:
        item = self.intent.reference or ("", "", "", "")
        found = self._find_item(item)
        if not isinstance(found, dict):
            return found
        if any(found.values()):
            return ("REFUSED_REFERENCE", "MONEY_IN_SUSPENSE")
        self.state.item_ends[item] = self.intent.identity
        return BOOKED

    def _move_item(self) -> Verdict:
        operation, item = self.intent.operation, self.intent.reference
        proposal: OracleDecision | Verdict | None = None
        if operation.endswith(".approved"):
            proposal = self._approve(operation.removesuffix("approved") + "proposed", "")
            if not isinstance(proposal, OracleDecision):
                return proposal
            item = proposal.intent.reference
        found = self._find_item(item or ("", "", "", ""))
        if not isinstance(found, dict) or item is None:
            return found if not isinstance(found, dict) else _NOT_SEEN
        [(currency, minor)] = [one for one in found.items() if one[1]] or [("", 0)]
        if not minor:
            return ("REFUSED_REFERENCE", "NOTHING_IN_SUSPENSE")
        if proposal is None and self._is_above_limit(currency, minor):
            return _TWO_NEEDED
        suspense = f"suspense:{item[1]}"
        other = CASH if self.player is not None else f"psp:{item[1]}"
        way = (suspense, other) if minor > 0 else (other, suspense)
        (self.move if self.player is not None else self.move_in_house)(currency, *way, abs(minor))
        if proposal is not None and self.intent.reference is not None:
            self.state.closings[self.intent.reference, self.player] = "APPROVED"
        self.state.item_ends[item] = self.intent.identity
        return BOOKED

    def _find_item(self, item: Identity) -> dict[str, int] | Verdict:
        """Return what suspense holds for an open item, by currency, or why it is not open."""
        seen = self.state.decisions.get(item, [])
        if item in self.state.item_ends:
            return ("REFUSED_REFERENCE", "ITEM_CLOSED")
        if not seen or seen[-1].answer.outcome != "UNRESOLVED":
            is_closed = (item, None) in self.state.closings
            return ("REFUSED_REFERENCE", "ITEM_CLOSED" if is_closed else "ITEM_NOT_FOUND")
        held: dict[str, int] = {}
        for currency, source, target, minor, _ in seen[-1].movements:
            sign = target.startswith("suspense:") - source.startswith("suspense:")
            held[currency] = held.get(currency, 0) + sign * minor
        return held
