"""The dialects of the rows of `versions.toml`, without any discovery.

Nothing is read or imported before it is needed: the file when a caller wants names, an adapter's
module when a caller wants the dialect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from importlib import import_module
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import msgspec

from schemas.errors import UsageError, suggest
from schemas.policies import LedgerPolicy
from streams.providers.dialect import Dialect
from streams.providers.versions import VersionRow, VersionState, current_row, read_rows

FILE: Final = "versions.toml"

SettingsByProvider: TypeAlias = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Version:
    """A row and the dialect that reads it."""

    row: VersionRow
    dialect: Dialect


class Dialects(Mapping[str, Dialect]):
    """The dialects of some rows: by provider the current one, and all its versions side by side."""

    def __init__(
        self, rows: Callable[[], Iterable[VersionRow]], make: Callable[[VersionRow], Dialect]
    ) -> None:
        """Keep the sources: `rows` is called once, `make` once per row, each at its first use."""
        self._read = rows
        self._make = make
        self._made: dict[tuple[str, str], Version] = {}
        self._overrides: SettingsByProvider = {}

    @property
    def overrides(self) -> SettingsByProvider:
        """The installation's settings by provider, over those of the rows."""
        return self._overrides

    def configure(self, overrides: SettingsByProvider) -> None:
        """Put an installation's settings over those of the rows, in every version that has them.

        Call it once, before any dialect is read. A table `policy` changes what it names and leaves
        the rest. Raises UsageError for a name that is unknown and a value that does not fit, and
        changes nothing then.
        """
        known = self._by_provider
        for provider, settings in overrides.items():
            if provider not in known:
                raise UsageError(f"{provider!r} is not a provider{suggest(provider, known)}")
            names = [_setting_names(self._make(row)) for row in known[provider]]
            _check_names(provider, settings, frozenset().union(*names))
        before, self._overrides = self._overrides, overrides
        self._made.clear()
        try:
            for provider in overrides:
                self.versions(provider)
        except UsageError:
            self._overrides = before
            self._made.clear()
            raise

    @cached_property
    def rows(self) -> tuple[VersionRow, ...]:
        """All rows, in the order of the file. Raises UsageError for a file that cannot be used."""
        return tuple(self._read())

    @cached_property
    def _by_provider(self) -> Mapping[str, tuple[VersionRow, ...]]:
        found: dict[str, list[VersionRow]] = {}
        for row in self.rows:
            found.setdefault(row.provider, []).append(row)
        return MappingProxyType({provider: tuple(rows) for provider, rows in found.items()})

    def __getitem__(self, provider: str) -> Dialect:
        """Return the dialect of the provider's current version. Raises KeyError, UsageError."""
        return self.version(current_row(self._by_provider[provider])).dialect

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_provider)

    def __len__(self) -> int:
        return len(self._by_provider)

    def version(self, row: VersionRow) -> Version:
        """Return the row with its dialect. Raises UsageError for an adapter that cannot be used."""
        key = row.provider, row.version
        if key not in self._made:
            overrides = self._overrides.get(row.provider)
            made = self._make(row)
            if overrides:
                made = self._make(_override(row, overrides, _setting_names(made)))
            self._made[key] = Version(row, made)
        return self._made[key]

    def versions(self, provider: str) -> tuple[Version, ...]:
        """Return all versions of a provider, in the order of the file.

        Raises KeyError, UsageError.
        """
        return tuple(self.version(row) for row in self._by_provider[provider])


def _setting_names(dialect: Dialect) -> frozenset[str]:
    return frozenset(field.name for field in fields(dialect))


def _check_names(provider: str, settings: Mapping[str, Any], known: frozenset[str]) -> None:
    for name in settings:
        if name not in known:
            raise UsageError(f"{provider} has no setting {name!r}{suggest(name, known)}")
    policy = settings.get("policy")
    rules = LedgerPolicy.__struct_fields__
    for name in policy if isinstance(policy, Mapping) else ():
        if name not in rules:
            raise UsageError(f"{provider}: a policy has no {name!r}{suggest(name, rules)}")


