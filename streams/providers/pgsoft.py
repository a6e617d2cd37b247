"""PG Soft's seamless wallet: POST Cash/TransferInOut and Cash/Adjustment, form-encoded.

The answers are JSON.

Source: the public code of integrators. One TransferInOut is a bet and its win: `transfer_amount` is
the net that moves, and here the two stay apart and are decided together. Amounts are decimal text
in the currency's unit (`EXPONENTS_OF_UNITS`), with an exponent at times (1.0E+7);
`real_transfer_amount` is the net as money. The shared secrets travel in the body as `secret_key`
and `operator_token`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Final

import msgspec

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import Amount, Kind, Leg, Outcome, SignatureVerdict, WalletOutcome
from schemas.money import amount_from_text, amount_of, format_minor, minor_units
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
from streams.providers.signatures import same_secret
from streams.providers.text_fields import TextFields, read_form, redact_form

TRANSFER: Final = "TransferInOut"
ADJUSTMENT: Final = "Adjustment"

_THOUSANDS: Final = (
    "BIF",
    "CDF",
    "COP",
    "GNF",
    "IDR",
    "IQD",
    "IRR",
    "KHR",
    "KRW",
    "LAK",
    "LBP",
    "MGA",
    "MMK",
    "MNT",
    "PYG",
    "RWF",
    "SLL",
    "TZS",
    "UGX",
    "UZS",
    "VND",
)
EXPONENTS_OF_UNITS: Final[Mapping[str, int]] = MappingProxyType(dict.fromkeys(_THOUSANDS, 3))
"""Power of ten of the unit that amounts are printed in, by currency: 3 where it is a thousand.

