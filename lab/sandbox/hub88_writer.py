"""Hub88's wallet calls as the operator receives them.

Field names, the idempotency rule and `X-Hub88-Signature` (RSA-SHA256 over the raw body, base64) are
those of docs.hub88.io, operator API reference, Wallet API. The unit of 1/100000 and the rollback
without amount and currency are taken from public integrators' code. The body carries no time. None
of these sources says which amount a free bet carries; ours carry 0, since the player pays nothing.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

from lab.sandbox.actions import HUB88, Delivery, GameAction, Verb
from lab.sandbox.encoders import json_body
from lab.sandbox.envelope import style_of, wrap_body
from lab.sandbox.ids import uuid_of
from lab.sandbox.keys import SandboxKeys
from lab.sandbox.records import RawEvent

AMOUNT_SCALE: Final = 5
PATHS: Final = {
    Verb.BET: "/transaction/bet",
    Verb.WIN: "/transaction/win",
    Verb.ROLLBACK: "/transaction/rollback",
}


def hub88_record(delivery: Delivery, action: GameAction, keys: SandboxKeys) -> RawEvent:
    """Write the signed record of a bet, win or rollback."""
    body = hub88_body(hub88_fields(action, delivery.nonce), style_of(delivery))
    return wrap_hub88_body(delivery, action, body, keys.hub88_signature(body))


def hub88_fields(action: GameAction, nonce: int) -> dict[str, Any]:
    """Build the fields of the body in the order in which Hub88 prints them."""
    session = action.session
    fields: dict[str, Any] = {
        "user": action.player.id,
        "transaction_uuid": action.tx_id,
        "token": session.token,
        "supplier_user": f"hub88_{action.player.id}",
        "round": action.round_id,
        "round_closed": action.round_closed,
        "request_uuid": uuid_of(nonce),
        "game_id": session.game_id,
        "game_code": session.game_code,
    }
    if action.bet_tx_id is not None:
        fields["reference_transaction_uuid"] = action.bet_tx_id
    if action.verb is not Verb.ROLLBACK:
        fields |= {
            "currency": action.player.currency,
            "amount": action.amount_minor * 10 ** (AMOUNT_SCALE - action.player.purse.scale),
            "is_free": action.campaign_id is not None,
            "reward_uuid": action.campaign_id,
            "bet": "main",
        }
    fields["meta"] = None
    return fields


def hub88_body(fields: dict[str, Any], style: Random | None) -> bytes:
    """Encode the fields as JSON."""
    return json_body(fields, style)


def wrap_hub88_body(
    delivery: Delivery,
    action: GameAction,
    body: bytes,
    signature: bytes | None,
    path: str | None = None,
) -> RawEvent:
    """Put the connector's headers around a body; without a signature its header is left out."""
    return wrap_body(
        delivery,
        HUB88,
        action.player.id,
        body,
        path=path or PATHS[action.verb],
        brand=action.player.brand,
        region=action.player.region,
        signature=None if signature is None else ("x-hub88-signature", signature),
    )
