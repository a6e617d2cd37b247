"""Pragmatic Play's wallet calls: forms, one address per call, an MD5 of the sorted fields inside.

Field names and the hash as three public integrators and a public summary of the vendor's
specification (2026-03) have them. A refund bears the reference of its bet; since version 3.21 it
may state nothing else. A result names its round and no bet. Only promoWin names a currency; the
connector, which opened the session, states it for the rest in a header.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import md5
from random import Random
from typing import ClassVar, Final

from lab.conformance.intents import Game, Intent, IntentLeg, Verb
from lab.conformance.writers.encoding import amount_text, form_body
from lab.conformance.writers.ids import Ids
from lab.conformance.writers.writer import FORM, Headers, Message, Secrets, Sending, Writer
from streams.providers.text_fields import CURRENCY_HEADER

_FIELDS_OF_DETAILS: Final = {
    "promo_reference": "promoWinReference",
    "jackpot": "jackpotId",
    "valid_bet": "validBetAmount",
}
"""Fields that a call may have, by the detail of the intent that fills them."""


class PragmaticWriter(Writer):
    """Writes bets, results, refunds, prizes, jackpots, corrections and the ends of rounds."""

    provider = "pragmatic"
    says: ClassVar = {
        Verb.BET: "bet",
        Verb.WIN: "result",
        Verb.FREE_BET: "bet",
        Verb.FREE_WIN: "result",
        Verb.ROLLBACK: "refund",
        Verb.JACKPOT_WIN: "jackpotWin",
        Verb.PROMO_WIN: "promoWin",
        Verb.GAME_ADJUSTMENT: "adjustment",
        Verb.ROUND_CLOSE: "endRound",
    }
    secret_names = ("secret",)
    games = (Game("vs20harbor"), Game("vs25lantern"), Game("vs10orchard"), Game("401"))
    verbs_with_the_bets_id = frozenset({Verb.ROLLBACK})

    def write(self, items: Sequence[Intent], sending: Sending, secrets: Secrets | None) -> Message:
        """Write one call; `secrets` make its hash."""
        [intent] = items
        fields = self.fields(intent, sending)
        return self.sign(intent, fields, secrets, sending.style)

    def fields(self, intent: Intent, sending: Sending) -> dict[str, str]:
        """Build the fields of the form without its hash."""
        fields = {"providerId": "PragmaticPlay", "userId": intent.player or ""}
        verb, leg = intent.verb, intent.legs[0]
        if verb is Verb.PROMO_WIN:
            fields |= _promo_fields(leg)
        elif verb is Verb.ROUND_CLOSE:
            return fields | _round_fields(intent)
        elif verb is not Verb.ROLLBACK or leg.minor is not None:
            fields |= _round_fields(intent) | {"roundDetails": "spin"}
        if leg.minor is not None:
            fields["amount"] = _amount(leg, sending.style)
            fields["timestamp"] = str(sending.at_ms)
        fields["reference"] = intent.tx_id
        if leg.campaign and verb is not Verb.PROMO_WIN:
            fields["bonusCode"] = leg.campaign
        prize = intent.leg("PROMO_WIN")
        if prize is not None and verb is not Verb.PROMO_WIN:
            fields["promoWinAmount"] = _amount(prize, sending.style)
            fields["promoCampaignID"] = prize.campaign or ""
        details = dict(intent.details)
        return fields | {
            field: details[name] for name, field in _FIELDS_OF_DETAILS.items() if name in details
        }

    def sign(
        self,
        intent: Intent,
        fields: Mapping[str, str],
        secrets: Secrets | None,
        style: Random | None = None,
    ) -> Message:
        """Return the message with these fields; without `secrets` it has no hash."""
        if secrets is not None:
            fields = {"hash": hash_of(fields, secrets), **fields}
        path, currency = f"/pragmatic/{intent.operation}.html", intent.legs[0].currency
        headers: Headers = ()
        if currency and intent.verb is not Verb.PROMO_WIN:
            headers = ((CURRENCY_HEADER, currency.encode()),)
        return Message(intent.player or "", form_body(fields, style), path, FORM, headers)

    def draw_follow_up_id(self, ids: Ids, verb: Verb, at_ms: int, bet: Intent) -> str:
        """Return player, game and round for a round's end, which has no reference of its own."""
        if verb is Verb.ROUND_CLOSE:
            return f"{bet.player}:{bet.game}:{bet.round_id}"
        return super().draw_follow_up_id(ids, verb, at_ms, bet)


def hash_of(fields: Mapping[str, str], secrets: Secrets) -> str:
    """Return the hex MD5 of name=value, sorted and joined by &, with the secret behind them.

    Values are as before their encoding, without line breaks.
    """
    text = "&".join(f"{name}={value}" for name, value in sorted(fields.items()))
    text = text.replace("\r", "").replace("\n", "") + secrets["secret"]
    return md5(text.encode(), usedforsecurity=False).hexdigest()


def _round_fields(intent: Intent) -> dict[str, str]:
    fields = {"gameId": intent.game or "", "roundId": intent.round_id or ""}
    return fields if intent.session is None else fields | {"token": intent.session.token}


def _promo_fields(leg: IntentLeg) -> dict[str, str]:
    return {
        "campaignId": leg.campaign or "",
        "campaignType": "T",
        "currency": leg.currency or "",
    }


def _amount(leg: IntentLeg, style: Random | None) -> str:
    assert leg.minor is not None
    assert leg.currency is not None
    return amount_text(leg.minor, leg.currency, style=style)


WRITER: Final = PragmaticWriter()
