"""The house dialect: JSON of the casino's own cashier and back office.

`x-house-signature` is a hex HMAC-SHA256 over the body.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from lab.sandbox.actions import HOUSE, Delivery, HouseAction
from lab.sandbox.encoders import json_body
from lab.sandbox.envelope import style_of, wrap_body
from lab.sandbox.keys import SandboxKeys
from lab.sandbox.records import RawEvent

PATH: Final = "/house/v1"


def house_record(delivery: Delivery, action: HouseAction, keys: SandboxKeys) -> RawEvent:
    """Write the signed record of one operation."""
    body = json_body(house_fields(action), style_of(delivery))
    return wrap_house_body(delivery, action, body, keys.house_signature(body))


def house_fields(action: HouseAction) -> dict[str, Any]:
    """Build the fields of the body.

    Amounts are decimal text; the time is the operation's and stays the same in a retry.
    """
    return {
        "operation": action.operation,
        "id": action.id,
        "player_id": action.player.id,
        "at": rfc3339(action.at_ms),
        **dict(action.fields),
    }


def wrap_house_body(
    delivery: Delivery, action: HouseAction, body: bytes, signature: bytes | None
) -> RawEvent:
    """Put the connector's headers around a body; without a signature its header is left out."""
    return wrap_body(
        delivery,
        HOUSE,
        action.player.id,
        body,
        path=PATH,
        brand=action.player.brand,
        region=action.player.region,
        signature=None if signature is None else ("x-house-signature", signature),
    )


def rfc3339(at_ms: int) -> str:
    """Format epoch milliseconds as `2026-11-22T10:15:30.123Z`."""
    seconds, millis = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%dT%H:%M:%S}.{millis:03d}Z"
