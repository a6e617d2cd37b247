"""Faults of transport for valid records: sent again, doubled, overtaken. Pure.

None of it changes the content of a delivery, and nothing is moved across phases.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from random import Random
from typing import Final

from msgspec.structs import replace

from lab.sandbox.actions import Delivery, IntentRequest, PoisonAction
from lab.sandbox.records import Origin

RETRY_DELAY_MS: Final = (1_000, 12_000)
DUPLICATE_PLACES: Final = (1, 50)
DISPLACED_PLACES: Final = (3, 200)

_Batches = dict[tuple[int, str, str], list[Delivery]]


def sort_by_time(deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Sort by phase, then by the connector's clock; equal milliseconds keep their order."""
    return sorted(deliveries, key=lambda delivery: (delivery.phase, delivery.at_ms))


def draw_retries(
    deliveries: Sequence[Delivery],
    count: int,
    rng: Random,
    batching: AbstractSet[str] = frozenset(),
) -> list[Delivery]:
    """Draw `count` deliveries and return later sendings of them, restyled.

    What a provider of `batching` sends again travels with intents of another of its batches.
    """
    batches = _batches_by_account(deliveries, batching)
    return [_retry(delivery, batches, rng) for delivery in _sample(deliveries, count, rng)]


def add_duplicates(deliveries: Sequence[Delivery], count: int, rng: Random) -> list[Delivery]:
    """Return the deliveries with `count` of them repeated some places later, byte for byte."""
    first = [place for place, delivery in enumerate(deliveries) if delivery.origin is Origin.FIRST]
    doubled = sorted(rng.sample(first, count))
    copies = [replace(deliveries[place], origin=Origin.DUPLICATE) for place in doubled]
    return _place(
        [*deliveries, *copies],
        [*range(len(deliveries)), *doubled],
        len(deliveries),
        DUPLICATE_PLACES,
        rng,
    )


def displace(deliveries: Sequence[Delivery], count: int, rng: Random) -> list[Delivery]:
    """Return the deliveries with `count` of them overtaken by 3 to 200 others of their phase.

    Their times stay as they are.
    """
    moved = set(rng.sample(range(len(deliveries)), count))
    staying = [place for place in range(len(deliveries)) if place not in moved]
    places = [*staying, *sorted(moved)]
    return _place(
        [deliveries[place] for place in places], places, len(staying), DISPLACED_PLACES, rng
    )


def _place(
    deliveries: Sequence[Delivery],
    places: Sequence[int],
    fixed: int,
    shift: tuple[int, int],
    rng: Random,
) -> list[Delivery]:
    # From `fixed` on, each delivery goes behind the one that is `shift` places after its own; half
    # places keep the two apart without a second list.
    keys = [
        (delivery.phase, 2 * place if index < fixed else 2 * (place + rng.randint(*shift)) + 1)
        for index, (delivery, place) in enumerate(zip(deliveries, places, strict=True))
    ]
    order = sorted(range(len(deliveries)), key=keys.__getitem__)
    return [deliveries[index] for index in order]


def _sample(deliveries: Sequence[Delivery], count: int, rng: Random) -> list[Delivery]:
    good = [delivery for delivery in deliveries if not isinstance(delivery.request, PoisonAction)]
    return [good[index] for index in sorted(rng.sample(range(len(good)), count))]


def _account_of(delivery: Delivery) -> tuple[int, str, str]:
    assert isinstance(delivery.request, IntentRequest)
    first = delivery.request.intents[0]
    return delivery.phase, first.provider, first.brand


def _batches_by_account(deliveries: Sequence[Delivery], batching: AbstractSet[str]) -> _Batches:
    batches: _Batches = defaultdict(list)
    for delivery in deliveries:
        if isinstance(delivery.request, IntentRequest):
            account = _account_of(delivery)
            if account[1] in batching:
                batches[account].append(delivery)
    return batches


def _retry(delivery: Delivery, batches: _Batches, rng: Random) -> Delivery:
    at_ms = delivery.at_ms + rng.randint(*RETRY_DELAY_MS)
    request = delivery.request
    if isinstance(request, IntentRequest) and (account := batches.get(_account_of(delivery))):
        sent = [other for other in account if other.at_ms <= at_ms]
        request = _rebatch(request, sent, at_ms, rng)
    return replace(
        delivery, request=request, at_ms=at_ms, nonce=rng.getrandbits(128), origin=Origin.RETRY
    )


def _rebatch(
    batch: IntentRequest, sent: Sequence[Delivery], at_ms: int, rng: Random
) -> IntentRequest:
    # `sent` holds what had been sent by then, this very batch included.
    other = rng.choice(sent).request
    intents = list(batch.intents)
    if isinstance(other, IntentRequest) and other is not batch:
        intents += rng.sample(other.intents, min(2, len(other.intents)))
    rng.shuffle(intents)
    return IntentRequest(at_ms, tuple(intents))
