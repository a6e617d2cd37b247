"""The types of Pitboss's settings: how each value is written in the environment and in TOML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from pitboss.provider_settings import are_brands, parse_brands
from schemas.errors import UsageError

PREFIX: Final = "PITBOSS_"

PARK_NONE: Final = "none"
"""Value of PITBOSS_PARK under which no player begins to wait, and waiting records are released."""

LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_SHARE: Final = re.compile(r"0(\.\d+)?|1(\.0+)?", re.ASCII)
_CURRENCY: Final = re.compile(r"[A-Z][A-Z0-9]{2,9}", re.ASCII)
_AMOUNT: Final = re.compile(r"\d+(\.\d+)?", re.ASCII)

_TOML_TYPES: Final = {
    bool: "true or false",
    int: "a whole number",
    float: "a number with a fraction",
    str: "a string",
    list: "a list",
    dict: "a table",
}


class SettingType(StrEnum):
    """How a value is written, in the words of the reference page."""

    TEXT = "text"
    NUMBER = "whole number"
    SHARE = "number from 0 to 1"
    PATH = "path"
    URL = "URL"
    LEVEL = "log level"
    NAMES = "list of names"
    AMOUNTS = "currencies and amounts"
    BRANDS = "providers and brands"


_ONE_LEVEL: Final = f"one of {', '.join(LOG_LEVELS)}"
_TEXT_FORMS: Final = {
    SettingType.NUMBER: "a whole number",
    SettingType.SHARE: "a share, a number from 0 to 1",
    SettingType.LEVEL: _ONE_LEVEL,
    SettingType.AMOUNTS: "currencies with amounts",
    SettingType.BRANDS: "providers with their brands",
}
_TOML_FORMS: Final = {
    SettingType.TEXT: "a string",
    SettingType.NUMBER: "a whole number",
    SettingType.SHARE: "a share, a number from 0 to 1",
    SettingType.PATH: "a string, the path of a file or folder",
    SettingType.URL: "a string",
    SettingType.LEVEL: _ONE_LEVEL,
    SettingType.NAMES: "a list of strings",
    SettingType.AMOUNTS: "a table of currencies and amounts",
    SettingType.BRANDS: "a table of providers, each with a list of brands",
}


@dataclass(frozen=True)
class Setting:
    """One setting: its name, type, unit, default and meaning."""

    name: str
    """Key in the TOML file; the environment variable is PITBOSS_ and the name in capitals."""
    type: SettingType
    used_by: str
    meaning: str
    """One or two sentences in Markdown, without a final full stop."""
    example: str
    """A value as the environment variable takes it."""
    default: Any = None
    default_text: str = ""
    """Description of a default that is not a value, such as a path that depends on the machine."""
    unit: str = ""
    is_in_file: bool = True

    @property
    def variable(self) -> str:
        """Name of the environment variable."""
        return PREFIX + self.name.upper()

    def parse_text(self, text: str, place: str) -> Any:
        """Parse the value of an environment variable. Raises UsageError, naming `place`."""
        value: Any = None
        match self.type:
            case SettingType.NUMBER if text.isascii() and text.isdecimal():
                value = int(text)
            case SettingType.SHARE if _SHARE.fullmatch(text):
                value = float(text)
            case SettingType.LEVEL if text.upper() in LOG_LEVELS:
                value = text.upper()
            case SettingType.PATH:
                value = Path(text)
            case SettingType.NAMES:
                names = [name.strip() for name in text.split(",") if name.strip()]
                value = frozenset() if text == PARK_NONE else frozenset(names)
            case SettingType.AMOUNTS:
                items = [item.strip() for item in text.split(",")]
                amounts = dict(item.partition(":")[::2] for item in items if item)
                value = amounts if all(map(_is_amount, amounts, amounts.values())) else None
            case SettingType.BRANDS:
                value = parse_brands(text)
            case SettingType.TEXT | SettingType.URL:
                value = text
        if value is None:
            raise UsageError(f"{place} is {text!r}: give {self._wanted()}, as in {self.example}")
        return value

    def parse_toml(self, given: Any, place: str, folder: Path) -> Any:
        """Check a value of the TOML file and return it as `parse_text` returns it.

        Relative paths are relative to `folder`. Raises UsageError, naming `place`.
        """
        value: Any = None
        match self.type, given:
            case ((SettingType.NUMBER | SettingType.SHARE), bool()):
                pass
            case SettingType.NUMBER, int() if given >= 0:
                value = given
            case SettingType.SHARE, int() | float() if 0 <= given <= 1:
                value = float(given)
            case SettingType.PATH, str() if given:
                value = folder / Path(given).expanduser()
            case SettingType.NAMES, list() if _are_names(given):
                value = frozenset(given)
            case _, dict():
                value = self._parse_table(given, place)
            case SettingType.LEVEL, str() if given.upper() in LOG_LEVELS:
                value = given.upper()
            case ((SettingType.TEXT | SettingType.URL), str()):
                value = self._without_secret(given, place)
        if value is None:
            raise self._wrong_toml(given, place)
        return value

    def _wrong_toml(self, given: Any, place: str) -> UsageError:
        kind = _TOML_TYPES.get(type(given), "a date or time")
        shown = f"{given!r}, {kind}" if isinstance(given, int | float | str) else kind
        return UsageError(f"{place} is {shown}: give {_TOML_FORMS[self.type]}{self._of_unit}")

    def _parse_table(self, table: Mapping[str, Any], place: str) -> Any:
        if self.type is SettingType.AMOUNTS:
            return self._parse_amounts(table, place)
        if self.type is SettingType.BRANDS and all(map(are_brands, table.values())):
            return {provider: frozenset(brands) for provider, brands in table.items()}
        return None

    def _parse_amounts(self, table: Mapping[str, Any], place: str) -> dict[str, str]:
        for currency, amount in table.items():
            is_text = isinstance(amount, int | str) and not isinstance(amount, bool)
            if not is_text or not _is_amount(currency, str(amount)):
                raise UsageError(
                    f"{place}.{currency} is {amount!r}: give a currency code and a whole number "
                    'of major units, or a decimal number in quotes, as in BTC = "0.01"'
                )
        return {currency: str(amount) for currency, amount in table.items()}

    def _without_secret(self, text: str, place: str) -> str:
        """Return the text. Raises UsageError, not showing it, if it is a URL with a password."""
        try:
            parts = urlsplit(text)
            has_secret = parts.password is not None or bool(
                {"password", "sslpassword"} & parse_qs(parts.query).keys()
            )
        except ValueError:
            return text  # not a URL, which its reader reports
        if not has_secret:
            return text
        passfile = ""
        if self.type is SettingType.URL:
            passfile = (
                ", or name a file that holds it, as in "
                "postgresql://user@host/postgres?passfile=/run/secrets/pgpass"
            )
        raise UsageError(
            f"{place} holds a password, which does not belong in this file: set {self.variable} in "
            f"the environment{passfile}"
        )

    def _wanted(self) -> str:
        return _TEXT_FORMS.get(self.type, "text") + self._of_unit

    @property
    def _of_unit(self) -> str:
        return f" of {self.unit}" if self.type is SettingType.NUMBER else ""


def _are_names(values: Iterable[Any]) -> bool:
    return all(isinstance(name, str) for name in values)


def _is_amount(currency: str, amount: str) -> bool:
    return bool(_CURRENCY.fullmatch(currency) and _AMOUNT.fullmatch(amount))


def format_reference(settings: Iterable[Setting]) -> str:
    """Return the table of the reference page, as Markdown."""
    lines = [
        "| variable | key in the file | type | default | used by | meaning |",
        "|---|---|---|---|---|---|",
    ]
    for setting in settings:
        unit = f" ({setting.unit})" if setting.unit else ""
        default = setting.default_text or f"`{setting.default}`"
        key = f"`{setting.name}`" if setting.is_in_file else "not in the file"
        cells = (
            f"`{setting.variable}`",
            key,
            f"{setting.type}{unit}",
            default,
            setting.used_by,
            setting.meaning,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
