"""Settings from the environment and one TOML file, which are read here and nowhere else.

A variable of the environment wins over the file that PITBOSS_CONFIG names, the file over the
default; a variable that is set and empty means the default. `pitboss.setting_table` declares the
settings. `StackSettings` is the configuration; `Runtime` has the addresses that follow from it: the
broker, the database and the namespace that a worker needs (`embedded.state.resolve_runtime`). Both
are frozen and passed as arguments.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from pitboss.provider_settings import (
    ALL_PROVIDERS,
    check_brand_owners,
    check_providers,
    format_brands,
)
from pitboss.security_settings import (
    SECRETS,
    read_broker,
    read_database_security,
    server_environment,
)
from pitboss.setting_table import BY_NAME, SETTINGS
from pitboss.setting_types import PARK_NONE, PREFIX, Setting, SettingType
from runtime.security import BrokerAddress
from schemas.errors import UsageError, suggest

NAMESPACE_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,30}")

_BROKER = re.compile(r"(\[[^\s\[\]]+\]|[^\s:/@\[\]]+)(:(?P<port>\d{1,5}))?")
_DATABASE_HOST = re.compile(r"(\[[^\s\[\]]+\]|[^\s:/@\[\]]*)(:(?P<port>\d{0,5}))?")
"""Host and port may both be missing, which means the socket on this machine."""

RAW_PARTITIONS_MAX = 1_000

MAINTENANCE_DATABASE = "postgres"
"""A database that exists on every server, to connect to while another is created or dropped."""


_OTHERS_VARIABLES = re.compile(r"PITBOSS_(TEST_\w+|IMAGE)")
"""Variables of the tests and of infra/kafka-compose.yml."""


@dataclass(frozen=True)
class SettingValue:
    """Value of one setting, and where it is from."""

    setting: Setting
    value: Any
    """None where the default depends on the machine."""
    source: str
    """"default", the variable's name, or the file with the line of its key."""

    @property
    def is_default(self) -> bool:
        """Whether neither the environment nor the file gives the value."""
        return self.source == "default"

    @property
    def place(self) -> str:
        """The variable, or the file with the line and the key, as an error names the setting."""
        if self.source in {"default", self.setting.variable}:
            return self.setting.variable
        return f"{self.source}: {self.setting.name}"


SettingValues = Mapping[str, SettingValue]


def read_foreign(variable: str, environ: Mapping[str, str] | None = None) -> str:
    """Return a variable that another project defines, or an empty text if it is not set."""
    return (os.environ if environ is None else environ).get(variable, "")


def read_values(environ: Mapping[str, str] | None = None) -> SettingValues:
    """Read every setting, by its name.

    Raises UsageError for a file that cannot be read, a key that is not a setting, and a value of
    the wrong type.
    """
    env = os.environ if environ is None else environ
    texts = {setting.name: env.get(setting.variable) for setting in SETTINGS}
    config = texts["config"]
    in_file = _read_file(Path(config).expanduser()) if config else {}
    values = {}
    for setting in SETTINGS:
        text = texts[setting.name]
        if text:
            value = setting.parse_text(text, setting.variable)
            values[setting.name] = SettingValue(setting, value, setting.variable)
        elif text is None and setting.name in in_file:
            values[setting.name] = in_file[setting.name]
        else:
            values[setting.name] = SettingValue(setting, setting.default, "default")
    return values


def _read_file(file: Path) -> dict[str, SettingValue]:
    import tomllib

    try:
        text = file.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"PITBOSS_CONFIG {file} cannot be read: {error}") from error
    known = {setting.name for setting in SETTINGS if setting.is_in_file}
    values = {}
    for key, value in table.items():
        source = f"{file}{_line_of(key, text)}"
        if key not in known:
            raise UsageError(f"{source}: {key!r} is not a setting{suggest(key, known)}")
        setting = BY_NAME[key]
        parsed = setting.parse_toml(value, f"{source}: {key}", file.absolute().parent)
        values[key] = SettingValue(setting, parsed, source)
    return values


def _line_of(key: str, text: str) -> str:
    """Return the place of a top-level key in TOML text, as in ", line 3"; empty if not found."""
    name = re.escape(key)
    found = re.search(rf"""^[ \t]*(\[+[ \t]*)?["']?{name}["']?[ \t]*[=.\]]""", text, re.MULTILINE)
    return "" if found is None else f", line {text.count(chr(10), 0, found.start()) + 1}"


