"""100HP Gaming, Operator API 2.7.0, JSON over POST.

The calls are /withdrawal (bet), /deposit (win), /rollback and /bonusWin. Source:
operator_api_docs.md in github.com/asyncc0xff/id-0492-2040295-docs, the vendor's document. One
`txId` serves a withdrawal and what becomes of it, so the operation is a part of the identity; and a
round is one `txId`: its deposit or rollback ends it. A deposit and a rollback name neither player
nor currency: the ledger takes both from the withdrawal.

A withdrawal names a session that the operator created. The connector, which answered /auth for it,
knows its player and its currency and states them in the headers `player` and `currency`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import Amount, Kind, Leg, Outcome, Reference, SignatureVerdict, WalletOutcome
from schemas.money import amount_from_text, amount_of, format_minor, truncate
from schemas.policies import LedgerPolicy
from schemas.topics import DAY_MS
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
    Id,
    OptionalId,
    currency_of,
    optional_text,
    read_json,
    require,
    text_of,
)
from streams.providers.http_face import HttpCall, HttpFace
from streams.providers.questions import PlayerStatus, Question, QuestionReader
from streams.providers.references import id_or_none
from streams.providers.signatures import same_secret
from streams.providers.text_fields import CURRENCY_HEADER, PLAYER_HEADER, header_id

DECIMALS: Final = 2
"""Decimals of amounts and of balances; more are cut off: the document's "Decimal Precision"."""

_OPERATIONS: Final = {
    b"withdrawal": "withdrawal",
    b"deposit": "deposit",
    b"rollback": "rollback",
    b"bonusWin": "bonusWin",
}
_AUTH: Final = "auth"
_QUESTIONS: Final = (_AUTH, "balance")
_HEX: Final = "[0-9a-fA-F]"
_UUID7: Final = re.compile(
    f"({_HEX}{{8}})-({_HEX}{{4}})-7{_HEX}{{3}}-[89abAB]{_HEX}{{3}}-{_HEX}{{12}}"
)
_DIGITS: Final = re.compile("[0-9]+")
_DIGIT_ABOVE_0: Final = re.compile("[1-9]")
# Possessive: the states for backtracking would take a hundred times the memory of the body.
_SECRET: Final = re.compile(rb'("secret"\s*:\s*")(?:[^"\\]|\\.)*+', re.DOTALL)

_VALIDATION, _SECRET_WRONG, _FUNDS, _NOT_FOUND, _EXISTS, _REFUNDED, _SETTLED, _INTERNAL = (
    *(400, 601, 603, 605),
    *(607, 608, 609, 702),
)
_SESSION: Final = 604
_MESSAGES: Final = {
    _VALIDATION: "Validation error",
    _SECRET_WRONG: "Invalid secret key",
    _FUNDS: "Insufficient balance",
    _SESSION: "Session not found",
    _NOT_FOUND: "Transaction not found",
    _EXISTS: "Transaction already exists",
    _REFUNDED: "Transaction already refunded",
    _SETTLED: "Transaction already settled",
    _INTERNAL: "Internal Server Error",
}
_DONE_BEFORE: Final = {
    "withdrawal": _EXISTS,
    "deposit": _SETTLED,
    "rollback": _REFUNDED,
    "bonusWin": _EXISTS,
}
_ENDINGS: Final = frozenset({"deposit", "rollback"})
_OF_REASON: Final = {
    "ALREADY_CLOSED": _REFUNDED,
    "NOTHING_TO_REVERSE": _NOT_FOUND,
    "BET_NOT_FOUND": _NOT_FOUND,
    "PLAYER_UNKNOWN": _NOT_FOUND,
    "BET_ROLLED_BACK": _REFUNDED,
    "BET_SETTLED": _SETTLED,
}
_OF_OUTCOME: Final[dict[str, int]] = {
    Outcome.POSTED: 0,
    Outcome.INFORMATIONAL: 0,
    Outcome.REFUSED_FUNDS: _FUNDS,
    Outcome.TOMBSTONED: _EXISTS,
    # It has no code of its own, so the text of a validation error says it.
    **dict.fromkeys((Outcome.REFUSED_BLOCKED, Outcome.REFUSED_LIMIT), _VALIDATION),
    **dict.fromkeys((Outcome.REFUSED_CURRENCY, Outcome.REFUSED_EXPIRED), _VALIDATION),
}
_REFUSED: Final[dict[str, str]] = {
    Outcome.REFUSED_BLOCKED: "The account is blocked.",
    Outcome.REFUSED_LIMIT: "A limit of the player allows no bet.",
    Outcome.REFUSED_CURRENCY: "The player has no wallet in this currency.",
}
"""Texts of the validation error for restrictions that have no code."""
_OF_REJECTION: Final = {
    RejectCode.MISSING_SIGNATURE: _SECRET_WRONG,
    RejectCode.BAD_SIGNATURE: _SECRET_WRONG,
    RejectCode.UNKNOWN_PROVIDER: _INTERNAL,
    RejectCode.UNKNOWN_BRAND: _INTERNAL,
    RejectCode.BAD_CONTRACT: _INTERNAL,
}