A currency that is not named is printed in major units. Source: two integrators' public lists.
"""

_VERIFY: Final = "VerifySession"
_GET: Final = "Get"
_OPERATIONS: Final = {TRANSFER.encode(): TRANSFER, ADJUSTMENT.encode(): ADJUSTMENT}
_SECRETS: Final = frozenset({"secret_key", "operator_token", "operator_player_session"})

_INVALID, _INTERNAL, _OPERATOR, _NULL = "1034", "1200", "1204", "3001"
_NO_PLAYER, _NO_WALLET = "3004", "3005"
_NO_BET, _BET_EXISTS, _BET_FAILED, _BET_EXCEPTION, _FUNDS = "3021", "3032", "3033", "3073", "3202"
_MESSAGES: Final = {
    _INVALID: "Invalid request",
    _INTERNAL: "Internal server error",
    _OPERATOR: "Invalid operator",
    _NULL: "Value cannot be null",
    _NO_PLAYER: "Player does not exist",
    _NO_WALLET: "Player wallet does not exist",
    _NO_BET: "Bet does not exist",
    _BET_EXISTS: "Bet already existed",
    _BET_FAILED: "Bet failed",
    _BET_EXCEPTION: "BetFailedException",
    _FUNDS: "Insufficient player balance",
}
_SUCCESS: Final = frozenset(
    {Outcome.POSTED.value, Outcome.EXISTS.value, Outcome.INFORMATIONAL.value}
)
_OF_OUTCOME: Final[Mapping[str, str]] = MappingProxyType(
    {
        Outcome.CONFLICT: _BET_EXISTS,
        Outcome.REFUSED_FUNDS: _FUNDS,
        Outcome.REFUSED_REFERENCE: _NO_BET,
        **dict.fromkeys(
            (Outcome.REFUSED_BLOCKED, Outcome.REFUSED_LIMIT, Outcome.REFUSED_CURRENCY), _BET_FAILED
        ),
        **dict.fromkeys(
            (Outcome.REFUSED_EXPIRED, Outcome.TOMBSTONED, Outcome.CANCELLED), _BET_FAILED
        ),
    }
)
_OF_STATUS: Final[Mapping[str, str]] = MappingProxyType(
    {**_OF_OUTCOME, Outcome.REFUSED_CURRENCY: _NO_WALLET}
)
_OF_REJECTION: Final = {
    RejectCode.MISSING_SIGNATURE: _OPERATOR,
    RejectCode.BAD_SIGNATURE: _OPERATOR,
    RejectCode.MISSING_FIELD: _NULL,
    RejectCode.BAD_AMOUNT: _BET_EXCEPTION,
    RejectCode.AMOUNT_SCALE: _BET_EXCEPTION,
    RejectCode.UNKNOWN_PROVIDER: _INTERNAL,
    RejectCode.UNKNOWN_BRAND: _INTERNAL,
    RejectCode.BAD_CONTRACT: _INTERNAL,
}


@dataclass(frozen=True)
class PGSoft(Dialect):
    """PG Soft's dialect.

    A message without a bet (a spin of a feature, a free game) is a win: it is always booked.

    A free game may print a bet that is not paid; then its transfer is the win alone, and the bet is
    taken as free. That is inferred: no source shows one. A message whose amounts do not add up in
    either way is rejected.

    The same transaction again with `is_validate_bet`, which asks whether it arrived, is a retry,
    under another balance id too (`_transaction_of`).

    Where a message has `real_transfer_amount`, it must be `transfer_amount` in money, or the
    message is rejected: an account whose currency is not in the table's unit is not booked wrong.
    """

    provider: ClassVar[str] = "pgsoft"
    version: ClassVar[str] = "1"
    decides: ClassVar[frozenset[str]] = frozenset({TRANSFER})
    face: ClassVar[HttpFace | None] = HttpFace(
        (
            *(HttpCall(f"/Cash/{name}", (name,)) for name in (TRANSFER, ADJUSTMENT)),
            HttpCall(f"/{_VERIFY}", asks=(_VERIFY,)),
            HttpCall(f"/Cash/{_GET}", asks=(_GET,)),
        ),
        FORM,
    )

    def reader(self, material: KeyMaterial | None) -> Reader:
        """Return a reader that compares the body's `secret_key` and `operator_token`.

        Needs both under these names.
        """
        return partial(self._read, self._own_secrets(material))

    def question_reader(self, material: KeyMaterial | None) -> QuestionReader:
        """Return a reader of VerifySession, which names a session, and Cash/Get.

        Both bear the secrets.
        """
        return partial(_read_question, self._own_secrets(material))

    def _own_secrets(self, material: KeyMaterial | None) -> dict[str, bytes]:
        if material is None:
            return {}
        return {
            name: require_key(material, name, self.provider).encode()
            for name in ("secret_key", "operator_token")
        }

    def redact(self, value: bytes) -> bytes:
        """Return the body without its secrets and its session."""
        return redact_form(value, _SECRETS.__contains__)

    def _read(
        self, secrets: Mapping[str, bytes], record: RawRecord, headers: Headers
    ) -> list[Item]:
        operation = _operation_or_none(headers)
        if operation is None:
            raise Rejected(
                RejectCode.UNKNOWN_OPERATION, "the header http-path names no wallet transaction"
            )
        form = read_form(record.value or b"")
        verdict = _verdict(secrets, form)
        fields = TextFields(form)
        player_id = fields.id_of("player_name")
        try:
            draft = _transfer if operation == TRANSFER else _adjustment
            return [draft(fields, player_id, verdict)]
        except Rejected as error:
            raise UnreadableItem(error.reason, error.detail, player_id) from error

    def answer(self, request: RawRecord, results: Sequence[WalletOutcome | Rejected]) -> Reply:
        """Return `{data, error}` under HTTP 200.

        A success repeats the request's time as `updated_time`.
        """
        [result] = results
        if isinstance(result, Rejected):
            return _error(_OF_REJECTION.get(result.reason, _INVALID))
        if result.outcome not in _SUCCESS:
            return _error(_OF_OUTCOME.get(result.outcome, _INTERNAL))
        try:
            data = _data(request, result)
        except Rejected:  # booked, but the request that it answers cannot be read
            return _error(_INTERNAL)
        return Reply(200, "application/json", msgspec.json.encode({"data": data, "error": None}))

    def answer_unavailable(self, request: RawRecord) -> Reply:
        """Return 1200, an internal error."""
        del request
        return _error(_INTERNAL)

    def answer_unknown_session(self, request: RawRecord) -> Reply:
        """Return 1034: an integrator's answer to a VerifySession of no player."""
        del request
        return _error(_INVALID)

    def answer_question(
        self, request: RawRecord, question: Question, status: PlayerStatus
    ) -> Reply:
        """Return player_name, nickname and currency; for Cash/Get currency, balance and time.

        `updated_time` is that of the question's receipt.
        """
        if status.outcome != Outcome.POSTED:
            return _error(_OF_STATUS.get(status.outcome, _NO_PLAYER))
        if question.word == _VERIFY:
            data: dict[str, Any] = {"player_name": status.player_id, "nickname": status.player_id}
            data["currency"] = status.currency
        else:
            balance = _number(status.balance_minor or 0, status.scale)
            data = {"currency_code": status.currency, "balance_amount": balance}
            data["updated_time"] = request.timestamp
        return Reply(200, "application/json", msgspec.json.encode({"data": data, "error": None}))


