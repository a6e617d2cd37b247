"""Pragmatic Play's seamless wallet: POST /bet.html, /result.html and so on, form-encoded.

The answers are JSON.

Sources: the public code of three integrators and a public summary of the vendor's specification
(207 pages, 2026-03); of the specification itself (3.85) only its contents and change log. What they
dispute is a setting of `Pragmatic`. Only promoWin names a currency; for the rest the connector,
which answered authenticate.html, states it in the header `currency`. A result names the round and
not its bet; a refund carries the reference of its bet as its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Final

import msgspec

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import Amount, Kind, Leg, Outcome, Reference, SignatureVerdict, WalletOutcome
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
from streams.providers.fields import currency_of, signed_currency_of
from streams.providers.http_face import FORM, HttpCall, HttpFace
from streams.providers.questions import PlayerStatus, Question, QuestionReader
from streams.providers.references import id_or_none
from streams.providers.signatures import Md5OfSorted
from streams.providers.text_fields import (
    CURRENCY_HEADER,
    TextFields,
    header_id,
    read_form,
    redact_form,
)

_OPERATIONS: Final[Mapping[bytes, str]] = MappingProxyType(
    {
        f"{name}.html".encode(): name
        for name in (
            "bet",
            "result",
            "bonusWin",
            "jackpotWin",
            "promoWin",
            "refund",
            "adjustment",
            "endRound",
        )
    }
)
_AUTHENTICATE: Final = "authenticate"
_QUESTIONS: Final = (_AUTHENTICATE, "balance")
_FUNDS, _PLAYER, _NOT_ALLOWED, _TOKEN, _HASH, _FROZEN, _PARAMETERS, _LIMIT, _RETRY, _FINAL = (
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    50,
    100,
    120,
)
_DESCRIPTIONS: Final = {
    0: "Success",
    _FUNDS: "Insufficient balance",
    _PLAYER: "Player not found",
    _NOT_ALLOWED: "Bet is not allowed",
    _TOKEN: "Player authentication failed: the token is invalid or has expired",
    _HASH: "Invalid hash code",
    _FROZEN: "Player is frozen",
    _PARAMETERS: "Bad parameters in the request",
    _LIMIT: "Bet limit has been reached",
    _RETRY: "Internal server error, to be tried again",
    _FINAL: "Internal server error, not to be tried again",
}
_OF_OUTCOME: Final[Mapping[str, int]] = MappingProxyType(
    {
        Outcome.POSTED: 0,
        Outcome.EXISTS: 0,
        Outcome.INFORMATIONAL: 0,
        Outcome.REFUSED_FUNDS: _FUNDS,
        Outcome.REFUSED_BLOCKED: _FROZEN,
        Outcome.REFUSED_LIMIT: _LIMIT,
        Outcome.REFUSED_CURRENCY: _NOT_ALLOWED,
        Outcome.REFUSED_EXPIRED: _NOT_ALLOWED,
    }
)
_OF_REJECTION: Final = {
    RejectCode.MISSING_SIGNATURE: _HASH,
    RejectCode.BAD_SIGNATURE: _HASH,
    RejectCode.UNKNOWN_PROVIDER: _RETRY,
    RejectCode.UNKNOWN_BRAND: _RETRY,
    RejectCode.BAD_CONTRACT: _RETRY,
}

_READ: Final = frozenset(
    {"userId", "gameId", "roundId", "reference", "amount", "currency", "timestamp"}
    | {"bonusCode", "promoWinAmount", "promoCampaignID", "campaignId"}
)
_SIGNED_NAME: Final = re.compile(f"(?:^|&)(?:{'|'.join(sorted(_READ))})=")

_OF_A_ROUND: Final = frozenset({"bet", "result", "jackpotWin", "adjustment", "endRound"})
_NO_BET: Final = frozenset({"NOTHING_TO_REVERSE", "BET_NOT_FOUND"})
_NOTHING: Final = Amount(0, 0)


_WITHOUT_CURRENCY: Final = frozenset({"promoWin", "refund", "endRound"})
"""Calls that name a currency themselves, or need none."""


def read_session_token(body: bytes) -> str | None:
    """Return the form's token; None where it cannot be read."""
    try:
        return read_form(body).get("token")
    except Rejected:
        return None


