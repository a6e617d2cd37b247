"""The catalogue of topics: name, key, partitions, retention, cleanup, timestamp type and schema, in
one file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

DAY_MS: Final = 24 * 60 * 60 * 1000
PARTITIONS_DEFAULT: Final = 24
"""Stored in the ledger's database at first start; a difference refuses to start.

Growing it means a v2 topic.
"""

TRANSACTIONS: Final = "wallet.transactions.v1"
UNRESOLVED: Final = "wallet.transactions.unresolved.v1"
BALANCES: Final = "wallet.balances.v1"
OUTCOMES: Final = "wallet.outcomes.v1"
PLAYER_EVENTS: Final = "player.events.v1"
SETTLEMENTS: Final = "sports.settlements.v1"
SIGNALS: Final = "risk.signals.v1"
ALERTS: Final = "risk.alerts.v1"
DRIFT: Final = "schema.drift.v1"
CONTROL: Final = "pitboss.control.v1"
CHECKPOINTS: Final = "audit.checkpoints.v1"
"""Signed JSON: what an auditor keeps has to be read without our code."""
DEAD_LETTER_SUFFIX: Final = ".dlt"

PROVIDER_NAME: Final = re.compile(r"[a-z][a-z0-9_]{1,31}", re.ASCII)


class Topic(msgspec.Struct, frozen=True):
    """One topic as it must be.

    `partitions` 0 means the catalogue's number; retention -1 means for ever.
    """

    name: str
    key: str
    schema: str | None
    retention_ms: int
    cleanup: Literal["delete", "compact"] = "delete"
    timestamp_type: Literal["CreateTime", "LogAppendTime"] = "CreateTime"
    partitions: int = 0


def raw_topic(provider: str) -> str:
    """Where a connector drops the bytes of `provider`."""
    return f"provider.{provider}.raw.v1"


def dead_letter_topic(topic: str) -> str:
    """Where records of `topic` go that cannot be used."""
    return topic + DEAD_LETTER_SUFFIX


def dead_letter_spec(topic: str) -> Topic:
    """The topic, as it must be, for the records of another one that cannot be used."""
    return Topic(
        dead_letter_topic(topic), "that of the source record", "dead-letter", -1, partitions=1
    )


def provider_of(topic: str) -> str:
    """The provider's name in a raw topic's name (namespace or not).

    Raises ValueError for any other topic.
    """
    match = re.fullmatch(r"(?:[a-z][a-z0-9_]*\.)?provider\.([a-z][a-z0-9_]*)\.raw\.v1", topic)
    if match is None:
        message = f"{topic!r} is not a raw topic"
        raise ValueError(message)
    return match[1]


def raw_pattern(namespace: str) -> str:
    """A pattern for every raw topic of a namespace, anchored at both ends so that no `.dlt` is ever
    read as input.
    """
    return rf"^{re.escape(qualified_name('', namespace))}provider\.[a-z][a-z0-9_]{{1,31}}\.raw\.v1$"


def qualified_name(name: str, namespace: str) -> str:
    """The name of a topic or group inside a namespace; an empty namespace changes nothing."""
    return f"{namespace}.{name}" if namespace else name


_RAW_KEY: Final = "player, else round or transaction reference"
_INTERNAL: Final = (
    Topic(TRANSACTIONS, "player id, else transaction id", "wallet-transaction", retention_ms=-1),
    Topic(
        UNRESOLVED, "reference, else transaction id", "wallet-transaction", retention_ms=30 * DAY_MS
    ),
    Topic(BALANCES, "player id:currency", "wallet-balance", retention_ms=-1, cleanup="compact"),
    Topic(OUTCOMES, "player id, else transaction id", "wallet-outcome", retention_ms=30 * DAY_MS),
    Topic(PLAYER_EVENTS, "player id", "player-event", retention_ms=-1),
    Topic(SETTLEMENTS, "match id", "market-settlement", retention_ms=-1),
    Topic(SIGNALS, "player id, else provider", "risk-signal", retention_ms=90 * DAY_MS),
    Topic(ALERTS, "the detector's key", "fraud-alert", retention_ms=-1),
    Topic(DRIFT, "drift id", "schema-drift", retention_ms=-1, cleanup="compact", partitions=1),
    Topic(CHECKPOINTS, "the ledger's database", None, retention_ms=-1, partitions=1),
    Topic(CONTROL, "component", None, retention_ms=DAY_MS, partitions=1),
)


def catalogue(providers: Iterable[str]) -> tuple[Topic, ...]:
    """Every topic of an installation that speaks with `providers`, dead letter topics included,
    names unqualified.
    """
    raw = [
        Topic(raw_topic(name), _RAW_KEY, None, 90 * DAY_MS, timestamp_type="LogAppendTime")
        for name in sorted(providers)
    ]
    sources = [topic.name for topic in raw] + [TRANSACTIONS, UNRESOLVED]
    return (*raw, *_INTERNAL, *map(dead_letter_spec, sources))


def required_topics(
    providers: Iterable[str], there: Iterable[str], namespace: str
) -> tuple[Topic, ...]:
    """The catalogue, and a dead letter topic for each raw topic that is there besides (`there`:
    names on the broker).

    Whatever is called like a raw topic is read, whoever made it.
    """
    known = catalogue(providers)
    names = {topic.name for topic in known}
    raw = (
        raw_topic(provider_of(name))
        for name in sorted(there)
        if re.match(raw_pattern(namespace), name)
    )
    return (*known, *(dead_letter_spec(name) for name in raw if name not in names))
