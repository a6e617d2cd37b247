"""Examples by a provider's writer: a fill's ordinary messages, and what must be read in them.

The expectation is made of the intent, never of the bytes or of what an adapter read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from lab.conformance.examples.fill import Example, Expected, Fill, units
from lab.conformance.intents import (
    DEFAULT_BRAND,
    FREE_VERBS,
    KINDS,
    Game,
    GameSession,
    Identity,
    Intent,
    IntentLeg,
    Verb,
    scale_of,
)
from lab.conformance.writers.writer import Message, Secrets, Sending, Writer
from schemas.events import SignatureVerdict

LegAmount = tuple[str, Decimal | None]
"""Kind and amount in major units of the fill's currency."""


@dataclass(frozen=True)
class ExampleWriter:
    """Writes examples of one provider, signed with `secrets`.

    `verdict` is the signature's in every expectation: NOT_CHECKED where the provider signs nothing.
    """

    writer: Writer
    secrets: Secrets
    verdict: SignatureVerdict = SignatureVerdict.VALID

    def intent(
        self,
        fill: Fill,
        verb: Verb,
        tx_id: str,
        amount: Decimal | None = None,
        *,
        campaign: str | None = None,
        legs: Sequence[LegAmount] = (),
        refers_to: tuple[Verb, str] | None = None,
        **more: Any,
    ) -> Intent:
        """Return an intent of the fill's player, round and session.

        It has one leg of the verb's kind, with `amount` where given, or the `legs`. `refers_to` is
        the verb and id of a message of this provider; `more` are further fields of the intent.
        """
        amounts = legs or ([(KINDS[verb], amount)] if verb in KINDS else [])
        fields: dict[str, Any] = {
            "round_id": fill.round,
            "session": session_of(fill, self.writer.provider),
            "at_ms": fill.first_at_ms,
            "reference": None if refers_to is None else self.identity(*refers_to),
        }
        return Intent(
            verb,
            self.identity(verb, tx_id),
            fill.player,
            tuple(_leg(fill, verb, kind, each, campaign) for kind, each in amounts),
            **(fields | more),
        )

    def identity(self, verb: Verb, tx_id: str) -> Identity:
        """Return the identity of a message of this provider."""
        return (DEFAULT_BRAND, self.writer.provider, self.writer.says[verb], tx_id)

    def example(
        self, fill: Fill, *intents: Intent, name: str | None = None, **changed: Any
    ) -> Example:
        """Return one message of the intents, to be read as they say.

        `changed` are fields of every expectation that differ from the intent's.
        """
        message = self.writer.write(intents, sending_of(fill), self.secrets)
        expects = [replace(self.expect(intent), **changed) for intent in intents]
        return self.wrap(fill, message, *expects, name=name or intents[0].operation)

    def expect(self, intent: Intent) -> Expected:
        """Return what must be read of an intent."""
        return Expected(
            intent.operation,
            intent.tx_id,
            intent.player,
            tuple((leg.kind, _major(leg)) for leg in intent.legs),
            None if intent.reference is None else intent.reference[2:],
            self.verdict.value,
            free_legs=tuple(leg.is_free for leg in intent.legs),
            decides=intent.decides,
            round_closed=True if intent.round_closed or intent.verb is Verb.ROUND_CLOSE else None,
        )

    def wrap(
        self,
        fill: Fill,
        message: Message,
        *expects: Expected,
        name: str,
        schema: str | None = None,
    ) -> Example:
        """Return a message with the connector's headers of the fill and what must be read of it."""
        headers = fill.headers(message.content_type, message.path, dict(message.headers))
        return Example(name, headers, message.key.encode(), message.body, expects, schema)


def sending_of(fill: Fill) -> Sending:
    """Return the fill's sending, in the provider's usual form."""
    return Sending(fill.at_ms, int(fill.request_id().replace("-", ""), 16))


def session_of(fill: Fill, provider: str) -> GameSession:
    """Return the fill's session; a retry may come from another."""
    return GameSession(provider, fill.request_id(1), fill.number(90), Game(fill.game, 1201))


def _leg(
    fill: Fill, verb: Verb, kind: str, amount: Decimal | None, campaign: str | None
) -> IntentLeg:
    is_free = verb in FREE_VERBS
    if amount is None:
        return IntentLeg(kind, None, None, is_free, campaign)
    return IntentLeg(kind, units(amount, fill.scale), fill.currency, is_free, campaign)


def _major(leg: IntentLeg) -> Decimal | None:
    if leg.minor is None or leg.currency is None:
        return None
    return Decimal(leg.minor).scaleb(-scale_of(leg.currency))
