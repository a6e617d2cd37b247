"""The consumer group of each role, and the topics that it reads."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from fraud_agents.detectors.shard import WATCHED
from pitboss.ops import raw_topics
from pitboss.settings import Runtime
from runtime.postgres.roles import RightsMissing, Role
from schemas.errors import Unavailable
from schemas.topics import SIGNALS, TRANSACTIONS, UNRESOLVED, raw_pattern
from streams.drift.handler import source_pattern

GROUPS: Final = {
    "normalise": "normalise",
    "ledger": "ledger.post",
    "resolve": "ledger.resolve",
    "fraud": "fraud.detect",
    "drift": "drift",
}
"""Role → the name of its consumer group without the namespace."""


def find_sources(runtime: Runtime, note: Callable[[str], None]) -> dict[str, str]:
    """Return a pattern of the topics that each group of this installation reads.

    `note` takes a sentence where the database does not say which providers are read.
    """
    try:
        stored = raw_topics.read_stored(runtime, Role.READER)
    except (Unavailable, RightsMissing) as error:
        note(f"note: every raw topic counts, read or not: {error}")
        stored = None
    providers = None if stored is None else stored.providers
    patterns = {
        "normalise": raw_pattern(runtime.namespace, providers),
        "ledger": _exactly(runtime.topic(TRANSACTIONS)),
        "resolve": _exactly(runtime.topic(UNRESOLVED)),
        "fraud": _exactly(*map(runtime.topic, (*WATCHED, SIGNALS))),
        "drift": source_pattern(runtime.namespace, providers),
    }
    return {runtime.group(GROUPS[role]): pattern for role, pattern in patterns.items()}


def _exactly(*topics: str) -> str:
    names = "|".join(map(re.escape, topics))
    return f"^({names})$" if len(topics) > 1 else f"^{names}$"
