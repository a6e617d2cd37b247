"""Encoders of intents: one for each provider, in the bytes that it sends.

They write no signatures: other tests prove those, and they cost the most time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any, Final, NamedTuple

from lab.sandbox.house_writer import rfc3339
from lab.simulator.intents import Intent
from schemas.money import exponent_of, format_minor
from streams.providers.text_fields import CURRENCY_HEADER, PLAYER_HEADER

HUB88_SCALE: Final = 5


class ConnectorRecord(NamedTuple):
    """Raw record as a connector appends it: key, value and headers."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def encode_record(
    items: Sequence[Intent], received_ms: int, provider_ms: int, rng: Random
) -> ConnectorRecord:
    """Encode intents as one record; only a payment provider sends several in one."""
    first = items[0]
    brand, provider = first.identity[:2]
    body, path = _WRITERS[provider](items, provider_ms, rng)
    key = first.player or (first.reference[3] if first.reference else first.identity[3])
    headers = [
        ("http-path", path),
        ("received-at", b"%d" % received_ms),
        ("brand", brand.encode()),
        ("region", b"MT"),
    ]
    if provider == "hundredhp" and first.player is not None:
        headers += [
            (PLAYER_HEADER, first.player.encode()),
            (CURRENCY_HEADER, (first.legs[0].currency or "").encode()),
        ]
    return ConnectorRecord(key.encode(), body, tuple(headers))


def _json(fields: dict[str, Any], rng: Random) -> bytes:
    names = list(fields)
    if rng.random() < 0.3:  # a retry may list the fields in another order
        rng.shuffle(names)
    return json.dumps({name: fields[name] for name in names}).encode()


def _hub88(items: Sequence[Intent], provider_ms: int, rng: Random) -> tuple[bytes, bytes]:
    del provider_ms
    intent = items[0]
    fields: dict[str, Any] = {
        "user": intent.player,
        "transaction_uuid": intent.identity[3],
        "request_uuid": f"{rng.getrandbits(64):x}",
        "round": intent.round_id,
        "round_closed": intent.round_closed,
        "game_code": intent.game,
    }
    leg = intent.legs[0]
    if leg.minor is not None:
        assert leg.currency is not None
        fields |= {
            "amount": leg.minor * 10 ** (HUB88_SCALE - exponent_of(leg.currency)),
            "currency": leg.currency,
        }
        fields |= {"is_free": leg.is_free, "reward_uuid": leg.campaign}
    if intent.reference is not None:
        fields["reference_transaction_uuid"] = intent.reference[3]
    return _json(fields, rng), f"/transaction/{intent.operation}".encode()


def _hundredhp(items: Sequence[Intent], provider_ms: int, rng: Random) -> tuple[bytes, bytes]:
    del provider_ms
    [leg] = items[0].legs
    fields = {"txId": items[0].identity[3]}
    if leg.currency is not None:
        fields["amount"] = format_minor(leg.minor or 0, exponent_of(leg.currency))
    elif leg.minor is not None:  # hundredths of the bet's currency
        fields["amount"] = format_minor(leg.minor, 2)
    return _json(fields, rng), f"/hundredhp/{items[0].operation}".encode()


def _playngo(items: Sequence[Intent], provider_ms: int, rng: Random) -> tuple[bytes, bytes]:
    del provider_ms
    intent = items[0]
    total = sum(leg.minor or 0 for leg in intent.legs)
    currency = intent.legs[0].currency or ""
    fields = [
        ("externalId", intent.player),
        ("transactionId", intent.identity[3]),
        ("roundId", intent.round_id),
        ("real", _amount(total, currency, rng)),
        ("currency", currency),
        ("gameId", intent.game),
        ("state", "1" if intent.round_closed else "0"),
        ("freegameExternalId", intent.legs[0].campaign),
    ]
    fields += [("jackpotGain", _amount(leg.minor or 0, currency, rng)) for leg in intent.legs[1:]]
    rng.shuffle(fields)
    text = "".join(f"<{name}>{value}</{name}>" for name, value in fields if value is not None)
    return f"<{intent.operation}>{text}</{intent.operation}>".encode(), b"/playngo"


def _adyen(items: Sequence[Intent], provider_ms: int, rng: Random) -> tuple[bytes, bytes]:
    entries = []
    for intent in items:
        leg = intent.legs[0]
        assert intent.reference is not None
        event_code, _, failed = intent.operation.partition(":")
        name = (
            "merchantReference" if intent.reference[2] == "deposit.opened" else "originalReference"
        )
        fields = {
            "eventCode": event_code,
            "success": "false" if failed else "true",
            "pspReference": intent.identity[3],
            "amount": {"currency": leg.currency, "value": leg.minor},
            name: intent.reference[3],
            "eventDate": rfc3339(provider_ms),
        }
        entries.append({"NotificationRequestItem": fields})
    return _json({"live": "false", "notificationItems": entries}, rng), b"/adyen"


def _house(items: Sequence[Intent], provider_ms: int, rng: Random) -> tuple[bytes, bytes]:
    intent = items[0]
    leg = intent.legs[0]
    fields: dict[str, Any] = {
        "operation": intent.operation,
        "id": intent.identity[3],
        "at": rfc3339(provider_ms),
    }
    if intent.player is not None:
        fields["player_id"] = intent.player
    if leg.minor is not None and leg.currency is not None:
        fields |= {"amount": _amount(leg.minor, leg.currency, rng), "currency": leg.currency}
    elif leg.currency is not None:
        fields["currency"] = leg.currency
    if intent.reference is not None:
        fields["proposal_id" if intent.operation == "adjustment.approved" else "withdrawal_id"] = (
            intent.reference[3]
        )
    for other in intent.legs[1:]:
        fields["wagering_amount"] = _amount(other.minor or 0, other.currency or "", rng)
    # The dialect ignores the fields that an operation does not have.
    fields |= {
        "psp": "adyen",
        "actor": intent.actor,
        "reason": "a test",
        "campaign_id": leg.campaign or "none",
    }
    fields["source"] = intent.source
    return _json(fields, rng), b"/house"


def _amount(minor: int, currency: str, rng: Random) -> str:
    text = format_minor(minor, exponent_of(currency))
    if "." in text and rng.random() < 0.3:  # 1.50 and 1.5 are one amount
        text = text.rstrip("0").rstrip(".") if rng.random() < 0.5 else f"{text}00"
    return text


_WRITERS: Final = {
    "hub88": _hub88,
    "playngo": _playngo,
    "adyen": _adyen,
    "house": _house,
    "hundredhp": _hundredhp,
}
