"""The read API of a Confluent-compatible schema registry, answered from our files. Pure: a request
in, JSON out.

Source: Confluent's "Schema Registry API Reference". What is written is refused as a registry in
READONLY mode does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from schemas.compatibility import checksum
from schemas.errors import UsageError
from schemas.registry import Schema

COMPATIBILITY: Final = "FULL_TRANSITIVE"
MODE: Final = "READONLY"
LATEST: Final = frozenset({"latest", "-1"})


class RegistryError(UsageError):
    """An error of the API: an HTTP status, an error code of the registry's own, and a message."""

    def __init__(self, status: int, error_code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error_code = error_code


class RegistryView:
    """Subjects with their versions, asked for as the API asks."""

    def __init__(self, subjects: Mapping[str, tuple[Schema, ...]]) -> None:
        """`subjects` by name; a schema may stand under several."""
        self._subjects = subjects
        self._by_id: dict[int, Schema] = {}
        for versions in subjects.values():
            self._by_id.update({schema.id: schema for schema in versions})

    def subjects(self, prefix: str = "") -> list[str]:
        """The names of all subjects that begin so."""
        return [name for name in self._subjects if name.startswith(prefix)]

    def versions(self, subject: str) -> list[int]:
        """The versions of a subject. Raises RegistryError 40401."""
        return [schema.version for schema in self._of(subject)]

    def version(self, subject: str, version: str) -> dict[str, Any]:
        """One version, a number or `latest`. Raises RegistryError 40401, 40402, 42202."""
        return _shown(subject, self._version(subject, version))

    def schema_of_version(self, subject: str, version: str) -> Any:
        """The bare schema of a version. Raises as `version` does."""
        return self._version(subject, version).json

    def find(self, subject: str, text: str) -> dict[str, Any]:
        """The version of a subject that a schema's text is.

        Raises RegistryError 40401, 40403, 42201.
        """
        versions = self._of(subject)
        try:
            sought = checksum(json.loads(text))
        except (json.JSONDecodeError, TypeError):
            raise RegistryError(422, 42201, "Invalid schema") from None
        for schema in versions:
            if checksum(schema.json) == sought:
                return _shown(subject, schema)
        raise RegistryError(404, 40403, "Schema not found")

    def by_id(self, schema_id: int) -> dict[str, str]:
        """The schema under an id, as the text that readers parse. Raises RegistryError 40403."""
        return {"schema": _text(self._with_id(schema_id))}

    def schema_by_id(self, schema_id: int) -> Any:
        """The bare schema under an id. Raises RegistryError 40403."""
        return self._with_id(schema_id).json

    def locations(self, schema_id: int) -> list[dict[str, Any]]:
        """Under which subjects and versions an id stands. Raises RegistryError 40403."""
        self._with_id(schema_id)
        return [
            {"subject": name, "version": schema.version}
            for name, versions in self._subjects.items()
            for schema in versions
            if schema.id == schema_id
        ]

    def config(self, subject: str | None = None) -> dict[str, str]:
        """The compatibility that is kept, the same for all. Raises RegistryError 40401."""
        if subject is not None:
            self._of(subject)
        return {"compatibilityLevel": COMPATIBILITY}

    def mode(self, subject: str | None = None) -> dict[str, str]:
        """READONLY, for all. Raises RegistryError 40401."""
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
            message = f"The specified version '{version}' is not a valid version id. Allowed values are between "
            raise RegistryError(422, 42202, message + '[1, 2^31-1] and the string "latest"')
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


def _shown(subject: str, schema: Schema) -> dict[str, Any]:
    return {"subject": subject, "version": schema.version, "id": schema.id, "schema": _text(schema)}
