"""A match on the Unified Odds Feed: settled live, confirmed, rolled back and cancelled.

Messages that settle nothing are here too.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from lab.conformance.examples.fill import Example, Expected, Fill, market_id_text
from lab.conformance.examples.written import ExampleWriter, sending_of
from lab.conformance.intents import Intent, Market, MarketOutcome, Verb
from lab.conformance.writers.uof import PRODUCT, WRITER, head_of, market_attributes, tag, wrap_text
from schemas.events import SignatureVerdict
from streams.providers.dialect import KeyMaterial

KEYS: Final[KeyMaterial] = {}

_NOT_CHECKED: Final = SignatureVerdict.NOT_CHECKED
_UOF: Final = ExampleWriter(WRITER, KEYS, _NOT_CHECKED)


def examples(fill: Fill) -> list[Example]:
    """Return settlements, halves, dead heats, a cancel and rollbacks, odds and a sign of life."""
    half, tennis, golf, player = _markets(fill)
    since = (("start_time", str(fill.first_at_ms - 90_000)),)
    return [
        _settlement(fill, 0, (half, tennis), "1"),
        _settlement(fill, 1, (half, tennis), "2"),
        _lost_without_a_result(fill, 2, golf, player),
        _example(fill, _intent(fill, 3, Verb.MARKET_CANCELLED, (half,))),
        _example(fill, _intent(fill, 4, Verb.MARKET_UNSETTLED, (half, tennis))),
        _odd(fill, 5, Verb.MARKET_UNSETTLED, "rollback_bet_cancel", (half,), since),
        _example(fill, _intent(fill, 6, Verb.ODDS_CHANGED, (half,))),
        _odd(fill, 7, Verb.ODDS_CHANGED, "fixture_change", (), ()),
        _example(fill, _intent(fill, 8, Verb.FEED_ALIVE, ())),
        _rolled_back_one_by_one(fill, 9, half),
    ]


def rebatch(fill: Fill) -> list[Example]:
    """Return the first two settlements one market a message, the later market first.

    Everything else is as in `examples`.
    """
    half, tennis, *_ = _markets(fill)
    tennis = tennis._replace(specifiers="pointnr=45|setnr=4")
    backwards = [each._replace(outcomes=each.outcomes[::-1]) for each in (tennis, half)]
    cut = [_settlement(fill, n, (market,), str(n + 1)) for n in (0, 1) for market in backwards]
    return [*cut, *examples(fill)[2:]]


def _markets(fill: Fill) -> tuple[Market, ...]:
    match = f"sr:match:{fill.number(0) % 10**8}"
    halves = (MarketOutcome("1714", True, "0.5"), MarketOutcome("1715", False, "0.5"))
    points = (MarketOutcome("4", False), MarketOutcome("5", True))
    return (
        Market(match, "16", "hcp=-0.75", halves),
        Market(match, "204", "setnr=4|pointnr=45", points),
        Market(match, "534", "", (MarketOutcome("sr:player:7001", True, "", "0.5"),)),
        Market(match, "40", f"player={fill.player}", (MarketOutcome("7", False, "1"),)),
    )


def _intent(fill: Fill, n: int, verb: Verb, markets: tuple[Market, ...], **more: Any) -> Intent:
    # The feed's own time is a part of the identity: one message has one, however often it is
    # delivered.
    match = _markets(fill)[0].match_id
    return _UOF.intent(fill, verb, match, markets=markets, at_ms=fill.first_at_ms + n, **more)


def _settlement(fill: Fill, n: int, markets: tuple[Market, ...], certainty: str) -> Example:
    details = (("certainty", certainty),)
    return _example(fill, _intent(fill, n, Verb.MARKET_SETTLED, markets, details=details))


def _example(fill: Fill, intent: Intent) -> Example:
    message = WRITER.write([intent], sending_of(fill), KEYS)
    name = f"{intent.operation} {intent.at_ms - fill.first_at_ms}"
    return _UOF.wrap(fill, message, *_expectations(intent), name=name)


def _lost_without_a_result(fill: Fill, n: int, golf: Market, player: Market) -> Example:
    """Return a settlement without certainty, one of whose outcomes is not settled: result -1."""
    intent = _intent(fill, n, Verb.MARKET_SETTLED, (golf, player), details=(("certainty", ""),))
    unsettled = (("id", "9"), ("result", "-1"))
    heat = (("id", "sr:player:7001"), ("result", "1"), ("dead_heat_factor", "0.5"))
    void = (("id", "7"), ("result", "0"), ("void_factor", "1"))
    first = tag(
        "market", market_attributes(golf, None), tag("outcome", heat) + tag("outcome", unsettled)
    )
    second = tag("market", market_attributes(player, None), tag("outcome", void))
    text = tag(intent.operation, head_of(intent), tag("outcomes", (), first + second))
    golf = golf._replace(outcomes=(*golf.outcomes, MarketOutcome("9", False)))
    expects = _expectations(replace(intent, markets=(golf, player)))
    return _UOF.wrap(fill, wrap_text(intent, text), *expects, name="a dead heat, no certainty")


def _odd(
    fill: Fill,
    n: int,
    verb: Verb,
    operation: str,
    markets: tuple[Market, ...],
    more: tuple[tuple[str, str], ...],
) -> Example:
    """Return a message of another operation than the verb's, with further attributes."""
    intent = _intent(fill, n, verb, markets)
    intent = replace(intent, identity=(*intent.identity[:2], operation, intent.tx_id))
    inner = "".join(tag("market", market_attributes(market, None)) for market in markets)
    text = tag(operation, (*head_of(intent), *more), inner)
    return _UOF.wrap(fill, wrap_text(intent, text), *_expectations(intent), name=operation)


def _rolled_back_one_by_one(fill: Fill, n: int, market: Market) -> Example:
    """Return a rollback of single outcomes, with a market element for each of them."""
    intent = _intent(fill, n, Verb.MARKET_UNSETTLED, (market,))
    attributes = market_attributes(market, None)
    inner = "".join(
        tag("market", attributes, tag("outcome", (("id", outcome.id),)))
        for outcome in market.outcomes
    )
    message = wrap_text(intent, tag(intent.operation, head_of(intent), inner))
    expects = _expectations(intent, names_outcomes=True)
    return _UOF.wrap(fill, message, *expects, name="a rollback of single outcomes")


def _expectations(intent: Intent, *, names_outcomes: bool = False) -> list[Expected]:
    """Return what must be read: a named outcome, a market, or a notice."""
    operation, at_ms = intent.operation, intent.at_ms
    if intent.verb is Verb.ODDS_CHANGED or not intent.markets:
        about = "" if intent.verb is Verb.FEED_ALIVE else f"{intent.tx_id}:"
        legs = (("INFORMATIONAL", None),)
        tx_id = f"{PRODUCT}:{about}{at_ms}"
        signature = _NOT_CHECKED.value
        return [Expected(operation, tx_id, None, legs, signature=signature, at_ms=at_ms)]
    names_outcomes |= intent.verb is Verb.MARKET_SETTLED
    return [
        Expected(
            operation,
            market_id_text(market.match_id, market.market_id, _sort(market.specifiers), outcome),
            None,
            signature=_NOT_CHECKED.value,
            is_event=True,
            at_ms=at_ms,
        )
        for market in intent.markets
        for outcome in ([each.id for each in market.outcomes] if names_outcomes else [None])
    ]


def _sort(specifiers: str) -> str:
    return "|".join(sorted(specifiers.split("|")))
