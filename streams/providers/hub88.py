"""Hub88, the operator's Wallet API: POST /transaction/bet, /transaction/win, /transaction/rollback, JSON.

Source: docs.hub88.io, operator-api-reference, wallet-api; the unit (1 = 1/100000 of the currency) and a rollback
without amount are what live integrations show. Nothing in a body tells the time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final

import msgspec

from schemas.errors import RejectCode, Rejected
from schemas.events import Kind, Leg, Reference, SignatureVerdict
from schemas.money import amount_of
from streams.providers.dialect import (
    Dialect,
    Draft,
    Headers,
    Item,
    KeyMaterial,
    RawRecord,
    Reader,
    Unreadable,
    entry_of,
)
from streams.providers.fields import (
    CurrencyText,
    Id,
    OptionalId,
    currency_of,
    optional_text,
    read_json,
    required,
    text_of,
)
from streams.providers.signatures import RsaSha256

AMOUNT_SCALE: Final = 5
SIGNATURE_HEADER: Final = "x-hub88-signature"

_OPERATIONS: Final = {b"bet": "bet", b"win": "win", b"rollback": "rollback"}
_KINDS: Final = {"bet": Kind.BET.value, "win": Kind.WIN.value}
_VALID: Final = SignatureVerdict.VALID.value
_NOT_CHECKED: Final = SignatureVerdict.NOT_CHECKED.value


class _Body(msgspec.Struct, frozen=True, gc=False):
    user: Id
    transaction_uuid: Id
    round: OptionalId = None
    round_closed: bool | None = None
    amount: int | None = None
    currency: CurrencyText | None = None
    reference_transaction_uuid: OptionalId = None
    is_free: bool | None = None
    reward_uuid: OptionalId = None
    game_code: OptionalId = None
    game_id: OptionalId = None


_BODY: Final = msgspec.json.Decoder(_Body)


@dataclass(frozen=True)
class Hub88(Dialect):
    """`rollback_of` is the operation that a rollback's reference names.

    The document speaks of the transaction to roll back without its kind; integrations see bets only, hence the default.
    """

    provider: ClassVar[str] = "hub88"
    version: ClassVar[str] = "1"
    decides: ClassVar[frozenset[str]] = frozenset({"bet"})

    rollback_of: str = "bet"

    def reader(self, material: KeyMaterial | None) -> Reader:
        """A reader that checks `X-Hub88-Signature`: RSA-SHA256 over the raw body. Needs `public_key_pem`."""
        matches = None
        if material is not None:
            matches = RsaSha256(entry_of(material, "public_key_pem", self.provider)).matches
        return partial(self._read, matches)

    def _read(self, matches: Callable[[bytes, bytes], bool] | None, record: RawRecord, headers: Headers) -> list[Item]:
        _, known, endpoint = (headers.get("http-path") or b"").rpartition(b"/transaction/")
        operation = _OPERATIONS.get(endpoint) if known else None
        if operation is None:
            raise Rejected(RejectCode.UNKNOWN_OPERATION, "the header http-path names no wallet transaction")
        value = record.value or b""
        verdict = _NOT_CHECKED
        if matches is not None:
            signature = headers.get(SIGNATURE_HEADER)
            if not signature:
                raise Rejected(RejectCode.MISSING_SIGNATURE, f"the header {SIGNATURE_HEADER} is missing")
            if not matches(value, signature):
                raise Rejected(RejectCode.BAD_SIGNATURE, f"{SIGNATURE_HEADER} does not sign this body")
            verdict = _VALID
        body = read_json(_BODY, value)
        player_id = text_of(body.user, "user")
        try:
            return [self._draft(operation, body, player_id, verdict)]
        except Rejected as error:
            raise Unreadable(error.reason, error.detail, player_id) from error

    def _draft(self, operation: str, body: _Body, player_id: str, verdict: str) -> Draft:
        referred = optional_text(body.reference_transaction_uuid, "reference_transaction_uuid")
        reference: Reference | None = None
        if operation == "rollback":
            reference = Reference(self.rollback_of, required(referred, "reference_transaction_uuid"))
            leg = Leg(Kind.ROLLBACK.value)
        else:
            if referred is not None:
                reference = Reference("bet", referred)
            amount = amount_of(required(body.amount, "amount"), AMOUNT_SCALE)
            currency = currency_of(amount, required(body.currency, "currency"))
            campaign_id = optional_text(body.reward_uuid, "reward_uuid")
            leg = Leg(_KINDS[operation], amount, currency, bool(body.is_free), campaign_id)
        # The code is what the document calls the game; it may change inside a lobby's session, the id may be missing.
        game_id = optional_text(body.game_code, "game_code") or optional_text(body.game_id, "game_id")
        return Draft(
            operation,
            text_of(body.transaction_uuid, "transaction_uuid"),
            [leg],
            player_id,
            reference,
            optional_text(body.round, "round"),
            bool(body.round_closed),
            game_id,
            None,
            operation in self.decides,
            verdict,
        )
