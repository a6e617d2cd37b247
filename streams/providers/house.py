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
from typing import ClassVar, Final, TypeAlias

import msgspec

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import Amount, Outcome, SignatureVerdict, WalletOutcome
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
from streams.providers.fields import (
    currency_of,
    ms_of_instant,
    read_json,
    read_player_id,
    received_at_of,
    text_of,
)
from streams.providers.house_messages import BODY, OPERATIONS, BalanceQuestion, HouseMessage
from streams.providers.http_face import HttpCall, HttpFace
from streams.providers.questions import UNKNOWN_PLAYER, PlayerStatus, Question, QuestionReader
from streams.providers.signatures import HmacSha256

SIGNATURE_HEADER: Final = "x-house-signature"
QUESTION_AGE_MAX_MS: Final = 300_000
"""How far the time of a question may be from its receipt: a signed one that was seen on its way
tells nothing later.
"""

_QUESTION: Final = msgspec.json.Decoder(BalanceQuestion)
_NOTHING: Final = Amount(0, 0)
_MESSAGES: Final[dict[str, str]] = {
    Outcome.REFUSED_BLOCKED: "The account is blocked.",
    Outcome.REFUSED_LIMIT: "A limit of the player allows no bet.",
    Outcome.REFUSED_CURRENCY: "The player has no wallet in this currency.",
    UNKNOWN_PLAYER: "Nothing is known of this player.",
}
_Matcher: TypeAlias = Callable[[bytes, bytes], bool]


@dataclass(frozen=True)
class House(Dialect):
    """Our own format's dialect.

    Unknown fields are ignored, so that the cashier can be upgraded first.
    """

    provider: ClassVar[str] = "house"
    version: ClassVar[str] = "1"
    decides: ClassVar[frozenset[str]] = frozenset({"withdrawal.requested"})
    face: ClassVar[HttpFace | None] = HttpFace(
        (HttpCall("/v1", OPERATIONS), HttpCall("/v1/balance", asks=("balance",))),
        signature_headers=(SIGNATURE_HEADER,),
        signs_bytes=True,
    )

    def reader(self, material: KeyMaterial | None) -> Reader:
        """Return a reader that checks `x-house-signature`. Needs `hmac_hex`."""
        return partial(self._read, self._matcher(material))

    def question_reader(self, material: KeyMaterial | None) -> QuestionReader:
        """Return a reader of `/v1/balance`, signed as all messages are."""
        return partial(_read_question, self._matcher(material))

    def _matcher(self, material: KeyMaterial | None) -> _Matcher | None:
        if material is None:
            return None
        return HmacSha256(require_key(material, "hmac_hex", self.provider)).matches_hex

    def answer(self, request: RawRecord, results: Sequence[WalletOutcome | Rejected]) -> Reply:
        """Return outcome, reason, message, event id, and the balance as text in major units.

        A rejection has the outcome REJECTED, its code as the reason, and HTTP 400, or 401 for its
        signature. A heartbeat, of which nothing is decided, has RECORDED.
        """
        del request
        if not results:
            message = "it is in the log, and nothing of it is decided"
            response = {"outcome": "RECORDED", "reason": "NO_DECISION", "message": message}
            return Reply(200, "application/json", msgspec.json.encode(response))
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

    def answer_question(
        self, request: RawRecord, question: Question, status: PlayerStatus
    ) -> Reply:
        """Return outcome, message, and the balance where a wallet is meant: HTTP 200, or 404.

        The outcome is OK, or why a bet would be refused now.
        """
        del request, question
        is_fine = status.outcome == Outcome.POSTED
        response = {
            "outcome": "OK" if is_fine else status.outcome,
            "message": _MESSAGES.get(status.outcome, ""),
            "player_id": status.player_id,
        }
        if status.balance_minor is not None and status.currency is not None:
            response["currency"] = status.currency
            response["balance"] = format_minor(status.balance_minor, status.scale)
        code = 404 if status.outcome == UNKNOWN_PLAYER else 200
        return Reply(code, "application/json", msgspec.json.encode(response))

    def _read(self, matches: _Matcher | None, record: RawRecord, headers: Headers) -> list[Item]:
        value = record.value or b""
        verdict = _verdict(matches, value, headers)
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


def _verdict(matches: _Matcher | None, value: bytes, headers: Headers) -> str:
    if matches is None:
        return SignatureVerdict.NOT_CHECKED.value
    signature = headers.get(SIGNATURE_HEADER)
    if not signature:
        raise Rejected(RejectCode.MISSING_SIGNATURE, f"the header {SIGNATURE_HEADER} is missing")
    if not matches(value, signature):
        raise Rejected(RejectCode.BAD_SIGNATURE, f"{SIGNATURE_HEADER} does not sign this body")
    return SignatureVerdict.VALID.value


def _read_question(matches: _Matcher | None, record: RawRecord, headers: Headers) -> list[Question]:
    if not (headers.get("http-path") or b"").endswith(b"/balance"):
        return []
    value = record.value or b""
    _verdict(matches, value, headers)
    body = read_json(_QUESTION, value)
    at_ms, received_ms = ms_of_instant(body.at, "at"), received_at_of(headers)
    if (
        abs(at_ms - (record.timestamp if received_ms is None else received_ms))
        > QUESTION_AGE_MAX_MS
    ):
        raise Rejected(RejectCode.BAD_TIME, "at is more than 5 minutes from the receipt")
    currency = None if body.currency is None else currency_of(_NOTHING, body.currency)
    return [Question("balance", text_of(body.player_id, "player_id"), currency)]
