"""Microgaming (Games Global) Vanguard: XML over POST, with its data in attributes.

A call is `pkt/methodcall/call`. Sources: sample messages in the vendor's "Operator Guidelines for
Netherlands" (010-046), and the public code of two integrators, one of them with the examples of the
integration document as its tests. `actionid` is the business id, and a refund carries its bet's;
`seq` numbers requests and repeats over different actions. Amounts are whole cents.

A call names a session by its token, which is the operator's own: the connector, which answered
login for it, states its player in the header `player`. A call that comes offline, without a
session, names the player in its token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from types import MappingProxyType
from typing import ClassVar, Final

from lxml import etree

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import Amount, Kind, Leg, Outcome, Reference, SignatureVerdict, WalletOutcome
from schemas.money import amount_of, truncate
from schemas.policies import LedgerPolicy
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
from streams.providers.fields import currency_of
from streams.providers.http_face import XML, HttpCall, HttpFace
from streams.providers.questions import PlayerStatus, Question, QuestionReader
from streams.providers.references import id_or_none
from streams.providers.signatures import same_secret
from streams.providers.text_fields import CURRENCY_HEADER, PLAYER_HEADER, TextFields, header_id
from streams.providers.times import NAIVE_TOLERANCE_MS, ms_of_text, zone_of
from streams.providers.xml_body import (
    NOT_SHOWN,
    check_call_size,
    is_searchable,
    make_parser,
    root_of,
)

AMOUNT_SCALE: Final = 2
NOT_RECEIVED: Final = "DEBIT-NOT-RECEIVED"
"""The text in place of our transaction's id where a refund's bet never came, or was refused."""

_KINDS: Final = {
    "bet": Kind.BET,
    "win": Kind.WIN,
    "progressivewin": Kind.JACKPOT_WIN,
    "refund": Kind.ROLLBACK,
}
_END: Final = "endgame"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DIGITS_MAX: Final = 19
_SECRET: Final = re.compile(
    rb"""\b((?:login|password)\s*=\s*)(?:"[^"]*|'[^']*|[^\s>]*)""", re.IGNORECASE
)

_UNSPECIFIED, _TOKEN, _CREDENTIALS, _LOCKED, _OTHER_DETAILS, _FUNDS, _LIMIT = (
    "6000",
    "6001",
    "6003",
    "6102",
    "6501",
    "6503",
    "6505",
)
_DESCRIPTIONS: Final = {
    _UNSPECIFIED: "Unspecified error.",
    _TOKEN: "The player token is invalid.",
    _CREDENTIALS: "The authentication credentials for the API are incorrect.",
    _LOCKED: "The account is locked.",
    _OTHER_DETAILS: "Already processed with different details.",
    _FUNDS: "Player has insufficient funds.",
    _LIMIT: "A limit of the player is exceeded.",
}
_SUCCESS: Final = frozenset(
    {Outcome.POSTED.value, Outcome.EXISTS.value, Outcome.INFORMATIONAL.value}
)
_READS: Final = ("bet", "win", "progressivewin", "refund", _END)
_LOGIN: Final = "login"
_QUESTIONS: Final = (_LOGIN, "getbalance", "refreshtoken")
_ASKS: Final = re.compile(
    rb"<methodcall\s[^>]*\bname\s*=\s*[\"'](?:login|getbalance|refreshtoken)[\"']"
)
"""What is seen of a question before it is parsed: a call that moves money is parsed once only."""
_NO_BET: Final = frozenset({"NOTHING_TO_REVERSE", "BET_NOT_FOUND"})
_OF_OUTCOME: Final[Mapping[str, str]] = MappingProxyType(
    {
        Outcome.CONFLICT: _OTHER_DETAILS,
        Outcome.TOMBSTONED: _OTHER_DETAILS,
        Outcome.REFUSED_FUNDS: _FUNDS,
        Outcome.REFUSED_BLOCKED: _LOCKED,
        Outcome.REFUSED_LIMIT: _LIMIT,
    }
)


def read_session_token(body: bytes) -> str | None:
    """Return the call's token; None where it cannot be read."""
    try:
        method = _method(root_of(make_parser(), check_call_size(body)))
        return _attributes(method, "call").get("token")
    except Rejected:
        return None


