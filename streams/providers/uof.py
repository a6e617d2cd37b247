"""Sportradar's Unified Odds Feed: XML messages over AMQP.

Settlements and cancels become market events. Sources: docs.sportradar.com, uof, messages;
UnifiedFeed.xsd and the samples of sportradar/UnifiedOddsSdkNetCore. The feed knows matches and
markets, no players and no money: the sportsbook that holds the bets evaluates them. One outcome of
a `bet_settlement` is one item. A market of `bet_cancel` and of the rollbacks means the whole
market, or, where it has outcomes (UnifiedFeed.xsd since 2026-03-02), these alone: one item each. An
outcome is often settled twice, live and again confirmed: two events of one market at two times, to
be paid once.

Odds, fixtures and the like are kept as information, so that every record is accounted for; a
connector need not bind their routing keys at all. What the samples show and the schema forbids is
read all the same: a byte order mark, no `certainty`, `extended_specifers`; specifiers come in any
order, and are sorted because a market has one identity. `void_reason` and `superceded_by` (the
schema's spelling) are kept and are not a part of the identity.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import ClassVar, Final, TypeAlias

from lxml import etree

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import Kind, Leg, SignatureVerdict
from streams.providers.dialect import (
    Dialect,
    Draft,
    Headers,
    Item,
    KeyMaterial,
    MarketDraft,
    Reader,
)
from streams.providers.fields import ID_MAX, text_of
from streams.providers.http_face import RECORD_BYTES_MAX, XML, HttpCall, HttpFace
from streams.providers.references import is_placeholder, reference_or_empty
from streams.providers.times import ms_of_epoch
from streams.providers.xml_body import make_parser, root_of

SPECIFIERS_MAX: Final = 512

_SETTLEMENT: Final = "bet_settlement"
_ACTIONS: Final = MappingProxyType(
    {
        _SETTLEMENT: "SETTLED",
        "bet_cancel": "CANCELLED",
        "rollback_bet_settlement": "SETTLEMENT_ROLLED_BACK",
        "rollback_bet_cancel": "CANCELLATION_ROLLED_BACK",
    }
)
_NOTICES: Final = frozenset(
    {"odds_change", "bet_stop", "fixture_change", "alive", "snapshot_complete"}
)
_RESULTS: Final = frozenset({"0", "1", "-1"})
_WHOLE: Final = re.compile(r"[+-]?\d{1,10}", re.ASCII)
# From 0 to 1: the schema lists 0.5 and 1 for a void, and leaves a dead heat open.
_FACTOR: Final = re.compile(r"0(\.\d{1,18})?|1(\.0{1,18})?", re.ASCII)
# The other spellings of an xs:double (W3C XML Schema 1.1 part 2, 3.3.5), of a size that can be
# printed.
_DOUBLE: Final = re.compile(r"[+-]?(\d{1,20}(\.\d{0,20})?|\.\d{1,20})([eE][+-]?\d{1,2})?", re.ASCII)
_XML_SPACE: Final = " \t\r\n"
_UNSIGNED: Final = SignatureVerdict.NOT_CHECKED.value

_Market: TypeAlias = tuple[str, str, str, str]
"""The first fields of a market's drafts: operation, match, market and specifiers."""
_End: TypeAlias = tuple[int, str, str | None, str | None]
"""Their last fields: time, signature, reason of a void and the market that supersedes it."""


@dataclass(frozen=True)
class Uof(Dialect):
    """The feed's dialect.

    The feed signs nothing; it is read over TLS with an access token, so the reader of the queue is
    believed.
    """

    provider: ClassVar[str] = "uof"
    version: ClassVar[str] = "1"
    face: ClassVar[HttpFace | None] = HttpFace(
        (HttpCall("", ("any message of the feed",)),),
        XML,
        waits=False,
        body_bytes_max=RECORD_BYTES_MAX,
    )

    def reader(self, material: KeyMaterial | None) -> Reader:
        """Return a reader; there is nothing to check, whatever the keyring holds."""
        del material
        return partial(_read, make_parser())


def _read(reader: etree.XMLParser, record: RawRecord, _: Headers) -> list[Item]:
    root = root_of(reader, record.value or b"")
    operation = str(root.tag)
    at = _ms(root, "timestamp")
    if at is None:
        raise Rejected(RejectCode.MISSING_FIELD, "timestamp is missing")
    action = _ACTIONS.get(operation)
    if action is None:
        if operation not in _NOTICES:
            raise Rejected(
                RejectCode.UNKNOWN_OPERATION,
                f"element {operation[:64]!r} is not a message of the feed",
            )
        return [_notice(root, operation, at)]
    match_id = _id(root, "event_id")
    markets = root.findall("outcomes/market" if operation == _SETTLEMENT else "market")
    if not markets:
        return [_notice(root, operation, at)]
    window = (_ms(root, "start_time"), _ms(root, "end_time"))
    superseded_by = _short(root.get("superceded_by") or "", "superceded_by") or None
    items: list[Item] = []
    for element in markets:
        try:
            market = operation, match_id, _id(element, "id"), _specifiers(element)
            end = at, _UNSIGNED, _void_reason(element), superseded_by
        except Rejected as error:
            items.append(error)
            continue
        if operation == _SETTLEMENT:
            items += _outcomes(market, element, root.get("certainty"), end)
        else:
            items += _named(partial(_taken_back, market, action, window, end), element)
    return _reject_contradictions(items)


