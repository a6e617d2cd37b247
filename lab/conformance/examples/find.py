"""The examples of a dialect, found by convention and not registered anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import ROUND_FLOOR, Decimal
from types import ModuleType
from typing import Any, Final, Literal, TypeAlias

import msgspec

from lab.conformance.examples.fill import CURRENCIES, MINOR, Example, Fill
from lab.conformance.writers.find import import_part
from schemas.errors import UsageError
from schemas.money import EXPONENTS
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
    balance_decimals: int | Literal["minor"] | None
    read_balance: Callable[[bytes], Decimal | None] | None

    def balance_in_units(self, minor: int, currency: str) -> Decimal:
        """Return a balance of minor units in the units in which the provider's answers state it.

        They are whole: a coarser unit than the wallet's states less than there is, never more.
        Major units keep their decimals.
        """
        if self.balance_decimals == MINOR:
            return Decimal(minor)
        assert self.balance_decimals is not None, "the answers state no balance"
        units = Decimal(minor).scaleb(self.balance_decimals - EXPONENTS[currency])
        return units if self.balance_decimals == 0 else units.to_integral_value(ROUND_FLOOR)


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
