"""Settings from the environment, which is read here and nowhere else.

`StackSettings` is the configuration; `Runtime` has the addresses that follow from it: the broker,
the database and the namespace that a worker needs (`embedded.state.resolve_runtime`). Both are
frozen and passed as arguments.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from schemas.errors import UsageError

NAMESPACE_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,30}")

_BROKER = re.compile(r"(\[[^\s\[\]]+\]|[^\s:/@\[\]]+)(:(?P<port>\d{1,5}))?")
_DATABASE_HOST = re.compile(r"(\[[^\s\[\]]+\]|[^\s:/@\[\]]*)(:(?P<port>\d{0,5}))?")
"""Host and port may both be missing, which means the socket on this machine."""

PARK_NONE = "none"
"""Value of PITBOSS_PARK under which no player begins to wait, and waiting records are released."""

_JSON_KINDS = {
    list: "a list",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}

MAINTENANCE_DATABASE = "postgres"
"""A database that exists on every server, to connect to while another is created or dropped."""


@dataclass(frozen=True)
class StackSettings:
    """Settings by which the broker and the database are found or started."""

    home: Path
    """Folder of state, data and logs of the embedded servers and of the workers."""
    cache: Path
    """Folder that projects may share and that may be lost at any time: Kafka's jars."""
    kafka: str | None = None
    database: str | None = None
    namespace: str = ""
    maven: str | None = None
    """Repository that Kafka's jars are fetched from, once."""
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Source of each value, for `pitboss doctor`."""

    @property
    def uses_given_servers(self) -> bool:
        """Whether the environment names servers: not ours to start, stop or fill with trials."""
        return self.kafka is not None


@dataclass(frozen=True)
class Runtime:
    """An existing broker and database server, and the namespace within them."""

    bootstrap_servers: str
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
    env = os.environ if environ is None else environ
    home = Path(env.get("PITBOSS_HOME") or (cwd or Path.cwd()) / ".pitboss")
    cache = env.get("PITBOSS_CACHE")
    kafka, database = env.get("PITBOSS_KAFKA") or None, env.get("PITBOSS_DATABASE") or None
    if (kafka is None) != (database is None):
        present, absent = ("PITBOSS_KAFKA", "PITBOSS_DATABASE")[:: 1 if kafka else -1]
        raise UsageError(
            f"{present} is set but {absent} is not: set both to use your servers, or neither"
        )
    if kafka is not None:
        _check_brokers(kafka)
    if database is not None:
        with_database(database, MAINTENANCE_DATABASE)
    names = ("HOME", "CACHE", "KAFKA", "DATABASE", "NAMESPACE", "MAVEN")
    return StackSettings(
        home=home.expanduser().absolute(),
        cache=(Path(cache) if cache else _user_cache(env) / "pitboss").expanduser().absolute(),
        kafka=kafka,
        database=database,
        namespace=check_namespace(env.get("PITBOSS_NAMESPACE", "")),
        maven=env.get("PITBOSS_MAVEN") or None,
        sources={
            n.lower(): f"PITBOSS_{n}" if env.get(f"PITBOSS_{n}") else "default" for n in names
        },
    )


def _check_brokers(text: str) -> None:
    """Raise UsageError for a text that is not a list of addresses; a port may be left out."""
    for address in text.split(","):
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
    if parts.password is None:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}").geturl()


def runtime_of(kafka: str, database_url: str, namespace: str) -> Runtime:
    """Return a runtime on these servers; the URL may name any of the server's databases."""
    check_namespace(namespace)
    return Runtime(kafka, with_database(database_url, database_name(namespace)), namespace)


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of a worker process, except the addresses of its servers."""

    worker_id: str = ""
    """Kept over restarts ("host-ledger-1"); empty if the worker was started manually.

    As Kafka's `group_instance_id` it gives a killed worker its partitions back at once.
    """
    keys_file: Path | None = None
    """JSON: provider → key material. A provider without an entry is not checked."""
    resolve_min_age_ms: int = 60_000
    """An event whose player is not found is given up no sooner than this."""
    log_level: str = "INFO"
    park_providers: frozenset[str] | None = None
    """Providers whose players wait behind a dead letter of theirs.

    An empty set: only records that wait already. None: no park table.
    """
    park_records_max: int = 1_000
    park_age_max_ms: int = 3_600_000
    drift_sample: float = 0.01
    """Share of raw records to compare with their payload schema, 0 to 1; of rejected ones all."""
    currencies_file: Path | None = None
    """JSON: currency code → decimals of its minor unit, in addition to the built-in ones."""


def read_worker_settings(environ: Mapping[str, str] | None = None) -> WorkerSettings:
    """Read the settings of a worker process. Raises UsageError for a value that is not a number."""
    env = os.environ if environ is None else environ
    keys_file, currencies_file = env.get("PITBOSS_KEYS_FILE"), env.get("PITBOSS_CURRENCIES_FILE")
    return WorkerSettings(
        worker_id=env.get("PITBOSS_WORKER_ID", ""),
        keys_file=Path(keys_file) if keys_file else None,
        resolve_min_age_ms=_number(env, "PITBOSS_RESOLVE_MIN_AGE_MS", 60_000, "milliseconds"),
        log_level=env.get("PITBOSS_LOG_LEVEL", "INFO").upper(),
        park_providers=_park_providers(env.get("PITBOSS_PARK")),
        park_records_max=_number(env, "PITBOSS_PARK_RECORDS_MAX", 1_000, "a number of records"),
        park_age_max_ms=_number(env, "PITBOSS_PARK_AGE_MAX_MS", 3_600_000, "milliseconds"),
        drift_sample=_share(env, "PITBOSS_DRIFT_SAMPLE", 0.01),
        currencies_file=Path(currencies_file) if currencies_file else None,
    )


def read_keyring(worker: WorkerSettings) -> Mapping[str, Any]:
    """Read the key material by provider. Raises UsageError for a file that cannot be read."""
    return _read_object(worker.keys_file, "PITBOSS_KEYS_FILE", "providers to keys")


def read_currencies(worker: WorkerSettings) -> Mapping[str, Any]:
    """Read the decimals of the currencies that this installation adds, by currency.

    Raises UsageError for a file that cannot be read.
    """
    return _read_object(worker.currencies_file, "PITBOSS_CURRENCIES_FILE", "currencies to decimals")


def _read_object(file: Path | None, name: str, content: str) -> Mapping[str, Any]:
    if file is None:
        return {}
    try:
        value = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        message = f"{name} {file} cannot be read: {error}"
        raise UsageError(message) from error
    if not isinstance(value, dict):
        kind = _JSON_KINDS[type(value)]
        message = f"{name} {file}: expected a JSON object that maps {content}, got {kind}"
        raise UsageError(message)
    return value


@dataclass(frozen=True)
class OperatorSettings:
    """Rights of an operator at the command line."""

    adjust_alone: Mapping[str, str] = field(default_factory=dict)
    """Largest adjustment that one operator makes alone, in major units, by currency.

    A larger one, or one in another currency, needs two operators.
    """


def read_operator_settings(environ: Mapping[str, str] | None = None) -> OperatorSettings:
    """Read the rights of an operator.

    Raises UsageError for a text that is not a list of currencies and amounts.
    """
    env = os.environ if environ is None else environ
    text = env.get("PITBOSS_ADJUST_ALONE", "")
    items = [item.strip() for item in text.split(",")]
    alone = dict(item.partition(":")[::2] for item in items if item)
    for currency, amount in alone.items():
        is_code = re.fullmatch(r"[A-Z][A-Z0-9]{2,9}", currency)
        if not is_code or not re.fullmatch(r"\d+(\.\d+)?", amount):
            raise UsageError(f"PITBOSS_ADJUST_ALONE is {text!r}: write it as in EUR:100,JPY:15000")
    return OperatorSettings(alone)


def _number(env: Mapping[str, str], name: str, default: int, what: str) -> int:
    text = env.get(name, str(default))
    if not text.isdecimal():
        raise UsageError(f"{name} is {text!r}: give {what}, as in {default}")
    return int(text)


def _share(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name) or str(default)
    if not re.fullmatch(r"0(\.\d+)?|1(\.0+)?", text, re.ASCII):
        raise UsageError(f"{name} is {text!r}: give a share from 0 to 1, as in {default}")
    return float(text)


def _park_providers(text: str | None) -> frozenset[str] | None:
    if not text:
        return None
    return (
        frozenset()
        if text == PARK_NONE
        else frozenset(name.strip() for name in text.split(",") if name.strip())
    )


def worker_environment(runtime: Runtime, worker: str = "") -> dict[str, str]:
    """Return the environment of a worker subprocess: ours, with the servers it is to use.

    `worker` names it among the workers of this supervisor; without a name it has no id.
    """
    return {
        **os.environ,
        "PITBOSS_KAFKA": runtime.bootstrap_servers,
        "PITBOSS_DATABASE": runtime.database_url,
        "PITBOSS_NAMESPACE": runtime.namespace,
        "PITBOSS_WORKER_ID": _worker_id(worker) if worker else "",
    }


def _worker_id(worker: str) -> str:
    """Return an id that differs between hosts, in the characters that Kafka takes."""
    host = re.sub(r"[^A-Za-z0-9._-]", "_", socket.gethostname())
    return f"{os.environ.get('PITBOSS_WORKER_ID') or host}-{worker}"
