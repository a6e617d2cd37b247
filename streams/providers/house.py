"""The casino's own cashier and CRM, JSON over POST, one object an event.

It reports deposits opened, withdrawals, adjustments, bonuses, blocks, limits and heartbeats.
`x-house-signature` is the hex HMAC-SHA256 over the raw body. Amounts are decimal strings in major
units, times RFC 3339. `operation` names the kind of object, `id` is unique within its operation. A
payment provider's notice finds its player through the `deposit.opened` that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final

import msgspec

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import SignatureVerdict, WalletOutcome
from schemas.money import format_minor
from streams.providers.dialect import (
    Dialect,
    Draft,
    Headers,
    Item,
    KeyMaterial,
    Reader,
    Reply,
    UnreadableItem,
    require_key,
)
from streams.providers.fields import ms_of_instant, read_json, read_player_id, text_of
from streams.providers.house_messages import BODY, HouseMessage
from streams.providers.http_face import HttpCall, HttpFace
from streams.providers.signatures import HmacSha256

SIGNATURE_HEADER: Final = "x-house-signature"


@dataclass(frozen=True)
class House(Dialect):
    """Our own format's dialect.

    Unknown fields are ignored, so that the cashier can be upgraded first.
    """

    provider: ClassVar[str] = "house"
    version: ClassVar[str] = "1"
    decides: ClassVar[frozenset[str]] = frozenset({"withdrawal.requested"})
    face: ClassVar[HttpFace | None] = HttpFace(
        (HttpCall("/v1", ("any operation",)),),
        signature_headers=(SIGNATURE_HEADER,),
        signs_bytes=True,
    )

    def reader(self, material: KeyMaterial | None) -> Reader:
        """Return a reader that checks `x-house-signature`. Needs `hmac_hex`."""
        matches = None
        if material is not None:
            matches = HmacSha256(require_key(material, "hmac_hex", self.provider)).matches_hex
        return partial(self._read, matches)

    def answer(self, request: RawRecord, results: Sequence[WalletOutcome | Rejected]) -> Reply:
        """Return outcome, reason, message, event id, and the balance as text in major units.

        A rejection has the outcome REJECTED, its code as the reason, and HTTP 400, or 401 for its
        signature.
        """
        del request
        [result] = results
        if isinstance(result, Rejected):
            forged = result.reason in {RejectCode.BAD_SIGNATURE, RejectCode.MISSING_SIGNATURE}
            response = {
                "outcome": "REJECTED",
                "reason": result.reason.value,
                "message": result.detail,
            }
            return Reply(401 if forged else 400, "application/json", msgspec.json.encode(response))
        response = {"outcome": result.outcome, "reason": result.reason, "message": result.message}
        response["event_id"] = result.event_id
        if result.currency is not None and result.balance_minor is not None:
            response["currency"] = result.currency
            response["balance"] = format_minor(result.balance_minor, result.scale or 0)
        return Reply(200, "application/json", msgspec.json.encode(response))

    def answer_unavailable(self, request: RawRecord) -> Reply:
        """Return the outcome UNAVAILABLE under HTTP 503: the same message may be sent again."""
        del request
        message = "not decided in time: send the same message again"
        response = {"outcome": "UNAVAILABLE", "reason": "TIMED_OUT", "message": message}
        return Reply(503, "application/json", msgspec.json.encode(response))

    def _read(
        self, matches: Callable[[bytes, bytes], bool] | None, record: RawRecord, headers: Headers
    ) -> list[Item]:
        value = record.value or b""
        verdict = SignatureVerdict.NOT_CHECKED.value
        if matches is not None:
            signature = headers.get(SIGNATURE_HEADER)
            if not signature:
                raise Rejected(
                    RejectCode.MISSING_SIGNATURE, f"the header {SIGNATURE_HEADER} is missing"
                )
            if not matches(value, signature):
                raise Rejected(
                    RejectCode.BAD_SIGNATURE, f"{SIGNATURE_HEADER} does not sign this body"
                )
            verdict = SignatureVerdict.VALID.value
        try:
            message = read_json(BODY, value)
        except Rejected as error:
            raise UnreadableItem(
                error.reason, error.detail, read_player_id(value, "player_id", verdict)
            ) from error
        player_id = message.player()
        try:
            return [self._draft(message, player_id, verdict)]
        except Rejected as error:
            raise UnreadableItem(error.reason, error.detail, player_id) from error

    def _draft(self, message: HouseMessage, player_id: str | None, verdict: str) -> Draft:
        operation = str(message.__struct_config__.tag)
        return Draft(
            operation,
            text_of(message.id, "id"),
            message.legs(),
            player_id,
            message.reference(),
            None,
            False,
            None,
            ms_of_instant(message.at, "at"),
            operation in self.decides,
            verdict,
            message.cause(),
        )
