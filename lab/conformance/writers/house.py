"""The house dialect: JSON of the casino's own cashier and back office.

`x-house-signature` is a hex HMAC-SHA256 over the body.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from lab.conformance.intents import Intent, Verb
from lab.conformance.writers.encoding import amount_text, json_body, rfc3339
from lab.conformance.writers.writer import Message, Secrets, Sending, Writer
from schemas.identity import event_id

PATH: Final = "/house/v1"

OF_ITEMS: Final = frozenset(
    {
        Verb.SUSPENSE_ASSIGNED,
        Verb.ASSIGNMENT_PROPOSED,
        Verb.SUSPENSE_RETURNED,
        Verb.RETURN_PROPOSED,
        Verb.ITEM_ANSWERED,
    }
)
"""The verbs that name an event by its id in the ledger."""


class HouseWriter(Writer):
    """Writes every operation of the cashier and the back office."""

    provider = "house"
    says: ClassVar = {
        Verb.DEPOSIT_OPENED: "deposit.opened",
        Verb.WITHDRAWAL_REQUESTED: "withdrawal.requested",
        Verb.WITHDRAWAL_APPROVED: "withdrawal.approved",
        Verb.WITHDRAWAL_PAID: "withdrawal.paid",
        Verb.WITHDRAWAL_REFUSED: "withdrawal.refused",
        Verb.ADJUSTMENT: "adjustment",
        Verb.ADJUSTMENT_PROPOSED: "adjustment.proposed",
        Verb.ADJUSTMENT_APPROVED: "adjustment.approved",
        Verb.SUSPENSE_ASSIGNED: "suspense.assigned",
        Verb.ASSIGNMENT_PROPOSED: "suspense.assignment.proposed",
        Verb.ASSIGNMENT_APPROVED: "suspense.assignment.approved",
        Verb.SUSPENSE_RETURNED: "suspense.returned",
        Verb.RETURN_PROPOSED: "suspense.return.proposed",
        Verb.RETURN_APPROVED: "suspense.return.approved",
        Verb.ITEM_ANSWERED: "item.answered",
        Verb.LIMIT_PROPOSED: "limit.proposed",
        Verb.LIMIT_APPROVED: "limit.approved",
        Verb.BONUS_GRANTED: "bonus.granted",
        Verb.BONUS_RELEASED: "bonus.released",
        Verb.BONUS_FORFEITED: "bonus.forfeited",
        Verb.PLAYER_BLOCKED: "player.blocked",
        Verb.PLAYER_RELEASED: "player.released",
        Verb.PLAYER_HELD: "player.held",
        Verb.PLAYER_LIMITED: "player.limited",
        Verb.PLAYER_UNLIMITED: "player.unlimited",
        Verb.HEARTBEAT: "heartbeat",
    }
    secret_names = ("hmac_hex",)

    def write(self, items: Sequence[Intent], sending: Sending, secrets: Secrets | None) -> Message:
        """Write one operation; `secrets` sign its body."""
        [intent] = items
        return self.sign(intent, json_body(self.fields(intent), sending.style), secrets)

    def fields(self, intent: Intent) -> dict[str, Any]:
        """Build the fields of the body.

        Amounts are decimal text; the time is the operation's and stays the same in a retry. The
        intent's details follow as they are.
        """
        fields: dict[str, Any] = {"operation": intent.operation, "id": intent.tx_id}
        if intent.player is not None:
            fields["player_id"] = intent.player
        fields["at"] = rfc3339(intent.at_ms)
        leg = intent.legs[0]
        if leg.currency is not None:
            if leg.minor is not None:
                fields["amount"] = amount_text(leg.minor, leg.currency)
            fields["currency"] = leg.currency
        wagering = intent.leg("WAGERING")
        if wagering is not None and wagering.minor is not None:
            fields["wagering_amount"] = amount_text(wagering.minor, wagering.currency or "")
        if intent.reference is not None and intent.verb in OF_ITEMS:
            fields["entry_id"] = event_id(*intent.reference)
        elif intent.reference is not None:
            is_proposal = intent.reference[2].endswith(".proposed")
            fields["proposal_id" if is_proposal else "withdrawal_id"] = intent.referred_id
        if leg.campaign is not None:
            fields["campaign_id"] = leg.campaign
        return fields | dict(intent.details)

    def sign(self, intent: Intent, body: bytes, secrets: Secrets | None) -> Message:
        """Return the message with this body; without `secrets` it has no signature."""
        key = intent.player or intent.tx_id
        if secrets is None:
            return Message(key, body, PATH)
        headers = (("x-house-signature", signature(body, secrets)),)
        return Message(key, body, PATH, headers=headers)


def signature(body: bytes, secrets: Secrets) -> bytes:
    """Return the hex of HMAC-SHA256 over the body, as in `x-house-signature`."""
    return hmac.digest(bytes.fromhex(secrets["hmac_hex"]), body, "sha256").hex().encode()


WRITER: Final = HouseWriter()