def _override(row: VersionRow, overrides: Mapping[str, Any], known: frozenset[str]) -> VersionRow:
    """Return a row with an installation's settings, as far as its version has them."""
    settings = dict(row.settings) | {
        name: value for name, value in overrides.items() if name in known
    }
    given, own = overrides.get("policy"), row.settings.get("policy")
    if isinstance(given, Mapping) and isinstance(own, Mapping):
        settings["policy"] = {**own, **given}
    return msgspec.structs.replace(row, settings=settings)


def released_rows() -> tuple[VersionRow, ...]:
    """Return the rows that this code was released with. Raises UsageError."""
    text = (files("streams.providers") / FILE).read_text(encoding="utf-8")
    return read_rows(text, f"streams/providers/{FILE}")


def dialect_of(row: VersionRow) -> Dialect:
    """Make the dialect of a row's adapter and settings. Raises UsageError, naming the row."""
    module, _, name = row.adapter.partition(":")
    try:
        adapter = getattr(import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{row.name}: adapter {row.adapter}: module {error.name} does not exist"
        ) from error
    if not isinstance(adapter, type) or not issubclass(adapter, Dialect):
        raise UsageError(f"{row.name}: adapter {row.adapter} is not a Dialect")
    if adapter.provider != row.provider:
        raise UsageError(f"{row.name}: adapter {row.adapter} is an adapter of {adapter.provider!r}")
    return _with_settings(adapter, row)


def _with_settings(adapter: type[Dialect], row: VersionRow) -> Dialect:
    known = {field.name for field in fields(adapter)}
    for name in row.settings:
        if name not in known:
            raise UsageError(
                f"{row.name}: {row.adapter} has no setting {name!r}; "
                f"it has {', '.join(sorted(known))}"
            )
    settings = dict(row.settings)
    if isinstance(settings.get("policy"), dict):
        rules = LedgerPolicy.__struct_fields__
        for name in settings["policy"]:
            if name not in rules:
                raise UsageError(
                    f"{row.name}: settings: a policy has no {name!r}; "
                    f"it has {', '.join(sorted(rules))}"
                )
        # What a row leaves out of a policy is as the adapter has it, not as LedgerPolicy.
        settings["policy"] = msgspec.structs.asdict(adapter.policy) | settings["policy"]
    try:
        return msgspec.convert(settings, adapter)
    except msgspec.ValidationError as error:
        raise UsageError(f"{row.name}: settings: {error}") from error


def by_provider(dialects: Iterable[Dialect]) -> Dialects:
    """Return dialects that are in no file, each as its provider's live version.

    Raises ValueError for a provider that is there twice.
    """
    made: dict[str, Dialect] = {}
    for dialect in dialects:
        if dialect.provider in made:
            message = f"two dialects for {dialect.provider!r}"
            raise ValueError(message)
        made[dialect.provider] = dialect
    rows = [
        VersionRow(
            provider=name,
            version=dialect.version,
            adapter=f"{type(dialect).__module__}:{type(dialect).__name__}",
            state=VersionState.LIVE,
            source="made in code",
        )
        for name, dialect in made.items()
    ]
    return Dialects(lambda: rows, lambda row: made[row.provider])


DIALECTS: Final = Dialects(released_rows, dialect_of)
"""Every dialect of the file, with the settings of its row."""


def policies(dialects: Mapping[str, Dialect] = DIALECTS) -> Mapping[str, LedgerPolicy]:
    """Return each provider's ledger policy: that of its current version."""
    return MappingProxyType({provider: dialect.policy for provider, dialect in dialects.items()})


def redact(provider: str, value: bytes | None, dialects: Dialects = DIALECTS) -> bytes | None:
    """Return a raw value as it may be shown to a person.

    It lacks what any version of its provider calls a secret. Every place that shows a raw record
    calls this. For a provider without a dialect the value is withheld.
    """
    if value is None:
        return None
    if provider not in dialects:
        return b"(withheld: no dialect knows which parts of it are secret)"
    for version in dialects.versions(provider):
        value = version.dialect.redact(value)
    return value
