"""Hub88's operator Wallet API, JSON over POST.

The operations are /transaction/bet, /transaction/win and /transaction/rollback. Source:
docs.hub88.io, operator-api-reference, wallet-api and seamless-wallet-response-statuses; the unit (1
= 1/100000 of the currency) and a rollback without amount are what live integrations show. A body
holds no time.

An answer is HTTP 200 with a status. Hub88 rolls a bet back after any status but RS_OK,
RS_ERROR_NOT_ENOUGH_MONEY and RS_ERROR_LIMIT_REACHED, so where no status fits, RS_ERROR_UNKNOWN
does: it brings a rollback, which is always booked.

`is_supplier_promo` and `meta.supplier_promo_info`: docs.hub88.io/api-changelog/may-2025. Its source
for the flag as text is an integrator's code. `is_billable`: the same, october-2026; false leaves a
bet or a win out of the revenue that Hub88 invoices, and moves the same money.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Final, Literal, TypeAlias

import msgspec

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import Amount, Kind, Leg, Outcome, Reference, SignatureVerdict, WalletOutcome
from schemas.money import amount_of
from schemas.policies import LedgerPolicy
from streams.providers.dialect import (
    ROLLBACK_PRECEDED,
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
    CurrencyText,
    Id,
    OptionalId,
    currency_of,
    optional_text,
    read_json,
    read_player_id,
    require,
    text_of,
)
from streams.providers.http_face import HttpCall, HttpFace
from streams.providers.questions import UNKNOWN_PLAYER, PlayerStatus, Question, QuestionReader
from streams.providers.references import id_or_none
from streams.providers.signatures import RsaSha256

AMOUNT_SCALE: Final = 5
SIGNATURE_HEADER: Final = "x-hub88-signature"

_OPERATIONS: Final = {b"bet": "bet", b"win": "win", b"rollback": "rollback"}
_QUESTIONS: Final = ("info", "balance")
_KINDS: Final = {"bet": Kind.BET.value, "win": Kind.WIN.value}
_Matcher: TypeAlias = Callable[[bytes, bytes], bool]
_TRUE: Final = (True, "true")
_FALSE: Final = (False, "false")
_NOTHING: Final = Amount(0, 0)
_VALID: Final = SignatureVerdict.VALID.value
_NOT_CHECKED: Final = SignatureVerdict.NOT_CHECKED.value

_OK: Final = "RS_OK"
_UNKNOWN: Final = "RS_ERROR_UNKNOWN"
_NO_TRANSACTION: Final = "RS_ERROR_TRANSACTION_DOES_NOT_EXIST"
_STATUSES: Final[dict[str, str]] = {
    Outcome.POSTED: _OK,
    Outcome.EXISTS: _OK,
    Outcome.INFORMATIONAL: _OK,
    Outcome.CONFLICT: "RS_ERROR_DUPLICATE_TRANSACTION",
    Outcome.REFUSED_FUNDS: "RS_ERROR_NOT_ENOUGH_MONEY",
    Outcome.REFUSED_BLOCKED: "RS_ERROR_USER_DISABLED",
    Outcome.REFUSED_LIMIT: "RS_ERROR_LIMIT_REACHED",
    Outcome.REFUSED_CURRENCY: "RS_ERROR_WRONG_CURRENCY",
    Outcome.REFUSED_REFERENCE: _NO_TRANSACTION,
}
_STATUSES_OF_REJECTIONS: Final = {
    RejectCode.BAD_SIGNATURE: "RS_ERROR_INVALID_SIGNATURE",
    RejectCode.MISSING_SIGNATURE: "RS_ERROR_INVALID_SIGNATURE",
    RejectCode.MALFORMED: "RS_ERROR_WRONG_SYNTAX",
    RejectCode.MISSING_FIELD: "RS_ERROR_WRONG_SYNTAX",
    RejectCode.BAD_FIELD: "RS_ERROR_WRONG_TYPES",
    RejectCode.BAD_AMOUNT: "RS_ERROR_WRONG_TYPES",
    RejectCode.AMOUNT_SCALE: "RS_ERROR_WRONG_TYPES",
    RejectCode.BAD_CURRENCY: "RS_ERROR_WRONG_CURRENCY",
}


class _Hub88Request(msgspec.Struct, frozen=True, gc=False):
    user: Id
    transaction_uuid: Id
    round: OptionalId = None
    round_closed: bool | None = None
    amount: int | None = None
    currency: CurrencyText | None = None
    reference_transaction_uuid: OptionalId = None
    is_free: bool | None = None
    is_supplier_promo: bool | Literal["true", "false"] | None = None
    is_billable: bool | Literal["true", "false"] | None = None
    reward_uuid: OptionalId = None
    game_code: OptionalId = None
    game_id: OptionalId = None
    meta: msgspec.Raw = msgspec.Raw()
    """The supplier's own, in any form; read where the supplier pays a prize."""


class _PromoInfo(msgspec.Struct, frozen=True, gc=False):
    promo_reference: OptionalId = None