def unknown_variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return each variable that looks like a setting and is not, with a clause for the nearest."""
    env = os.environ if environ is None else environ
    known = {setting.variable for setting in SETTINGS}
    return {
        name: suggest(name, known)
        for name in sorted(env)
        if name.startswith(PREFIX) and name not in known and not _OTHERS_VARIABLES.fullmatch(name)
    }


@dataclass(frozen=True)
class StackSettings:
    """Settings by which the broker and the database are found or started."""

    home: Path
    """Folder of state, data and logs of the embedded servers and of the workers."""
    cache: Path
    """Folder that projects may share and that may be lost at any time: Kafka's jars."""
    kafka: BrokerAddress | None = None
    database: str | None = None
    namespace: str = ""
    maven: str | None = None
    """Repository that Kafka's jars are fetched from, once."""
    values: SettingValues = field(default_factory=dict, compare=False, repr=False)
    """Every setting with its source, for `pitboss doctor`."""

    @property
    def uses_given_servers(self) -> bool:
        """Whether the environment names servers: not ours to start, stop or fill with trials."""
        return self.kafka is not None


def show_values(settings: StackSettings) -> dict[str, str]:
    """Return the effective values of all settings as text for people, without passwords."""
    shown: dict[str, str] = {}
    for name, given in settings.values.items():
        match given.value:
            case None | "":
                shown[name] = given.setting.default_text
            case frozenset() as names:
                shown[name] = ",".join(sorted(names)) or PARK_NONE
            case dict() as brands if given.setting.type is SettingType.BRANDS:
                shown[name] = format_brands(brands)
            case str() as url if name == "gateway_database":
                shown[name] = without_password(url)
            case _ if name in SECRETS:
                shown[name] = "***"
            case dict() as amounts:
                shown[name] = ",".join(f"{code}:{amount}" for code, amount in amounts.items())
            case value:
                shown[name] = str(value)
    shown["home"], shown["cache"] = str(settings.home), str(settings.cache)
    if settings.database is not None:
        shown["database"] = without_password(settings.database)
    return shown


@dataclass(frozen=True)
class Runtime:
    """An existing broker and database server, and the namespace within them."""

    broker: BrokerAddress
    database_url: str
    """URL of the namespace's own database, whether it exists yet or not."""
    namespace: str = ""

    @property
    def prefix(self) -> str:
        """Prefix of the topics and consumer groups of this namespace."""
        return f"{self.namespace}." if self.namespace else ""

    @property
    def database(self) -> str:
        """Name of the namespace's database."""
        return database_name(self.namespace)

    @property
    def maintenance_url(self) -> str:
        """URL of the same server's `postgres` database, for creating and dropping others."""
        return with_database(self.database_url, MAINTENANCE_DATABASE)

    def topic(self, name: str) -> str:
        """Return the topic's name on the broker."""
        return self.prefix + name

    def group(self, name: str) -> str:
        """Return the consumer group's name on the broker."""
        return self.prefix + name


def read_settings(
    environ: Mapping[str, str] | None = None, *, cwd: Path | None = None
) -> StackSettings:
    """Read the settings of the stack. Raises UsageError where they are wrong or contradictory."""
    values = read_values(environ)
    env = os.environ if environ is None else environ
    cache = values["cache"].value or _user_cache(env) / "pitboss"
    kafka, database = values["kafka"].value, values["database"].value
    if (kafka is None) != (database is None):
        present, absent = ("PITBOSS_KAFKA", "PITBOSS_DATABASE")[:: 1 if kafka else -1]
        raise UsageError(
            f"{present} is set but {absent} is not: set both to use your servers, or neither"
        )
    with _naming_place(values["kafka"]):
        _check_brokers(kafka)
    with _naming_place(values["database"]):
        _check_database(database)
    security = read_database_security(values)
    with _naming_place(values["namespace"]):
        namespace = check_namespace(values["namespace"].value)
    return StackSettings(
        home=home_of(values, cwd=cwd),
        cache=cache.expanduser().absolute(),
        kafka=read_broker(values),
        database=None if database is None else security.secure_url(database),
        namespace=namespace,
        maven=values["maven"].value,
        values=values,
    )