@dataclass(frozen=True)
class Microgaming(Dialect):
    """Microgaming's dialect and its settings: the doubtful points, each with what is known.

    `zone`: times come without one. The vendor's samples do not say which it is; ask for your
    system's. A time is that of the call, not of the game, so one that is minutes old was read in
    the wrong zone and is not believed.

    `offline_suffix`: whether the token of an offline call is the login name with the call's
    `gameid`, and for some also its `actionid`, behind it (`p-1_50_52160`: both integrators cut it
    so), or the login name alone. The header `player` is taken before either.

    `free_bets_cost`: whether a bet with a free game's marks is paid by the player. It comes with an
    amount, and both integrators debit it; a bet of zero is a free one either way.

    `action_ids_per_player`: one integrator looks an action up within player and game, the other by
    its id alone. If ids were unique only for each player, a second player's bet under the same id
    would be a conflict (6501); True makes the player a part of the identity. The default is the
    safe side: it can refuse, but never pay twice.
    """

    provider: ClassVar[str] = "microgaming"
    version: ClassVar[str] = "1"
    decides: ClassVar[frozenset[str]] = frozenset({"bet"})
    face: ClassVar[HttpFace | None] = HttpFace(
        (HttpCall("", _READS, needs_session=True, asks=_QUESTIONS),),
        XML,
        session_token=read_session_token,
    )

    policy: LedgerPolicy = field(default=LedgerPolicy(refused_id_reusable=True))
    time_tolerance_ms: int = NAIVE_TOLERANCE_MS
    zone: str = "UTC"
    offline_suffix: bool = True
    free_bets_cost: bool = True
    action_ids_per_player: bool = False

    def reader(self, material: KeyMaterial | None) -> Reader:
        """Return a reader that compares login and password of `auth`.

        Needs `login` and `password`.
        """
        return partial(self._read, self._secrets(material), make_parser(), zone_of(self.zone))

    def question_reader(self, material: KeyMaterial | None) -> QuestionReader:
        """Return a reader of login, getbalance and refreshtoken; each names its session."""
        return partial(_read_question, self._secrets(material), make_parser())

    def _secrets(self, material: KeyMaterial | None) -> dict[str, bytes]:
        if material is None:
            return {}
        return {
            name: require_key(material, name, self.provider).encode()
            for name in ("login", "password")
        }

    def redact(self, value: bytes) -> bytes:
        """Return the body without login and password."""
        return _SECRET.sub(rb"\1***", value) if is_searchable(value) else NOT_SHOWN

    def payload(self, value: bytes) -> bytes:
        """Return the body, if it is no longer than a call may be. Raises Rejected(TOO_LARGE)."""
        return check_call_size(value)

    def _read(
        self,
        secrets: Mapping[str, bytes],
        reader: etree.XMLParser,
        zone: tzinfo,
        record: RawRecord,
        headers: Headers,
    ) -> list[Item]:
        method = _method(root_of(reader, check_call_size(record.value or b"")))
        call, auth = TextFields(_attributes(method, "call")), _attributes(method, "auth")
        operation = _operation(method, call)
        verdict = _verdict(secrets, auth)
        player_id = self._player(call, headers)
        try:
            time = method.get("timestamp")
            at = ms_of_text(time, zone, field="timestamp") if time else None
            draft = self._end if operation == _END else partial(self._play, operation)
            return [draft(call, player_id, headers, at, verdict)]
        except Rejected as error:
            raise UnreadableItem(error.reason, error.detail, player_id) from error

    def _player(self, call: TextFields, headers: Headers) -> str:
        if headers.get(PLAYER_HEADER) or not call.flag("offline"):
            return header_id(headers, PLAYER_HEADER)
        token = call.id_of("token")
        if not self.offline_suffix:
            return token
        game, action = call.id_of("gameid"), call.optional_id("actionid")
        for suffix in ([f"_{game}_{action}"] if action else []) + [f"_{game}"]:
            if token.endswith(suffix) and token != suffix:
                return token.removesuffix(suffix)
        raise Rejected(
            RejectCode.BAD_FIELD, "the token of an offline call does not end in its gameid"
        )

    def _play(
        self,
        operation: str,
        call: TextFields,
        player_id: str,
        headers: Headers,
        at: int | None,
        verdict: str,
    ) -> Draft:
        action_id = call.id_of("actionid")
        tx_id = f"{player_id}:{action_id}" if self.action_ids_per_player else action_id
        amount = _cents(call.text("amount"))
        currency = currency_of(
            amount, call.optional("currency") or header_id(headers, CURRENCY_HEADER)
        )
        return Draft(
            operation,
            tx_id,
            [self._leg(operation, call, amount, currency)],
            player_id,
            Reference("bet", tx_id) if operation == "refund" else None,
            _round(call),
            call.flag("finish"),
            call.optional_id("gamereference"),
            at,
            operation in self.decides,
            verdict,
        )

    def _leg(self, operation: str, call: TextFields, amount: Amount, currency: str) -> Leg:
        if operation == "refund":
            return Leg(Kind.ROLLBACK.value, amount, currency)
        campaign_id = id_or_none(call.optional_id("freegameofferinstanceid")) or id_or_none(
            call.optional_id("freegame")
        )
        # The win of a bet that the player paid is the provider's to pay.
        costs_nothing = not self.free_bets_cost or (operation == "bet" and amount.unscaled == 0)
        is_free = campaign_id is not None and costs_nothing
        return Leg(_KINDS[operation].value, amount, currency, is_free, campaign_id)

    def _end(
        self, call: TextFields, player_id: str, headers: Headers, at: int | None, verdict: str
    ) -> Draft:
        round_id = _round(call)
        currency = None
        if headers.get(CURRENCY_HEADER):  # for the balance in the answer
            currency = currency_of(Amount(0, 0), header_id(headers, CURRENCY_HEADER))
        leg = Leg(Kind.ROUND_CLOSE.value, None, currency)
        game_id = call.optional_id("gamereference")
        # It has no action; a round's number is one player's.
        tx_id = f"{player_id}:{round_id}"
        return Draft(
            _END, tx_id, [leg], player_id, None, round_id, True, game_id, at, False, verdict
        )

    def answer(self, request: RawRecord, results: Sequence[WalletOutcome | Rejected]) -> Reply:
        """Return `pkt/methodresponse/result` under HTTP 200: a balance or an errorcode.

        `seq` is repeated as received, and so is the token of a success.
        """
        [result] = results
        error = _error_of(result)
        if error:
            return self._error(request, error)
        assert not isinstance(result, Rejected)
        name, call = _read_echo(request)
        attributes = {"seq": call.get("seq", ""), "token": call.get("token", "")}
        return self._result(request, name, attributes | _success(result))

    def answer_unavailable(self, request: RawRecord) -> Reply:
        """Return 6000, an unspecified error."""
        return self._error(request, _UNSPECIFIED)

    def answer_unknown_session(self, request: RawRecord) -> Reply:
        """Return 6001."""
        return self._error(request, _TOKEN)

    def answer_question(
        self, request: RawRecord, question: Question, status: PlayerStatus
    ) -> Reply:
        """Return `seq`, the session's token and the balance; for login also the player.

        The token stays the same: its end does not move. What else login may say of a person
        (country, city) is not known here.
        """
        if status.outcome != Outcome.POSTED:
            return self._error(request, _OF_OUTCOME.get(status.outcome, _UNSPECIFIED))
        name, call = _read_echo(request)
        attributes = {"seq": call.get("seq", ""), "token": status.token or ""}
        if question.word == _LOGIN:
            attributes |= {"loginname": status.player_id, "currency": status.currency or ""}
        if question.word != "refreshtoken":
            attributes |= _balance(status.balance_minor or 0, status.scale)
        if question.word == _LOGIN:
            attributes["wallet"] = "vanguard"
        return self._result(request, name, attributes)

    def _error(self, request: RawRecord, error: str) -> Reply:
        name, call = _read_echo(request)
        attributes = {"errorcode": error, "errordescription": _DESCRIPTIONS[error]}
        return self._result(request, name, {"seq": call.get("seq", ""), **attributes})

    def _result(self, request: RawRecord, name: str, attributes: dict[str, str]) -> Reply:
        pkt = etree.Element("pkt")
        at = (_EPOCH + timedelta(milliseconds=request.timestamp)).astimezone(zone_of(self.zone))
        response = etree.SubElement(
            pkt, "methodresponse", {"name": name, "timestamp": _time_text(at)}
        )
        etree.SubElement(etree.SubElement(response, "result", attributes), "extinfo")
        return Reply(200, "application/xml", etree.tostring(pkt))


