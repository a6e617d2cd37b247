"""PG Soft's seamless wallet: POST Cash/TransferInOut and Cash/Adjustment, form-encoded.

The answers are JSON.

Source: the public code of integrators. One TransferInOut is a bet and its win: `transfer_amount` is
the net that moves, and here the two stay apart and are decided together. Amounts are decimal text
in major units, with an exponent at times (1.0E+7). The shared secrets travel in the body as
`secret_key` and `operator_token`.
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
from schemas.money import amount_from_text, format_minor, minor_units
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
from streams.providers.signatures import same_secret
from streams.providers.text_fields import TextFields, read_form, redact_form

TRANSFER: Final = "TransferInOut"
ADJUSTMENT: Final = "Adjustment"

_OPERATIONS: Final = {TRANSFER.encode(): TRANSFER, ADJUSTMENT.encode(): ADJUSTMENT}
_SECRETS: Final = frozenset({"secret_key", "operator_token", "operator_player_session"})

_INVALID, _INTERNAL, _OPERATOR, _NULL = "1034", "1200", "1204", "3001"
_NO_BET, _BET_EXISTS, _BET_FAILED, _BET_EXCEPTION, _FUNDS = "3021", "3032", "3033", "3073", "3202"
_MESSAGES: Final = {
    _INVALID: "Invalid request",
    _INTERNAL: "Internal server error",
    _OPERATOR: "Invalid operator",
    _NULL: "Value cannot be null",
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
_OF_REJECTION: Final = {
    RejectCode.MISSING_SIGNATURE: _OPERATOR,
    RejectCode.BAD_SIGNATURE: _OPERATOR,
    RejectCode.MISSING_FIELD: _NULL,
    RejectCode.BAD_AMOUNT: _BET_EXCEPTION,
    RejectCode.AMOUNT_SCALE: _BET_EXCEPTION,
    RejectCode.UNKNOWN_PROVIDER: _INTERNAL,
    RejectCode.BAD_CONTRACT: _INTERNAL,
}


@dataclass(frozen=True)
class PGSoft(Dialect):
    """PG Soft's dialect.

    A message without a bet (a spin of a feature, a free game) is a win: it is always booked.

    A free game may print a bet that is not paid; then its transfer is the win alone, and the bet is
    taken as free. That is inferred: no source shows one. A message whose amounts do not add up in
    either way is rejected.

    The same transaction again with `is_validate_bet`, which asks whether it arrived, is a retry.
    """

    provider: ClassVar[str] = "pgsoft"
    version: ClassVar[str] = "1"
    decides: ClassVar[frozenset[str]] = frozenset({TRANSFER})

    def reader(self, material: KeyMaterial | None) -> Reader:
        """Return a reader that compares the body's `secret_key` and `operator_token`.

        Needs both under these names.
        """
        secrets: dict[str, bytes] = {}
        if material is not None:
            secrets = {
                name: require_key(material, name, self.provider).encode()
                for name in ("secret_key", "operator_token")
            }
        return partial(self._read, secrets)

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


def _operation_or_none(headers: Headers) -> str | None:
    return _OPERATIONS.get((headers.get("http-path") or b"").rpartition(b"/")[2])


def _transfer(fields: TextFields, player_id: str, verdict: str) -> Draft:
    bet, win, net = (
        fields.amount(name) for name in ("bet_amount", "win_amount", "transfer_amount")
    )
    currency = currency_of(bet, fields.text("currency_code"))
    currency_of(win, currency)
    campaign_id = fields.optional_id("free_game_transaction_id")
    is_free = _is_free_bet(bet, win, net, campaign_id)
    legs = [Leg(Kind.BET.value, bet, currency, is_free, campaign_id)] if bet.unscaled else []
    legs.append(Leg(Kind.WIN.value, win, currency, campaign_id is not None, campaign_id))
    at = fields.epoch_ms("updated_time")
    return Draft(
        TRANSFER,
        fields.id_of("transaction_id"),
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


def _adjustment(fields: TextFields, player_id: str, verdict: str) -> Draft:
    amount = fields.amount("transfer_amount")
    leg = Leg(
        Kind.ADJUSTMENT.value, amount, signed_currency_of(amount, fields.text("currency_code"))
    )
    tx_id, at = fields.id_of("adjustment_transaction_id"), fields.epoch_ms("adjustment_time")
    return Draft(ADJUSTMENT, tx_id, [leg], player_id, None, None, False, None, at, False, verdict)


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
        return {"currency_code": result.currency, "balance_amount": balance, "updated_time": at}
    change = amount_from_text(fields.text("transfer_amount"))
    before = result.balance_minor - minor_units(change, result.currency)
    return {
        "adjust_amount": _number(change.unscaled, change.scale),
        "balance_before": _number(before, scale),
        "balance_after": balance,
        "updated_time": fields.epoch_ms("adjustment_time"),
    }


def _number(unscaled: int, scale: int) -> msgspec.Raw:
    """Return a JSON number with all its decimals: a float would round it."""
    return msgspec.Raw(format_minor(unscaled, scale).encode())


def _error(code: str) -> Reply:
    response = {"data": None, "error": {"code": code, "message": _MESSAGES[code]}}
    return Reply(200, "application/json", msgspec.json.encode(response))
