"""Contents of an integration log, and the comparison of its schemas with an earlier log.

The logs are the only state: changed schemas are found by comparison with an earlier log of the same
folder, since a release carries only its own schemas.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Final

import msgspec
from lxml import etree

from ledger_sink.queries.traffic import VersionTraffic
from runtime.dead_letters.letters import CaseState, DeadLetterCase
from schemas.compatibility import checksum
from schemas.events import SchemaDrift
from schemas.registry import released_registry
from schemas.topics import provider_of
from streams.providers.versions import VersionRow

if TYPE_CHECKING:  # the production image has no lab; a log is encoded only, which needs no types
    from lab.conformance.suite import Conformance

_PAYLOAD_ENDINGS: Final = (".schema.json", ".xsd", ".avsc")


class VersionLine(msgspec.Struct, frozen=True):
    """Lifecycle of a provider version and its events of the period.

    `state` is None for a version that is not in the registry, `events` None if traffic is unknown.
    """

    provider: str
    version: str
    state: str | None
    retires_on: date | None
    days_to_retirement: int | None
    events: int | None


class RejectedLine(msgspec.Struct, frozen=True):
    """Number of a provider's rejected records with one code, and of those still open."""

    provider: str
    code: str
    records: int
    open: int


class SchemaChange(msgspec.Struct, frozen=True):
    """Schema file that was ADDED, REMOVED or CHANGED since the log compared with."""

    name: str
    change: str


class IntegrationLog(msgspec.Struct, frozen=True):
    """Integration log of one period, times in epoch ms.

    A section is None if it is not known; `unknown` says why. `compared_with` is the file name of
    the earlier log that `schema_changes` refer to, None for a first log; `schemas` are the
    checksums that a later log is compared with.
    """

    since: int
    until: int
    versions: list[VersionLine]
    drift: list[SchemaDrift] | None
    rejected: list[RejectedLine] | None
    compared_with: str | None
    schema_changes: list[SchemaChange] | None
    conformance: list[Conformance]
    schemas: dict[str, str]
    unknown: list[str] = []


def version_lines(
    rows: Iterable[VersionRow],
    traffic: Mapping[tuple[str, str], VersionTraffic] | None,
    today: date,
) -> list[VersionLine]:
    """Return every version of the registry and every other that had traffic, sorted."""
    counts = {} if traffic is None else {version: seen.events for version, seen in traffic.items()}
    lines = []
    for row in rows:
        events = None if traffic is None else counts.pop((row.provider, row.version), 0)
        days = row.days_to_retirement(today)
        lines.append(
            VersionLine(row.provider, row.version, row.state.value, row.retires_on, days, events)
        )
    lines += [
        VersionLine(provider, version, None, None, None, events)
        for (provider, version), events in counts.items()
    ]
    return sorted(lines, key=lambda line: (line.provider, line.version))


def rejected_lines(cases: Iterable[DeadLetterCase], from_ms: int) -> list[RejectedLine]:
    """Count cases of raw topics by provider and code, from the raw record's time `from_ms` on.

    A case whose items have several codes counts under each.
    """
    found: dict[tuple[str, str], list[DeadLetterCase]] = {}
    for case in cases:
        provider = _provider(case.source.topic)
        if provider is None or case.letter.source_timestamp < from_ms:
            continue
        for code in case.codes:
            found.setdefault((provider, code), []).append(case)
    return [
        RejectedLine(
            provider, code, len(members), sum(case.state is CaseState.OPEN for case in members)
        )
        for (provider, code), members in sorted(found.items())
    ]


def _provider(topic: str) -> str | None:
    try:
        return provider_of(topic)
    except ValueError:
        return None


def schema_checksums() -> dict[str, str]:
    """Return a checksum of every schema, ours and the providers', by name.

    Layout does not count: the canonical form is hashed.
    """
    found = {f"avro/{schema.name}": checksum(schema.json) for schema in released_registry()}
    folder = files("schemas") / "providers"
    for provider in folder.iterdir():
        for event in provider.iterdir() if provider.is_dir() else ():
            for file in event.iterdir() if event.is_dir() else ():
                if file.name.endswith(_PAYLOAD_ENDINGS):
                    name = f"providers/{provider.name}/{event.name}/{file.name}"
                    found[name] = sha256(_canonical(file)).hexdigest()
    return dict(sorted(found.items()))


def _canonical(file: Traversable) -> bytes:
    text = file.read_bytes()
    if file.name.endswith(".xsd"):
        tree = etree.fromstring(
            text, etree.XMLParser(remove_blank_text=True, remove_comments=True, no_network=True)
        )
        return etree.tostring(tree, method="c14n")
    return msgspec.json.encode(msgspec.json.decode(text), order="sorted")


def schema_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[SchemaChange]:
    """Compare two maps of schema name to checksum; return the differences by name."""
    changes = []
    for name in sorted({*before, *now}):
        if name not in before:
            changes.append(SchemaChange(name, "ADDED"))
        elif name not in now:
            changes.append(SchemaChange(name, "REMOVED"))
        elif before[name] != now[name]:
            changes.append(SchemaChange(name, "CHANGED"))
    return changes


class EarlierLog(msgspec.Struct, frozen=True):
    """Fields of an earlier log that a comparison needs."""

    until: int
    schemas: dict[str, str]


def baseline_name(earlier: Mapping[str, EarlierLog], since: int) -> str | None:
    """Return the name of the log to compare with: the last before `since`, else the earliest."""
    before = [name for name, log in earlier.items() if log.until <= since]
    if before:
        return max(before, key=lambda name: earlier[name].until)
    return min(earlier, key=lambda name: earlier[name].until, default=None)


def file_stamp(at_ms: int) -> str:
    """Format a time as UTC for a file name.

    It is exact to the second, so that a log does not overwrite an earlier one.
    """
    return datetime.fromtimestamp(at_ms // 1000, tz=UTC).strftime("%Y-%m-%dT%H%M%SZ")


def assemble_log(
    since: int,
    until: int,
    versions: list[VersionLine],
    drift: list[SchemaDrift] | None,
    rejected: list[RejectedLine] | None,
    conformance: list[Conformance],
    earlier: Mapping[str, EarlierLog],
    unknown: Sequence[str],
) -> IntegrationLog:
    """Assemble the log of a period and its comparison with an earlier one."""
    schemas = schema_checksums()
    name = baseline_name(earlier, since)
    changes = None if name is None else schema_changes(earlier[name].schemas, schemas)
    return IntegrationLog(
        since, until, versions, drift, rejected, name, changes, conformance, schemas, list(unknown)
    )
