"""Requests that no dialect can accept, one kind a function, each with its rejection code.

The first ten kinds have ten different codes. Where a kind is about the content, its signature is
right, so that a normaliser which checks signatures first still comes to the fault that is meant.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final, NamedTuple

import orjson

from lab.conformance.intents import Game, GameSession, Intent, Verb
from lab.conformance.writers import adyen, house, hub88, playngo
from lab.conformance.writers.encoding import json_body, xml_body
from lab.conformance.writers.ids import Ids
from lab.conformance.writers.writer import Message, Sending, Writer
from lab.sandbox.actions import ADYEN, HOUSE, HUB88, PLAYNGO, PoisonAction
from lab.sandbox.keys import SandboxKeys
from lab.sandbox.players import Player
from lab.sandbox.seats import make_intent, payment_method
from schemas.errors import RejectCode

_HUB88: Final = hub88.WRITER
_PLAYNGO: Final = playngo.WRITER
_ADYEN: Final = adyen.WRITER
_HOUSE: Final = house.WRITER

PoisonMessage = tuple[Intent, Message]
"""The intent that was spoilt, and what came of it."""


class PoisonSource(NamedTuple):
    """Ingredients of a poison record: the sending, its player, the keys, and unused ids."""

    sending: Sending
    player: Player
    keys: SandboxKeys
    ids: Ids

    def bet(self, writer: Writer) -> Intent:
        """Build a valid bet, to be spoilt."""
        tx_id = writer.draw_id(self.ids, Verb.BET, self.sending.at_ms)
        game = Game("aur_pharaoh" if writer is _HUB88 else "1201", 1201)
        session = GameSession(writer.provider, self.ids.uuid(), self.ids.number(), game)
        return make_intent(
            writer,
            Verb.BET,
            self.player,
            tx_id,
            self.sending.at_ms,
            self.player.purse.stakes_minor[0],
            round_id=str(self.ids.number()),
            session=session,
        )

    def bet_fields(self) -> tuple[Intent, dict[str, Any]]:
        """Build a valid bet of Hub88 and the fields of its body, to be spoilt."""
        bet = self.bet(_HUB88)
        return bet, _HUB88.fields(bet, self.sending)

    def withdrawal(self) -> tuple[Intent, dict[str, Any]]:
        """Build a valid withdrawal of 5 and the fields of its body, to be spoilt."""
        intent = make_intent(
            _HOUSE,
            Verb.WITHDRAWAL_REQUESTED,
            self.player,
            self.ids.uuid(),
            self.sending.at_ms,
            5 * 10**self.player.purse.scale,
        )
        return intent, _HOUSE.fields(intent) | {"amount": "5"}

    def sign_hub88(self, bet: Intent, body: bytes) -> PoisonMessage:
        """Sign a spoilt body of Hub88."""
        return bet, _HUB88.sign(bet, body, self.keys.of(HUB88))

    def sign_house(self, intent: Intent, body: bytes) -> PoisonMessage:
        """Sign a spoilt body of the house."""
        return intent, _HOUSE.sign(intent, body, self.keys.of(HOUSE))


def write_poison(
    action: PoisonAction, at_ms: int, nonce: int, keys: SandboxKeys
) -> tuple[RejectCode, Intent, Message]:
    """Write the catalogue's entry, and return the code that it must be rejected with."""
    expected, _, make = CATALOGUE[action.kind]
    source = PoisonSource(Sending(at_ms, nonce), action.player, keys, Ids(Random(nonce)))
    return expected, *make(source)


def _entity_in_doctype(source: PoisonSource) -> PoisonMessage:
    # XML external entities (CWE-611): a parser that expands this reads files for the sender.
    bet = source.bet(_PLAYNGO)
    elements = _PLAYNGO.elements(bet, source.keys.of(PLAYNGO))
    body = xml_body(bet.operation, elements.items(), None)
    doctype = b'<!DOCTYPE reserve [<!ENTITY token SYSTEM "file:///etc/hostname">]>'
    spoilt = doctype + body.replace(b"<channel>1<", b"<channel>&token;<")
    return bet, _PLAYNGO.wrap(bet, spoilt)


def _signature_of_other_bytes(source: PoisonSource) -> PoisonMessage:
    bet, fields = source.bet_fields()
    _, message = source.sign_hub88(bet, orjson.dumps(fields))
    return bet, message._replace(body=orjson.dumps(fields | {"amount": 1}))