class _Meta(msgspec.Struct, frozen=True, gc=False):
    supplier_promo_info: _PromoInfo | None = None


class _Echo(msgspec.Struct, frozen=True, gc=False):
    """The fields of a request that its answer repeats, even if the rest of the request is wrong."""

    request_uuid: Any = None
    user: Any = None
    currency: Any = None


class _Hub88Question(msgspec.Struct, frozen=True, gc=False):
    user: Id
    currency: CurrencyText | None = None


_BODY: Final = msgspec.json.Decoder(_Hub88Request)
_QUESTION: Final = msgspec.json.Decoder(_Hub88Question)
_META: Final[msgspec.json.Decoder[_Meta | None]] = msgspec.json.Decoder(_Meta | None)
_ECHO: Final = msgspec.json.Decoder(_Echo)


@dataclass(frozen=True)
class Hub88(Dialect):
    """Hub88's dialect and its settings.

    `rollback_of` is the operation that a rollback's reference names. The document speaks of the
    transaction to roll back without its kind; integrations see bets only, hence the default.

    `unknown_rollback_succeeds`: whether a rollback whose bet never came is answered RS_OK. The
    document does not say; integrators of other wallets do so, and Hub88 would continue to send it
    otherwise. A tombstone is written either way.

    A win whose bet cannot be found is refused, as the document has it
    (RS_ERROR_TRANSACTION_DOES_NOT_EXIST), and a bet that was rolled back counts as not found. A win
    that names no bet is booked.

    What is marked `is_supplier_promo` is free, and its campaign is the supplier's where it has no
    reward. Such a win is the prize of a tournament or jackpot and not of a bet: the reference that
    it may have is not read, so that an unknown bet or one that was rolled back refuses nothing.
    """

    provider: ClassVar[str] = "hub88"
    version: ClassVar[str] = "1"
    decides: ClassVar[frozenset[str]] = frozenset({"bet"})
    face: ClassVar[HttpFace | None] = HttpFace(
        (
            *(HttpCall(f"/transaction/{name}", (name,)) for name in _OPERATIONS.values()),
            *(HttpCall(f"/user/{name}", asks=(name,)) for name in _QUESTIONS),
        ),
        signature_headers=(SIGNATURE_HEADER,),
        signs_bytes=True,
    )

    policy: LedgerPolicy = field(
        default=LedgerPolicy(
            win_without_bet="REFUSE",
            win_after_rollback="REFUSE",
            exclusive_operations=("bet", "win"),
        )
    )
    rollback_of: str = "bet"
    unknown_rollback_succeeds: bool = True

    def reader(self, material: KeyMaterial | None) -> Reader:
        """Return a reader that checks `X-Hub88-Signature`: RSA-SHA256 over the raw body.

        Needs `public_key_pem`.
        """
        return partial(self._read, self._matcher(material))

    def question_reader(self, material: KeyMaterial | None) -> QuestionReader:
        """Return a reader of `/user/info` and `/user/balance`, signed as all calls are."""
        return partial(_read_question, self._matcher(material))

    def _matcher(self, material: KeyMaterial | None) -> _Matcher | None:
        if material is None:
            return None
        return RsaSha256(require_key(material, "public_key_pem", self.provider)).matches

    def _read(self, matches: _Matcher | None, record: RawRecord, headers: Headers) -> list[Item]:
        value = record.value or b""
        verdict = _verdict(matches, value, headers)
        try:
            operation = _operation_of(headers)
            body = read_json(_BODY, value)
        except Rejected as error:
            raise UnreadableItem(
                error.reason, error.detail, read_player_id(value, "user", verdict)
            ) from error
        player_id = text_of(body.user, "user")
        try:
            return [self._draft(operation, body, player_id, verdict)]
        except Rejected as error:
            raise UnreadableItem(error.reason, error.detail, player_id) from error

    def _draft(self, operation: str, body: _Hub88Request, player_id: str, verdict: str) -> Draft:
        referred = id_or_none(
            optional_text(body.reference_transaction_uuid, "reference_transaction_uuid")
        )
        reference: Reference | None = None
        if operation == "rollback":
            reference = Reference(self.rollback_of, require(referred, "reference_transaction_uuid"))
            leg = Leg(Kind.ROLLBACK.value)
        else:
            is_promo = body.is_supplier_promo in _TRUE
            if referred is not None and not is_promo:
                reference = Reference("bet", referred)
            amount = amount_of(require(body.amount, "amount"), AMOUNT_SCALE)
            currency = currency_of(amount, require(body.currency, "currency"))
            campaign_id = id_or_none(optional_text(body.reward_uuid, "reward_uuid"))
            if is_promo and campaign_id is None:
                campaign_id = _promo_reference(body.meta)
            is_free = is_promo or bool(body.is_free)
            leg = Leg(_KINDS[operation], amount, currency, is_free, campaign_id)
        # The code is what the document calls the game; it may change inside a lobby's session, the
        # id may be missing.
        game_id = optional_text(body.game_code, "game_code") or optional_text(
            body.game_id, "game_id"
        )
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
            None,
            None,
            body.is_billable is None or body.is_billable not in _FALSE,
        )

    def answer(self, request: RawRecord, results: Sequence[WalletOutcome | Rejected]) -> Reply:
        """Return `{user, status, request_uuid, currency, balance}`, always under HTTP 200.

        The balance is in 1/100000 of the currency.
        """
        [result] = results
        echo = _read_echo(request.value or b"")
        response = {
            "user": echo.user,
            "status": self._status(result),
            "request_uuid": echo.request_uuid,
        }
        if isinstance(result, WalletOutcome) and result.balance_minor is not None:
            response |= {
                "currency": result.currency,
                "balance": _units(result.balance_minor, result.scale or 0),
            }
        elif echo.currency is not None:
            response["currency"] = echo.currency
        return Reply(200, "application/json", msgspec.json.encode(response))

    def answer_unavailable(self, request: RawRecord) -> Reply:
        """Return RS_ERROR_UNKNOWN, after which Hub88 rolls a bet back."""
        echo = _read_echo(request.value or b"")
        response = {"user": echo.user, "status": _UNKNOWN, "request_uuid": echo.request_uuid}
        return Reply(200, "application/json", msgspec.json.encode(response))

    def answer_question(
        self, request: RawRecord, question: Question, status: PlayerStatus
    ) -> Reply:
        """Return `{user, status, request_uuid}`, for `/user/balance` with currency and balance.

        A player of whom nothing is known has RS_ERROR_UNKNOWN: the document names no status. What
        else `/user/info` may say of a person (country, birth date …) is not known here.
        """
        word = _OK if status.outcome == Outcome.POSTED else _STATUSES.get(status.outcome, _UNKNOWN)
        echo = _read_echo(request.value or b"")
        response = {"user": echo.user, "status": word, "request_uuid": echo.request_uuid}
        is_known = status.outcome != UNKNOWN_PLAYER and status.balance_minor is not None
        if question.word == "balance" and is_known:
            balance = _units(status.balance_minor or 0, status.scale)
            response |= {"currency": status.currency, "balance": balance}
        return Reply(200, "application/json", msgspec.json.encode(response))

    def _status(self, result: WalletOutcome | Rejected) -> str:
        if isinstance(result, Rejected):
            return _STATUSES_OF_REJECTIONS.get(result.reason, _UNKNOWN)
        if result.outcome == Outcome.TOMBSTONED and result.operation == "rollback":
            return _OK if self.unknown_rollback_succeeds else _NO_TRANSACTION
        if result.reason == ROLLBACK_PRECEDED:
            return _UNKNOWN  # the rollback came first: no money moved, so it must not be played
        return _STATUSES.get(result.outcome, _UNKNOWN)


