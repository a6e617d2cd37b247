"""Play'n GO: one bare XML element per POST, whose name is the operation.

The operations are reserve (bet), release (win) and cancelReserve. Known from the public code of
four integrators, not from the vendor; what they dispute is a setting of `PlayNGo`. Amounts are
decimal text in major units, a body holds no time, a cancel carries the id of its reserve. The
shared password travels in the body as `accessToken`. An answer is an element of the same name with
a `statusCode`: 0 ok, 1 token, 4 user, 7 not enough money, 9 no such transaction, 12 anything else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final

from lxml import etree

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import Amount, Kind, Leg, Outcome, Reference, SignatureVerdict, WalletOutcome
from schemas.money import amount_from_text, amount_of, format_minor
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
from streams.providers.fields import ID_MAX, currency_of, text_of
from streams.providers.http_face import XML, HttpCall, HttpFace
from streams.providers.questions import UNKNOWN_PLAYER, PlayerStatus, Question, QuestionReader
from streams.providers.references import id_or_none
from streams.providers.signatures import same_secret
from streams.providers.xml_body import (
    NOT_SHOWN,
    check_call_size,
    is_searchable,
    make_parser,
    root_of,
)

_OPERATIONS: Final = frozenset({"reserve", "release", "cancelReserve"})
_AUTHENTICATE: Final = "authenticate"
_QUESTIONS: Final = (_AUTHENTICATE, "balance")
_USED: Final = frozenset(
    {
        "externalId",
        "transactionId",
        "real",
        "currency",
        "gameId",
        "roundId",
        "accessToken",
        "freegameExternalId",
    }
    | {"state", "jackpotGain", "username"}
)
_ROOT: Final = re.compile(rb"<([A-Za-z]{1,32})[\s/>]")
_ERROR_NAMES: Final = {
    0: "",
    1: "token",
    4: "user",
    7: "not enough money",
    9: "no such transaction",
    12: "error",
}
_USER: Final = 4
_FAILED: Final = 12
_NOTHING: Final = Amount(0, 0)
_CODES: Final[dict[str, int]] = {
    Outcome.POSTED: 0,
    Outcome.EXISTS: 0,
    Outcome.INFORMATIONAL: 0,
    Outcome.REFUSED_FUNDS: 7,
    Outcome.REFUSED_BLOCKED: 4,
    Outcome.REFUSED_REFERENCE: 9,
}
# Up to its end tag, since the token may be in CDATA or beside a comment; without an end tag, all
# the rest. After its first byte nothing can keep it from matching, so that no byte is looked at for
# more than one beginning.
_TOKEN: Final = re.compile(rb"<accessToken(?![\w.:-])(?!\s*/>).*?(?=</accessToken|\Z)", re.DOTALL)


@dataclass(frozen=True)
class PlayNGo(Dialect):
    """Play'n GO's dialect and its settings: the doubtful points, each with what is known.

    `pays_on_close`: whether a release with state 1 (round closed) pays its `real`. One integrator
    moves no money there, another pays in every state; the same transaction twice is one event
    either way. Ask the vendor.

    `jackpot_in_real`: whether `real` of a release already holds `jackpotGain`. No source says;
    paying both would pay twice, so the default takes the gain out of `real` and rejects a gain
    above it.
    """

    provider: ClassVar[str] = "playngo"
    version: ClassVar[str] = "1"
    decides: ClassVar[frozenset[str]] = frozenset({"reserve"})
    face: ClassVar[HttpFace | None] = HttpFace(
        (HttpCall("", ("reserve", "release", "cancelReserve"), asks=_QUESTIONS),), XML
    )

    pays_on_close: bool = True
    jackpot_in_real: bool = True

    def reader(self, material: KeyMaterial | None) -> Reader:
        """Return a reader that compares the body's accessToken. Needs `access_token`."""
        return partial(self._read, self._secret(material), make_parser())

    def question_reader(self, material: KeyMaterial | None) -> QuestionReader:
        """Return a reader of `authenticate`, whose `username` is a session's token, and `balance`.

        Both bear the accessToken.
        """
        return partial(_read_question, self._secret(material), make_parser())

    def _secret(self, material: KeyMaterial | None) -> bytes | None:
        if material is None:
            return None
        return require_key(material, "access_token", self.provider).encode()

    def answer(self, request: RawRecord, results: Sequence[WalletOutcome | Rejected]) -> Reply:
        """Return the request's element with `statusCode`, and the balance where it is known.

        The balance is in `real` and `currency`. A cancel whose reserve never came is answered 0, as
        integrators do; so is a repeat of what was booked before.
        """
        [result] = results
        code = _code_of(result)
        elements = {"statusCode": str(code), "statusMessage": _ERROR_NAMES[code]}
        if isinstance(result, WalletOutcome):
            elements["externalTransactionId"] = result.event_id
            if result.balance_minor is not None and result.currency is not None:
                elements |= {
                    "real": format_minor(result.balance_minor, result.scale or 0),
                    "currency": result.currency,
                }
        return _reply(request, elements)

    def answer_unavailable(self, request: RawRecord) -> Reply:
        """Return statusCode 12."""
        status = {"statusCode": str(_FAILED), "statusMessage": _ERROR_NAMES[_FAILED]}
        return _reply(request, status)

    def answer_unknown_session(self, request: RawRecord) -> Reply:
        """Return statusCode 4: an integrator's answer to an `authenticate` of no player."""
        return _reply(request, {"statusCode": str(_USER), "statusMessage": _ERROR_NAMES[_USER]})

    def answer_question(
        self, request: RawRecord, question: Question, status: PlayerStatus
    ) -> Reply:
        """Return `statusCode` and `real`: for `balance` with `currency`.

        For `authenticate` with `externalId`, `userCurrency` and the session as
        `externalGameSessionId`; what else it may say of a person is not known here.
        """
        is_unknown = status.outcome == UNKNOWN_PLAYER
        code = _USER if is_unknown else _CODES.get(status.outcome, _FAILED)
        elements = {"statusCode": str(code), "statusMessage": _ERROR_NAMES[code]}
        if code == 0:
            real = {"real": format_minor(status.balance_minor or 0, status.scale)}
            currency = status.currency or ""
            if question.word == _AUTHENTICATE:
                elements |= {"externalId": status.player_id, "userCurrency": currency, **real}
                elements["externalGameSessionId"] = status.token or ""
            else:
                elements |= {**real, "currency": currency}
        return _reply(request, elements)

    def redact(self, value: bytes) -> bytes:
        """Return the body without its access token."""
        return _TOKEN.sub(b"<accessToken>***", value) if is_searchable(value) else NOT_SHOWN

    def payload(self, value: bytes) -> bytes:
        """Return the body, if it is no longer than a call may be. Raises Rejected(TOO_LARGE)."""
        return check_call_size(value)

    def _read(
        self, secret: bytes | None, reader: etree.XMLParser, record: RawRecord, _: Headers
    ) -> list[Item]:
        operation, fields = _elements(root_of(reader, check_call_size(record.value or b"")))
        if operation not in _OPERATIONS:
            raise Rejected(
                RejectCode.UNKNOWN_OPERATION,
                f"element {operation[:64]!r} is not a wallet transaction",
            )
        verdict = _verdict(secret, fields)
        player_id = _id(fields, "externalId")
        try:
            return [self._draft(operation, fields, player_id, verdict)]
        except Rejected as error:
            raise UnreadableItem(error.reason, error.detail, player_id) from error

    def _draft(
        self, operation: str, fields: Mapping[str, str], player_id: str, verdict: str
    ) -> Draft:
        transaction_id = _id(fields, "transactionId")
        amount = amount_from_text(_text(fields, "real"))
        currency = currency_of(amount, _text(fields, "currency"))
        reference, closed = None, False
        if operation == "reserve":
            legs = [_leg(Kind.BET, amount, currency, fields)]
        elif operation == "cancelReserve":
            legs = [Leg(Kind.ROLLBACK.value, amount, currency)]
            reference = Reference("reserve", transaction_id)
        else:
            closed = fields.get("state") == "1"
            legs = self._release(amount, currency, closed, fields)
        return Draft(
            operation,
            transaction_id,
            legs,
            player_id,
            reference,
            _optional_id(fields, "roundId"),
            closed,
            _optional_id(fields, "gameId"),
            None,
            operation in self.decides,
            verdict,
        )

    def _release(
        self, amount: Amount, currency: str, closed: bool, fields: Mapping[str, str]
    ) -> list[Leg]:
        if closed and not self.pays_on_close:
            return [Leg(Kind.ROUND_CLOSE.value)]
        gain = amount_from_text(fields.get("jackpotGain") or "0")
        if gain.unscaled == 0:
            return [_leg(Kind.WIN, amount, currency, fields)]
        currency_of(gain, currency)
        if self.jackpot_in_real:
            amount = _difference(amount, gain)
        return [
            _leg(Kind.WIN, amount, currency, fields),
            Leg(Kind.JACKPOT_WIN.value, gain, currency),
        ]


