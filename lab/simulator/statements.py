"""Handlers of the ledger's named SQL statements over the tables in memory.

The columns that a statement reads, writes, joins by or replaces by are taken from its text, so that
SQL and handler cannot drift apart unnoticed. A statement without a handler stops the simulation.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from typing import Any, Final

from lab.simulator.postgres_text import rows_of, values_of
from lab.simulator.tables import Row, Server, SimulatedSession
from ledger_sink.store.statements import statements
from runtime.postgres.database import DemandFailed
from schemas.errors import InvariantBroken

FILES: Final = ("ledger", "positions", "resolver")

_LIST: Final = re.compile(r"SELECT\s+(?:DISTINCT\s+)?(.*?)\s+FROM\b", re.DOTALL)
_TARGET: Final = re.compile(r"(?:INSERT INTO|COPY)\s+(\w+)(?:\s+AS\s+\w+)?\s*\((.*?)\)", re.DOTALL)
_ARRAY: Final = re.compile(r"%\((\w+)\)s::(\w+)\[\]")
_COMMENT: Final = re.compile(r"--.*")
_JOINED: Final = re.compile(r"\bt\.(\w+)\s*=\s*wanted\.(\w+)")
_REPLACED: Final = re.compile(
    r"\bDO UPDATE\b.*\bWHERE\s+\w+\.(\w+)\s*(?:<\s*excluded\.\w+|=\s*'(\w+)')", re.DOTALL
)


@dataclass(frozen=True)
class StatementResult:
    """Result of a statement: rows in the order of its columns, and how many rows it affected."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)
    count: int = 0


Parameters = Mapping[str, Any]
Handler = Callable[[Server, SimulatedSession, str, Parameters], Awaitable[StatementResult]]


@cache
def name_of(statement: str) -> str:
    """Return `file.name` of a statement. Raises InvariantBroken for SQL without a name."""
    for file in FILES:
        for name, text in statements(file).items():
            if text == statement:
                return f"{file}.{name}"
    message = f"the simulator does not know this statement: {statement[:80]}"
    raise InvariantBroken(message)


@cache
def is_setting(statement: str) -> bool:
    """Return whether a statement only sets a planner option, which has no effect here."""
    return _COMMENT.sub("", statement).strip().startswith("SET LOCAL enable_")


@cache
def _result_columns(statement: str) -> tuple[str, ...]:
    match = _LIST.search(_COMMENT.sub("", statement))
    assert match is not None, statement
    return tuple(
        re.sub(r"^\w+\.|::\w+$", "", column.strip()).removesuffix("::text")
        for column in match[1].split(",")
    )


@cache
def target_of(statement: str) -> tuple[str, tuple[str, ...]]:
    """Return the table and the columns that an INSERT or a COPY names."""
    match = _TARGET.search(_COMMENT.sub("", statement))
    assert match is not None, statement
    return match[1], tuple(column.strip() for column in match[2].split(","))


@cache
def arrays_of(statement: str) -> tuple[tuple[str, str], ...]:
    """Return name and element type of a statement's array parameters."""
    return tuple(dict.fromkeys(_ARRAY.findall(_COMMENT.sub("", statement))))


def select_columns(statement: str, rows: list[Row]) -> StatementResult:
    """Return the columns that a statement selects from rows."""
    columns = _result_columns(statement)
    return StatementResult(
        [tuple(row.get(column) for column in columns) for row in rows], len(rows)
    )


def unnest_rows(statement: str, parameters: Parameters) -> list[tuple[Any, ...]]:
    """Return the rows that `unnest` makes of a statement's array parameters."""
    columns = [values_of(parameters[name], kind) for name, kind in arrays_of(statement)]
    return list(zip(*columns, strict=True))


