"""Catalogue of topics: name, key, partitions, retention, cleanup, timestamp type and schema."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final, Literal

import msgspec

DAY_MS: Final = 24 * 60 * 60 * 1000
PARTITIONS_DEFAULT: Final = 24
"""Stored in the ledger's database at first start; a ledger that finds another number refuses to
start. Growing it means a v2 topic."""
RAW_PARTITIONS_DEFAULT: Final = 6
"""Of each raw topic: every fetch of a normaliser names all of their partitions, and one of its
processes works through several."""

TRANSACTIONS: Final = "wallet.transactions.v1"
UNRESOLVED: Final = "wallet.transactions.unresolved.v1"
BALANCES: Final = "wallet.balances.v1"
OUTCOMES: Final = "wallet.outcomes.v1"
PLAYER_EVENTS: Final = "player.events.v1"
SETTLEMENTS: Final = "sports.settlements.v1"
GAME_RESULTS: Final = "game.results.v1"
SIGNALS: Final = "risk.signals.v1"
ALERTS: Final = "risk.alerts.v1"
RULES: Final = "risk.rules.v1"
"""Changes of the detectors' rules, in one partition: their order there is their order."""
DRIFT: Final = "schema.drift.v1"
SAMPLES: Final = "schema.samples.v1"
"""Raw records that the normaliser hands to drift, with headers that say where they are from."""
CONTROL: Final = "pitboss.control.v1"
CHECKPOINTS: Final = "audit.checkpoints.v1"
"""Signed JSON: what an auditor keeps has to be read without our code."""
DEAD_LETTER_SUFFIX: Final = ".dlt"

PROVIDER_NAME: Final = re.compile(r"[a-z][a-z0-9_]{1,31}", re.ASCII)


class Topic(msgspec.Struct, frozen=True):
    """Required settings of one topic.

    `partitions` 0 means the catalogue's number; `retention_ms` -1 means for ever.
    """

    name: str
    key: str
    schema: str | None
    retention_ms: int
    cleanup: Literal["delete", "compact"] = "delete"
    timestamp_type: Literal["CreateTime", "LogAppendTime"] = "CreateTime"
    partitions: int = 0


def raw_topic(provider: str) -> str:
    """Return the name of the topic to which a connector writes the bytes of `provider`."""
    return f"provider.{provider}.raw.v1"


def dead_letter_topic(topic: str) -> str:
    """Return the name of the topic for records of `topic` that cannot be used."""
    return topic + DEAD_LETTER_SUFFIX


def dead_letter_spec(topic: str) -> Topic:
    """Return the required settings of the dead letter topic of another topic."""
    return Topic(
        dead_letter_topic(topic), "that of the source record", "dead-letter", -1, partitions=1
    )


def provider_of(topic: str) -> str:
    """Return the provider's name in a raw topic's name, with or without a namespace.

    Raises ValueError for any other topic.
    """
    match = re.fullmatch(r"(?:[a-z][a-z0-9_]*\.)?provider\.([a-z][a-z0-9_]*)\.raw\.v1", topic)
    if match is None:
        message = f"{topic!r} is not a raw topic"
        raise ValueError(message)
    return match[1]


def raw_pattern(namespace: str, providers: Collection[str] | None = None) -> str:
    """Return a pattern for the raw topics of `providers` (None: of any) in a namespace.

    It is anchored at both ends, so that a `.dlt` topic is never read as input.
    """
    names = PROVIDER_NAME.pattern if providers is None else f"({'|'.join(sorted(providers))})"
    return rf"^{re.escape(qualified_name('', namespace))}provider\.{names}\.raw\.v1$"


def unread_pattern(namespace: str) -> str:
    """Return a pattern for every topic of a namespace that a connector may take for a raw topic.

    Also for a name that no adapter can have, and for another version.
    """
    return rf"^{re.escape(qualified_name('', namespace))}provider\..+\.raw\.v\d+$"


def qualified_name(name: str, namespace: str) -> str:
    """Return the name of a topic or group in a namespace; an empty one changes nothing."""
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
    Topic(GAME_RESULTS, "game id", "game-result", retention_ms=-1),
    # What detectors over several partitions saw, in which order: a replay reads it.
    Topic(SIGNALS, "player id, else provider, else one key", "risk-signal", retention_ms=-1),
    Topic(ALERTS, "the detector's key", "fraud-alert", retention_ms=-1),
    Topic(RULES, "rule id", "rule-change", retention_ms=-1, partitions=1),
    Topic(DRIFT, "drift id", "schema-drift", retention_ms=-1, cleanup="compact", partitions=1),
    Topic(SAMPLES, "that of the raw record", None, retention_ms=7 * DAY_MS, partitions=1),
    Topic(CHECKPOINTS, "the ledger's database", None, retention_ms=-1, partitions=1),
    Topic(CONTROL, "component", None, retention_ms=-1, cleanup="compact", partitions=1),
)


def catalogue(
    providers: Iterable[str], raw_partitions: int = RAW_PARTITIONS_DEFAULT
) -> tuple[Topic, ...]:
    """Return every topic of an installation with these `providers`, dead letter topics included.

    Names are unqualified.
    """
    raw = [
        Topic(
            raw_topic(name),
            _RAW_KEY,
            None,
            # The broker would delete by its own clock. One that jumps, or that was at its epoch,
            # would take what nothing has read; `pitboss topics trim` goes by what was read.
            -1,
            timestamp_type="LogAppendTime",
            partitions=raw_partitions,
        )
        for name in sorted(providers)
    ]
    read = [TRANSACTIONS, UNRESOLVED, PLAYER_EVENTS, GAME_RESULTS, SIGNALS]
    sources = [topic.name for topic in raw] + read
    return (*raw, *_INTERNAL, *map(dead_letter_spec, sources))


def required_topics(
    providers: Iterable[str],
    there: Iterable[str],
    namespace: str,
    *,
    read: Collection[str] | None = None,
    raw_partitions: int = RAW_PARTITIONS_DEFAULT,
) -> tuple[Topic, ...]:
    """Return the catalogue and a dead letter topic for each further raw topic that is read.

    `there` are the names of the topics on the broker, `read` the providers whose raw topics are
    read: with None, every topic named like a raw topic, also one that Pitboss did not create.
    """
    known = catalogue(providers, raw_partitions)
    names = {topic.name for topic in known}
    raw = (
        raw_topic(provider_of(name))
        for name in sorted(there)
        if re.match(raw_pattern(namespace, read), name)
    )
    return (*known, *(dead_letter_spec(name) for name in raw if name not in names))
