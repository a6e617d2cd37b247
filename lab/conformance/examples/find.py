"""The examples of a dialect, found by convention and not registered anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from types import ModuleType
from typing import Any, Final, TypeAlias

import msgspec

from lab.conformance.examples.fill import CURRENCIES, Example, Fill
from lab.conformance.writers.find import import_part
from schemas.errors import UsageError
from streams.providers.dialect import Dialect, KeyMaterial

PACKAGE: Final = "lab.conformance.examples"

Make: TypeAlias = Callable[[Fill], list[Example]]


class Examples(msgspec.Struct, frozen=True):
    """The content of an examples module; `fill.py` documents each field.

    `has_balance`: it defines BALANCE_DECIMALS.
    """

    keys: KeyMaterial
    make: Make
    currencies: Sequence[str]
    other_keys: KeyMaterial | None
    rebatch: Make | None
    payload: Callable[[Example], Any] | None
    has_balance: bool
    balance_decimals: int | str | None
    read_balance: Callable[[bytes], Decimal | None] | None


def examples_of(dialect: Dialect) -> Examples:
    """Return the examples of this dialect.

    Raises UsageError where there are none or the module lacks something.
    """
    return _read(import_part(dialect, PACKAGE, "examples"))


def _read(module: ModuleType) -> Examples:
    missing = [name for name in ("KEYS", "examples") if not hasattr(module, name)]
    if missing:
        raise UsageError(f"{module.__name__} lacks {' and '.join(missing)}: see {PACKAGE}.fill")
    return Examples(
        module.KEYS,
        module.examples,
        getattr(module, "CURRENCIES", CURRENCIES),
        getattr(module, "OTHER_KEYS", None),
        getattr(module, "rebatch", None),
        getattr(module, "payload", None),
        hasattr(module, "BALANCE_DECIMALS"),
        getattr(module, "BALANCE_DECIMALS", None),
        getattr(module, "read_balance", None),
    )
