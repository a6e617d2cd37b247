"""Stripe's webhook events since API version 2025-03-31 (basil).

Read as those before it but for one thing: what is authorised and not captured is released without a
refund (docs.stripe.com/changelog, basil, 2025-03-31, "Partially capturing or canceling payments no
longer creates a Refund"), so `amount_refunded` is money that was taken and given back, all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from streams.providers.stripe import Stripe


@dataclass(frozen=True)
class StripeBasil(Stripe):
    """Stripe's dialect since API version 2025-03-31, with the settings of the one before."""

    version: ClassVar[str] = "2025-03-31"
    releases_are_refunds: ClassVar[bool] = False