class _HundredHPRequest(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    tx_id: Id
    secret: str | None = None
    amount: Annotated[str, Meta(max_length=64)] | None = None
    promo_id: OptionalId = None


class _HundredHPQuestion(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    session_id: Annotated[str, Meta(min_length=1, max_length=255)]
    secret: str | None = None


class _SessionEcho(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    session_id: str | None = None


_BODY: Final = msgspec.json.Decoder(_HundredHPRequest)
_QUESTION_BODY: Final = msgspec.json.Decoder(_HundredHPQuestion)
_SESSION_BODY: Final = msgspec.json.Decoder(_SessionEcho)


def read_session_token(body: bytes) -> str | None:
    """Return the body's sessionId; None where it cannot be read."""
    try:
        return _SESSION_BODY.decode(body).session_id
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None


@dataclass(frozen=True)
class HundredHP(Dialect):
    """Dialect of 100HP Gaming and its settings.

    `status_as_code`: whether the HTTP status of an error is its errCode, 6xx and 702 included, as
    the document asks. RFC 9110 section 15 knows no status above 599; where a server or a proxy
    refuses to send one, set it to False: errors are then 400.

    A withdrawal without deposit or rollback is rolled back by the wallet after two weeks (the
    document's recommendation).
    """

    provider: ClassVar[str] = "hundredhp"
    version: ClassVar[str] = "2.7"
    decides: ClassVar[frozenset[str]] = frozenset({"withdrawal"})
    face: ClassVar[HttpFace | None] = HttpFace(
        (
            *(
                HttpCall(f"/{name}", (name,), needs_session=name not in _ENDINGS)
                for name in _OPERATIONS.values()
            ),
            *(HttpCall(f"/{name}", needs_session=True, asks=(name,)) for name in _QUESTIONS),
        ),
        session_token=read_session_token,
    )

    policy: LedgerPolicy = field(
        default=LedgerPolicy(
            win_without_bet="REFUSE",
            win_after_rollback="REFUSE",
            rollback_after_win="REFUSE",
            open_round_max_age_ms=14 * DAY_MS,
        )
    )
    status_as_code: bool = True

    def reader(self, material: KeyMaterial | None) -> Reader:
        """Return a reader that compares the body's `secret`. Needs `secret`."""
        return partial(self._read, self._secret(material))

    def question_reader(self, material: KeyMaterial | None) -> QuestionReader:
        """Return a reader of /auth and /balance, which bear the same secret."""
        return partial(_read_question, self._secret(material))

    def _secret(self, material: KeyMaterial | None) -> bytes | None:
        if material is None:
            return None
        return require_key(material, "secret", self.provider).encode()

    def redact(self, value: bytes) -> bytes:
        """Return the body without its secret."""
        return _SECRET.sub(rb"\1***", value)

    def _read(self, secret: bytes | None, record: RawRecord, headers: Headers) -> list[Item]:
        operation = _operation_of(headers)
        body = read_json(_BODY, record.value or b"")
        verdict = _verdict(secret, body.secret)
        if operation in _ENDINGS:
            return [_ending(operation, body, verdict)]
        player_id = header_id(headers, PLAYER_HEADER)
        try:
            return [
                self._draft(
                    operation, body, player_id, header_id(headers, CURRENCY_HEADER), verdict
                )
            ]
        except Rejected as error:
            raise UnreadableItem(error.reason, error.detail, player_id) from error

    def _draft(
        self, operation: str, body: _HundredHPRequest, player_id: str, currency: str, verdict: str
    ) -> Draft:
        tx_id = text_of(body.tx_id, "txId")
        bet = operation == "withdrawal"
        amount = _amount(body, zero_allowed=not bet)
        code = currency_of(amount, currency)
        if bet:
            leg = Leg(Kind.BET.value, amount, code)
        else:
            leg = Leg(
                Kind.PROMO_WIN.value,
                amount,
                code,
                False,
                id_or_none(optional_text(body.promo_id, "promoId")),
            )
        return Draft(
            operation,
            tx_id,
            [leg],
            player_id,
            None,
            tx_id if bet else None,
            False,
            None,
            _uuid7_ms(tx_id),
            operation in self.decides,
            verdict,
        )

    def answer(self, request: RawRecord, results: Sequence[WalletOutcome | Rejected]) -> Reply:
        """Return `{userId, currency, balance}`, with a withdrawal's `txId`.

        An error is `{data, message, errCode}`.
        """
        operation = _operation_or_none(dict(request.headers)) or ""
        [result] = results
        if isinstance(result, Rejected):
            code = _OF_REJECTION.get(result.reason, _VALIDATION)
            return self._error(code, result.detail if code == _VALIDATION else "")
        code = _code_of(operation, result)
        if code:
            return self._error(code, result.message if code == _VALIDATION else "")
        if result.player_id is None or result.currency is None or result.balance_minor is None:
            return self._error(_INTERNAL, "")  # booked, but its answer needs what is unknown
        response = {
            "userId": result.player_id,
            "currency": result.currency,
            "balance": _balance(result.balance_minor, result.scale or 0),
        }
        if operation == "withdrawal":
            response["txId"] = result.provider_tx_id
        return Reply(200, "application/json", msgspec.json.encode(response))

    def answer_unavailable(self, request: RawRecord) -> Reply:
        """Return 702, an internal error."""
        del request
        return self._error(_INTERNAL, "")

    def answer_unknown_session(self, request: RawRecord) -> Reply:
        """Return 604."""
        del request
        return self._error(_SESSION, "")

    def answer_question(
        self, request: RawRecord, question: Question, status: PlayerStatus
    ) -> Reply:
        """Return `{userId, currency, balance}`, for /auth with `userName` and `status`.

        /auth is answered for a blocked player too: `status` is "blocked" then, and the balance of
        one is refused as a bet is.
        """
        del request
        is_auth = question.word == _AUTH
        is_blocked = status.outcome == Outcome.REFUSED_BLOCKED
        if status.outcome != Outcome.POSTED and not (is_auth and is_blocked):
            code = _OF_OUTCOME.get(status.outcome, _SESSION)
            return self._error(code, _REFUSED.get(status.outcome, ""))
        response = {
            "userId": status.player_id,
            "currency": status.currency,
            "balance": _balance(status.balance_minor or 0, status.scale),
        }
        if is_auth:
            response["userName"] = status.player_id
            response["status"] = "blocked" if is_blocked else "active"
        return Reply(200, "application/json", msgspec.json.encode(response))

    def _error(self, code: int, data: str) -> Reply:
        response: dict[str, Any] = {"data": data, "message": _MESSAGES[code], "errCode": code}
        return Reply(
            code if self.status_as_code else 400, "application/json", msgspec.json.encode(response)
        )


def _operation_or_none(headers: Headers) -> str | None:
    return _OPERATIONS.get((headers.get("http-path") or b"").rpartition(b"/")[2])


def _operation_of(headers: Headers) -> str:
    operation = _operation_or_none(headers)
    if operation is None:
        raise Rejected(
            RejectCode.UNKNOWN_OPERATION, "the header http-path names no wallet transaction"
        )
    return operation


def _read_question(secret: bytes | None, record: RawRecord, headers: Headers) -> list[Question]:
    word = (headers.get("http-path") or b"").rpartition(b"/")[2].decode(errors="replace")
    if word not in _QUESTIONS:
        return []
    body = read_json(_QUESTION_BODY, record.value or b"")
    _verdict(secret, body.secret)
    return [Question(word, token=body.session_id, needs_session=True)]


def _verdict(secret: bytes | None, given: str | None) -> str:
    if secret is None:
        return SignatureVerdict.NOT_CHECKED.value
    if not given:
        raise Rejected(RejectCode.MISSING_SIGNATURE, "secret is missing")
    if not same_secret(given.encode(), secret):
        raise Rejected(RejectCode.BAD_SIGNATURE, "secret is not the agreed one")
    return SignatureVerdict.VALID.value


def _ending(operation: str, body: _HundredHPRequest, verdict: str) -> Draft:
    """Return a deposit or a rollback.

    Its id is the withdrawal's, and so is the time in that id: it is not the time of this operation.
    """
    tx_id = text_of(body.tx_id, "txId")
    leg = (
        Leg(Kind.ROLLBACK.value) if operation == "rollback" else Leg(Kind.WIN.value, _amount(body))
    )
    reference = Reference("withdrawal", tx_id)
    return Draft(operation, tx_id, [leg], None, reference, tx_id, True, None, None, False, verdict)


def _amount(body: _HundredHPRequest, *, zero_allowed: bool = True) -> Amount:
    """Return the amount cut to two decimals.

    The text is cut, so that it may have more decimals than 64 bits hold. Raises
    Rejected(BAD_AMOUNT) below zero, and for zero unless `zero_allowed`.
    """
    sent = require(body.amount, "amount")
    whole, _, fraction = sent.partition(".")
    if len(fraction) <= DECIMALS or not _DIGITS.fullmatch(fraction):
        amount = truncate(amount_from_text(sent), DECIMALS)
    else:
        amount = amount_from_text(f"{whole}.{fraction[:DECIMALS]}")
    if amount.unscaled > 0:
        return amount
    if sent.startswith("-") or not (zero_allowed or _DIGIT_ABOVE_0.search(sent)):
        raise Rejected(
            RejectCode.BAD_AMOUNT, "the amount must be above zero, a deposit's may be zero"
        )
    return amount


def _uuid7_ms(text: str) -> int | None:
    """Return the time in a UUID of version 7 in epoch ms; None for any other text.

    Source: RFC 9562 section 5.7. The document's own example is of version 4.
    """
    match = _UUID7.fullmatch(text)
    return None if match is None else int(match[1] + match[2], 16)


def _balance(minor: int, scale: int) -> str:
    cut = truncate(amount_of(minor, scale), DECIMALS)
    return format_minor(cut.unscaled, cut.scale)


def _code_of(operation: str, result: WalletOutcome) -> int:
    """Return the errCode of an outcome, 0 for a success.

    An unforeseen outcome is an internal error, never a success.
    """
    outcome = result.outcome
    if outcome in (Outcome.EXISTS, Outcome.CONFLICT):
        return _DONE_BEFORE.get(operation, _EXISTS)
    if outcome == Outcome.TOMBSTONED and operation in _ENDINGS:
        return _NOT_FOUND
    return _OF_REASON.get(result.reason, _OF_OUTCOME.get(outcome, _INTERNAL))
