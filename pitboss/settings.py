"""What the environment says, read here and nowhere else, and what follows from it.

A `StackSettings` is what was asked for; a `Runtime` is where it really is: the broker, the database
and the namespace that a worker needs. Both are frozen and passed as arguments.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from schemas.errors import UsageError

NAMESPACE_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,30}")

_BROKER = re.compile(r"(\[[^\s\[\]]+\]|[^\s:/@\[\]]+)(:(?P<port>\d{1,5}))?")
_DATABASE_HOST = re.compile(r"(\[[^\s\[\]]+\]|[^\s:/@\[\]]*)(:(?P<port>\d{0,5}))?")
"""Host and port may both be missing: then it is the socket on this machine."""

PARK_NONE = "none"
"""The value of PITBOSS_PARK under which nobody begins to wait, and what waits already goes on in
its time.
"""

MAINTENANCE_DATABASE = "postgres"
"""Exists on every server; the one to be connected to while another is made or dropped."""


class NoStack(UsageError):
    """No broker and database are running or named."""

    code: ClassVar[str] = "NO_STACK"


@dataclass(frozen=True)
class StackSettings:
    """Where the broker and the database are to be found or started."""

    home: Path
    """State, data and logs of the embedded servers and of the workers."""
    cache: Path
    """What may be shared between projects and lost at any time: Kafka's jars."""
    kafka: str | None = None
    database: str | None = None
    namespace: str = ""
    maven: str | None = None
    """Where Kafka's jars are fetched from, once."""
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    """For `pitboss doctor`: where each value came from."""

    @property
    def uses_given_servers(self) -> bool:
        """Whether the environment names servers that are not ours to start, stop or fill with
        trials.
        """
        return self.kafka is not None


@dataclass(frozen=True)
class Runtime:
    """A broker and a database that are there, and the namespace within them."""

    bootstrap_servers: str
    database_url: str
    """Of the namespace's own database, whether it exists yet or not."""
    namespace: str = ""

    @property
    def prefix(self) -> str:
        """What topics and consumer groups of this namespace begin with."""
        return f"{self.namespace}." if self.namespace else ""

    @property
    def database(self) -> str:
        """The name of the namespace's database."""
        return database_name(self.namespace)

    @property
    def maintenance_url(self) -> str:
        """The same server's `postgres` database, from which others are made and dropped."""
        return with_database(self.database_url, MAINTENANCE_DATABASE)

    def topic(self, name: str) -> str:
        """The topic's name on the broker."""
        return self.prefix + name

    def group(self, name: str) -> str:
        """The consumer group's name on the broker."""
        return self.prefix + name


def read_settings(
    environ: Mapping[str, str] | None = None, *, cwd: Path | None = None
) -> StackSettings:
    """Read the settings of the stack; raises `UsageError` where they contradict each other."""
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
    """Raises `UsageError` for what is no list of addresses; without a port it is Kafka's own."""
    for address in text.split(","):
        if not _is_address(_BROKER, address.strip()) and not _is_ipv6(address.strip()):
            raise UsageError(
                f"PITBOSS_KAFKA is {text!r}: write it as host:9092, with commas between several"
            )


def _is_address(form: re.Pattern[str], text: str) -> bool:
    match = form.fullmatch(text)
    return match is not None and int(match["port"] or 1) <= 65_535


def _is_ipv6(text: str) -> bool:
    """An address without brackets, and so without a port."""
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _user_cache(env: Mapping[str, str]) -> Path:
    return Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def check_namespace(namespace: str) -> str:
    """Return the namespace; raises `UsageError` if it cannot prefix a topic and name a database."""
    if namespace and not NAMESPACE_PATTERN.fullmatch(namespace):
        raise UsageError(
            f"namespace {namespace!r} is not usable: begin with a lower-case letter, go on with at most 30 "
            "lower-case letters, digits or underscores"
        )
    return namespace


def database_name(namespace: str) -> str:
    """The database that belongs to a namespace."""
    return f"pitboss_{namespace}" if namespace else "pitboss"


