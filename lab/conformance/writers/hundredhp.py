"""100HP Gaming's Operator API 2.7.0: JSON, the shared secret in the body.

Source: operator_api_docs.md in github.com/asyncc0xff/id-0492-2040295-docs, the vendor's document.
One `txId`, a UUID of version 7, serves a withdrawal and what becomes of it: its deposit or rollback
names neither player nor currency. A withdrawal and a bonusWin name a session; the connector, which
opened it, states its player and currency in headers. Amounts have at most two decimals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from lab.conformance.intents import Intent, Verb
from lab.conformance.writers.encoding import amount_text, json_body
from lab.conformance.writers.ids import Ids, uuid_of
from lab.conformance.writers.writer import Headers, Message, Secrets, Sending, Writer
from streams.providers.text_fields import CURRENCY_HEADER, PLAYER_HEADER


class HundredhpWriter(Writer):
    """Writes withdrawals, deposits, rollbacks and promotional wins."""

    provider = "hundredhp"
    says: ClassVar = {
        Verb.BET: "withdrawal",
        Verb.WIN: "deposit",
        Verb.ROLLBACK: "rollback",
        Verb.PROMO_WIN: "bonusWin",
    }
    secret_names = ("secret",)
    decimals_max = 2
    verbs_with_the_bets_id = frozenset({Verb.WIN, Verb.ROLLBACK})

    def write(self, items: Sequence[Intent], sending: Sending, secrets: Secrets | None) -> Message:
        """Write one call; the secret of `secrets` is inside."""
        [intent] = items
        return self.wrap(intent, json_body(self.fields(intent, sending, secrets), sending.style))

    def fields(self, intent: Intent, sending: Sending, secrets: Secrets | None) -> dict[str, Any]:
        """Build the fields of the body. An amount without a currency is in hundredths."""
        fields: dict[str, Any] = {}
        if intent.verb in {Verb.BET, Verb.PROMO_WIN}:
            token = intent.session.token if intent.session else uuid_of(sending.nonce)
            fields["sessionId"] = token
        if secrets is not None:
            fields["secret"] = secrets["secret"]
        fields["txId"] = intent.tx_id
        [leg] = intent.legs
        if leg.kind != "ROLLBACK" and leg.minor is not None:
            fields["amount"] = amount_text(leg.minor, leg.currency or "", style=sending.style)
        if intent.verb is Verb.PROMO_WIN:
            fields["promoId"] = leg.campaign
        return fields

    def wrap(self, intent: Intent, body: bytes) -> Message:
        """Return the message with this body and what the connector knows of its session."""
        path, currency = f"/wallet/{intent.operation}", intent.legs[0].currency
        if intent.verb not in {Verb.BET, Verb.PROMO_WIN} or intent.player is None:
            return Message(intent.tx_id, body, path)
        headers: Headers = (
            (PLAYER_HEADER, intent.player.encode()),
            (CURRENCY_HEADER, (currency or "").encode()),
        )
        return Message(intent.player, body, path, headers=headers)

    def draw_id(self, ids: Ids, verb: Verb, at_ms: int) -> str:
        """Draw a UUID of version 7 for a withdrawal, whose time is read from it."""
        return ids.uuid7(at_ms) if verb is Verb.BET else ids.uuid()


WRITER: Final = HundredhpWriter()