def home_of(values: SettingValues, *, cwd: Path | None = None) -> Path:
    """Return the folder of state, data and logs."""
    home: Path = values["home"].value or (cwd or Path.cwd()) / ".pitboss"
    return home.expanduser().absolute()


@contextmanager
def _naming_place(given: SettingValue) -> Iterator[None]:
    """Add the place in the file to a UsageError, which names the variable only."""
    try:
        yield
    except UsageError as error:
        if given.is_default or given.source == given.setting.variable:
            raise
        raise UsageError(f"{given.source}: {error}") from error


def _check_database(url: str | None) -> None:
    if url is not None:
        with_database(url, MAINTENANCE_DATABASE)


def _check_raw_partitions(number: int | None) -> None:
    if number is not None and not 1 <= number <= RAW_PARTITIONS_MAX:
        raise UsageError(
            f"PITBOSS_RAW_PARTITIONS is {number}: give a number from 1 to {RAW_PARTITIONS_MAX:,}"
        )


def _check_brokers(text: str | None) -> None:
    """Raise UsageError for a text that is not a list of addresses; a port may be left out."""
    for address in [] if text is None else text.split(","):
        if not _is_address(_BROKER, address.strip()) and not _is_ipv6(address.strip()):
            raise UsageError(
                f"PITBOSS_KAFKA is {text!r}: write it as host:9092, with commas between several"
            )


def _is_address(form: re.Pattern[str], text: str) -> bool:
    match = form.fullmatch(text)
    return match is not None and int(match["port"] or 1) <= 65_535


def _is_ipv6(text: str) -> bool:
    """Return whether the text is an IPv6 address without brackets, and so without a port."""
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _user_cache(env: Mapping[str, str]) -> Path:
    return Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def check_namespace(namespace: str) -> str:
    """Return the namespace. Raises UsageError if it cannot prefix a topic and name a database."""
    if namespace and not NAMESPACE_PATTERN.fullmatch(namespace):
        raise UsageError(
            f"namespace {namespace!r} is not usable: begin with a lower-case letter, go on with at "
            "most 30 lower-case letters, digits or underscores"
        )
    return namespace


def database_name(namespace: str) -> str:
    """Return the name of a namespace's database."""
    return f"pitboss_{namespace}" if namespace else "pitboss"


def with_database(url: str, database: str) -> str:
    """Return the URL of another database on the same server, with the same credentials.

    Raises UsageError for a text that is not a URL of PostgreSQL.
    """
    # The text itself is not shown: it may contain a password.
    wrong = (
        "PITBOSS_DATABASE is not a URL: write it as postgresql://user:password@host:port/postgres"
    )
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that do not close, or without an IPv6 address
        raise UsageError(wrong) from None
    hosts = parts.netloc.rpartition("@")[2].split(",")
    if parts.scheme not in {"postgresql", "postgres"} or not all(
        _is_address(_DATABASE_HOST, host) for host in hosts
    ):
        raise UsageError(wrong)
    return parts._replace(path=f"/{database}").geturl()


