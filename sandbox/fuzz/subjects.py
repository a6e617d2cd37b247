"""Every adapter with its examples and its normalisers: one that has the provider's keys, one that has none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from streams.normalise.normaliser import Normaliser
from streams.providers.dialect import Dialect
from streams.providers.examples.fill import Example, Fill
from streams.providers.examples.find import Examples, examples_of
from streams.providers.registry import DIALECTS


@dataclass(frozen=True, eq=False)
class Subject:
    """One adapter under test. `keyed` checks signatures with the examples' keys, `open_` checks none."""

    dialect: Dialect
    examples: Examples
    keyed: Normaliser
    open_: Normaliser

    @property
    def name(self) -> str:
        """Provider and version: `hub88/1`."""
        return f"{self.dialect.provider}/{self.dialect.version}"

    def made(self, fill: Fill) -> list[Example]:
        """The examples of a fill."""
        return self.examples.make(fill)


def subject_of(dialect: Dialect) -> Subject:
    """One adapter with its examples. Raises UsageError where it has none."""
    examples = examples_of(dialect)
    alone = {dialect.provider: dialect}
    keyring = {dialect.provider: examples.keys} if examples.keys else {}
    return Subject(dialect, examples, Normaliser(alone, keyring), Normaliser(alone, {}))


def dialects() -> list[Dialect]:
    """Every registered adapter, every version of it, sorted by provider and version."""
    return sorted(DIALECTS.values(), key=lambda dialect: (dialect.provider, dialect.version))


def subjects(of: Iterable[Dialect] | None = None) -> list[Subject]:
    """The registered adapters with their examples, in the order of `dialects`. Raises UsageError where one has none."""
    return [subject_of(dialect) for dialect in (dialects() if of is None else of)]
