"""Every adapter with its examples and its normalisers: one that has the provider's keys, one that has none."""

from __future__ import annotations

from dataclasses import dataclass

from lab.conformance.examples.fill import Example, Fill
from lab.conformance.examples.find import Examples, examples_of
from streams.normalise.mapping.normaliser import Normaliser
from streams.providers.dialect import Dialect
from streams.providers.registry import DIALECTS, Dialects, Version, by_provider


@dataclass(frozen=True, eq=False)
class Subject:
    """One version's adapter under test. `keyed` checks signatures with the examples' keys, `open_` checks none."""

    dialect: Dialect
    version: str
    examples: Examples
    keyed: Normaliser
    open_: Normaliser

    @property
    def name(self) -> str:
        """Provider and version: `hub88/1`."""
        return f"{self.dialect.provider}/{self.version}"

    def made(self, fill: Fill) -> list[Example]:
        """The examples of a fill."""
        return self.examples.make(fill)


def subject_of(dialect: Dialect) -> Subject:
    """One adapter by itself, registered or not. Raises UsageError where it has no examples."""
    return _subject(dialect, dialect.version, by_provider([dialect]))


def versions(dialects: Dialects = DIALECTS) -> list[Version]:
    """Every registered version, sorted by provider and version."""
    found = [version for provider in dialects for version in dialects.versions(provider)]
    return sorted(found, key=lambda version: (version.row.provider, version.row.version))


def subjects() -> list[Subject]:
    """Every registered version beside all others, as a worker has them. Raises UsageError where one has no examples."""
    return [_subject(version.dialect, version.row.version, DIALECTS) for version in versions()]


def _subject(dialect: Dialect, version: str, among: Dialects) -> Subject:
    examples = examples_of(dialect)
    keyring = {dialect.provider: examples.keys} if examples.keys else {}
    return Subject(dialect, version, examples, Normaliser(among, keyring), Normaliser(among, {}))
