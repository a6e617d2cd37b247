"""The declared table of Pitboss's settings, and how each value is written.

One row per setting: the environment variable, the key in the TOML file, `pitboss doctor` and the
page docs/reference/configuration.md (written by `make docs`) come from it. `pitboss.settings` reads
the values.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from schemas.errors import UsageError, suggest
from schemas.topics import RAW_PARTITIONS_DEFAULT

PREFIX: Final = "PITBOSS_"

PARK_NONE: Final = "none"
"""Value of PITBOSS_PARK under which no player begins to wait, and waiting records are released."""

ALL_PROVIDERS: Final = "all"
"""Value of PITBOSS_PROVIDERS that means every provider, where some are stored."""

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


_ONE_LEVEL: Final = f"one of {', '.join(LOG_LEVELS)}"
_TEXT_FORMS: Final = {
    SettingType.NUMBER: "a whole number",
    SettingType.SHARE: "a share, a number from 0 to 1",
    SettingType.LEVEL: _ONE_LEVEL,
    SettingType.AMOUNTS: "currencies with amounts",
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
            case SettingType.AMOUNTS, dict():
                value = self._parse_amounts(given, place)
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


def check_providers(names: Collection[str] | None, place: str) -> None:
    """Check the names of providers, or the one word `all`; None is right.

    Raises UsageError with the nearest name, naming `place`.
    """
    if names is None or set(names) == {ALL_PROVIDERS}:
        return
    from streams.providers.registry import DIALECTS

    if not names:
        raise UsageError(f"{place} names no provider: name some, or {ALL_PROVIDERS!r}")
    if ALL_PROVIDERS in names:
        raise UsageError(f"{place} names {ALL_PROVIDERS!r} beside others: give one or the other")
    for name in sorted(names):
        if name not in DIALECTS:
            hint = suggest(name, DIALECTS) or ": `pitboss providers list` names all of them"
            raise UsageError(f"{place}: no adapter is called {name!r}{hint}")


def _are_names(values: Iterable[Any]) -> bool:
    return all(isinstance(name, str) for name in values)


def _is_amount(currency: str, amount: str) -> bool:
    return bool(_CURRENCY.fullmatch(currency) and _AMOUNT.fullmatch(amount))


SETTINGS: Final = (
    Setting(
        "config",
        SettingType.PATH,
        "everything",
        "TOML file of settings. A variable of the environment wins over the file, the file over "
        "the default",
        "/etc/pitboss.toml",
        default_text="none",
        is_in_file=False,
    ),
    Setting(
        "kafka",
        SettingType.TEXT,
        "everything",
        "Bootstrap servers, comma-separated. Set both or neither of this and `PITBOSS_DATABASE`",
        "broker-1:9092,broker-2:9092",
        default_text="the embedded broker",
    ),
    Setting(
        "database",
        SettingType.URL,
        "everything",
        "`postgresql://user:password@host:port/postgres`; the path is replaced by the namespace's "
        "own database. In the file it must not hold the password: name a file of it with "
        "`?passfile=`, as libpq reads it",
        "postgresql://user:password@host:5432/postgres",
        default_text="the embedded database",
    ),
    Setting(
        "namespace",
        SettingType.TEXT,
        "everything",
        "Prefixes topics and consumer groups (`<namespace>.`) and names the database "
        "(`pitboss_<namespace>`, else `pitboss`). A lower-case letter, then at most 30 lower-case "
        "letters, digits or underscores",
        "load_1",
        default="",
        default_text="empty",
    ),
    Setting(
        "home",
        SettingType.PATH,
        "everything",
        "Folder of the embedded servers' data, and of all logs",
        "/var/lib/pitboss",
        default_text="`.pitboss` in the working directory",
    ),
    Setting(
        "cache",
        SettingType.PATH,
        "`up`",
        "Folder of Kafka's jars, which may be lost at any time",
        "/var/cache/pitboss",
        default_text="`$XDG_CACHE_HOME/pitboss`, else `~/.cache/pitboss`",
    ),
    Setting(
        "maven",
        SettingType.TEXT,
        "`up`",
        "Repository that Kafka's jars are fetched from, once a machine",
        "https://maven.example/repository",
        default_text="Maven Central",
    ),
    Setting(
        "providers",
        SettingType.NAMES,
        "everything",
        "Providers whose raw topics are made and read, comma-separated, or `all`. `pitboss "
        "provision` stores them with the installation; a process whose setting differs from what "
        "is stored refuses to start. See "
        "[operations.md](../howto/operations.md#the-providers-of-an-installation)",
        "hub88,house",
        default_text="what is stored; at the first `provision` all",
    ),
    Setting(
        "raw_partitions",
        SettingType.NUMBER,
        "everything",
        "Partitions of each raw topic, from 1 to 1,000. Stored with the installation at the first "
        "`provision`; another number is refused then. An installation that has raw topics keeps "
        "their number",
        "6",
        default_text=f"what is stored; at the first `provision` {RAW_PARTITIONS_DEFAULT}",
        unit="partitions",
    ),
    Setting(
        "keys_file",
        SettingType.PATH,
        "`normalise`, `drift`, operators' commands",
        "The providers' keys, a JSON object: see [Keys file](#keys-file). A name that is not a "
        "provider is refused",
        "/run/secrets/keys.json",
        default_text="none: no signature is checked",
    ),
    Setting(
        "worker_id",
        SettingType.TEXT,
        "all roles",
        "Kafka's `group.instance.id`: a worker that comes back under it within 10 s causes no "
        "rebalance. No two live workers of a role may share one. `pitboss run` puts `-<role>-<n>` "
        "behind it: set it where two hosts have one name, or one host runs `pitboss run` twice",
        "rack-7",
        default="",
        default_text="empty; for `pitboss run` the host's name",
    ),
    Setting(
        "resolve_min_age_ms",
        SettingType.NUMBER,
        "`resolve`",
        "The earliest time after parking at which the search for an event's player is given up",
        "60000",
        default=60_000,
        unit="milliseconds",
    ),
    Setting(
        "park",
        SettingType.NAMES,
        "`normalise`",
        "Providers whose players wait behind a dead letter of theirs, comma-separated; with `none` "
        "(in the file: an empty list) waiting records are released and no new player waits. See "
        "[dead-letters.md](../howto/dead-letters.md#parking)",
        "hub88,house",
        default_text="none: no player waits",
    ),
    Setting(
        "park_records_max",
        SettingType.NUMBER,
        "`normalise`",
        "How many records may wait behind one dead letter; more are rejected (`PARK_FULL`)",
        "1000",
        default=1_000,
        unit="records",
    ),
    Setting(
        "park_age_max_ms",
        SettingType.NUMBER,
        "`normalise`",
        "How long they wait at most, by the broker's clock",
        "3600000",
        default=3_600_000,
        unit="milliseconds",
    ),
    Setting(
        "drift_sample",
        SettingType.SHARE,
        "`normalise`",
        "The share of raw records that `drift` compares with their payload schema; of rejected "
        "ones all. See [drift.md](../howto/drift.md)",
        "0.01",
        default=0.01,
    ),
    Setting(
        "fraud_enforce",
        SettingType.NAMES,
        "`fraud`",
        "Severities of alerts that stop their player, comma-separated: `block` blocks, `hold` "
        "keeps money from leaving. "
        "See [fraud.md](../explanation/fraud.md#from-an-alert-to-a-block)",
        "block,hold",
        default_text="none: alerts are only published",
    ),
    Setting(
        "currencies_file",
        SettingType.PATH,
        "everything",
        "Currencies beyond ISO 4217, BTC, ETH, USDT and USDC: a JSON object, code → decimals of "
        "the minor unit, at most 8. The same for every process; a currency's decimals never change",
        "/etc/pitboss/currencies.json",
        default_text="none",
    ),
    Setting(
        "adjust_alone",
        SettingType.AMOUNTS,
        "`pitboss ledger adjust`, `pitboss ledger suspense`",
        "Decides nothing: they refuse to act while it is set. What one person may move alone is "
        "the ledger's own limit (`pitboss ledger limit`)",
        "EUR:100,JPY:15000",
        default_text="none",
        unit="major units",
    ),
    Setting(
        "log_level",
        SettingType.LEVEL,
        "all roles",
        "Level of the workers' logs: `DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`",
        "INFO",
        default="INFO",
    ),
)
"""Every setting of Pitboss, in the order of the reference page."""

BY_NAME: Final[Mapping[str, Setting]] = {setting.name: setting for setting in SETTINGS}


def format_reference(settings: Iterable[Setting] = SETTINGS) -> str:
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
