"""Earlier moments of a database, taken while workers use it: what a point-in-time restore gives in production."""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg
from psycopg import Connection, sql

from ledger_sink.store.migrate import migrate
from pitboss.embedded.databases import copy_database, create_database, drop_database
from pitboss.settings import Runtime, runtime_of
from replay.log.broker import BrokerLog
from schemas import codec
from schemas.events import WalletOutcome
from schemas.topics import OUTCOMES

BOOKED = (
    "entry",
    "repeat",
    "transfer",
    "wallet",
    "closing",
    "player_state",
    "proposal",
    "opened_deposit",
    "open_item",
    "operator_limit",
)
"""Tables that the log determines, whatever the order of commits was."""


def take_backup(runtime: Runtime, name: str) -> Runtime:
    """Copy every table as of one moment into a database of its own."""
    copy = runtime_of(runtime.broker, runtime.database_url, f"{runtime.namespace}_{name}")
    create_database(copy)
    migrate(copy.database_url)
    with psycopg.connect(runtime.database_url) as source, psycopg.connect(copy.database_url) as to:
        source.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        to.execute("SET session_replication_role = replica")
        for table in _tables(source):
            to.execute(sql.SQL("TRUNCATE {} CASCADE").format(table))
        for table in _tables(source):
            _copy(source, to, table)
        for table, column in _identities(source):
            to.execute(
                sql.SQL(
                    "SELECT setval(pg_get_serial_sequence({}, {}), coalesce(max({}), 0) + 1, false) FROM {}"
                ).format(
                    sql.Literal(table.as_string(to)),
                    sql.Literal(column),
                    sql.Identifier(column),
                    table,
                )
            )
    return copy


def restore_backup(runtime: Runtime, copy: Runtime) -> None:
    """Put the installation's database back to the moment of a copy."""
    drop_database(runtime)
    copy_database(copy, runtime)


def booked_rows(runtime: Runtime) -> dict[str, list[str]]:
    """Return every row of the tables that the log determines."""
    with psycopg.connect(runtime.database_url) as connection:
        return {
            table: [row for (row,) in connection.execute(_ROWS.format(sql.Identifier(table)))]
            for table in BOOKED
        }


_ROWS = sql.SQL("SELECT t::text FROM {} t ORDER BY 1")
_LISTED: LiteralString = """
    SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname IN ('public', 'dead_letters')
"""


def _tables(connection: Connection[Any]) -> list[sql.Identifier]:
    return [sql.Identifier(schema, name) for schema, name in connection.execute(_LISTED)]


def _identities(connection: Connection[Any]) -> list[tuple[sql.Identifier, str]]:
    rows = connection.execute(
        "SELECT table_schema, table_name, column_name FROM information_schema.columns"
        " WHERE is_identity = 'YES' AND table_schema IN ('public', 'dead_letters')"
    )
    return [(sql.Identifier(schema, table), column) for schema, table, column in rows]


def _copy(source: Connection[Any], to: Connection[Any], table: sql.Identifier) -> None:
    read = sql.SQL("COPY (SELECT * FROM {}) TO STDOUT (FORMAT binary)").format(table)
    columns = source.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(table)).description or ()
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
    write = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(table, names)
    with source.cursor().copy(read) as out, to.cursor().copy(write) as into:
        for data in out:
            into.write(data)


def booked_meaning(runtime: Runtime) -> dict[str, list[str]]:
    """Return the same rows without their places in the log, which differ where the log's offsets do."""
    places = "to_jsonb(t) - 'part' - 'source_offset' - 'decided_at_ms' - 'opened_at_ms'"
    query = sql.SQL("SELECT (" + places + ")::text FROM {} t ORDER BY 1")
    with psycopg.connect(runtime.database_url) as connection:
        return {
            table: [row for (row,) in connection.execute(query.format(sql.Identifier(table)))]
            for table in BOOKED
        }


Answer = tuple[str, str, str | None, int | None, int | None]


def given_answers(runtime: Runtime) -> dict[tuple[str, int, int], set[Answer]]:
    """Return what connectors were told, by event and place of the attempt; a resent answer counts once."""
    topic, decode = runtime.topic(OUTCOMES), codec.decoder(WalletOutcome)
    found: dict[tuple[str, int, int], set[Answer]] = {}
    with BrokerLog(runtime.broker) as source:
        for partition, (begin, end) in source.bounds(topic).items():
            for block in source.read(topic, partition, begin, end):
                for one in (decode(value or b"") for value in block.values):
                    key = one.event_id, one.attempt.partition, one.attempt.offset
                    answer = one.outcome, one.reason, one.currency, one.balance_minor, one.version
                    found.setdefault(key, set()).add(answer)
    return found