@dataclass(frozen=True)
class Pragmatic(Dialect):
    """Pragmatic Play's dialect and its settings: the doubtful points, each with what is known.

    `bonus_win_pays`: whether bonusWin, the sum of a series of free rounds, moves money. Two
    integrators pay each free round in its result and take bonusWin as a report of the sum; paying
    both pays twice. Ask which setup the contract has.

    `bonus_code_is_free`: whether a bet with a bonusCode costs nothing. No source says; a free
    round's bet of zero is the same either way, so the default takes what the bet says.

    `unknown_refund_succeeds`: whether the refund of a bet that never came is answered 0 (two
    integrators; the specification allows it) or 120 (one). Neither moves money.

    A refund of a bet whose round has a result is refused by one integrator (120). Here it is
    booked: a result names no bet, and one round may have several.
    """

    provider: ClassVar[str] = "pragmatic"
    version: ClassVar[str] = "3.85"
    decides: ClassVar[frozenset[str]] = frozenset({"bet"})
    face: ClassVar[HttpFace | None] = HttpFace(
        (
            *(
                HttpCall(f"/{name}.html", (name,), needs_session=name not in _WITHOUT_CURRENCY)
                for name in _OPERATIONS.values()
            ),
            HttpCall("/authenticate.html", needs_session=True, asks=(_AUTHENTICATE,)),
            HttpCall("/balance.html", asks=("balance",)),
        ),
        FORM,
        session_token=read_session_token,
    )

    bonus_win_pays: bool = False
    bonus_code_is_free: bool = False
    unknown_refund_succeeds: bool = True

    def reader(self, material: KeyMaterial | None) -> Reader:
        """Return a reader that checks the body's `hash`. Needs `secret`."""
        return partial(self._read, self._hash(material))

    def question_reader(self, material: KeyMaterial | None) -> QuestionReader:
        """Return a reader of authenticate.html, which names a session, and balance.html.

        Both are hashed as all calls are.
        """
        return partial(_read_question, self._hash(material))

    def _hash(self, material: KeyMaterial | None) -> Md5OfSorted | None:
        if material is None:
            return None
        return Md5OfSorted(require_key(material, "secret", self.provider))

    def redact(self, value: bytes) -> bytes:
        """Return the body without its session token; the hash is not a secret."""
        return redact_form(value, lambda name: name == "token")

    def _read(self, md5: Md5OfSorted | None, record: RawRecord, headers: Headers) -> list[Item]:
        operation = _OPERATIONS.get((headers.get("http-path") or b"").rpartition(b"/")[2])
        if operation is None:
            raise Rejected(
                RejectCode.UNKNOWN_OPERATION, "the header http-path names no wallet transaction"
            )
        form = read_form(record.value or b"")
        verdict = _verdict(md5, form)
        fields = TextFields(form)
        player_id = fields.id_of("userId")
        try:
            return [self._draft(operation, fields, player_id, headers, verdict)]
        except Rejected as error:
            raise UnreadableItem(error.reason, error.detail, player_id) from error

    def _draft(
        self, operation: str, fields: TextFields, player_id: str, headers: Headers, verdict: str
    ) -> Draft:
        ask_id = fields.id_of if operation in _OF_A_ROUND else fields.optional_id
        round_id, game_id = ask_id("roundId"), ask_id("gameId")
        ends = operation == "endRound"
        # An endRound has no reference, and a live table's round has many players.
        tx_id = f"{player_id}:{game_id}:{round_id}" if ends else fields.id_of("reference")
        return Draft(
            operation,
            tx_id,
            self._legs(operation, fields, headers),
            player_id,
            Reference("bet", tx_id) if operation == "refund" else None,
            round_id,
            ends,
            game_id,
            fields.epoch_ms("timestamp"),
            operation in self.decides,
            verdict,
        )

    def _legs(self, operation: str, fields: TextFields, headers: Headers) -> list[Leg]:
        if operation == "refund":
            # Since version 3.21 its amount may be missing; the bet knows it, and how it was split.
            return [Leg(Kind.ROLLBACK.value)]
        if operation == "endRound":
            return [Leg(Kind.ROUND_CLOSE.value, None, _balance_currency(headers))]
        amount = fields.amount("amount")
        currency = (
            fields.text("currency")
            if operation == "promoWin"
            else header_id(headers, CURRENCY_HEADER)
        )
        if operation == "adjustment":
            return [Leg(Kind.ADJUSTMENT.value, amount, signed_currency_of(amount, currency))]
        currency = currency_of(amount, currency)
        if operation == "jackpotWin":
            return [Leg(Kind.JACKPOT_WIN.value, amount, currency)]
        if operation == "promoWin":
            return [Leg(Kind.PROMO_WIN.value, amount, currency, False, fields.id_of("campaignId"))]
        return self._legs_of_play(operation, fields, amount, currency)

    def _legs_of_play(
        self, operation: str, fields: TextFields, amount: Amount, currency: str
    ) -> list[Leg]:
        bonus_code = id_or_none(fields.optional_id("bonusCode"))
        if operation == "bet":
            is_free = bonus_code is not None and (self.bonus_code_is_free or amount.unscaled == 0)
            return [Leg(Kind.BET.value, amount, currency, is_free, bonus_code)]
        if operation == "bonusWin":
            kind = Kind.WIN if self.bonus_win_pays else Kind.INFORMATIONAL
            return [Leg(kind.value, amount, currency, True, bonus_code)]
        legs = [Leg(Kind.WIN.value, amount, currency, bonus_code is not None, bonus_code)]
        if fields.optional("promoWinAmount") is not None:
            promo = fields.amount("promoWinAmount")
            currency_of(promo, currency)
            if promo.unscaled:
                campaign_id = id_or_none(fields.optional_id("promoCampaignID"))
                legs.append(Leg(Kind.PROMO_WIN.value, promo, currency, False, campaign_id))
        return legs

    def answer(self, request: RawRecord, results: Sequence[WalletOutcome | Rejected]) -> Reply:
        """Return transaction, currency, cash, bonus, error and description under HTTP 200.

        `cash` is all that the player may bet: bonus money is not shown apart. A refund's answer
        holds no balance.
        """
        operation = _OPERATIONS.get(
            (dict(request.headers).get("http-path") or b"").rpartition(b"/")[2], ""
        )
        [result] = results
        if isinstance(result, Rejected):
            return _reply(_OF_REJECTION.get(result.reason, _PARAMETERS), {})
        error = self._error_of(operation, result)
        if error:
            return _reply(error, {})
        response: dict[str, Any] = (
            {} if operation == "endRound" else {"transactionId": result.event_id}
        )
        if operation != "refund" and result.balance_minor is not None:
            response["currency"] = result.currency
            response["cash"] = msgspec.Raw(
                format_minor(result.balance_minor, result.scale or 0).encode()
            )
            response["bonus"] = 0
            if operation == "bet":
                response["usedPromo"] = 0
        return _reply(0, response)

    def answer_unavailable(self, request: RawRecord) -> Reply:
        """Return error 100, after which Pragmatic Play tries again."""
        del request
        return _reply(_RETRY, {})

    def answer_unknown_session(self, request: RawRecord) -> Reply:
        """Return error 4."""
        del request
        return _reply(_TOKEN, {})

    def answer_question(
        self, request: RawRecord, question: Question, status: PlayerStatus
    ) -> Reply:
        """Return currency, cash, bonus, error and description; for authenticate also `userId`."""
        del request
        if status.outcome != Outcome.POSTED:
            return _reply(_OF_OUTCOME.get(status.outcome, _PLAYER), {})
        response: dict[str, Any] = {}
        if question.word == _AUTHENTICATE:
            response["userId"] = status.player_id
        response["currency"] = status.currency
        cash = format_minor(status.balance_minor or 0, status.scale)
        response["cash"] = msgspec.Raw(cash.encode())
        response["bonus"] = 0
        if question.word == _AUTHENTICATE:
            response["token"] = status.token
        return _reply(0, response)

    def _error_of(self, operation: str, result: WalletOutcome) -> int:
        if operation == "refund" and (
            result.outcome == Outcome.TOMBSTONED or result.reason in _NO_BET
        ):
            return 0 if self.unknown_refund_succeeds else _FINAL
        return _OF_OUTCOME.get(result.outcome, _FINAL)


