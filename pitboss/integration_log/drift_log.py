"""Published shapes of drift, read again from the topic each time."""

from __future__ import annotations

from pitboss.settings import Runtime
from runtime.kafka.topic_reader import read_topics
from schemas import codec
from schemas.errors import Rejected
from schemas.events import SchemaDrift
from schemas.topics import DRIFT


async def read_drift(
    runtime: Runtime, *, from_ms: int = 0, providers: frozenset[str] = frozenset()
) -> list[SchemaDrift]:
    """Return each shape once, as first published, by the time of its first record.

    `providers` selects some (empty: all); `from_ms` only those first seen at that time or later.
    Raises Unavailable, UsageError.
    """
    decode, found = codec.decoder(SchemaDrift), dict[str, SchemaDrift]()
    async for record in read_topics(runtime.broker, [runtime.topic(DRIFT)]):
        try:
            drift = decode(record.value)
        except Rejected:
            continue  # a foreign record, or a newer version's
        found.setdefault(drift.drift_id, drift)
    wanted = (
        one
        for one in found.values()
        if one.seen_at >= from_ms and (not providers or one.provider in providers)
    )
    return sorted(wanted, key=lambda drift: (drift.seen_at, drift.drift_id))