def _operation_or_none(headers: Headers) -> str | None:
    return _OPERATIONS.get((headers.get("http-path") or b"").rpartition(b"/")[2])


def _transfer(fields: TextFields, player_id: str, verdict: str) -> Draft:
    bet, win, net = (
        fields.amount(name) for name in ("bet_amount", "win_amount", "transfer_amount")
    )
    currency = fields.text("currency_code")
    exponent = _unit_exponent(currency)
    _check_real_amount(fields, net, exponent)
    if exponent:
        bet, win, net = (_as_money(amount, exponent) for amount in (bet, win, net))
    currency = currency_of(bet, currency)
    currency_of(win, currency)
    campaign_id = id_or_none(fields.optional_id("free_game_transaction_id"))
    is_free = _is_free_bet(bet, win, net, campaign_id)
    legs = [Leg(Kind.BET.value, bet, currency, is_free, campaign_id)] if bet.unscaled else []
    legs.append(Leg(Kind.WIN.value, win, currency, campaign_id is not None, campaign_id))
    at = fields.epoch_ms("updated_time")
    return Draft(
        TRANSFER,
        _transaction_of(fields.id_of("transaction_id")),
        legs,
        player_id,
        None,
        fields.id_of("parent_bet_id"),
        fields.flag("is_end_round"),
        fields.optional_id("game_id"),
        fields.epoch_ms("create_time") if at is None else at,
        bool(bet.unscaled),
        verdict,
    )


def _is_free_bet(bet: Amount, win: Amount, net: Amount, campaign_id: str | None) -> bool:
    """Return whether the net that moves leaves the bet out.

    Raises Rejected(BAD_AMOUNT) where the three amounts do not add up.
    """
    scale = max(bet.scale, win.scale, net.scale)
    of_bet, of_win, of_net = (
        amount.unscaled * 10 ** (scale - amount.scale) for amount in (bet, win, net)
    )
    if of_net == of_win - of_bet:
        return False
    if campaign_id is not None and of_net == of_win:
        return True
    raise Rejected(RejectCode.BAD_AMOUNT, "transfer_amount is not win_amount - bet_amount")


def _transaction_of(transaction_id: str) -> str:
    """Return a transaction's id without its balance id.

    In `{BetId}-{ParentBetId}-{Type}-{BalanceId}` the balance id may belong to the sending:
    integrators disagree. Left out, a transaction may be refused, but is never paid twice. An id in
    another form is taken whole.
    """
    if transaction_id.count("-") != 3 or not transaction_id.isascii():
        return transaction_id
    parts = transaction_id.split("-")
    return "-".join(parts[:3]) if all(map(str.isalnum, parts)) else transaction_id


def _unit_exponent(currency: str) -> int:
    """Return the power of ten of the unit that amounts of a currency are printed in."""
    return EXPONENTS_OF_UNITS.get(currency.upper(), 0)


def _as_money(printed: Amount, exponent: int) -> Amount:
    """Return an amount in major units. Raises Rejected(BAD_AMOUNT) beyond 64 bits."""
    if printed.scale >= exponent:
        return Amount(printed.unscaled, printed.scale - exponent)
    return amount_of(printed.unscaled * 10 ** (exponent - printed.scale), 0)