def _balance_currency(headers: Headers) -> str | None:
    """Return the currency of the balance in the answer to a call without an amount.

    None where it is missing.
    """
    if not headers.get(CURRENCY_HEADER):
        return None
    return currency_of(_NOTHING, header_id(headers, CURRENCY_HEADER))


def _read_question(md5: Md5OfSorted | None, record: RawRecord, headers: Headers) -> list[Question]:
    name = (headers.get("http-path") or b"").rpartition(b"/")[2].decode(errors="replace")
    word = name.removesuffix(".html")
    if word not in _QUESTIONS:
        return []
    form = read_form(record.value or b"")
    _verdict(md5, form)
    fields = TextFields(form)
    if word == _AUTHENTICATE:
        return [Question(word, token=fields.text("token"), needs_session=True)]
    return [Question(word, fields.id_of("userId"), token=fields.optional("token"))]


def _verdict(md5: Md5OfSorted | None, form: Mapping[str, str]) -> str:
    if md5 is None:
        return SignatureVerdict.NOT_CHECKED.value
    given = form.get("hash")
    if not given:
        raise Rejected(RejectCode.MISSING_SIGNATURE, "hash is missing")
    if not md5.matches(form, given, "hash"):
        # One integrator leaves empty fields out of the hash, the specification's summary does not
        # say.
        filled = {name: text for name, text in form.items() if text}
        if len(filled) == len(form) or not md5.matches(filled, given, "hash"):
            raise Rejected(RejectCode.BAD_SIGNATURE, "hash does not sign this form")
    _check_names(form)
    return SignatureVerdict.VALID.value


def _check_names(form: Mapping[str, str]) -> None:
    """Raise Rejected(BAD_SIGNATURE) for a form whose hash would also sign other fields.

    Nothing is escaped in what is hashed: one field `x` of "1&amount=2" has the hash of two, and so
    has a name with a line break in it. Anyone who saw a signed form could hide some of its fields.
    """
    text = (
        "&".join(f"{name}={value}" for name, value in form.items())
        .replace("\r", "")
        .replace("\n", "")
    )
    if len(_SIGNED_NAME.findall(text)) != len(_READ & form.keys()):
        raise Rejected(RejectCode.BAD_SIGNATURE, "hash signs other fields than this form holds")


def _reply(error: int, response: dict[str, Any]) -> Reply:
    body = response | {"error": error, "description": _DESCRIPTIONS[error]}
    return Reply(200, "application/json", msgspec.json.encode(body))