def _reply(request: RawRecord, elements: Mapping[str, str]) -> Reply:
    root = _ROOT.search(request.value or b"")
    name = root[1].decode() if root else ""
    is_known = name in _OPERATIONS or name in _QUESTIONS
    answer = etree.Element(name if is_known else "response")
    for tag, text in elements.items():
        etree.SubElement(answer, tag).text = text
    return Reply(200, "application/xml", etree.tostring(answer))


def _code_of(result: WalletOutcome | Rejected) -> int:
    if isinstance(result, Rejected):
        return (
            1
            if result.reason in {RejectCode.BAD_SIGNATURE, RejectCode.MISSING_SIGNATURE}
            else _FAILED
        )
    if result.outcome == Outcome.TOMBSTONED and result.operation == "cancelReserve":
        return 0
    if result.reason == ROLLBACK_PRECEDED:
        return _FAILED  # the cancel came first: no money moved, so it must not be played
    return _CODES.get(result.outcome, _FAILED)


def _read_question(
    secret: bytes | None, reader: etree.XMLParser, record: RawRecord, _: Headers
) -> list[Question]:
    value = record.value or b""
    name = _ROOT.search(value)
    if name is None or name[1].decode() not in _QUESTIONS:
        return []
    word, fields = _elements(root_of(reader, check_call_size(value)))
    if word not in _QUESTIONS:
        return []
    _verdict(secret, fields)
    if word == _AUTHENTICATE:
        return [Question(word, token=_text(fields, "username"), needs_session=True)]
    currency = fields.get("currency")
    code = currency_of(_NOTHING, currency) if currency else None
    return [Question(word, _id(fields, "externalId"), code)]