def _verdict(matches: _Matcher | None, value: bytes, headers: Headers) -> str:
    if matches is None:
        return _NOT_CHECKED
    signature = headers.get(SIGNATURE_HEADER)
    if not signature:
        raise Rejected(RejectCode.MISSING_SIGNATURE, f"the header {SIGNATURE_HEADER} is missing")
    if not matches(value, signature):
        raise Rejected(RejectCode.BAD_SIGNATURE, f"{SIGNATURE_HEADER} does not sign this body")
    return _VALID


def _read_question(matches: _Matcher | None, record: RawRecord, headers: Headers) -> list[Question]:
    _, is_question, word = (headers.get("http-path") or b"").rpartition(b"/user/")
    if not is_question or word.decode(errors="replace") not in _QUESTIONS:
        return []
    value = record.value or b""
    _verdict(matches, value, headers)
    body = read_json(_QUESTION, value)
    currency = None if body.currency is None else currency_of(_NOTHING, body.currency)
    is_balance = word == b"balance"
    return [Question(word.decode(), text_of(body.user, "user"), currency, needs_wallet=is_balance)]


def _operation_of(headers: Headers) -> str:
    _, known, endpoint = (headers.get("http-path") or b"").rpartition(b"/transaction/")
    operation = _OPERATIONS.get(endpoint) if known else None
    if operation is None:
        raise Rejected(
            RejectCode.UNKNOWN_OPERATION, "the header http-path names no wallet transaction"
        )
    return operation


def _promo_reference(meta: msgspec.Raw) -> str | None:
    """Return the supplier's campaign in a prize's `meta`.

    None where it names none, or in another form than the document's: a prize is paid without it.
    """
    try:
        found = read_json(_META, bytes(meta))
    except Rejected:
        return None
    if found is None or found.supplier_promo_info is None:
        return None
    return id_or_none(optional_text(found.supplier_promo_info.promo_reference, "promo_reference"))


def _read_echo(value: bytes) -> _Echo:
    try:
        return _ECHO.decode(value)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return _Echo()


def _units(minor: int, scale: int) -> int:
    """Return minor units in 1/100000, rounded down.

    BTC has 8 decimals, and no player may see more than there is.
    """
    units: int = minor * 10**AMOUNT_SCALE // 10**scale
    return units
