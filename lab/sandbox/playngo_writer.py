"""Play'n GO's wallet calls: one bare XML element that names the method.

The shared access token is inside. Elements and rules as four public integrators have them; the
vendor publishes no specification. `cancelReserve` bears the transactionId of the reserve that it
cancels, `release` one of its own and the same roundId. `state` 1 is the round's closing summary:
integrators disagree whether it may move money, so ours never carries any. The body carries no time,
and no signature beside the token.
"""

from __future__ import annotations

from random import Random
from typing import Final

from lab.sandbox.actions import PLAYNGO, Delivery, GameAction, Verb
from lab.sandbox.encoders import xml_body
from lab.sandbox.envelope import style_of, wrap_body
from lab.sandbox.keys import SandboxKeys
from lab.sandbox.records import RawEvent
from schemas.money import format_minor

METHODS: Final = {Verb.BET: "reserve", Verb.WIN: "release", Verb.ROLLBACK: "cancelReserve"}
CONTENT_TYPE: Final = "application/xml"

_PRINTED_SCALE: Final = (
    2  # yen too are printed with two decimals; a currency that has more is printed with its own
)


def playngo_record(delivery: Delivery, action: GameAction, keys: SandboxKeys) -> RawEvent:
    """Write the record of a reserve, release or cancelReserve."""
    style = style_of(delivery)
    elements = playngo_elements(action, keys.playngo_access_token, style)
    return wrap_playngo_body(
        delivery, action, xml_body(METHODS[action.verb], elements.items(), style)
    )


def playngo_elements(
    action: GameAction, access_token: str, style: Random | None = None
) -> dict[str, str]:
    """Build the elements of the document in order; an empty text is an empty element."""
    amount = amount_text(action.amount_minor, action.player.purse.scale, style)
    campaign = action.campaign_id or ""
    elements = {
        "externalId": action.player.id,
        "productId": "1",
        "transactionId": action.tx_id,
        "real": amount,
        "currency": action.player.currency,
        "gameId": str(action.session.game_id),
    }
    if action.verb is not Verb.ROLLBACK:
        elements |= {
            "gameSessionId": str(action.session.number),
            "externalGameSessionId": action.session.token,
            "contextId": "",
        }
    elements |= {"accessToken": access_token, "roundId": action.round_id, "channel": "1"}
    if action.verb is Verb.WIN:
        elements |= {
            "state": "1" if action.round_closed and not action.amount_minor else "0",
            "type": "1" if campaign else "0",
            "jackpotGain": "0.00",
            "jackpotLoss": "0.00",
            "jackpotGainSeed": "",
            "jackpotGainId": "",
        }
    else:
        elements["actualValue"] = amount
    if action.verb is not Verb.ROLLBACK:
        finished = "1" if campaign and action.verb is Verb.WIN else ""
        elements |= {"freegameExternalId": campaign, "freegameFinished": finished, "turnover": ""}
    return elements


def amount_text(amount_minor: int, scale: int, style: Random | None = None) -> str:
    """Format the amount in major units; a style may add further zeros, which change nothing."""
    missing = max(0, _PRINTED_SCALE - scale)
    extra = 0 if style is None else style.choice((0, 0, 1, 2))
    zeros = missing + extra
    return format_minor(amount_minor * 10**zeros, scale + zeros)


def wrap_playngo_body(delivery: Delivery, action: GameAction, body: bytes) -> RawEvent:
    """Put the connector's headers around a body; Play'n GO has one address for all methods."""
    return wrap_body(
        delivery,
        PLAYNGO,
        action.player.id,
        body,
        path="/playngo",
        content_type=CONTENT_TYPE,
        brand=action.player.brand,
        region=action.player.region,
    )
