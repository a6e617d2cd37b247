"""Skylift's events: Avro in the single-object encoding, signed in a header.

Skylift is invented; its schemas are `schemas/providers/skylift`. The bytes are put together here by
the Avro 1.12 specification (sections "Binary Encoding" and "Single-object encoding") and not by a
library, since the adapter reads them with one. Version 2 knows campaigns, jackpots and the end of a
flight; version 1 does without. Amounts are decimals of eight places, times microseconds.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from random import Random
from typing import ClassVar, Final
from zlib import crc32

from lab.conformance.intents import Game, Intent, IntentLeg, Verb
from lab.conformance.writers.encoding import units_of
from lab.conformance.writers.ids import Ids
from lab.conformance.writers.writer import Headers, Message, Secrets, Sending, Writer

DECIMALS: Final = 8
CONTENT_TYPE: Final = "application/vnd.skylift+avro"
PATH: Final = "/skylift/event"
HEAD_BYTES: Final = 10

_HEADS: Final = {
    1: bytes.fromhex("c301 4e58d0092f8f9c99"),
    2: bytes.fromhex("c301 0f03acdbbd2b9713"),
}
"""Marker and CRC-64-AVRO fingerprint of the schema, little-endian, by its version."""
_TYPES: Final = ("BET", "CASHOUT", "REFUND", "JACKPOT")  # of version 1 all but the last


class SkyliftWriter(Writer):
    """Writes bets, cash-outs, refunds and jackpots."""

    provider = "skylift"
    says: ClassVar = {
        Verb.BET: "BET",
        Verb.WIN: "CASHOUT",
        Verb.FREE_BET: "BET",
        Verb.FREE_WIN: "CASHOUT",
        Verb.ROLLBACK: "REFUND",
        Verb.JACKPOT_WIN: "JACKPOT",
    }
    secret_names = ("hmac_hex",)
    games = (Game("skylift-classic"), Game("skylift-duo"), Game("skylift-night"))
    decimals_max = DECIMALS
    verbs_with_the_bets_id = frozenset({Verb.ROLLBACK})

    def write(self, items: Sequence[Intent], sending: Sending, secrets: Secrets | None) -> Message:
        """Write one event, signed with `secrets`.

        The detail `version` is the schema's, 2 without it. A style takes version 1 where that says
        all there is to say, and more bytes for the amount.
        """
        [intent] = items
        style = sending.style
        version = int(intent.detail("version", "2"))
        if style is not None and version == 2 and _fits_version_1(intent) and style.random() < 0.5:
            version = 1
        body = _HEADS[version] + _record(intent, version, style)
        headers: Headers = ()
        if secrets is not None:
            signature = hmac.digest(bytes.fromhex(secrets["hmac_hex"]), body, "sha512")
            headers = (("x-skylift-signature", signature.hex().encode()),)
        return Message(intent.player or "", body, PATH, CONTENT_TYPE, headers)

    def draw_round(self, ids: Ids) -> str:
        """Draw a flight: a letter and a number."""
        return f"F{ids.number()}"


def _fits_version_1(intent: Intent) -> bool:
    is_known = intent.verb is not Verb.JACKPOT_WIN
    return is_known and not intent.round_closed and not intent.legs[0].campaign


def _record(intent: Intent, version: int, style: Random | None) -> bytes:
    """Encode the fields in the order of the schema."""
    [leg] = intent.legs
    fields = [
        _text(intent.tx_id),
        _integer(_TYPES.index(intent.operation)),
        _text(intent.player or ""),
        _text(intent.game or ""),
        _text(intent.round_id or ""),
        _integer(int(intent.detail("seat", "0"))),
        _bytes(_amount(leg, style)),
        _text(leg.currency or ""),
        _optional_text(intent.referred_id),
        _integer(_micros(intent)),
    ]
    if version == 2:
        fields += [_optional_text(leg.campaign), b"\1" if intent.round_closed else b"\0"]
    return b"".join(fields)


def _amount(leg: IntentLeg, style: Random | None) -> bytes:
    """Return the amount in two's complement, big-endian; a style repeats the sign in front."""
    assert leg.minor is not None
    assert leg.currency is not None
    units = units_of(leg.minor, leg.currency, DECIMALS)
    more = 0 if style is None else style.randint(1, 3)
    return units.to_bytes(units.bit_length() // 8 + 1 + more, "big", signed=True)


def _micros(intent: Intent) -> int:
    """Return the time of the event. Its clock is finer than ours: an event has its own rest."""
    return intent.at_ms * 1000 + crc32(intent.tx_id.encode()) % 1000


def _integer(number: int) -> bytes:
    """Encode an int, long or the index of an enum or a union: zigzag, seven bits a byte."""
    rest = number << 1 if number >= 0 else (-number << 1) - 1
    parts = bytearray()
    while rest > 0x7F:
        parts.append(rest & 0x7F | 0x80)
        rest >>= 7
    parts.append(rest)
    return bytes(parts)


def _bytes(value: bytes) -> bytes:
    return _integer(len(value)) + value


def _text(text: str) -> bytes:
    return _bytes(text.encode())


def _optional_text(text: str | None) -> bytes:
    """Encode the union of null and string."""
    return _integer(0) if text is None else _integer(1) + _text(text)


WRITER: Final = SkyliftWriter()