def _elements(root: etree._Element) -> tuple[str, dict[str, str]]:
    """Return the root's name and its children's text.

    Raises Rejected, never quoting the body: it holds a secret.
    """
    fields: dict[str, str] = {}
    for child in root:
        name = child.tag
        if name not in _USED:
            continue
        if name in fields:
            raise Rejected(RejectCode.BAD_FIELD, f"{name} is there twice")
        if len(child):  # its text would end where the other element begins: 1<x/>.50 is not 1
            raise Rejected(RejectCode.BAD_FIELD, f"{name} holds another element")
        fields[name] = (child.text or "").strip()
    return str(root.tag), fields


def _verdict(secret: bytes | None, fields: Mapping[str, str]) -> str:
    if secret is None:
        return SignatureVerdict.NOT_CHECKED.value
    token = fields.get("accessToken")
    if not token:
        raise Rejected(RejectCode.MISSING_SIGNATURE, "accessToken is missing")
    if not same_secret(token.encode(), secret):
        raise Rejected(RejectCode.BAD_SIGNATURE, "accessToken is not the agreed one")
    return SignatureVerdict.VALID.value


def _text(fields: Mapping[str, str], name: str) -> str:
    text = fields.get(name)
    if not text:
        raise Rejected(RejectCode.MISSING_FIELD, f"{name} is missing")
    return text


def _id(fields: Mapping[str, str], name: str) -> str:
    text = text_of(_text(fields, name), name)
    if len(text) > ID_MAX:
        raise Rejected(RejectCode.BAD_FIELD, f"{name} is longer than {ID_MAX} characters")
    return text


def _optional_id(fields: Mapping[str, str], name: str) -> str | None:
    return _id(fields, name) if fields.get(name) else None


def _leg(kind: Kind, amount: Amount, currency: str, fields: Mapping[str, str]) -> Leg:
    campaign_id = id_or_none(_optional_id(fields, "freegameExternalId"))
    return Leg(kind.value, amount, currency, campaign_id is not None, campaign_id)


def _difference(total: Amount, deducted: Amount) -> Amount:
    scale = max(total.scale, deducted.scale)
    rest = total.unscaled * 10 ** (scale - total.scale) - deducted.unscaled * 10 ** (
        scale - deducted.scale
    )
    if rest < 0:
        raise Rejected(
            RejectCode.BAD_AMOUNT,
            "jackpotGain is above real: is the setting jackpot_in_real right?",
        )
    return amount_of(rest, scale)