def _read_echo(request: RawRecord) -> tuple[str, dict[str, str]]:
    """Return method and call, which an answer repeats; empty where they cannot be read."""
    try:
        method = _method(root_of(make_parser(), check_call_size(request.value or b"")))
        return method.get("name") or "", _attributes(method, "call")
    except Rejected:
        return "", {}


def _method(root: etree._Element) -> etree._Element:
    methods = root.findall("methodcall") if root.tag == "pkt" else []
    if len(methods) != 1:
        raise Rejected(RejectCode.MALFORMED, "not one methodcall in a pkt")
    return methods[0]


def _attributes(method: etree._Element, name: str) -> dict[str, str]:
    elements = method.findall(name)
    if len(elements) > 1:
        raise Rejected(RejectCode.BAD_FIELD, f"{name} is there twice")
    return {str(key): str(text) for key, text in elements[0].items()} if elements else {}


def _operation(method: etree._Element, call: TextFields) -> str:
    if method.get("name") == _END:
        return _END
    playtype = call.optional("playtype") if method.get("name") == "play" else None
    if playtype not in _KINDS:
        raise Rejected(
            RejectCode.UNKNOWN_OPERATION, "neither endgame nor play with a playtype that is mapped"
        )
    return playtype


def _verdict(secrets: Mapping[str, bytes], auth: Mapping[str, str]) -> str:
    if not secrets:
        return SignatureVerdict.NOT_CHECKED.value
    if not all(auth.get(name) for name in secrets):
        raise Rejected(RejectCode.MISSING_SIGNATURE, "auth has no login or no password")
    # Both are always compared: the time does not even reveal which of them is wrong.
    matches = [same_secret(auth[name].encode(), secret) for name, secret in secrets.items()]
    if not all(matches):
        raise Rejected(RejectCode.BAD_SIGNATURE, "login and password are not the agreed ones")
    return SignatureVerdict.VALID.value


