"""The writer of a provider, found by convention and not registered anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Final

from lab.conformance.writers.writer import Writer
from schemas.errors import UsageError, suggest
from streams.providers.dialect import Dialect
from streams.providers.registry import DIALECTS, Dialects

PACKAGE: Final = "lab.conformance.writers"


def part_name(dialect: Dialect, package: str) -> str:
    """Return the name of a dialect's module in a package: that of the module of its class."""
    return f"{package}.{type(dialect).__module__.rpartition('.')[2]}"


def import_part(dialect: Dialect, package: str, what: str) -> ModuleType:
    """Import a dialect's module of a package. Raises UsageError, which names `what` is missing."""
    name = part_name(dialect, package)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise UsageError(
            f"the adapter of {dialect.provider} has no {what}: write {name}"
        ) from error


def writer_of(dialect: Dialect) -> Writer:
    """Return the writer of this dialect: the `WRITER` of the module named as its class's module.

    Raises UsageError where there is none.
    """
    module = import_part(dialect, PACKAGE, "writer")
    writer = getattr(module, "WRITER", None)
    if not isinstance(writer, Writer) or writer.provider != dialect.provider:
        raise UsageError(
            f"{module.__name__} lacks WRITER, a writer of {dialect.provider}: see {PACKAGE}.writer"
        )
    return writer


def find_writers(
    providers: Iterable[str] | None = None, dialects: Dialects = DIALECTS
) -> dict[str, Writer]:
    """Return the writers of these providers, by provider and in this order.

    Without `providers`: of every registered one that has a writer, in the order of the registry.
    Raises UsageError for a provider that is not registered, or has none.
    """
    if providers is None:
        return {name: writer_of(dialects[name]) for name in dialects if _has_writer(dialects[name])}
    names = tuple(dict.fromkeys(providers))
    unknown = [name for name in names if name not in dialects]
    if unknown:
        raise UsageError(
            f"{unknown[0]!r} is not a registered provider"
            + (suggest(unknown[0], dialects) or f": take some of {', '.join(sorted(dialects))}")
        )
    return {name: writer_of(dialects[name]) for name in names}


def _has_writer(dialect: Dialect) -> bool:
    return find_spec(part_name(dialect, PACKAGE)) is not None