def _taken_back(
    market: _Market,
    action: str,
    window: tuple[int | None, int | None],
    end: _End,
    outcome_id: str | None,
) -> MarketDraft:
    # A cancel or a rollback has no result, factors or certainty.
    nothing: tuple[None, None, None, None] = None, None, None, None
    from_at, until_at = window
    return MarketDraft(*market, outcome_id, action, *nothing, from_at, until_at, *end)


def _named(make: Callable[[str | None], MarketDraft], element: etree._Element) -> list[Item]:
    """Return an item for each outcome of a market, or one for the whole market if it has none."""
    outcomes = element.findall("outcome")
    if not outcomes:
        return [make(None)]
    items: list[Item] = []
    for outcome in outcomes:
        try:
            items.append(make(_id(outcome, "id")))
        except Rejected as error:
            items.append(error)
    return items


def _outcomes(
    market: _Market, element: etree._Element, certainty: str | None, end: _End
) -> list[Item]:
    items: list[Item] = []
    for outcome in element.iterfind("outcome"):
        try:
            items.append(
                MarketDraft(
                    *market,
                    _id(outcome, "id"),
                    _ACTIONS[_SETTLEMENT],
                    _result(outcome),
                    _factor(outcome, "void_factor"),
                    _factor(outcome, "dead_heat_factor"),
                    None if certainty is None else _short(certainty, "certainty"),
                    None,
                    None,
                    *end,
                )
            )
        except Rejected as error:
            items.append(error)
    return items or [Rejected(RejectCode.MISSING_FIELD, "a settled market without an outcome")]


def _reject_contradictions(items: list[Item]) -> list[Item]:
    # One outcome with two results in one message: neither can be believed, and both would have the
    # same identity.
    first: dict[tuple[str, str, str | None], MarketDraft] = {}
    contradicted = set()
    for item in items:
        if isinstance(item, MarketDraft):
            key = item.market_id, item.specifiers, item.outcome_id
            if first.setdefault(key, item) != item:
                contradicted.add(key)
    if not contradicted:
        return items
    return [
        Rejected(
            RejectCode.BAD_FIELD,
            f"market {item.market_id} gives outcome {item.outcome_id} two results",
        )
        if isinstance(item, MarketDraft)
        and (item.market_id, item.specifiers, item.outcome_id) in contradicted
        else item
        for item in items
    ]


def _notice(root: etree._Element, operation: str, at: int) -> Draft:
    """Return a message that settles nothing as information, without a player.

    It is kept under the producer, the match and the feed's time.
    """
    about = [_short(root.get(name) or "", name) for name in ("product", "event_id")]
    about.append(reference_or_empty(_short(root.get("request_id") or "", "request_id")))
    tx_id = ":".join([text for text in (*about, str(at)) if text])
    return Draft(
        operation,
        tx_id,
        [Leg(Kind.INFORMATIONAL.value)],
        None,
        None,
        None,
        False,
        None,
        at,
        False,
        _UNSIGNED,
    )


def _short(text: str, name: str) -> str:
    if len(text) > ID_MAX:
        raise Rejected(RejectCode.BAD_FIELD, f"{name} is longer than {ID_MAX} characters")
    return text_of(text, name)


def _id(element: etree._Element, name: str) -> str:
    text = element.get(name)
    if not text:
        raise Rejected(RejectCode.MISSING_FIELD, f"{name} of {element.tag} is missing")
    return _short(text, name)


def _ms(element: etree._Element, name: str) -> int | None:
    text = element.get(name)
    return None if text is None else ms_of_epoch(text, "ms", field=name)


def _specifiers(market: etree._Element) -> str:
    text = market.get("specifiers") or ""
    if len(text) > SPECIFIERS_MAX:
        raise Rejected(
            RejectCode.BAD_FIELD, f"specifiers are longer than {SPECIFIERS_MAX} characters"
        )
    if "=" not in text and is_placeholder(text):
        return ""
    return text_of("|".join(sorted(each for each in text.split("|") if each)), "specifiers")


def _void_reason(market: etree._Element) -> str | None:
    """Return the feed's code of a reason, a whole number, as its digits."""
    text = market.get("void_reason")
    if text is None:
        return None
    bare = text.strip(_XML_SPACE)
    if not _WHOLE.fullmatch(bare):
        raise Rejected(RejectCode.BAD_FIELD, f"void_reason {text[:16]!r} is not a whole number")
    return str(int(bare))


def _result(outcome: etree._Element) -> str:
    result = outcome.get("result")
    if result is None:
        raise Rejected(RejectCode.MISSING_FIELD, "result of outcome is missing")
    if result in _RESULTS:
        return result
    bare = result.strip(_XML_SPACE)
    if not _WHOLE.fullmatch(bare) or str(int(bare)) not in _RESULTS:
        raise Rejected(RejectCode.BAD_FIELD, f"result {result[:16]!r} is not 0, 1 or -1")
    return str(int(bare))


def _factor(outcome: etree._Element, name: str) -> str | None:
    """Return a factor as decimal text, whichever spelling of a double was sent."""
    text = outcome.get(name)
    if text is None or _FACTOR.fullmatch(text):
        return text
    bare = text.strip(_XML_SPACE)
    number = Decimal(bare) if _DOUBLE.fullmatch(bare) else None
    if number is None or not 0 <= number <= 1:
        raise Rejected(RejectCode.BAD_FIELD, f"{name} {text[:24]!r} is not between 0 and 1")
    return format(number.copy_abs(), "f")
