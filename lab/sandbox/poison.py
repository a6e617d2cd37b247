"""Requests that no dialect can accept, one kind a function, each with its rejection code.

The first ten kinds have ten different codes. Where a kind is about the content, its signature is
right, so that a normaliser which checks signatures first still comes to the fault that is meant.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final, NamedTuple

import orjson
from msgspec.structs import replace

from lab.sandbox.actions import (
    HUB88,
    PLAYNGO,
    Delivery,
    GameAction,
    GameSession,
    HouseAction,
    PspBatch,
    PspItem,
    Verb,
)
from lab.sandbox.adyen_writer import adyen_item, wrap_adyen_body
from lab.sandbox.encoders import xml_body
from lab.sandbox.house_writer import house_fields, wrap_house_body
from lab.sandbox.hub88_writer import hub88_fields, wrap_hub88_body
from lab.sandbox.ids import Ids
from lab.sandbox.keys import SandboxKeys
from lab.sandbox.players import Player
from lab.sandbox.playngo_writer import METHODS, playngo_elements, wrap_playngo_body
from lab.sandbox.records import Origin, RawEvent
from schemas.errors import RejectCode


class PoisonSource(NamedTuple):
    """Ingredients of a poison record: a delivery, its player, the keys, and unused ids."""

    delivery: Delivery
    player: Player
    keys: SandboxKeys
    ids: Ids

    def bet(self, provider: str) -> GameAction:
        """Build a valid bet, to be spoilt."""
        tx_id = self.ids.uuid() if provider == HUB88 else str(self.ids.number())
        session = GameSession(provider, self.ids.uuid(), self.ids.number(), 1201, "aur_pharaoh")
        return GameAction(
            at_ms=self.delivery.at_ms,
            verb=Verb.BET,
            player=self.player,
            session=session,
            tx_id=tx_id,
            round_id=str(self.ids.number()),
            round_closed=False,
            amount_minor=self.player.purse.stakes_minor[0],
        )

    def withdrawal(self) -> HouseAction:
        """Build a valid withdrawal, to be spoilt."""
        fields = (("amount", "5"), ("currency", self.player.currency))
        return HouseAction(
            self.delivery.at_ms, "withdrawal.requested", self.ids.uuid(), self.player, fields
        )


def poison_record(delivery: Delivery, kind: int, player: Player, keys: SandboxKeys) -> RawEvent:
    """Write the record of the catalogue's entry `kind`."""
    expected, make = CATALOGUE[kind]
    record = make(PoisonSource(delivery, player, keys, Ids(Random(delivery.nonce))))
    return replace(record, origin=Origin.POISON, expected_reject=expected)


def _entity_in_doctype(source: PoisonSource) -> RawEvent:
    # XML external entities (CWE-611): a parser that expands this reads files for the sender.
    bet = source.bet(PLAYNGO)
    body = xml_body(
        METHODS[bet.verb], playngo_elements(bet, source.keys.playngo_access_token).items(), None
    )
    doctype = b'<!DOCTYPE reserve [<!ENTITY token SYSTEM "file:///etc/hostname">]>'
    return wrap_playngo_body(
        source.delivery, bet, doctype + body.replace(b"<channel>1<", b"<channel>&token;<")
    )


def _signature_of_other_bytes(source: PoisonSource) -> RawEvent:
    bet = source.bet(HUB88)
    fields = hub88_fields(bet, source.delivery.nonce)
    signature = source.keys.hub88_signature(orjson.dumps(fields))
    return wrap_hub88_body(source.delivery, bet, orjson.dumps(fields | {"amount": 1}), signature)


def _unknown_operation(source: PoisonSource) -> RawEvent:
    action = replace(source.withdrawal(), operation="withdrawal.imagined")
    return _sign_house(source, action, orjson.dumps(house_fields(action)))


def _too_many_decimals(source: PoisonSource) -> RawEvent:
    bet = source.bet(PLAYNGO)
    elements = playngo_elements(bet, source.keys.playngo_access_token) | {"real": "1.00001"}
    return wrap_playngo_body(
        source.delivery, bet, xml_body(METHODS[bet.verb], elements.items(), None)
    )


