"""The version registry as data: each provider's versions, and how their records are recognised.

`versions.toml` beside this module has one row per provider version. A row names the adapter and is
all that the rest of the code needs to know of a new provider; `streams.providers.registry` makes
dialects of it. Reading is pure: text in, typed rows out, or a UsageError that names the row and
what to write instead.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from schemas.errors import UsageError
from schemas.topics import PROVIDER_NAME
from streams.providers.fields import epoch_ms

_ADAPTER: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)
_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,31}", re.ASCII)
_MEMBER: Final = re.compile(r"\w+>=.+", re.ASCII)
_HEADER: Final = re.compile(r"[a-z0-9-]+(=.+)?", re.ASCII)


class VersionState(StrEnum):
    """The stage of a version's life.

    A retired version is still read: nothing that a provider sends is discarded.
    """

    ANNOUNCED = "announced"
    LIVE = "live"
    DEPRECATED = "deprecated"
    RETIRED = "retired"


class VersionRow(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"from_": "from"}
):
    """One version of a provider's API: its life, its adapter, and how its records are recognised.

    `adapter` is `module:Class`, `settings` its fields where they differ from the defaults, `source`
    says where the provider gave notice. A record belongs to a row whose keys all fit: `header`
    (`name=value`, or a name that need only be there), `path` (a regular expression somewhere in the
    header http-path), `content` (a text somewhere in the value), `member` (`name>=text`: a member
    of the JSON object that the value is, whose text does not sort before this one) and `from` (the
    day, in UTC, from which on it is expected). Of several fitting rows the one with most of header,
    path, content and member is taken, then the latest `from`, then a live one before a deprecated,
    announced or retired one.

    `fallback` are the versions to try, in their order, where this one cannot read a record; left
    out, all others of the provider, the newest first. Write `fallback = []` where another version
    would read the same bytes as other money.
    """

    provider: str
    version: str
    adapter: str
    state: VersionState
    source: str
    announced_on: date | None = None
    live_on: date | None = None
    deprecated_on: date | None = None
    retires_on: date | None = None
    settings: dict[str, Any] = msgspec.field(default_factory=dict)
    header: str | None = None
    path: str | None = None
    content: str | None = None
    member: str | None = None
    from_: date | None = None
    fallback: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """The row's name in messages, as in `hub88 1`."""
        return f"{self.provider} {self.version}"

    @property
    def keys(self) -> tuple[str | None, ...]:
        """Header, path, content and member, which recognise its records in addition to the day."""
        return self.header, self.path, self.content, self.member

    @property
    def from_ms(self) -> int:
        """The beginning of the day from which on it is expected, epoch ms; 0 without one."""
        day = self.from_
        return 0 if day is None else epoch_ms(datetime(day.year, day.month, day.day, tzinfo=UTC))

    def days_to_retirement(self, today: date) -> int | None:
        """Return the days until the provider switches it off.

        The number is negative after that day, and None where no day is known.
        """
        return None if self.retires_on is None else (self.retires_on - today).days


_RANK: Final = {
    VersionState.LIVE: 0,
    VersionState.DEPRECATED: 1,
    VersionState.ANNOUNCED: 2,
    VersionState.RETIRED: 3,
}


def read_rows(text: str, name: str) -> tuple[VersionRow, ...]:
    """Return the rows of a registry file.

    `name` is the file's name in messages. Raises UsageError.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name} is not TOML: {error}") from error
    tables = document.pop("version", [])
    if document or not isinstance(tables, list):
        raise UsageError(f"{name} may hold [[version]] tables only")
    rows = tuple(_row(table, f"{name}, row {number}") for number, table in enumerate(tables, 1))
    _check_together(rows, name)
    return rows


def _row(table: Any, where: str) -> VersionRow:
    label = where
    if isinstance(table, dict):
        label = f"{where} ({table.get('provider', '?')} {table.get('version', '?')})"
    try:
        row = msgspec.convert(table, VersionRow)
    except msgspec.ValidationError as error:
        raise UsageError(f"{label}: {error}") from error
    for problem in _problems(row):
        raise UsageError(f"{label}: {problem}")
    return row


def _problems(row: VersionRow) -> Iterable[str]:
    """Yield each problem of one row by itself, as what to write instead."""
    if not PROVIDER_NAME.fullmatch(row.provider):
        yield (
            "provider must be 2 to 32 lower-case letters, digits and underscores: "
            "it is a part of its topic's name"
        )
    if not _VERSION.fullmatch(row.version):
        yield "version must be up to 32 letters, digits, dots, dashes and underscores"
    if not _ADAPTER.fullmatch(row.adapter):
        yield 'adapter must be module:Class, as in "streams.providers.hub88:Hub88"'
    if not row.source.strip():
        yield "source must say where the provider documents or announced this version"
    if row.header is not None and not _HEADER.fullmatch(row.header):
        yield 'header must be a lower-case name, or name=value, as in "x-api-version=2"'
    if row.member is not None and not _MEMBER.fullmatch(row.member):
        yield 'member must be name>=text, as in "api_version>=2025-03-31"'
    if row.content == "" or row.path == "":
        yield "path and content must not be empty: every record would fit"
    if row.path is not None and not _compiles(row.path):
        yield "path must be a regular expression"
    life = [
        day
        for day in (row.announced_on, row.live_on, row.deprecated_on, row.retires_on)
        if day is not None
    ]
    if life != sorted(life):
        yield "announced_on, live_on, deprecated_on and retires_on must not come before each other"


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern.encode())
    except re.error:
        return False
    return True


def _check_together(rows: Sequence[VersionRow], name: str) -> None:
    versions = Counter((row.provider, row.version) for row in rows)
    for (provider, version), times in versions.items():
        if times > 1:
            raise UsageError(f"{name}: {provider} {version} is there {times} times")
    ways = Counter((row.provider, row.keys, row.from_, row.state) for row in rows)
    for row in rows:
        if ways[row.provider, row.keys, row.from_, row.state] > 1:
            raise UsageError(
                f"{name}: {row.name} has the same keys as another {row.state} version of "
                f"{row.provider}: give one of them a header, path, content, member or from"
            )
        for other in row.fallback or ():
            if other == row.version or (row.provider, other) not in versions:
                raise UsageError(
                    f"{name}: {row.name} falls back on {other!r}, "
                    "which is not another version of it"
                )


def sort_by_preference(rows: Iterable[VersionRow]) -> list[VersionRow]:
    """Sort the rows of one provider into the order in which they are matched against a record."""
    return sorted(
        rows,
        key=lambda row: (-sum(key is not None for key in row.keys), -row.from_ms, _RANK[row.state]),
    )


def current_row(rows: Iterable[VersionRow]) -> VersionRow:
    """Return the version that a provider's policies and settings are taken from.

    A live version comes before a deprecated one, then the newest.
    """
    return min(
        rows,
        key=lambda row: (_RANK[row.state], -(row.live_on or date.min).toordinal(), -row.from_ms),
    )


def fallbacks(row: VersionRow, rows: Iterable[VersionRow]) -> list[VersionRow]:
    """Return the provider's versions to try where `row`'s cannot read a record, in their order."""
    others = {
        other.version: other
        for other in rows
        if other.provider == row.provider and other is not row
    }
    if row.fallback is not None:
        return [others[version] for version in row.fallback]
    return sorted(
        others.values(),
        key=lambda other: (-other.from_ms, -(other.live_on or date.min).toordinal()),
    )
