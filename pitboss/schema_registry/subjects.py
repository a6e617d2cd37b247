"""Under which names our schemas stand in a Confluent-compatible registry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from schemas.registry import Registry, Schema
from schemas.topics import Topic, qualified_name


def subject_versions(
    registry: Registry, topics: Iterable[Topic], namespace: str
) -> Mapping[str, tuple[Schema, ...]]:
    """Every subject with its versions, oldest first, by name.

    A topic's values are the subject `<topic>-value`, as serialisers of Confluent's clients expect
    it (their TopicNameStrategy); and each schema stands under its own name (`wallet-balance`),
    whatever topics there are.
    """
    named = {schema.subject: registry.versions(schema.subject) for schema in registry}
    by_topic = {
        f"{qualified_name(topic.name, namespace)}-value": registry.versions(topic.schema)
        for topic in topics
        if topic.schema is not None
    }
    return MappingProxyType(dict(sorted({**named, **by_topic}.items())))