def _amount_beyond_64_bits(source: PoisonSource) -> RawEvent:
    return _sign_hub88(source, {"amount": 2**63})


def _no_signature(source: PoisonSource) -> RawEvent:
    action = source.withdrawal()
    return wrap_house_body(source.delivery, action, orjson.dumps(house_fields(action)), None)


def _unknown_currency(source: PoisonSource) -> RawEvent:
    return _sign_hub88(source, {"currency": "XQQ"})


def _no_transaction_id(source: PoisonSource) -> RawEvent:
    bet = source.bet(HUB88)
    fields = hub88_fields(bet, source.delivery.nonce)
    del fields["transaction_uuid"]
    body = orjson.dumps(fields)
    return wrap_hub88_body(source.delivery, bet, body, source.keys.hub88_signature(body))


def _no_such_time(source: PoisonSource) -> RawEvent:
    action = source.withdrawal()
    return _sign_house(
        source, action, orjson.dumps(house_fields(action) | {"at": "2026-02-30T10:00:00.000Z"})
    )


def _text_for_flag(source: PoisonSource) -> RawEvent:
    return _sign_hub88(source, {"round_closed": "perhaps"})


def _cut_short(source: PoisonSource) -> RawEvent:
    action = source.withdrawal()
    return _sign_house(source, action, orjson.dumps(house_fields(action))[:-20])


def _invalid_utf8(source: PoisonSource) -> RawEvent:
    bet = source.bet(HUB88)
    body = orjson.dumps(hub88_fields(bet, source.delivery.nonce)).replace(
        b'"round":"', b'"round":"\xe4'
    )
    return wrap_hub88_body(source.delivery, bet, body, source.keys.hub88_signature(body))


def _altered_notice(source: PoisonSource) -> RawEvent:
    item = PspItem(
        at_ms=source.delivery.at_ms,
        event_code="AUTHORISATION",
        success=True,
        psp_reference=source.ids.psp_reference(),
        merchant_reference=source.ids.uuid(),
        player=source.player,
        amount_minor=source.player.purse.deposits_minor[0],
    )
    signed = adyen_item(item, source.keys)
    signed["amount"]["value"] *= 10
    items = [{"NotificationRequestItem": signed}]
    body = orjson.dumps({"live": "false", "notificationItems": items})
    return wrap_adyen_body(source.delivery, PspBatch(item.at_ms, (item,)), body)


def _sign_hub88(source: PoisonSource, changed: dict[str, object]) -> RawEvent:
    bet = source.bet(HUB88)
    # Spliced as text, because orjson refuses an integer beyond 64 bits, which is one of the kinds.
    body = orjson.dumps(hub88_fields(bet, source.delivery.nonce) | dict.fromkeys(changed, 0))
    for name, value in changed.items():
        text = str(value) if isinstance(value, int) else orjson.dumps(value).decode()
        body = body.replace(f'"{name}":0'.encode(), f'"{name}":{text}'.encode())
    return wrap_hub88_body(source.delivery, bet, body, source.keys.hub88_signature(body))


def _sign_house(source: PoisonSource, action: HouseAction, body: bytes) -> RawEvent:
    return wrap_house_body(source.delivery, action, body, source.keys.house_signature(body))


CATALOGUE: Final[tuple[tuple[RejectCode, Callable[[PoisonSource], RawEvent]], ...]] = (
    (RejectCode.MALFORMED, _entity_in_doctype),
    (RejectCode.BAD_SIGNATURE, _signature_of_other_bytes),
    (RejectCode.UNKNOWN_OPERATION, _unknown_operation),
    (RejectCode.AMOUNT_SCALE, _too_many_decimals),
    (RejectCode.BAD_AMOUNT, _amount_beyond_64_bits),
    (RejectCode.MISSING_SIGNATURE, _no_signature),
    (RejectCode.BAD_CURRENCY, _unknown_currency),
    (RejectCode.MISSING_FIELD, _no_transaction_id),
    (RejectCode.BAD_TIME, _no_such_time),
    (RejectCode.BAD_FIELD, _text_for_flag),
    (RejectCode.MALFORMED, _cut_short),
    (RejectCode.MALFORMED, _invalid_utf8),
    (RejectCode.BAD_SIGNATURE, _altered_notice),
)
