"""Messages that the fuzzer sends: case `index` of a seed is the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from random import Random
from typing import Final

from msgspec.structs import replace

from lab.conformance.adapters import AdapterUnderTest
from lab.conformance.examples.fill import Example, Fill, record
from lab.conformance.mutation import mutate
from lab.conformance.respelling import respell
from runtime.kafka.records import RawRecord

CASES_PER_FILL: Final = 8
"""Cases made of one fill: signing its examples is what costs."""

_HOSTILE_SHARE: Final = 0.4
_MUTATED_SHARE: Final = 0.45
_RESPELT_SHARE: Final = 0.25
_KEYED_SHARE: Final = 0.5
_UNKNOWN_CURRENCY: Final = "XQQ"


class Mode(StrEnum):
    """Change made to a message, which determines the result to expect."""

    VALID = "valid"  # must be accepted, exactly
    RESPELT = "respelt"  # the same in other bytes: must be accepted, exactly
    HOSTILE = "hostile"  # odd text and huge amounts: exact, or rejected
    MUTATED = "mutated"  # anything: must be accounted for


@dataclass(frozen=True)
class FuzzCase:
    """One message; `keyed` is whether its signature is checked."""

    index: int
    adapter: AdapterUnderTest
    mode: Mode
    fill: Fill
    example: Example
    record: RawRecord
    keyed: bool


def make_case(seed: int, index: int, adapters: Sequence[AdapterUnderTest]) -> FuzzCase:
    """Make case `index` of `seed`.

    The adapters take turns, so the case depends on which there are.
    """
    unit, adapter = index // CASES_PER_FILL, adapter_at(index, adapters)
    fill, examples = _make_examples(seed, unit, adapter)
    rng = Random(f"{seed}/case/{index}")
    example = (
        examples[(index + unit) % len(examples)] if rng.random() < 0.5 else rng.choice(examples)
    )
    mode, keyed = Mode.HOSTILE if fill.hostile else Mode.VALID, True
    if rng.random() < _MUTATED_SHARE:
        mode, keyed = Mode.MUTATED, rng.random() < _KEYED_SHARE
        example = mutate(example, rng.choice(examples), rng)
    elif not fill.hostile and rng.random() < _RESPELT_SHARE:
        mode, keyed = Mode.RESPELT, False
        content_type = example.headers.get("content-type", b"").decode()
        example = replace(example, value=respell(example.value, content_type, rng))
    raw = record(
        example, adapter.dialect.provider, offset=index, appended_at_ms=fill.appended_at_ms
    )
    return FuzzCase(index, adapter, mode, fill, example, raw, keyed)


def adapter_at(index: int, adapters: Sequence[AdapterUnderTest]) -> AdapterUnderTest:
    """Return the adapter of this case."""
    return adapters[index // CASES_PER_FILL % len(adapters)]


@lru_cache(maxsize=4)
def _make_examples(seed: int, unit: int, adapter: AdapterUnderTest) -> tuple[Fill, list[Example]]:
    rng = Random(f"{seed}/fill/{unit}")
    hostile = rng.random() < _HOSTILE_SHARE
    currency = rng.choice(adapter.examples.currencies)
    if hostile and rng.random() < 0.05:
        currency = _UNKNOWN_CURRENCY
    fill = Fill(rng.getrandbits(60), currency, sending=rng.choice((0, 0, 1)), hostile=hostile)
    return fill, adapter.make_examples(fill)
