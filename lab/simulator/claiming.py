"""Handlers of the statements for claims and for the publisher; see `statements`."""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from lab.simulator.statements import (
    Handler,
    Parameters,
    StatementResult,
    arrays_of,
    lookup_handler,
    position_keys,
    select_columns,
    unnest_rows,
)
from lab.simulator.tables import Server, SimulatedSession


async def _epochs(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del session
    rows = server.tables["stream_position"].rows
    return select_columns(
        statement, [rows[key] for key in position_keys(parameters) if key in rows]
    )


async def _claim(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    keys = sorted(position_keys(parameters))
    await server.lock(session, keys)
    columns = [column.strip() for column in statement.rpartition("RETURNING")[2].split(",")]
    rows = []
    for key in keys:
        consumer, topic, partition = key
        old = server.tables["stream_position"].rows.get(key)
        if old is None:
            new = {
                "consumer": consumer,
                "topic": topic,
                "part": partition,
                "next_offset": 0,
                "published_offset": 0,
                "epoch": 1,
            }
            session.inserts.append(("stream_position", new))
        else:
            new = {**old, "epoch": old["epoch"] + 1}
            session.changes.append(partial(old.update, epoch=new["epoch"]))
        session.changes.append(partial(server.claimed_by.__setitem__, key, session.owner))
        rows.append(tuple(new.get(column) for column in columns))
    return StatementResult(rows, len(rows))


async def _lay_out(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del statement
    consumer, topic, rows = parameters["consumer"], parameters["topic"], server.tables
    for partition in range(server.partitions):
        key = (consumer, topic, partition)
        if key in rows["stream_position"].rows:
            continue
        await server.lock(session, [key])
        if key not in rows["stream_position"].rows:
            new = {"consumer": consumer, "topic": topic, "part": partition, "epoch": 0}
            new |= {"next_offset": 0, "published_offset": 0}
            rows["stream_position"].insert(new)
    return StatementResult()


async def _claim_soon(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del server, parameters
    session.lock_timeout_s = float(re.findall(r"'(\d+)s'", statement)[0])
    return StatementResult()


async def _as_login(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del server, session, statement, parameters  # the simulation has no roles
    return StatementResult()


async def _end_holders(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del statement, parameters
    old_s = server.now_s() - 10
    holders = [
        other
        for other in server.sessions
        if other is not session and other.locks and other.began_s < old_s
    ]
    for holder in holders:
        server.end(holder)
    return StatementResult([(True,) for _ in holders], len(holders))


async def _store_published(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    arrays = [name for name, _ in arrays_of(statement)]
    for values in unnest_rows(statement, parameters):
        wanted = dict(zip(arrays, values, strict=True))
        row = server.tables["stream_position"].rows[
            parameters["consumer"], parameters["topic"], wanted["parts"]
        ]
        if row["epoch"] == wanted["epochs"] and row["published_offset"] < wanted["offsets"]:
            session.changes.append(partial(row.update, published_offset=wanted["offsets"]))
    return StatementResult()


async def _outcomes_between(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del session
    partition, first, after = parameters["part"], parameters["first"], parameters["next"]
    rows = [
        row
        for table in ("entry", "repeat")
        for row in server.tables[table].find(("part",), (partition,))
        if first <= row["source_offset"] < after
    ]
    rows.sort(key=lambda row: (row["source_offset"], row["attempt_index"]))
    return select_columns(statement, rows)


CLAIMING: Final[dict[str, Handler]] = {
    "positions.claim": _claim,
    "positions.epochs": _epochs,
    "positions.lay_out": _lay_out,
    "positions.claim_soon": _claim_soon,
    "positions.as_login": _as_login,
    "positions.end_holders": _end_holders,
    "positions.published": _store_published,
    "positions.outcomes_between": _outcomes_between,
    "positions.wallets_of": lookup_handler("wallet", "player_id", "players"),
}
