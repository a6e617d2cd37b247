"""Deliveries to bytes: each request by its provider's writer, signed in parallel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from random import Random
from typing import Final

from lab.conformance.intents import Intent
from lab.conformance.writers.find import find_writers
from lab.conformance.writers.writer import Message, Sending, Writer, connector_headers
from lab.sandbox.actions import Delivery, PoisonAction
from lab.sandbox.keys import SandboxKeys
from lab.sandbox.poison import write_poison
from lab.sandbox.records import Origin, RawEvent
from schemas.errors import RejectCode

ReportProgress = Callable[[int, int], None]
"""Called after each chunk with the number of records written, and the number in all."""

SIGNING_THREADS: Final = 2
"""OpenSSL signs outside the interpreter lock; the rest of the work does not gain by more."""
_CHUNK: Final = 200


def write_record(delivery: Delivery, keys: SandboxKeys, *, signed: bool = True) -> RawEvent:
    """Write the raw record of one delivery; the same delivery and keys make the same bytes.

    Without `signed` a valid request bears no signature, which costs the most time.
    """
    request = delivery.request
    if isinstance(request, PoisonAction):
        expected, intent, message = write_poison(request, delivery.at_ms, delivery.nonce, keys)
        return _record(delivery, intent, message, expected)
    first = request.intents[0]
    writer = _writer_of(first.provider)
    sending = Sending(delivery.at_ms, delivery.nonce, _style_of(delivery))
    secrets = keys.of(first.provider) if signed else None
    return _record(delivery, first, writer.write(request.intents, sending, secrets))


@cache
def _writer_of(provider: str) -> Writer:
    return find_writers((provider,))[provider]


def _style_of(delivery: Delivery) -> Random | None:
    # A first sending, and so its exact duplicate, is in the usual form.
    return Random(delivery.nonce) if delivery.origin is Origin.RETRY else None


def _record(
    delivery: Delivery, intent: Intent, message: Message, expected: RejectCode | None = None
) -> RawEvent:
    provider = intent.provider
    headers = connector_headers(
        message, delivery.at_ms, f"sandbox-{provider}", intent.brand, intent.region
    )
    return RawEvent(
        provider,
        message.key.encode(),
        message.body,
        headers,
        delivery.at_ms,
        delivery.phase,
        delivery.origin,
        expected,
    )


def write_all(
    deliveries: Sequence[Delivery],
    keys: SandboxKeys,
    progress: ReportProgress | None = None,
    *,
    signed: bool = True,
) -> list[RawEvent]:
    """Write the raw records in the order of the deliveries."""
    records: list[RawEvent] = []
    chunks = [deliveries[start : start + _CHUNK] for start in range(0, len(deliveries), _CHUNK)]

    def write_chunk(chunk: Sequence[Delivery]) -> list[RawEvent]:
        return [write_record(delivery, keys, signed=signed) for delivery in chunk]

    with ThreadPoolExecutor(SIGNING_THREADS, thread_name_prefix="sandbox-sign") as pool:
        for chunk in pool.map(write_chunk, chunks):
            records += chunk
            if progress is not None:
                progress(len(records), len(deliveries))
    return records