def without_password(url: str) -> str:
    """Return the URL as it may be shown on a screen or in a log."""
    parts = urlsplit(url)
    shown = [
        (name, "***" if name in {"password", "sslpassword"} else value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    parts = parts._replace(query=urlencode(shown, safe="/*", quote_via=quote))
    if parts.password is None:
        return parts.geturl()
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}").geturl()


def runtime_of(broker: BrokerAddress, database_url: str, namespace: str) -> Runtime:
    """Return a runtime on these servers; the URL may name any of the server's databases."""
    check_namespace(namespace)
    return Runtime(broker, with_database(database_url, database_name(namespace)), namespace)


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of a worker process, except the addresses of its servers."""

    worker_id: str = ""
    """Kept over restarts ("host-ledger-1"); empty if the worker was started manually.

    As Kafka's `group_instance_id` it gives a killed worker its partitions back at once.
    """
    keys_file: Path | None = None
    """JSON: provider → key material. A provider without an entry is not checked."""
    keys_place: str = "PITBOSS_KEYS_FILE"
    """Where the keys file is set, for errors; so `currencies_place`."""
    resolve_min_age_ms: int = 60_000
    """An event whose player is not found is given up no sooner than this."""
    log_level: str = "INFO"
    park_providers: frozenset[str] | None = None
    """Providers whose players wait behind dead letters; none: those that wait. None: no table."""
    park_records_max: int = 1_000
    park_age_max_ms: int = 3_600_000
    drift_sample: float = 0.01
    """Share of raw records to compare with their payload schema, 0 to 1; of rejected ones all."""
    fraud_enforce: frozenset[str] | None = None
    """Severities of alerts that stop their player; None: none."""
    currencies_file: Path | None = None
    """JSON: currency code → decimals of its minor unit, in addition to the built-in ones."""
    currencies_place: str = "PITBOSS_CURRENCIES_FILE"
    dialects_file: Path | None = None
    """TOML: provider → setting → value, over the settings of the dialects."""
    dialects_place: str = "PITBOSS_DIALECTS_FILE"
    providers: frozenset[str] | None = None
    """Providers whose raw topics are read, or the one word `all`; None: those that are stored."""
    raw_partitions: int | None = None
    """Partitions of each raw topic; None: the number that is stored."""
    unsigned: frozenset[str] | None = None
    """Providers that may be booked without a key, or the one word `all`; None: as the servers are.
    """
    brands: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Brands by provider, `*` for those that are not named; empty: any brand is taken."""


def read_worker_settings(environ: Mapping[str, str] | None = None) -> WorkerSettings:
    """Read the settings of a worker process. Raises UsageError for a value that is wrong."""
    given = read_values(environ)
    with _naming_place(given["providers"]):
        check_providers(given["providers"].value, BY_NAME["providers"].variable)
    with _naming_place(given["unsigned"]):
        check_providers(given["unsigned"].value or None, BY_NAME["unsigned"].variable)
    with _naming_place(given["brands"]):
        check_brand_owners(given["brands"].value, BY_NAME["brands"].variable)
    with _naming_place(given["raw_partitions"]):
        _check_raw_partitions(given["raw_partitions"].value)
    values = {name: value.value for name, value in given.items()}
    return WorkerSettings(
        worker_id=values["worker_id"],
        keys_file=values["keys_file"],
        keys_place=given["keys_file"].place,
        resolve_min_age_ms=values["resolve_min_age_ms"],
        log_level=values["log_level"],
        park_providers=values["park"],
        park_records_max=values["park_records_max"],
        park_age_max_ms=values["park_age_max_ms"],
        drift_sample=values["drift_sample"],
        fraud_enforce=values["fraud_enforce"],
        currencies_file=values["currencies_file"],
        currencies_place=given["currencies_file"].place,
        dialects_file=values["dialects_file"],
        dialects_place=given["dialects_file"].place,
        providers=values["providers"],
        raw_partitions=values["raw_partitions"],
        brands=values["brands"] or {},
        unsigned=values["unsigned"],
    )


@dataclass(frozen=True)
class OperatorSettings:
    """What the environment states of an operator's rights; the ledger's own limits decide."""

    adjust_alone: Mapping[str, str] = field(default_factory=dict)
    """Amounts in major units by currency. Not used: commands refuse to act while it is set."""


def read_operator_settings(environ: Mapping[str, str] | None = None) -> OperatorSettings:
    """Read the rights of an operator.

    Raises UsageError for a text that is not a list of currencies and amounts.
    """
    return OperatorSettings(read_values(environ)["adjust_alone"].value or {})


def worker_environment(runtime: Runtime, worker: str = "") -> dict[str, str]:
    """Return the environment of a worker subprocess: ours, with the servers it is to use.

    `worker` names it among the workers of this supervisor; without a name it has no id.
    """
    return {
        **os.environ,
        **server_environment(runtime.broker, runtime.database_url),
        "PITBOSS_NAMESPACE": runtime.namespace,
        "PITBOSS_WORKER_ID": _worker_id(worker) if worker else "",
        # Checked by who starts the worker; the worker reads what is stored.
        "PITBOSS_PROVIDERS": "",
        "PITBOSS_RAW_PARTITIONS": "",
        "PITBOSS_UNSIGNED": ALL_PROVIDERS,
    }


def _worker_id(worker: str) -> str:
    """Return an id that differs between hosts, in the characters that Kafka takes."""
    import socket

    host = re.sub(r"[^A-Za-z0-9._-]", "_", socket.gethostname())
    return f"{read_values()['worker_id'].value or host}-{worker}"
