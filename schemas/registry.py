"""Registry of the released schemas: one file for each version, never edited.

The ids are in a lock file and lie in a range reserved for us. Nothing is read at import time;
`released_registry()` reads the package's own files, once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Final

import msgspec

from schemas import events, rule_changes
from schemas.compiler.avro_types import AvroJson
from schemas.errors import Fatal, RejectCode, Rejected

RECORDS: Final[Mapping[str, type[msgspec.Struct]]] = MappingProxyType(
    {
        "wallet-transaction": events.WalletTransaction,
        "wallet-balance": events.WalletBalance,
        "wallet-outcome": events.WalletOutcome,
        "player-event": events.PlayerEvent,
        "market-settlement": events.MarketSettlement,
        "risk-signal": events.RiskSignal,
        "fraud-alert": events.FraudAlert,
        "dead-letter": events.DeadLetter,
        "schema-drift": events.SchemaDrift,
        "game-result": events.GameResult,
        "rule-change": rule_changes.RuleChange,
    }
)
"""The class of each subject's record; it has the fields of the subject's latest version."""

_FILE: Final = re.compile(r"v([1-9]\d*)\.avsc", re.ASCII)
_LOCK_KEY: Final = re.compile(r"([a-z][a-z0-9-]*)/v([1-9]\d*)", re.ASCII)


class BadRegistry(Fatal):
    """Schema files and lock file do not agree.

    Writing under a wrong id could never be undone.
    """

    code = "BAD_REGISTRY"
    exit_code = 78  # EX_CONFIG of sysexits.h


class UnknownSchema(Rejected):
    """A record names a schema that this code was not released with.

    The record is foreign, or its writer is newer.
    """

    def __init__(self, schema_id: int) -> None:
        super().__init__(RejectCode.BAD_CONTRACT, f"schema id {schema_id} is not one of ours")
        self.schema_id = schema_id


@dataclass(frozen=True)
class Schema:
    """One released version of a subject."""

    subject: str
    version: int
    id: int
    json: AvroJson

    @property
    def name(self) -> str:
        """Name in the lock file and in messages: `wallet-balance/v1`."""
        return f"{self.subject}/v{self.version}"


class Registry:
    """Schemas by id and by subject: the released ones or, in tests and checks, another folder's."""

    def __init__(self, schemas: Mapping[int, Schema]) -> None:
        self._by_id = dict(schemas)
        self._by_name = {(schema.subject, schema.version): schema for schema in schemas.values()}

    def __iter__(self) -> Iterator[Schema]:
        return iter(
            sorted(self._by_id.values(), key=lambda schema: (schema.subject, schema.version))
        )

    def by_id(self, schema_id: int) -> Schema:
        """Return the schema under an id. Raises UnknownSchema, a Rejected(BAD_CONTRACT)."""
        try:
            return self._by_id[schema_id]
        except KeyError:
            raise UnknownSchema(schema_id) from None

    def get(self, subject: str, version: int) -> Schema:
        """Return one version of a subject. Raises KeyError."""
        return self._by_name[subject, version]

    def versions(self, subject: str) -> tuple[Schema, ...]:
        """Return all versions of a subject, oldest first; empty for an unknown subject."""
        return tuple(schema for schema in self if schema.subject == subject)

    def latest(self, subject: str) -> Schema:
        """Return the version that is written. Raises KeyError."""
        versions = self.versions(subject)
        if not versions:
            raise KeyError(subject)
        return versions[-1]


def load(folder: Traversable) -> Registry:
    """Read `<folder>/ids.lock.json` and every `<folder>/<subject>/v<N>.avsc`.

    Raises BadRegistry unless each file has one id of its own inside the range, and each id a file.
    """
    lock = json.loads(folder.joinpath("ids.lock.json").read_text(encoding="utf-8"))
    first, last = lock["range"]
    ids: dict[str, int] = lock["ids"]
    found = dict(_schema_files(folder))
    for name in sorted(found.keys() ^ ids.keys()):
        missing = "an id in ids.lock.json" if name in found else "its .avsc file"
        raise BadRegistry(f"schema {name} lacks {missing}")
    schemas: dict[int, Schema] = {}
    for name, schema_id in ids.items():
        match = _LOCK_KEY.fullmatch(name)
        if match is None or not first <= schema_id <= last:
            raise BadRegistry(
                f"schema {name}: id {schema_id} is outside the reserved range {first} to {last}"
            )
        if schema_id in schemas:
            raise BadRegistry(
                f"schemas {schemas[schema_id].name} and {name} share the id {schema_id}"
            )
        schemas[schema_id] = Schema(match[1], int(match[2]), schema_id, found[name])
    return Registry(schemas)


def _schema_files(folder: Traversable) -> Iterator[tuple[str, AvroJson]]:
    for subject in folder.iterdir():
        if not subject.is_dir():
            continue
        for file in subject.iterdir():
            match = _FILE.fullmatch(file.name)
            if match is None:
                raise BadRegistry(f"{subject.name}/{file.name} is not named v<N>.avsc")
            yield f"{subject.name}/v{match[1]}", json.loads(file.read_text(encoding="utf-8"))


@cache
def our_schema_ids() -> range:
    """Return the ids that our registry gives; under an unknown one writes a newer release."""
    lock_file = files("schemas").joinpath("avro", "ids.lock.json")
    first, last = json.loads(lock_file.read_text(encoding="utf-8"))["range"]
    return range(first, last + 1)


def describe_newer(error: UnknownSchema, place: str) -> str | None:
    """Return why a reader has to wait at a record, which may be money, until it is upgraded.

    None for a foreign record, whose schema id is not of our range. `place` is that of the record.
    """
    if error.schema_id not in our_schema_ids():
        return None
    return (
        f"{place} was written under schema id {error.schema_id}, which a newer release must have:"
        " upgrade this worker"
    )


@cache
def released_registry() -> Registry:
    """Return the schemas that this code was released with. Raises BadRegistry."""
    return load(files("schemas") / "avro")


def subject_of(record: type[msgspec.Struct]) -> str:
    """Return the subject of a record class. Raises KeyError."""
    for subject, known in RECORDS.items():
        if known is record:
            return subject
    raise KeyError(record.__name__)
