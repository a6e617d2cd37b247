"""The connector's share of a raw record: the headers that it puts around the received bytes."""

from __future__ import annotations

from random import Random
from typing import Final

from lab.sandbox.actions import Delivery
from lab.sandbox.players import DEFAULT_BRAND
from lab.sandbox.records import Origin, RawEvent

JSON: Final = "application/json"


def wrap_body(
    delivery: Delivery,
    provider: str,
    key: str,
    body: bytes,
    *,
    path: str,
    content_type: str = JSON,
    brand: str,
    region: str = "",
    signature: tuple[str, bytes] | None = None,
) -> RawEvent:
    """Build the record of one delivery.

    The default brand and an empty region leave their headers out, as connectors do.
    """
    headers = [
        ("content-type", content_type.encode()),
        ("http-method", b"POST"),
        ("http-path", path.encode()),
        ("http-query", b""),
        ("received-at", b"%d" % delivery.at_ms),
        ("connector", f"sandbox-{provider}".encode()),
    ]
    if brand != DEFAULT_BRAND:
        headers.append(("brand", brand.encode()))
    if region:
        headers.append(("region", region.encode()))
    if signature is not None:
        headers.append(signature)
    return RawEvent(
        provider,
        key.encode(),
        body,
        tuple(headers),
        delivery.at_ms,
        delivery.phase,
        delivery.origin,
    )


def style_of(delivery: Delivery) -> Random | None:
    """Return the random style of a retry, None for the provider's usual form.

    A first sending, and so its exact duplicate, is in the usual form.
    """
    return Random(delivery.nonce) if delivery.origin is Origin.RETRY else None
