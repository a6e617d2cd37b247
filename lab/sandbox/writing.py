"""Deliveries to bytes: each request by its provider's writer, signed in parallel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, assert_never

from lab.sandbox.actions import HUB88, Delivery, GameAction, HouseAction, PoisonAction, PspBatch
from lab.sandbox.adyen_writer import adyen_record
from lab.sandbox.house_writer import house_record
from lab.sandbox.hub88_writer import hub88_record
from lab.sandbox.keys import SandboxKeys
from lab.sandbox.playngo_writer import playngo_record
from lab.sandbox.poison import poison_record
from lab.sandbox.records import RawEvent

ReportProgress = Callable[[int, int], None]
"""Called after each chunk with the number of records written, and the number in all."""

SIGNING_THREADS: Final = 2
"""OpenSSL signs outside the interpreter lock; the rest of the work does not gain by more."""
_CHUNK: Final = 200


def write_record(delivery: Delivery, keys: SandboxKeys) -> RawEvent:
    """Write the raw record of one delivery; the same delivery and keys make the same bytes."""
    request = delivery.request
    match request:
        case GameAction():
            write = hub88_record if request.session.provider == HUB88 else playngo_record
            return write(delivery, request, keys)
        case PspBatch():
            return adyen_record(delivery, request, keys)
        case HouseAction():
            return house_record(delivery, request, keys)
        case PoisonAction():
            return poison_record(delivery, request.kind, request.player, keys)
        case _:
            assert_never(request)


def write_all(
    deliveries: Sequence[Delivery], keys: SandboxKeys, progress: ReportProgress | None = None
) -> list[RawEvent]:
    """Write the raw records in the order of the deliveries."""
    records: list[RawEvent] = []
    chunks = [deliveries[start : start + _CHUNK] for start in range(0, len(deliveries), _CHUNK)]

    def write_chunk(chunk: Sequence[Delivery]) -> list[RawEvent]:
        return [write_record(delivery, keys) for delivery in chunk]

    with ThreadPoolExecutor(SIGNING_THREADS, thread_name_prefix="sandbox-sign") as pool:
        for chunk in pool.map(write_chunk, chunks):
            records += chunk
            if progress is not None:
                progress(len(records), len(deliveries))
    return records