def _time_text(at: datetime) -> str:
    return f"{at:%Y/%m/%d %H:%M:%S}.{at.microsecond // 1000:03d}"


def _cents(text: str) -> Amount:
    if len(text) > _DIGITS_MAX or not (text.isascii() and text.isdigit()):
        raise Rejected(
            RejectCode.BAD_AMOUNT, "amount is not a whole number of cents without a sign"
        )
    return amount_of(int(text), AMOUNT_SCALE)


def _round(call: TextFields) -> str:
    """Return the round's id within its game.

    A round's number is small and counted per game: two games of one player may both be at round 20.
    """
    game = call.optional_id("gamereference")
    number = call.id_of("gameid")
    return number if game is None else f"{game}:{number}"


def _error_of(result: WalletOutcome | Rejected) -> str | None:
    if isinstance(result, Rejected):
        wrong = result.reason in (RejectCode.MISSING_SIGNATURE, RejectCode.BAD_SIGNATURE)
        return _CREDENTIALS if wrong else _UNSPECIFIED
    if result.outcome in _SUCCESS or _is_without_bet(result):
        return None
    return _OF_OUTCOME.get(result.outcome, _UNSPECIFIED)


def _is_without_bet(result: WalletOutcome) -> bool:
    return result.operation == "refund" and (
        result.outcome == Outcome.TOMBSTONED or result.reason in _NO_BET
    )


def _read_question(
    secrets: Mapping[str, bytes], reader: etree.XMLParser, record: RawRecord, _: Headers
) -> list[Question]:
    value = record.value or b""
    if not _ASKS.search(value):
        return []
    method = _method(root_of(reader, check_call_size(value)))
    word = method.get("name") or ""
    if word not in _QUESTIONS:
        return []
    _verdict(secrets, _attributes(method, "auth"))
    token = TextFields(_attributes(method, "call")).text("token")
    return [Question(word, token=token, needs_session=True)]


def _balance(minor: int, scale: int) -> dict[str, str]:
    cents = truncate(amount_of(minor, scale), AMOUNT_SCALE)
    units = str(cents.unscaled * 10 ** (AMOUNT_SCALE - cents.scale))
    return {"balance": units, "bonusbalance": "0"}


def _success(result: WalletOutcome) -> dict[str, str]:
    attributes: dict[str, str] = {}
    if result.balance_minor is not None:
        attributes = _balance(result.balance_minor, result.scale or 0)
    if result.operation != _END:
        attributes["exttransactionid"] = (
            NOT_RECEIVED if _is_without_bet(result) else result.event_id
        )
    return attributes
