"""Play'n GO's wallet calls: one bare XML element that names the method.

The shared access token is inside. Elements and rules as four public integrators have them; the
vendor publishes no specification. `cancelReserve` bears the transactionId of the reserve that it
cancels, `release` one of its own and the same roundId. `state` 1 is the round's closing summary:
integrators disagree whether it may move money, so ours never carries any. The body carries no time,
and no signature beside the token.
"""

from __future__ import annotations

import secrets as randomness
from collections.abc import Sequence
from random import Random
from typing import ClassVar, Final

from lab.conformance.intents import Game, Intent, IntentLeg, Verb
from lab.conformance.writers.encoding import amount_text, xml_body
from lab.conformance.writers.ids import Ids
from lab.conformance.writers.writer import XML, Message, Secrets, Sending, Writer

PATH: Final = "/playngo"

_DECIMALS_MIN: Final = (
    2  # yen too are printed with two decimals; a currency that has more is printed with its own
)


class PlayngoWriter(Writer):
    """Writes reserves, releases and their cancels."""

    provider = "playngo"
    says: ClassVar = {
        Verb.BET: "reserve",
        Verb.WIN: "release",
        Verb.FREE_BET: "reserve",
        Verb.FREE_WIN: "release",
        Verb.ROLLBACK: "cancelReserve",
    }
    secret_names = ("access_token",)
    games = (Game("100210"), Game("100310"), Game("100377"), Game("100401"))
    verbs_with_the_bets_id = frozenset({Verb.ROLLBACK})

    def write(self, items: Sequence[Intent], sending: Sending, secrets: Secrets | None) -> Message:
        """Write one call; the token of `secrets` is inside."""
        [intent] = items
        elements = self.elements(intent, secrets, sending.style)
        return self.wrap(intent, xml_body(intent.operation, elements.items(), sending.style))

    def elements(
        self, intent: Intent, secrets: Secrets | None, style: Random | None = None
    ) -> dict[str, str]:
        """Build the elements of the document in order; an empty text is an empty element."""
        leg, session = intent.legs[0], intent.session
        assert session is not None, "every call of Play'n GO belongs to a session"
        is_cancel = intent.operation == "cancelReserve"
        currency = leg.currency or ""
        total = amount_text(
            sum(each.minor or 0 for each in intent.legs), currency, _DECIMALS_MIN, style
        )
        elements = {
            "externalId": intent.player or "",
            "productId": "1",
            "transactionId": intent.tx_id,
            "real": total,
            "currency": currency,
            "gameId": session.game.id,
        }
        if not is_cancel:
            elements |= {
                "gameSessionId": str(session.number),
                "externalGameSessionId": session.token,
                "contextId": "",
            }
        if secrets is not None:
            elements["accessToken"] = secrets["access_token"]
        elements |= {"roundId": intent.round_id or "", "channel": "1"}
        if intent.operation == "release":
            elements |= _release_elements(intent, leg)
        else:
            elements["actualValue"] = total
        if not is_cancel:
            finished = "1" if leg.campaign and intent.operation == "release" else ""
            elements |= {
                "freegameExternalId": leg.campaign or "",
                "freegameFinished": finished,
                "turnover": "",
            }
        return elements

    def wrap(self, intent: Intent, body: bytes) -> Message:
        """Return the message with this body; Play'n GO has one address for all methods."""
        return Message(intent.player or "", body, PATH, XML)

    def new_secrets(self) -> dict[str, str]:
        """Make a new token."""
        return {"access_token": randomness.token_hex(16)}

    def draw_id(self, ids: Ids, verb: Verb, at_ms: int) -> str:
        """Draw a number."""
        del verb, at_ms
        return str(ids.number())

    def draw_campaign(self, ids: Ids) -> str:
        """Draw a number."""
        return str(ids.number())


def _release_elements(intent: Intent, leg: IntentLeg) -> dict[str, str]:
    gain = intent.leg("JACKPOT_WIN")
    return {
        "state": "1" if intent.round_closed and not leg.minor and gain is None else "0",
        "type": "1" if leg.campaign else "0",
        "jackpotGain": (
            "0.00"
            if gain is None
            else amount_text(gain.minor or 0, gain.currency or "", _DECIMALS_MIN)
        ),
        "jackpotLoss": "0.00",
        "jackpotGainSeed": "",
        "jackpotGainId": "",
    }


WRITER: Final = PlayngoWriter()
