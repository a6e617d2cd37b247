"""Messages of Sportradar's Unified Odds Feed: XML over AMQP, unsigned.

Sources: docs.sportradar.com, uof, messages; the samples of sportradar/UnifiedOddsSdkNetCore, which
have a byte order mark and misspell `extended_specifers`. The intent's id is the match; a message
has no id of its own, and its `timestamp` is the same in every delivery.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from random import Random
from typing import ClassVar, Final, TypeAlias

from lab.conformance.intents import Intent, Market, MarketOutcome, Verb
from lab.conformance.writers.writer import XML, Message, Secrets, Sending, Writer

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
PRODUCT: Final = "3"

_CANCEL_WINDOW_MS: Final = 90_000
_GAPS: Final = ("\n", "\n  ", "\r\n\t", " ")

Attributes: TypeAlias = Sequence[tuple[str, str]]


class UofWriter(Writer):
    """Writes settlements, cancels, their rollbacks, odds, and signs of life."""

    provider = "uof"
    says: ClassVar = {
        Verb.ODDS_CHANGED: "odds_change",
        Verb.MARKET_SETTLED: "bet_settlement",
        Verb.MARKET_UNSETTLED: "rollback_bet_settlement",
        Verb.MARKET_CANCELLED: "bet_cancel",
        Verb.FEED_ALIVE: "alive",
    }

    def write(self, items: Sequence[Intent], sending: Sending, secrets: Secrets | None) -> Message:
        """Write one message; another node lists attributes and specifiers in another order."""
        del secrets
        [intent] = items
        style = sending.style
        text = tag(intent.operation, head_of(intent), contents_of(intent, style), style)
        return wrap_text(intent, text, style)


def head_of(intent: Intent) -> Attributes:
    """Return the attributes of the message's root.

    The intent's detail `certainty` ("1": live, "2": confirmed) belongs to a settlement.
    """
    stamp = str(intent.at_ms)
    if intent.verb is Verb.FEED_ALIVE:
        return (("product", PRODUCT), ("timestamp", stamp), ("subscribed", "1"))
    head = (("product", PRODUCT), ("event_id", intent.tx_id), ("timestamp", stamp))
    if intent.verb is Verb.MARKET_SETTLED:
        certainty = intent.detail("certainty", "2")
        return (*head, ("certainty", certainty)) if certainty else head
    if intent.verb is Verb.MARKET_CANCELLED:
        since = str(intent.at_ms - _CANCEL_WINDOW_MS)
        return (*head, ("start_time", since), ("end_time", stamp))
    return head


def contents_of(intent: Intent, style: Random | None) -> str:
    """Return what stands within the root: nothing in a sign of life."""
    if intent.verb is Verb.MARKET_SETTLED:
        return tag("outcomes", (), _join(_settled(each, style) for each in intent.markets), style)
    if intent.verb is Verb.ODDS_CHANGED:
        return tag("odds", (), _join(_priced(each, style) for each in intent.markets), style)
    return _join(
        tag("market", (*market_attributes(each, style), ("extended_specifers", "score=2:1")))
        for each in intent.markets
    )


def market_attributes(market: Market, style: Random | None) -> Attributes:
    """Return the attributes that name a market; specifiers may come in any order."""
    if not market.specifiers:
        return (("id", market.market_id),)
    specifiers = market.specifiers.split("|")
    if style is not None:
        style.shuffle(specifiers)
    return (("id", market.market_id), ("specifiers", "|".join(specifiers)))


def tag(name: str, attributes: Attributes, inner: str = "", style: Random | None = None) -> str:
    """Return an element; a style gives its attributes another order and its content white space."""
    listed = list(attributes)
    gap = ""
    if style is not None:
        style.shuffle(listed)
        gap = style.choice(_GAPS)
    text = "".join(f' {name}="{escape(value)}"' for name, value in listed)
    return f"<{name}{text}>{gap}{inner}{gap}</{name}>" if inner or gap else f"<{name}{text}/>"


def wrap_text(intent: Intent, text: str, style: Random | None = None) -> Message:
    """Return the message of this text, with a byte order mark in the usual form."""
    mark = BYTE_ORDER_MARK if style is None or style.random() < 0.5 else b""
    return Message(intent.tx_id, mark + text.encode(), f"/{intent.operation}", XML)


def _settled(market: Market, style: Random | None) -> str:
    inner = _join(
        tag("outcome", _result_attributes(outcome), style=style) for outcome in market.outcomes
    )
    return tag("market", market_attributes(market, style), inner, style)


def _result_attributes(outcome: MarketOutcome) -> Attributes:
    factors = (
        ("void_factor", outcome.void_factor),
        ("dead_heat_factor", outcome.dead_heat_factor),
    )
    result = "1" if outcome.has_won else "0"
    return (("id", outcome.id), ("result", result), *(each for each in factors if each[1]))


def _priced(market: Market, style: Random | None) -> str:
    inner = _join(
        tag("outcome", (("id", outcome.id), ("odds", "1.85")), style=style)
        for outcome in market.outcomes
    )
    return tag("market", market_attributes(market, style), inner, style)


def _join(texts: Iterable[str]) -> str:
    return "".join(texts)


WRITER: Final = UofWriter()
