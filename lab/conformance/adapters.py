"""Every adapter with its examples and two normalisers: with the provider's keys, and without."""

from __future__ import annotations

from dataclasses import dataclass

from lab.conformance.examples.fill import Example, Fill
from lab.conformance.examples.find import Examples, examples_of
from streams.normalise.mapping.normaliser import Normaliser
from streams.providers.dialect import Dialect
from streams.providers.registry import DIALECTS, Dialects, Version, by_provider


@dataclass(frozen=True, eq=False)
class AdapterUnderTest:
    """One version's adapter under test.

    `keyed` checks signatures with the examples' keys, `unkeyed` checks none.
    """

    dialect: Dialect
    version: str
    examples: Examples
    keyed: Normaliser
    unkeyed: Normaliser
    among: Dialects
    """The dialects among which it is routed, its own and perhaps all others."""

    @property
    def name(self) -> str:
        """Provider and version: `hub88/1`."""
        return f"{self.dialect.provider}/{self.version}"

    def make_examples(self, fill: Fill) -> list[Example]:
        """Write the examples of a fill."""
        return self.examples.make(fill)


def adapter_of(dialect: Dialect) -> AdapterUnderTest:
    """Return one adapter by itself, registered or not.

    Raises UsageError where it has no examples.
    """
    return _adapter(dialect, dialect.version, by_provider([dialect]))


def registered_versions(dialects: Dialects = DIALECTS) -> list[Version]:
    """Return every registered version, sorted by provider and version."""
    found = [version for provider in dialects for version in dialects.versions(provider)]
    return sorted(found, key=lambda version: (version.row.provider, version.row.version))


def all_adapters() -> list[AdapterUnderTest]:
    """Return every registered version, each routed among all of them as in a worker.

    Raises UsageError where one has no examples.
    """
    return [
        _adapter(version.dialect, version.row.version, DIALECTS)
        for version in registered_versions()
    ]


def _adapter(dialect: Dialect, version: str, among: Dialects) -> AdapterUnderTest:
    examples = examples_of(dialect)
    keyring = {dialect.provider: examples.keys} if examples.keys else {}
    return AdapterUnderTest(
        dialect, version, examples, Normaliser(among, keyring), Normaliser(among, {}), among
    )
