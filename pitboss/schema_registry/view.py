"""Read API of a Confluent-compatible schema registry, answered from our files.

Pure: a request in, JSON out.

Source: Confluent's "Schema Registry API Reference". Writes are refused as a registry in READONLY
mode refuses them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from schemas.compatibility import checksum
from schemas.errors import UsageError
from schemas.registry import Registry, Schema
from schemas.topics import Topic, qualified_name

COMPATIBILITY: Final = "FULL_TRANSITIVE"
MODE: Final = "READONLY"
LATEST: Final = frozenset({"latest", "-1"})


def subject_versions(
    registry: Registry, topics: Iterable[Topic], namespace: str
) -> Mapping[str, tuple[Schema, ...]]:
    """Return every subject with its versions, oldest first, by name.

    A topic's values are the subject `<topic>-value`, as serialisers of Confluent's clients expect
    it (their TopicNameStrategy); and each schema is under its own name (`wallet-balance`),
    independently of the topics.
    """
    by_name = {schema.subject: registry.versions(schema.subject) for schema in registry}
    by_topic = {
        f"{qualified_name(topic.name, namespace)}-value": registry.versions(topic.schema)
        for topic in topics
        if topic.schema is not None
    }
    return MappingProxyType(dict(sorted({**by_name, **by_topic}.items())))


class RegistryError(UsageError):
    """Error of the API: an HTTP status, an error code of the registry's own, and a message."""

    def __init__(self, status: int, error_code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error_code = error_code


class RegistryView:
    """Subjects with their versions, in the forms that the API returns."""

    def __init__(self, subjects: Mapping[str, tuple[Schema, ...]]) -> None:
        """Take `subjects` by name; a schema may be under several."""
        self._subjects = subjects
        self._by_id: dict[int, Schema] = {}
        for versions in subjects.values():
            self._by_id.update({schema.id: schema for schema in versions})

    def subjects(self, prefix: str = "") -> list[str]:
        """Return the names of all subjects with a prefix."""
        return [name for name in self._subjects if name.startswith(prefix)]

    def versions(self, subject: str) -> list[int]:
        """Return the version numbers of a subject. Raises RegistryError 40401."""
        return [schema.version for schema in self._of(subject)]

    def version(self, subject: str, version: str) -> dict[str, Any]:
        """Return one version, a number or `latest`. Raises RegistryError 40401, 40402, 42202."""
        return _version_json(subject, self._version(subject, version))

    def schema_of_version(self, subject: str, version: str) -> Any:
        """Return the bare schema of a version. Raises as `version` does."""
        return self._version(subject, version).json

    def find(self, subject: str, text: str) -> dict[str, Any]:
        """Return the version of a subject that has this schema text.

        Raises RegistryError 40401, 40403, 42201.
        """
        versions = self._of(subject)
        try:
            sought = checksum(json.loads(text))
        except (json.JSONDecodeError, TypeError):
            raise RegistryError(422, 42201, "Invalid schema") from None
        for schema in versions:
            if checksum(schema.json) == sought:
                return _version_json(subject, schema)
        raise RegistryError(404, 40403, "Schema not found")

    def by_id(self, schema_id: int) -> dict[str, str]:
        """Return the schema under an id, as the text that readers parse.

        Raises RegistryError 40403.
        """
        return {"schema": _text(self._with_id(schema_id))}

    def schema_by_id(self, schema_id: int) -> Any:
        """Return the bare schema under an id. Raises RegistryError 40403."""
        return self._with_id(schema_id).json

    def locations(self, schema_id: int) -> list[dict[str, Any]]:
        """Return the subjects and versions of an id. Raises RegistryError 40403."""
        self._with_id(schema_id)
        return [
            {"subject": name, "version": schema.version}
            for name, versions in self._subjects.items()
            for schema in versions
            if schema.id == schema_id
        ]

    def config(self, subject: str | None = None) -> dict[str, str]:
        """Return the compatibility level, the same for all subjects. Raises RegistryError 40401."""
        if subject is not None:
            self._of(subject)
        return {"compatibilityLevel": COMPATIBILITY}

    def mode(self, subject: str | None = None) -> dict[str, str]:
        """Return READONLY, for all subjects. Raises RegistryError 40401."""
        if subject is not None:
            self._of(subject)
        return {"mode": MODE}

    def _of(self, subject: str) -> Sequence[Schema]:
        versions = self._subjects.get(subject)
        if not versions:
            raise RegistryError(404, 40401, f"Subject '{subject}' not found.")
        return versions

    def _version(self, subject: str, version: str) -> Schema:
        versions = self._of(subject)
        if version in LATEST:
            return versions[-1]
        # ASCII digits only: int() would also take those of other scripts, and signs.
        if not (version.isascii() and version.isdigit() and len(version) <= 10 and int(version)):
            message = (
                f"The specified version '{version}' is not a valid version id. Allowed values "
            )
            raise RegistryError(
                422, 42202, message + 'are between [1, 2^31-1] and the string "latest"'
            )
        for schema in versions:
            if schema.version == int(version):
                return schema
        raise RegistryError(404, 40402, f"Version {version} not found.")

    def _with_id(self, schema_id: int) -> Schema:
        schema = self._by_id.get(schema_id)
        if schema is None:
            raise RegistryError(404, 40403, f"Schema {schema_id} not found")
        return schema


def _text(schema: Schema) -> str:
    return json.dumps(schema.json, separators=(",", ":"), ensure_ascii=False)


def _version_json(subject: str, schema: Schema) -> dict[str, Any]:
    return {"subject": subject, "version": schema.version, "id": schema.id, "schema": _text(schema)}
