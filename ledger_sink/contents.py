"""Records of our own topics as events: what is no event of ours is buried, what we cannot read yet stops the worker."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

from schemas.errors import InvariantBroken, Rejected
from schemas.events import WalletTransaction
from schemas.registry import UnknownSchema
from streams.kafka.batches import RecordBatch
from streams.kafka.dead_letters import Burial

Decode = Callable[[bytes], WalletTransaction]


def events_of(batch: RecordBatch, decode: Decode) -> tuple[list[tuple[Any, WalletTransaction]], list[Burial]]:
    """The records that are events, each with its event, and the rest with what is wrong with them.

    Raises InvariantBroken for an event of a newer release: it may be money, and money is never skipped.
    """
    events: list[tuple[Any, WalletTransaction]] = []
    burials: list[Burial] = []
    for record in batch.records:
        try:
            events.append((record, decode(record.value or b"")))
        except UnknownSchema as error:
            if error.schema_id in _our_schema_ids():
                message = (
                    f"{record.topic}-{record.partition}@{record.offset} was written under schema id {error.schema_id},"
                    " which a newer release must have: upgrade this worker"
                )
                raise InvariantBroken(message) from error
            burials.append(Burial(record, error.reason, error.detail))
        except Rejected as error:
            burials.append(Burial(record, error.reason, error.detail))
    return events, burials


@cache
def _our_schema_ids() -> range:
    first, last = json.loads(files("schemas").joinpath("avro", "ids.lock.json").read_text(encoding="utf-8"))["range"]
    return range(first, last + 1)
