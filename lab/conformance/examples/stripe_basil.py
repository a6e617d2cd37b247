"""A deposit's life at Stripe since API version 2025-03-31."""

from __future__ import annotations

from typing import Final

from lab.conformance.examples.fill import Example, Fill
from lab.conformance.examples.stripe import CURRENCIES, KEYS, StripeExamples, write_life
from lab.conformance.writers.stripe_basil import WRITER

__all__ = ["CURRENCIES", "KEYS", "examples"]

_BASIL: Final = StripeExamples(WRITER, KEYS)


def examples(fill: Fill) -> list[Example]:
    """Return the same events as of the version before, under the newer one's name."""
    return write_life(_BASIL, fill)
