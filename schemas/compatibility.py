"""Compatibility of a subject's versions: FULL_TRANSITIVE, checked offline from the files.

Any version must be readable as any other: forward for consumers that lag behind, backward for the
history that is kept for ever. Released files never change; a checksum of each is stored
beside the ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from itertools import permutations
from typing import Any, Literal, TypeAlias

from schemas.compiler.avro_types import AvroJson, BadSchema, parse
from schemas.compiler.binding import bind
from schemas.compiler.resolution import Incompatible, resolve
from schemas.registry import RECORDS, Registry, Schema

Breaks: TypeAlias = Literal["BACKWARD", "FORWARD"]
"""BACKWARD: a new reader fails on old records. FORWARD: an old reader fails on new ones. FULL
allows neither."""


@dataclass(frozen=True)
class Problem:
    """A defect of a schema that would break a reader.

    `path` is the offending field where the defect lies in one, `breaks` the direction that fails.
    """

    schema: str
    detail: str
    path: str | None = None
    breaks: Breaks | None = None

    def __str__(self) -> str:
        """Return the problem as one line for a person."""
        return f"{self.schema}: {self.detail}"


def problems(registry: Registry, checksums: Mapping[str, str]) -> list[Problem]:
    """Return every defect of a registry's schemas; empty if they may be released."""
    return [
        *_unusable_schemas(registry),
        *_edited_files(registry, checksums),
        *_incompatible_pairs(registry),
    ]


def _unusable_schemas(registry: Registry) -> Iterator[Problem]:
    for schema in registry:
        record = RECORDS.get(schema.subject)
        try:
            parsed = parse(schema.json)
            if record is not None and schema == registry.latest(schema.subject):
                bind(parsed, record)
        except BadSchema as error:
            yield Problem(schema.name, str(error))
        if record is None:
            yield Problem(schema.name, "no record class belongs to this subject")


def _edited_files(registry: Registry, checksums: Mapping[str, str]) -> Iterator[Problem]:
    for schema in registry:
        expected, actual = checksums.get(schema.name), checksum(schema.json)
        if expected is None:
            yield Problem(schema.name, f"checksums.lock.json lacks it: {actual}")
        elif expected != actual:
            yield Problem(schema.name, "was edited after its release: add a new version instead")


def _incompatible_pairs(registry: Registry) -> Iterator[Problem]:
    for subject in sorted({schema.subject for schema in registry}):
        for writer, reader in permutations(registry.versions(subject), 2):
            if (problem := find_incompatibility(writer, reader)) is not None:
                yield problem


def find_incompatibility(writer: Schema, reader: Schema) -> Problem | None:
    """Return why a reader of one schema cannot read what another wrote; None if it can."""
    breaks: Breaks = "BACKWARD" if reader.version >= writer.version else "FORWARD"
    try:
        resolve(parse(writer.json), parse(reader.json))
    except (BadSchema, Incompatible) as error:
        path = error.path if isinstance(error, Incompatible) else None
        return Problem(reader.name, f"cannot read {writer.name}: {error}", path, breaks)
    return None


def incompatibility_text(writer: Schema, reader: Schema) -> str | None:
    """Return the reason of `find_incompatibility` as text."""
    problem = find_incompatibility(writer, reader)
    return None if problem is None else problem.detail.partition(": ")[2]


def checksum(schema: AvroJson) -> str:
    """Return the SHA-256 of a schema's meaning, in hex.

    It covers everything but the documentation, whatever the layout of the file.
    """
    return sha256(
        json.dumps(_without_docs(schema), sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()


def _without_docs(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_docs(value) for key, value in node.items() if key != "doc"}
    return [_without_docs(item) for item in node] if isinstance(node, list) else node


def released_checksums() -> dict[str, str]:
    """Return the checksums that were committed with the schemas, by schema name."""
    text = (files("schemas") / "avro" / "checksums.lock.json").read_text(encoding="utf-8")
    checksums: dict[str, str] = json.loads(text)
    return checksums
