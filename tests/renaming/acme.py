"""A made-up provider: JSON `{"balance_update": {...}}`, signed with a shared secret in a header."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import msgspec

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import Kind, Leg
from schemas.money import amount_from_text
from streams.providers.dialect import (
    Dialect,
    Draft,
    Headers,
    Item,
    KeyMaterial,
    Reader,
    require_key,
)
from streams.providers.fields import Id, currency_of, read_json, text_of
from streams.providers.signatures import same_secret

OPERATION = "balance_update"
"""The operation of the identity.

It keeps the first name: a retry under the new name must not be paid again.
"""


class Update(msgspec.Struct):
    id: Id
    player: Id
    amount: str
    currency: str


class Body(msgspec.Struct):
    balance_update: Update


@dataclass(frozen=True)
class Acme(Dialect):
    provider: ClassVar[str] = "acme"
    version: ClassVar[str] = "1"
    body: ClassVar[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(Body)

    checks: bool = True

    def reader(self, material: KeyMaterial | None) -> Reader:
        secret = (
            None
            if material is None or not self.checks
            else require_key(material, "secret", "acme").encode()
        )
        return partial(self._read, secret)

    def update(self, value: bytes) -> Update:
        return read_json(self.body, value).balance_update

    def _read(self, secret: bytes | None, record: RawRecord, headers: Headers) -> list[Item]:
        if secret is not None and not same_secret(headers.get("x-secret") or b"", secret):
            raise Rejected(RejectCode.BAD_SIGNATURE, "x-secret is not the agreed one")
        fields = self.update(record.value or b"")
        amount = amount_from_text(fields.amount)
        leg = Leg(Kind.WIN.value, amount, currency_of(amount, fields.currency))
        player_id = text_of(fields.player, "player")
        verdict = "NOT_CHECKED" if secret is None else "VALID"
        tx_id = text_of(fields.id, "id")
        return [
            Draft(OPERATION, tx_id, [leg], player_id, None, None, False, None, None, False, verdict)
        ]
