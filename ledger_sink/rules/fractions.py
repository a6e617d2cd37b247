"""Fractions of minor units that a player's jackpot contributions leave over, added up exactly.

Providers state contributions in fractions of a minor unit, and a transfer has none. So what was
contributed and not moved yet is kept with the player, by provider and currency; what has become
whole is moved with the next contribution. The entry of a bet keeps its own difference, so that a
rollback takes exactly that back: at any time what was moved and what is kept are the sum of what
was contributed, to the last digit. (A contribution beside no bet moves money between house accounts
only, which a rollback leaves as it is; so it leaves the rest too.) Kept with the player and not
with the pool, since a pool's row would be locked by every bet.
"""

from __future__ import annotations

import msgspec

from ledger_sink.rules.amounts import amount_of, currency_of
from ledger_sink.rules.journal import Entry
from ledger_sink.rules.open_posting import Posting
from schemas.events import Leg
from schemas.money import exponent_of

Exact = tuple[int, int]
"""A decimal number of minor units: its digits as an integer, and how many of them are decimals."""

ZERO: Exact = (0, 0)


def parse(text: str) -> Exact:
    """Return the number that a decimal text states."""
    whole, _, decimals = text.partition(".")
    return int(whole + decimals), len(decimals)


def text_of(number: Exact) -> str:
    """Return a number as a decimal text without zeros at its end."""
    unscaled, scale = number
    while scale and unscaled % 10 == 0:
        unscaled, scale = unscaled // 10, scale - 1
    digits = str(abs(unscaled)).rjust(scale + 1, "0")
    sign = "-" if unscaled < 0 else ""
    return (
        f"{sign}{digits[: len(digits) - scale]}.{digits[-scale:]}" if scale else f"{sign}{digits}"
    )


def add(first: Exact, second: Exact) -> Exact:
    """Return the sum of two numbers."""
    scale = max(first[1], second[1])
    return sum(number * 10 ** (scale - own) for number, own in (first, second)), scale


def floor(number: Exact) -> int:
    """Return the whole number that is not above this one."""
    whole: int = number[0] // 10 ** number[1]
    return whole


def contribution_of(leg: Leg) -> Exact:
    """Return a leg's amount in minor units of its currency, and 0 for a negative one."""
    amount, exponent = amount_of(leg), exponent_of(currency_of(leg))
    unscaled = max(amount.unscaled, 0)
    if amount.scale <= exponent:
        return unscaled * 10 ** (exponent - amount.scale), 0
    return unscaled, amount.scale - exponent


def take_whole(posting: Posting, currency: str, contributed: Exact, at_most: int | None) -> int:
    """Return how many minor units are moved for a contribution, and keep the rest.

    `at_most`: the bet that the contribution is a share of, None where it stands alone.
    """
    key = _key(posting, currency)
    if at_most is not None and floor(contributed) >= at_most:
        contributed = (at_most, 0)  # what is more than the bet is not a share of it
    kept = parse(posting.player_state().fractions.get(key, "0"))
    moved = max(floor(add(kept, contributed)), 0)
    if at_most is not None:
        moved = min(moved, at_most)
    rest = add(contributed, (-moved, 0))
    _keep(posting, currency, rest)
    if at_most is not None:
        _note(posting, rest)
    return moved


def uncount(posting: Posting, target: Entry) -> None:
    """Take back what an event, whose movements were moved back, had left over."""
    if target.contribution_rest is not None and target.answer.currency is not None:
        unscaled, scale = parse(target.contribution_rest)
        _keep(posting, target.answer.currency, (-unscaled, scale))
        _note(posting, (-unscaled, scale))


def _keep(posting: Posting, currency: str, rest: Exact) -> None:
    """Add a rest to what is kept for the player."""
    if not rest[0]:
        return
    state, key = posting.player_state(), _key(posting, currency)
    kept = add(parse(state.fractions.get(key, "0")), rest)
    others = {other: text for other, text in state.fractions.items() if other != key}
    if kept[0]:
        others[key] = text_of(kept)
    event_id = posting.event.event_id
    posting.state = msgspec.structs.replace(state, fractions=others, event_id=event_id)


def _note(posting: Posting, rest: Exact) -> None:
    """Let the event's entry keep what a rollback of it has to take back."""
    posting.contribution_rest = text_of(rest) if rest[0] else None


def _key(posting: Posting, currency: str) -> str:
    return f"{posting.event.provider}:{currency}"
