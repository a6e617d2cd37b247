"""Microgaming's (Games Global) Vanguard calls: XML with its data in attributes, login and password.

As the sample messages of the vendor's "Operator Guidelines for Netherlands" (010-046) and the code
of two public integrators have them. `seq` numbers requests, `actionid` is the transaction, and a
refund bears its bet's. A call names a session: the connector, which opened it, states its player
and currency in headers. A call that comes offline has none, and its token is the player with round
and action behind it. Amounts are whole cents; times have no zone, and ours are UTC.
"""

from __future__ import annotations

import secrets as randomness
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from random import Random
from typing import ClassVar, Final

from lab.conformance.intents import Game, Intent, Verb
from lab.conformance.writers.encoding import units_of
from lab.conformance.writers.ids import Ids, uuid_of
from lab.conformance.writers.writer import XML, Headers, Message, Secrets, Sending, Writer
from streams.providers.text_fields import CURRENCY_HEADER, PLAYER_HEADER

DECIMALS: Final = 2
PATH: Final = "/microgaming"
OFFLINE: Final = (("offline", "true"),)
"""Details of a call whose session is over."""

_ENDGAME: Final = "endgame"
_PROLOGS: Final = ("", '<?xml version="1.0" encoding="utf-8"?>')
_GAPS: Final = ("", "\n", "\n  ", "\r\n\t")


class MicrogamingWriter(Writer):
    """Writes bets, wins, refunds, progressive wins and the ends of games."""

    provider = "microgaming"
    says: ClassVar = {
        Verb.BET: "bet",
        Verb.WIN: "win",
        Verb.FREE_BET: "bet",
        Verb.FREE_WIN: "win",
        Verb.ROLLBACK: "refund",
        Verb.JACKPOT_WIN: "progressivewin",
        Verb.ROUND_CLOSE: _ENDGAME,
    }
    secret_names = ("login", "password")
    games = (Game("harborLights"), Game("orchardWheel"), Game("lanternRun"), Game("quarryGold"))
    decimals_max = DECIMALS
    verbs_with_the_bets_id = frozenset({Verb.ROLLBACK})

    def write(self, items: Sequence[Intent], sending: Sending, secrets: Secrets | None) -> Message:
        """Write one call; login and password of `secrets` are inside."""
        [intent] = items
        call = self.call(intent, sending)
        return self.wrap(intent, self.body(intent, call, sending, secrets))

    def call(self, intent: Intent, sending: Sending) -> dict[str, str]:
        """Build the attributes of the call."""
        [leg] = intent.legs
        session, is_offline = intent.session, _is_offline(intent)
        assert session is not None, "every call names the game of its session"
        offline_token = f"{intent.player}_{intent.round_id}_{intent.tx_id}"
        call = {
            "seq": uuid_of(sending.nonce),
            "token": offline_token if is_offline else session.token,
            "gameid": intent.round_id or "",
            "gamereference": session.game.id,
        }
        if intent.operation == _ENDGAME:
            return call
        assert leg.minor is not None
        assert leg.currency is not None
        call |= {
            "playtype": intent.operation,
            "actionid": intent.tx_id,
            "actiondesc": "",
            "amount": str(units_of(leg.minor, leg.currency, DECIMALS)),
            "start": _flag(intent.verb in {Verb.BET, Verb.FREE_BET}),
            "finish": _flag(intent.round_closed),
            "offline": _flag(is_offline),
            "currency": leg.currency.lower(),
            "clienttypeid": "1",
        }
        if leg.campaign:
            call |= {
                "freegame": "ten free games",
                "freegameofferinstanceid": leg.campaign,
                "freegamenumgamesplayed": "2",
                "freegamenumgamesremaining": "8",
            }
        return call

    def body(
        self, intent: Intent, call: Mapping[str, str], sending: Sending, secrets: Secrets | None
    ) -> bytes:
        """Build the document around a call; without `secrets` it has no element `auth`."""
        style = sending.style
        gap = "" if style is None else style.choice(_GAPS)
        at = datetime.fromtimestamp(sending.at_ms // 1000, tz=UTC)
        method = {
            "name": intent.operation if intent.operation == _ENDGAME else "play",
            "timestamp": f"{at:%Y/%m/%d %H:%M:%S}.{sending.at_ms % 1000:03d}",
            "system": "casino",
        }
        auth = ""
        if secrets is not None:
            auth = f"{_tag('auth', {name: secrets[name] for name in self.secret_names}, style)}/>"
        parts = [
            "" if style is None else style.choice(_PROLOGS),
            "<pkt>",
            _tag("methodcall", method, style) + ">",
            auth,
            _tag("call", call, style) + "><extinfo/></call>",
            "</methodcall></pkt>",
        ]
        return gap.join(parts).lstrip().encode()

    def wrap(self, intent: Intent, body: bytes) -> Message:
        """Return the message with this body and what the connector knows of its session."""
        player, currency = intent.player or "", intent.legs[0].currency
        headers: Headers = ()
        if currency:
            headers = ((CURRENCY_HEADER, currency.encode()),)
        if not _is_offline(intent):
            headers = (*headers, (PLAYER_HEADER, player.encode()))
        return Message(player, body, PATH, XML, headers)

    def new_secrets(self) -> dict[str, str]:
        """Make a new login and password."""
        return {name: randomness.token_hex(16) for name in self.secret_names}

    def draw_id(self, ids: Ids, verb: Verb, at_ms: int) -> str:
        """Draw a number."""
        del verb, at_ms
        return str(ids.number())

    def draw_follow_up_id(self, ids: Ids, verb: Verb, at_ms: int, bet: Intent) -> str:
        """Return player, game and round for the end of a game, which has no action."""
        if verb is Verb.ROUND_CLOSE:
            return f"{bet.player}:{bet.game}:{bet.round_id}"
        return super().draw_follow_up_id(ids, verb, at_ms, bet)

    def draw_campaign(self, ids: Ids) -> str:
        """Draw a number."""
        return str(ids.number())


def _is_offline(intent: Intent) -> bool:
    return OFFLINE[0] in intent.details


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _tag(name: str, attributes: Mapping[str, str], style: Random | None) -> str:
    """Return an element's tag without its end; a style has another order, quotes and spaces."""
    names, quote, gap = list(attributes), '"', " "
    if style is not None:
        style.shuffle(names)
        quote, gap = style.choice("\"'"), style.choice((" ", "  ", "\n    "))
    return f"<{name}" + "".join(
        [f"{gap}{each}={quote}{escape(attributes[each])}{quote}" for each in names]
    )


WRITER: Final = MicrogamingWriter()