async def _insert(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del server
    table, columns = target_of(statement)
    rows = [
        dict(zip(columns, values, strict=True)) for values in unnest_rows(statement, parameters)
    ]
    session.inserts += [(table, row) for row in rows]
    return StatementResult(count=len(rows))


async def _insert_lines(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del server
    table, columns = target_of(statement)
    if parameters["lines"].count("\\") != parameters["lines"].count("\\N"):
        message = f"string_to_array cannot unquote: {parameters['lines']}"
        raise InvariantBroken(message)
    rows = list(rows_of(parameters["lines"] + "\n", columns))
    session.inserts += [(table, row) for row in rows]
    return StatementResult(count=len(rows))


def lookup_handler(table: str, column: str, parameter: str) -> Handler:
    """Return a handler that finds rows by the values of one column."""

    async def handler(
        server: Server, session: SimulatedSession, statement: str, parameters: Parameters
    ) -> StatementResult:
        del session
        wanted = values_of(parameters[parameter], "text")
        found = server.tables[table]
        if found.key == (column,):
            return select_columns(
                statement, [found.rows[(value,)] for value in wanted if (value,) in found.rows]
            )
        return select_columns(
            statement,
            list(chain.from_iterable(found.find((column,), (value,)) for value in wanted)),
        )

    return handler


async def _known_entries(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del session
    found = server.tables["entry"]
    ids = sorted(set(values_of(parameters["event_ids"], "uuid")))
    rows = [
        sorted(found.find(("event_id",), (event_id,)), key=lambda row: row["decision"])
        for event_id in ids
    ]
    return select_columns(statement, list(chain.from_iterable(rows)))


async def _known_repeats(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del session
    rows = [
        row
        for event_id, offset in unnest_rows(statement, parameters)
        for row in server.tables["repeat"].find(("event_id",), (event_id,))
        if row["attempt_offset"] == offset
    ]
    return select_columns(statement, rows)


async def _transfers_of(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del session
    joined = _join_columns(statement)
    found = []
    for event_id, decision, player, currency, first, last in unnest_rows(statement, parameters):
        wanted = {
            "event_id": event_id,
            "decision": decision,
            "player_id": player,
            "currency": currency,
        }
        transfers = server.tables["transfer"].find(("player_id", "currency"), (player, currency))
        rows = [row for row in transfers if first <= row["version"] <= last]
        if parameters["months"] is not None:
            rows = [row for row in rows if row["month"] in parameters["months"]]
        rows = [row for row in rows if all(row[own] == wanted[other] for own, other in joined)]
        rows.sort(key=lambda row: row["version"])
        found += [{**row, "event_id": event_id, "decision": decision} for row in rows]
    return select_columns(statement, found)


@cache
def _join_columns(statement: str) -> tuple[tuple[str, str], ...]:
    """Return the columns by which transfers are joined, each with the wanted column."""
    return tuple(_JOINED.findall(_COMMENT.sub("", statement)))


async def _months_away(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    """Return that none is: these tables have no archived months."""
    del server, session, statement, parameters
    return StatementResult([(0,)], 1)


@cache
def _replace_condition(statement: str) -> tuple[str, str | None] | None:
    """Return the condition of DO UPDATE: a column that must grow, or must have a value.

    The value is None for a column that must grow; the result is None without a condition.
    """
    match = _REPLACED.search(_COMMENT.sub("", statement))
    return None if match is None else (match[1], match[2])


def _may_replace(statement: str, old: Row, new: Row) -> bool:
    condition = _replace_condition(statement)
    if condition is None:
        return True
    column, value = condition
    return bool(old[column] < new[column] if value is None else old[column] == value)


def _upsert(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    """Insert or replace rows by key, if the statement's condition allows it."""
    name, columns = target_of(statement)
    table, count = server.tables[name], 0
    for values in unnest_rows(statement, parameters):
        new = dict(zip(columns, values, strict=True))
        old = table.rows.get(table.key_of(new))
        if old is None:
            session.inserts.append((name, new))
        elif _may_replace(statement, old, new):
            session.changes.append(partial(old.update, new))
        else:
            continue
        count += 1
    return StatementResult(count=count)


async def _upsert_rows(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    return _upsert(server, session, statement, parameters)


async def _known_limits(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del session, parameters
    return select_columns(statement, list(server.tables["operator_limit"].rows.values()))


async def _delete_open_items(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del statement
    for event_id in parameters["event_ids"]:
        session.changes.append(partial(server.tables["open_item"].delete, (event_id,)))
    return StatementResult(count=len(parameters["event_ids"]))


def position_keys(parameters: Parameters) -> list[tuple[Any, ...]]:
    """Return the keys of the positions that a statement names."""
    return [
        (parameters["consumer"], parameters["topic"], partition)
        for partition in values_of(parameters["parts"], "int")
    ]


async def _lock_positions(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    return await _lock_keys(server, session, statement, position_keys(parameters))


async def _lock_keys(
    server: Server, session: SimulatedSession, statement: str, wanted: list[tuple[Any, ...]]
) -> StatementResult:
    keys = sorted(key for key in wanted if key in server.tables["stream_position"].rows)
    await server.lock(session, keys)
    return select_columns(statement, [server.tables["stream_position"].rows[key] for key in keys])


async def _lock_all_positions(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    wanted = (parameters["consumer"], parameters["topic"])
    keys = [key for key in server.tables["stream_position"].rows if key[:2] == wanted]
    return await _lock_keys(server, session, statement, keys)


async def _crossings(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del session, parameters
    return select_columns(statement, list(server.tables["crossing"].rows.values()))


async def _cross(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del statement, parameters
    [row] = server.tables["crossing"].rows.values()

    def count() -> None:
        row["count"] += 1

    session.changes.append(count)
    return StatementResult(count=1)


async def _advance(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    count = 0
    arrays = [name for name, _ in arrays_of(statement)]
    for values in unnest_rows(statement, parameters):
        wanted = dict(zip(arrays, values, strict=True))
        key = (parameters["consumer"], parameters["topic"], wanted["parts"])
        row = server.tables["stream_position"].rows[key]
        if row["next_offset"] != wanted["froms"] or row["epoch"] != wanted["epochs"]:
            continue
        new = {"next_offset": wanted["nexts"]}
        if wanted["timestamps"] is not None:
            new |= {"last_timestamp_ms": wanted["timestamps"], "last_checksum": wanted["checksums"]}
        session.changes.append(partial(_move_position, server, session, key, row, new))
        count += 1
    return StatementResult(count=count)


def _move_position(
    server: Server, session: SimulatedSession, key: tuple[Any, ...], row: Row, new: Row
) -> None:
    if server.claimed_by.get(key) != session.owner:
        where = f"{key[1]}-{key[2]}@{row['next_offset']}"
        server.violations.append(
            f"{where}: {session.owner} wrote what {server.claimed_by.get(key)} has claimed"
        )
    row.update(new)


def _demanding(handler: Handler) -> Handler:
    """Return a handler that fails unless every row of the statement's arrays was written."""

    async def demanded(
        server: Server, session: SimulatedSession, statement: str, parameters: Parameters
    ) -> StatementResult:
        result = await handler(server, session, statement, parameters)
        wanted = len(unnest_rows(statement, parameters))
        if result.count != wanted:
            raise DemandFailed(f"{result.count} of {wanted} rows were written")
        return StatementResult([(None,)], 1)

    return demanded


async def _demand_positions(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    await _lock_keys(server, session, statement, position_keys(parameters))
    froms, epochs = (values_of(parameters[name], "bigint") for name in ("froms", "epochs"))
    wanted = zip(position_keys(parameters), froms, epochs, strict=True)
    for key, from_offset, epoch in wanted:
        row = server.tables["stream_position"].rows.get(key)
        if row is None or (row["next_offset"], row["epoch"]) != (from_offset, epoch):
            raise DemandFailed("a position is not where it was")
    return StatementResult([(None, "off")], 1)


async def _demand_unknown(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del session, statement
    for event_id in values_of(parameters["event_ids"], "uuid"):
        for table in ("entry", "closing"):
            if server.tables[table].find(("event_id",), (event_id,)):
                raise DemandFailed("an event is known already")
    return StatementResult([(None,)], 1)


async def _write_unread(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    """Do what the statements do that this one is put together from."""
    wallets = {name: parameters[f"wallet_{name}"] for name in ("event_ids", "parts", "offsets")}
    await _demand_unknown(server, session, statement, parameters)
    steps: list[tuple[Handler, str, Parameters]] = [
        (_insert_lines, "insert_entries", {"lines": parameters["entries"]}),
        (_insert_lines, "insert_transfers", {"lines": parameters["transfers"]}),
        (_demanding(_upsert_rows), "upsert_wallets", {**parameters, **wallets}),
        (_insert, "insert_batches", parameters),
        (_demanding(_advance), "advance_positions", parameters),
    ]
    for handler, name, columns in steps:
        if columns.get("lines") != "":
            await handler(server, session, statements("ledger")[name], columns)
    return StatementResult([(None, None, None)], 1)


BOOKING: Final[dict[str, Handler]] = {
    "ledger.lock_positions": _lock_positions,
    "ledger.lock_all_positions": _lock_all_positions,
    "ledger.demand_positions": _demand_positions,
    "ledger.demand_unknown": _demand_unknown,
    "ledger.write_unread": _write_unread,
    "ledger.crossings": _crossings,
    "ledger.cross": _cross,
    "ledger.known_entries": _known_entries,
    "ledger.known_closings": lookup_handler("closing", "event_id", "event_ids"),
    "ledger.known_wallets": lookup_handler("wallet", "player_id", "players"),
    "ledger.known_states": lookup_handler("player_state", "player_id", "players"),
    "ledger.known_repeats": _known_repeats,
    "ledger.transfers_of": _transfers_of,
    "ledger.months_away": _months_away,
    "ledger.insert_entries": _insert_lines,
    "ledger.insert_transfers": _insert_lines,
    "ledger.insert_repeats": _insert_lines,
    "ledger.insert_closings": _demanding(_upsert_rows),
    "ledger.insert_proposals": _insert,
    "ledger.insert_opened_deposits": _insert,
    "ledger.known_opened_deposits": lookup_handler("opened_deposit", "event_id", "event_ids"),
    "ledger.known_proposals": lookup_handler("proposal", "event_id", "event_ids"),
    "ledger.known_open_items": lookup_handler("open_item", "event_id", "event_ids"),
    "ledger.known_limits": _known_limits,
    "ledger.delete_open_items": _delete_open_items,
    "ledger.upsert_open_items": _upsert_rows,
    "ledger.upsert_limits": _upsert_rows,
    "ledger.upsert_wallets": _demanding(_upsert_rows),
    "ledger.upsert_states": _upsert_rows,
    "ledger.insert_batches": _insert,
    "ledger.advance_positions": _demanding(_advance),
}
