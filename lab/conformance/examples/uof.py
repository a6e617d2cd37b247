"""A match on the Unified Odds Feed: settled live, confirmed, rolled back and cancelled.

Messages that settle nothing are here too.
"""

from __future__ import annotations

from html import escape
from typing import Final

from lab.conformance.examples.fill import Example, Expected, Fill, market_id_text
from schemas.events import SignatureVerdict
from streams.providers.dialect import KeyMaterial

KEYS: Final[KeyMaterial] = {}

_BOM: Final = b"\xef\xbb\xbf"
_NOT_CHECKED: Final = SignatureVerdict.NOT_CHECKED.value

_Outcome = tuple[str, str]
_Market = tuple[str, str, tuple[_Outcome, ...]]


def examples(fill: Fill) -> list[Example]:
    """Return settlements, halves, dead heats, a cancel and rollbacks, odds and a sign of life."""
    half: _Market = (
        "16",
        "hcp=-0.75",
        (("1714", 'result="1" void_factor="0.5"'), ("1715", 'result="0" void_factor="0.5"')),
    )
    tennis: _Market = ("204", "setnr=4|pointnr=45", (("4", 'result="0"'), ("5", 'result="1"')))
    golf: _Market = (
        "534",
        "",
        (("sr:player:7001", 'result="1" dead_heat_factor="0.5"'), ("9", 'result="-1"')),
    )
    player: _Market = ("40", f"player={fill.player}", (("7", 'result="0" void_factor="1"'),))
    since = f' start_time="{fill.first_at_ms - 90_000}"'
    return [
        _settlement(fill, 0, (half, tennis), 'certainty="1"'),
        _settlement(fill, 1, (half, tennis), 'certainty="2"'),
        _settlement(fill, 2, (golf, player), ""),
        _markets(
            fill,
            3,
            "bet_cancel",
            (half,),
            f' start_time="{fill.first_at_ms - 90_000}" end_time="{fill.first_at_ms}"',
        ),
        _markets(fill, 4, "rollback_bet_settlement", (half, tennis), ""),
        _markets(fill, 5, "rollback_bet_cancel", (half,), since),
        _notice(
            fill,
            6,
            "odds_change",
            '<odds><market id="1"><outcome id="1" odds="1.85"/></market></odds>',
        ),
        _notice(fill, 7, "fixture_change", ""),
        _alive(fill, 8),
    ]


def rebatch(fill: Fill) -> list[Example]:
    """Return the first two settlements one market a message, the later market first.

    Everything else is as in `examples`.
    """
    made = examples(fill)
    half: _Market = (
        "16",
        "hcp=-0.75",
        (("1715", 'result="0" void_factor="0.5"'), ("1714", 'result="1" void_factor="0.5"')),
    )
    tennis: _Market = ("204", "pointnr=45|setnr=4", (("5", 'result="1"'), ("4", 'result="0"')))
    cut = [
        _settlement(fill, n, (market,), f'certainty="{n + 1}"')
        for n in (0, 1)
        for market in (tennis, half)
    ]
    return [*cut, *made[2:]]


def _match(fill: Fill) -> str:
    return f"sr:match:{fill.number(0) % 10**8}"


def _at(fill: Fill, n: int) -> int:
    # The feed's own time is a part of the identity: one message has one, however often it is
    # delivered.
    return fill.first_at_ms + n


def _sort_specifiers(specifiers: str) -> str:
    return "|".join(sorted(specifiers.split("|")))


def _head(fill: Fill, n: int) -> str:
    return f'product="3" event_id="{_match(fill)}" timestamp="{_at(fill, n)}"'


def _settlement(fill: Fill, n: int, markets: tuple[_Market, ...], certainty: str) -> Example:
    market_texts, expects = [], []
    for market_id, specifiers, outcomes in markets:
        inner = "".join(f'<outcome id="{outcome}" {result}/>' for outcome, result in outcomes)
        named = f' specifiers="{escape(specifiers)}"' if specifiers else ""
        market_texts.append(f'<market id="{market_id}"{named}>{inner}</market>')
        for outcome, _ in outcomes:
            expects.append(_expectation(fill, n, "bet_settlement", market_id, specifiers, outcome))
    body = (
        f"<bet_settlement {_head(fill, n)} {certainty}>"
        f"<outcomes>{''.join(market_texts)}</outcomes></bet_settlement>"
    )
    return _example(fill, f"bet_settlement {n}", body, tuple(expects))


def _markets(
    fill: Fill, n: int, operation: str, markets: tuple[_Market, ...], more: str
) -> Example:
    named = "".join(
        f'<market id="{market_id}" specifiers="{escape(specifiers)}" '
        'extended_specifers="score=2:1"/>'
        for market_id, specifiers, _ in markets
    )
    expects = tuple(
        _expectation(fill, n, operation, market_id, text, None) for market_id, text, _ in markets
    )
    return _example(
        fill, operation, f"<{operation} {_head(fill, n)}{more}>{named}</{operation}>", expects
    )


def _notice(fill: Fill, n: int, operation: str, inner: str) -> Example:
    tx_id = f"3:{_match(fill)}:{_at(fill, n)}"
    expected = Expected(
        operation,
        tx_id,
        None,
        (("INFORMATIONAL", None),),
        signature=_NOT_CHECKED,
        at_ms=_at(fill, n),
    )
    return _example(
        fill, operation, f"<{operation} {_head(fill, n)}>{inner}</{operation}>", (expected,)
    )


def _alive(fill: Fill, n: int) -> Example:
    tx_id = f"3:{_at(fill, n)}"
    expected = Expected(
        "alive", tx_id, None, (("INFORMATIONAL", None),), signature=_NOT_CHECKED, at_ms=_at(fill, n)
    )
    return _example(
        fill,
        "alive",
        f'<alive product="3" timestamp="{_at(fill, n)}" subscribed="1"/>',
        (expected,),
    )


def _expectation(
    fill: Fill, n: int, operation: str, market_id: str, specifiers: str, outcome: str | None
) -> Expected:
    name = market_id_text(_match(fill), market_id, _sort_specifiers(specifiers), outcome)
    return Expected(
        operation, name, None, signature=_NOT_CHECKED, is_event=True, at_ms=_at(fill, n)
    )


def _example(fill: Fill, name: str, body: str, expects: tuple[Expected, ...]) -> Example:
    headers = fill.headers("application/xml", f"/{expects[0].operation}")
    return Example(name, headers, _match(fill).encode(), _BOM + body.encode(), expects)
