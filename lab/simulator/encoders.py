"""What was said, in the bytes of its provider.

Signatures are left out: they are proven elsewhere and cost the most.
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
    """Key, value and headers as a connector appends them."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def encode_record(
    items: Sequence[Intent], received_ms: int, provider_ms: int, chance: Random
) -> ConnectorRecord:
    """One record that says all the items; only a payment provider says several at once."""
    first = items[0]
    brand, provider = first.identity[:2]
    body, path = _WRITERS[provider](items, provider_ms, chance)
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


def _json(fields: dict[str, Any], chance: Random) -> bytes:
    names = list(fields)
    if chance.random() < 0.3:  # a retry may be printed by another machine
        chance.shuffle(names)
    return json.dumps({name: fields[name] for name in names}).encode()


def _hub88(items: Sequence[Intent], provider_ms: int, chance: Random) -> tuple[bytes, bytes]:
    del provider_ms
    said = items[0]
    fields: dict[str, Any] = {
        "user": said.player,
        "transaction_uuid": said.identity[3],
        "request_uuid": f"{chance.getrandbits(64):x}",
        "round": said.round_id,
        "round_closed": said.round_closed,
        "game_code": said.game,
    }
    leg = said.legs[0]
    if leg.minor is not None:
        assert leg.currency is not None
        fields |= {
            "amount": leg.minor * 10 ** (HUB88_SCALE - exponent_of(leg.currency)),
            "currency": leg.currency,
        }
        fields |= {"is_free": leg.is_free, "reward_uuid": leg.campaign}
    if said.reference is not None:
        fields["reference_transaction_uuid"] = said.reference[3]
    return _json(fields, chance), f"/transaction/{said.operation}".encode()


def _hundredhp(items: Sequence[Intent], provider_ms: int, chance: Random) -> tuple[bytes, bytes]:
    del provider_ms
    [leg] = items[0].legs
    fields = {"txId": items[0].identity[3]}
    if leg.currency is not None:
        fields["amount"] = format_minor(leg.minor or 0, exponent_of(leg.currency))
    elif leg.minor is not None:  # hundredths of whatever the bet was in
        fields["amount"] = format_minor(leg.minor, 2)
    return _json(fields, chance), f"/hundredhp/{items[0].operation}".encode()


def _playngo(items: Sequence[Intent], provider_ms: int, chance: Random) -> tuple[bytes, bytes]:
    del provider_ms
    said = items[0]
    total = sum(leg.minor or 0 for leg in said.legs)
    currency = said.legs[0].currency or ""
    fields = [
        ("externalId", said.player),
        ("transactionId", said.identity[3]),
        ("roundId", said.round_id),
        ("real", _amount(total, currency, chance)),
        ("currency", currency),
        ("gameId", said.game),
        ("state", "1" if said.round_closed else "0"),
        ("freegameExternalId", said.legs[0].campaign),
    ]
    fields += [("jackpotGain", _amount(leg.minor or 0, currency, chance)) for leg in said.legs[1:]]
    chance.shuffle(fields)
    text = "".join(f"<{name}>{value}</{name}>" for name, value in fields if value is not None)
    return f"<{said.operation}>{text}</{said.operation}>".encode(), b"/playngo"


def _adyen(items: Sequence[Intent], provider_ms: int, chance: Random) -> tuple[bytes, bytes]:
    entries = []
    for said in items:
        leg = said.legs[0]
        assert said.reference is not None
        event_code, _, failed = said.operation.partition(":")
        name = "merchantReference" if said.reference[2] == "deposit.opened" else "originalReference"
        fields = {
            "eventCode": event_code,
            "success": "false" if failed else "true",
            "pspReference": said.identity[3],
            "amount": {"currency": leg.currency, "value": leg.minor},
            name: said.reference[3],
            "eventDate": rfc3339(provider_ms),
        }
        entries.append({"NotificationRequestItem": fields})
    return _json({"live": "false", "notificationItems": entries}, chance), b"/adyen"


def _house(items: Sequence[Intent], provider_ms: int, chance: Random) -> tuple[bytes, bytes]:
    said = items[0]
    leg = said.legs[0]
    fields: dict[str, Any] = {
        "operation": said.operation,
        "id": said.identity[3],
        "at": rfc3339(provider_ms),
    }
    if said.player is not None:
        fields["player_id"] = said.player
    if leg.minor is not None and leg.currency is not None:
        fields |= {"amount": _amount(leg.minor, leg.currency, chance), "currency": leg.currency}
    elif leg.currency is not None:
        fields["currency"] = leg.currency
    if said.reference is not None:
        fields["proposal_id" if said.operation == "adjustment.approved" else "withdrawal_id"] = (
            said.reference[3]
        )
    for other in said.legs[1:]:
        fields["wagering_amount"] = _amount(other.minor or 0, other.currency or "", chance)
    # A field that an operation does not have is let by.
    fields |= {
        "psp": "adyen",
        "actor": said.actor,
        "reason": "a test",
        "campaign_id": leg.campaign or "none",
    }
    fields["source"] = said.source
    return _json(fields, chance), b"/house"


def _amount(minor: int, currency: str, chance: Random) -> str:
    text = format_minor(minor, exponent_of(currency))
    if "." in text and chance.random() < 0.3:  # 1.50 and 1.5 are one amount
        text = text.rstrip("0").rstrip(".") if chance.random() < 0.5 else f"{text}00"
    return text


_WRITERS: Final = {
    "hub88": _hub88,
    "playngo": _playngo,
    "adyen": _adyen,
    "house": _house,
    "hundredhp": _hundredhp,
}