def _check_real_amount(fields: TextFields, net: Amount, exponent: int) -> None:
    """Check the two amounts of a message that state one movement, in the unit and in money.

    Raises Rejected(BAD_AMOUNT) where `real_transfer_amount` is there and is other money.
    """
    text = fields.optional("real_transfer_amount")
    if text is None or (not exponent and text == fields.text("transfer_amount")):
        return
    real = amount_from_text(text)
    scale = max(real.scale, net.scale)
    if real.unscaled * 10 ** (scale - real.scale) != net.unscaled * 10 ** (
        scale - net.scale + exponent
    ):
        raise Rejected(
            RejectCode.BAD_AMOUNT,
            f"real_transfer_amount is not transfer_amount x 10^{exponent}, the currency's unit",
        )


def _adjustment(fields: TextFields, player_id: str, verdict: str) -> Draft:
    printed, currency = fields.amount("transfer_amount"), fields.text("currency_code")
    exponent = _unit_exponent(currency)
    _check_real_amount(fields, printed, exponent)
    amount = _as_money(printed, exponent)
    leg = Leg(Kind.ADJUSTMENT.value, amount, signed_currency_of(amount, currency))
    tx_id, at = fields.id_of("adjustment_transaction_id"), fields.epoch_ms("adjustment_time")
    return Draft(ADJUSTMENT, tx_id, [leg], player_id, None, None, False, None, at, False, verdict)


def _read_question(
    secrets: Mapping[str, bytes], record: RawRecord, headers: Headers
) -> list[Question]:
    word = (headers.get("http-path") or b"").rpartition(b"/")[2].decode(errors="replace")
    if word not in {_VERIFY, _GET}:
        return []
    form = read_form(record.value or b"")
    _verdict(secrets, form)
    fields = TextFields(form)
    token = fields.optional("operator_player_session")
    if word == _VERIFY:
        token = fields.text("operator_player_session")
        return [Question(word, token=token, needs_session=True)]
    return [Question(word, fields.id_of("player_name"), token=token)]


def _verdict(secrets: Mapping[str, bytes], form: Mapping[str, str]) -> str:
    if not secrets:
        return SignatureVerdict.NOT_CHECKED.value
    for name, secret in secrets.items():
        given = form.get(name)
        if not given:
            raise Rejected(RejectCode.MISSING_SIGNATURE, f"{name} is missing")
        if not same_secret(given.encode(), secret):
            raise Rejected(RejectCode.BAD_SIGNATURE, f"{name} is not the agreed one")
    return SignatureVerdict.VALID.value


def _data(request: RawRecord, result: WalletOutcome) -> dict[str, Any] | None:
    if result.balance_minor is None or result.currency is None:
        raise Rejected(RejectCode.MISSING_FIELD, "the outcome holds no balance")
    scale = result.scale or 0
    balance = _number(result.balance_minor, scale)
    fields = TextFields(read_form(request.value or b""))
    if _operation_or_none(dict(request.headers)) == TRANSFER:
        at = fields.epoch_ms("updated_time")
        answer = {"currency_code": result.currency, "balance_amount": balance, "updated_time": at}
        return answer | _real_amount(fields)
    change = amount_from_text(fields.text("transfer_amount"))
    money = _as_money(change, _unit_exponent(result.currency))
    before = result.balance_minor - minor_units(money, result.currency)
    answer = {
        "adjust_amount": _number(change.unscaled, change.scale),
        "balance_before": _number(before, scale),
        "balance_after": balance,
        "updated_time": fields.epoch_ms("adjustment_time"),
    }
    return answer | _real_amount(fields)


def _real_amount(fields: TextFields) -> dict[str, msgspec.Raw]:
    """Return the request's `real_transfer_amount` for its answer, nothing where it has none."""
    text = fields.optional("real_transfer_amount")
    if text is None:
        return {}
    real = amount_from_text(text)
    return {"real_transfer_amount": _number(real.unscaled, real.scale)}


def _number(unscaled: int, scale: int) -> msgspec.Raw:
    """Return a JSON number with all its decimals: a float would round it."""
    return msgspec.Raw(format_minor(unscaled, scale).encode())


def _error(code: str) -> Reply:
    response = {"data": None, "error": {"code": code, "message": _MESSAGES[code]}}
    return Reply(200, "application/json", msgspec.json.encode(response))