def with_database(url: str, database: str) -> str:
    """The same server and credentials, another database.

    Raises `UsageError` for what is no URL of PostgreSQL's.
    """
    # Its text is not shown: there may be a password in it.
    wrong = (
        "PITBOSS_DATABASE is not a URL: write it as postgresql://user:password@host:port/postgres"
    )
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that do not close, or hold no IPv6 address
        raise UsageError(wrong) from None
    hosts = parts.netloc.rpartition("@")[2].split(",")
    if parts.scheme not in {"postgresql", "postgres"} or not all(
        _is_address(_DATABASE_HOST, host) for host in hosts
    ):
        raise UsageError(wrong)
    return parts._replace(path=f"/{database}").geturl()


def without_password(url: str) -> str:
    """The URL as it may be shown on a screen or in a log."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}").geturl()


def runtime_of(kafka: str, database_url: str, namespace: str) -> Runtime:
    """A runtime on the given servers; the URL may name any of the server's databases."""
    checked = check_namespace(namespace)
    return Runtime(kafka, with_database(database_url, database_name(checked)), checked)


def resolve_runtime(settings: StackSettings) -> Runtime:
    """Find the servers: those the environment names, else the embedded ones; raises `NoStack`.

    Only finds them: whether a given server answers is known on first use, and `pitboss up` starts
    the embedded.
    """
    if settings.kafka is not None and settings.database is not None:
        return runtime_of(settings.kafka, settings.database, settings.namespace)
    from pitboss.state import read_state

    state = read_state(settings.home)
    if state is None or not state.is_running:
        away = "no stack was started" if state is None else "the stack is not running (any more)"
        raise NoStack(
            f"{away} under {settings.home}: run `pitboss up`, or set PITBOSS_KAFKA and PITBOSS_DATABASE"
        )
    return runtime_of(state.kafka_bootstrap, state.database_url, settings.namespace)


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker process is told besides where its servers are."""

    worker_id: str = ""
    """Kept over restarts ("host-ledger-1"), empty if the worker was started by hand. As Kafka's
    `group_instance_id` it lets a worker that was killed have its partitions back at once.
    """
    keys_file: Path | None = None
    """JSON: provider → key material. A provider without an entry is not checked."""
    resolve_min_age_ms: int = 60_000
    """An event whose player is not found is given up no sooner than this."""
    log_level: str = "INFO"
    park_providers: frozenset[str] | None = None
    """Whose players wait behind a dead letter of theirs; none of them: only what waits already;
    None: no park table.
    """
    park_records_max: int = 1_000
    park_age_max_ms: int = 3_600_000
    drift_sample: float = 0.01
    """The share of raw records that is held against its payload schema, 0 to 1; of rejected ones it
    is all.
    """
    currencies_file: Path | None = None
    """JSON: currency code → decimals of its minor unit, beyond those that are built in."""


def read_worker_settings(environ: Mapping[str, str] | None = None) -> WorkerSettings:
    """Read what a worker process is told; raises `UsageError` for a number that is none."""
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


@dataclass(frozen=True)
class OperatorSettings:
    """What people at the command line may do."""

    adjust_alone: Mapping[str, str] = field(default_factory=dict)
    """By currency the largest adjustment, in major units, that one person makes alone; of others
    two people's.
    """


def read_operator_settings(environ: Mapping[str, str] | None = None) -> OperatorSettings:
    """Read what people may do; raises `UsageError` for what is no list of currencies and amounts."""
    env = os.environ if environ is None else environ
    text = env.get("PITBOSS_ADJUST_ALONE", "")
    alone = dict(part.strip().partition(":")[::2] for part in text.split(",") if part.strip())
    for currency, amount in alone.items():
        if not re.fullmatch(r"[A-Z][A-Z0-9]{2,9}", currency) or not re.fullmatch(
            r"\d+(\.\d+)?", amount
        ):
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
    """The whole environment of a worker subprocess: ours, with the servers it is to use.

    `worker` names it among those of this supervisor; without, it has no id.
    """
    return {
        **os.environ,
        "PITBOSS_KAFKA": runtime.bootstrap_servers,
        "PITBOSS_DATABASE": runtime.database_url,
        "PITBOSS_NAMESPACE": runtime.namespace,
        "PITBOSS_WORKER_ID": _worker_id(worker) if worker else "",
    }


def _worker_id(worker: str) -> str:
    """An id that a worker of the same name on another host has not, in the characters that Kafka
    takes.
    """
    host = re.sub(r"[^A-Za-z0-9._-]", "_", socket.gethostname())
    return f"{os.environ.get('PITBOSS_WORKER_ID') or host}-{worker}"
