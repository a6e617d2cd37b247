"""Stripe's webhook events since API version 2025-03-31, which release without a refund."""

from __future__ import annotations

from typing import ClassVar, Final

from lab.conformance.writers.stripe import StripeWriter


class StripeBasilWriter(StripeWriter):
    """Writes the same events as the version before, under the name of a newer one."""

    api_version: ClassVar[str] = "2026-09-30.endive"


WRITER: Final = StripeBasilWriter()