def _unknown_operation(source: PoisonSource) -> PoisonMessage:
    intent, fields = source.withdrawal()
    return source.sign_house(intent, orjson.dumps(fields | {"operation": "withdrawal.imagined"}))


def _too_many_decimals(source: PoisonSource) -> PoisonMessage:
    bet = source.bet(_PLAYNGO)
    elements = _PLAYNGO.elements(bet, source.keys.of(PLAYNGO)) | {"real": "1.00001"}
    return bet, _PLAYNGO.wrap(bet, xml_body(bet.operation, elements.items(), None))


def _amount_beyond_64_bits(source: PoisonSource) -> PoisonMessage:
    return _change_bet(source, {"amount": 2**63})


def _no_signature(source: PoisonSource) -> PoisonMessage:
    intent, fields = source.withdrawal()
    return intent, _HOUSE.sign(intent, orjson.dumps(fields), None)


def _unknown_currency(source: PoisonSource) -> PoisonMessage:
    return _change_bet(source, {"currency": "XQQ"})


def _no_transaction_id(source: PoisonSource) -> PoisonMessage:
    bet, fields = source.bet_fields()
    del fields["transaction_uuid"]
    return source.sign_hub88(bet, orjson.dumps(fields))


def _no_such_time(source: PoisonSource) -> PoisonMessage:
    intent, fields = source.withdrawal()
    return source.sign_house(intent, orjson.dumps(fields | {"at": "2026-02-30T10:00:00.000Z"}))


def _text_for_flag(source: PoisonSource) -> PoisonMessage:
    return _change_bet(source, {"round_closed": "perhaps"})


def _cut_short(source: PoisonSource) -> PoisonMessage:
    intent, fields = source.withdrawal()
    return source.sign_house(intent, orjson.dumps(fields)[:-20])


def _invalid_utf8(source: PoisonSource) -> PoisonMessage:
    bet, fields = source.bet_fields()
    return source.sign_hub88(bet, orjson.dumps(fields).replace(b'"round":"', b'"round":"\xe4'))


def _altered_notice(source: PoisonSource) -> PoisonMessage:
    player = source.player
    tx_id = source.ids.psp_reference()
    deposit_id = source.ids.uuid()
    intent = make_intent(
        _ADYEN,
        Verb.DEPOSIT,
        player,
        tx_id,
        source.sending.at_ms,
        player.purse.deposits_minor[0],
        deposit_id=deposit_id,
        region="",
        details=(("method", payment_method(player)),),
    )
    signed = _ADYEN.item(intent, source.keys.of(ADYEN))
    signed["amount"]["value"] *= 10
    body = json_body(
        {"live": "true", "notificationItems": [{"NotificationRequestItem": signed}]}, None
    )
    return intent, _ADYEN.wrap(intent, body)


def _change_bet(source: PoisonSource, changed: dict[str, object]) -> PoisonMessage:
    bet, fields = source.bet_fields()
    return source.sign_hub88(bet, json_body(fields | changed, None))


Poisoner = Callable[[PoisonSource], PoisonMessage]

CATALOGUE: Final[tuple[tuple[RejectCode, str, Poisoner], ...]] = (
    (RejectCode.MALFORMED, PLAYNGO, _entity_in_doctype),
    (RejectCode.BAD_SIGNATURE, HUB88, _signature_of_other_bytes),
    (RejectCode.UNKNOWN_OPERATION, HOUSE, _unknown_operation),
    (RejectCode.AMOUNT_SCALE, PLAYNGO, _too_many_decimals),
    (RejectCode.BAD_AMOUNT, HUB88, _amount_beyond_64_bits),
    (RejectCode.MISSING_SIGNATURE, HOUSE, _no_signature),
    (RejectCode.BAD_CURRENCY, HUB88, _unknown_currency),
    (RejectCode.MISSING_FIELD, HUB88, _no_transaction_id),
    (RejectCode.BAD_TIME, HOUSE, _no_such_time),
    (RejectCode.BAD_FIELD, HUB88, _text_for_flag),
    (RejectCode.MALFORMED, HOUSE, _cut_short),
    (RejectCode.MALFORMED, HUB88, _invalid_utf8),
    (RejectCode.BAD_SIGNATURE, ADYEN, _altered_notice),
)
"""Code that it must be rejected with, provider that sends it, and how it is made."""
