"""Handlers of the resolver's statements; see `statements`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any, Final

from lab.simulator.statements import Handler, Parameters, StatementResult, target_of, unnest_rows
from lab.simulator.tables import Row, Server, SimulatedSession

WAITING, RESOLVED, FINAL = "WAITING", "RESOLVED", "FINAL"


def parked_rows(
    server: Server, partitions: Iterable[int] | None = None, state: str | None = None
) -> list[Row]:
    """Return parked rows in the order of their partitions and offsets."""
    wanted = None if partitions is None else set(partitions)
    rows = [
        row
        for row in server.tables["parked"].rows.values()
        if (wanted is None or row["part"] in wanted) and state in (None, row["state"])
    ]
    return sorted(rows, key=lambda row: (row["part"], row["source_offset"]))


def _unwrap(value: Any) -> Any:
    """Return the value in a psycopg Jsonb, or the value itself."""
    return getattr(value, "obj", value)


def _player_of(server: Server, event_id: str | None) -> str | None:
    entries = server.tables["entry"].find(("event_id",), (event_id,))
    return next((row["player_id"] for row in entries if row["player_id"] is not None), None)


async def _park(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    table, columns = target_of(statement)
    defaults = {
        "state": WAITING,
        "player_id": None,
        "appended": False,
        "barrier": None,
        "parked_at": server.now_s(),
    }
    rows = [
        {**defaults, **dict(zip(columns, values, strict=True))}
        for values in unnest_rows(statement, parameters)
    ]
    session.inserts += [(table, row) for row in rows]
    return StatementResult(count=len(rows))


def _same_attempt(server: Server, row: Row) -> Row | None:
    """Return the row of the same attempt that is no longer waiting."""
    others = server.tables["parked"].find(("event_id",), (row["event_id"],))
    return next(
        (other for other in others if other["state"] != WAITING and other["body"] == row["body"]),
        None,
    )


async def _follow(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del statement
    for row in parked_rows(server, parameters["parts"], WAITING):
        other = _same_attempt(server, row)
        if other is not None:
            session.changes.append(
                partial(row.update, state=other["state"], player_id=other["player_id"])
            )
    return StatementResult()


async def _match(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del statement
    for row in parked_rows(server, parameters["parts"], WAITING):
        player = _player_of(server, row["reference_event_id"])
        if player is not None and _same_attempt(server, row) is None:
            session.changes.append(partial(row.update, state=RESOLVED, player_id=player))
    return StatementResult()


async def _unappended(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del session, statement
    rows = [
        row
        for row in parked_rows(server, parameters["parts"])
        if not row["appended"] and row["state"] != WAITING
    ]
    return StatementResult(
        [(row["part"], row["source_offset"], row["body"], row["player_id"]) for row in rows[:1000]]
    )


async def _appended(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    for position in unnest_rows(statement, parameters):
        row = server.tables["parked"].rows[position]
        session.changes.append(partial(row.update, appended=True))
    return StatementResult()


async def _waiting(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del session, statement
    rows: dict[tuple[int, str | None], list[Row]] = {}
    for row in parked_rows(server, parameters["parts"], WAITING):
        rows.setdefault((row["part"], row["provider"]), []).append(row)
    return StatementResult(
        [
            (
                partition,
                provider,
                len(found),
                max(
                    (row["source_offset"] for row in found if row["barrier"] is None), default=None
                ),
            )
            for (partition, provider), found in rows.items()
        ]
    )


async def _raise_barrier(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del statement
    lasts = dict(zip(parameters["parts"], parameters["lasts"], strict=True))
    barrier: Row = {
        "raw_ends": _unwrap(parameters["ends"]),
        "log_ends": None,
        "raised_at": server.now_s(),
    }
    session.inserts.append(("barrier", barrier))
    seen = [row for row in parked_rows(server, lasts, WAITING) if row["barrier"] is None]
    seen = [
        row
        for row in seen
        if row["source_offset"] <= lasts[row["part"]] and row["provider"] == parameters["provider"]
    ]

    def set_barrier() -> None:
        for row in seen:
            row["barrier"] = barrier["id"]  # assigned when the barrier is inserted

    session.changes.append(set_barrier)
    return StatementResult()


async def _open_barriers(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del session, statement
    used = Counter(row["barrier"] for row in parked_rows(server, parameters["parts"], WAITING))
    barriers = server.tables["barrier"].rows
    return StatementResult(
        [
            (
                row["id"],
                row["raw_ends"],
                row["log_ends"],
                server.now_s() - row["raised_at"],
                used[row["id"]],
            )
            for _, row in sorted(barriers.items())
            if row["id"] in used
        ]
    )


async def _set_log_ends(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del statement
    ends = _unwrap(parameters["ends"])
    for number in parameters["barriers"]:
        row = server.tables["barrier"].rows.get((number,))
        if row is not None:  # another resolver may have dropped it
            session.changes.append(partial(row.update, log_ends=ends))
    return StatementResult()


async def _positions(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del session, statement
    topics = (parameters["log"], parameters["unresolved"])
    rows = server.tables["stream_position"].rows.values()
    return StatementResult(
        [(row["topic"], row["part"], row["next_offset"]) for row in rows if row["topic"] in topics]
    )


async def _finalise(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del statement
    for row in parked_rows(server, parameters["parts"], WAITING):
        reference = row["reference_event_id"]
        attempts = server.tables["parked"].find(("event_id",), (row["event_id"],))
        age_ms = (server.now_s() - min(attempt["parked_at"] for attempt in attempts)) * 1000
        if row["barrier"] not in parameters["barriers"] or age_ms < parameters["min_age_ms"]:
            continue
        if _player_of(server, reference) is not None or _is_on_its_way(server, row):
            continue
        session.changes.append(partial(row.update, state=FINAL))
    return StatementResult()


def _is_on_its_way(server: Server, row: Row) -> bool:
    return any(
        other["event_id"] != row["event_id"]
        and not server.tables["entry"].find(("event_id",), (other["event_id"],))
        for other in server.tables["parked"].find(("event_id",), (row["reference_event_id"],))
    )


async def _drop_barriers(
    server: Server, session: SimulatedSession, statement: str, parameters: Parameters
) -> StatementResult:
    del statement, parameters
    used = {row["barrier"] for row in parked_rows(server, None, WAITING)}
    barriers = server.tables["barrier"].rows
    unused = [key for key in barriers if key[0] not in used]

    def drop() -> None:
        for key in unused:
            barriers.pop(key, None)  # another resolver may have dropped it

    session.changes.append(drop)
    return StatementResult()


PARKING: Final[dict[str, Handler]] = {
    "resolver.park": _park,
    "resolver.follow": _follow,
    "resolver.match": _match,
    "resolver.unappended": _unappended,
    "resolver.appended": _appended,
    "resolver.waiting": _waiting,
    "resolver.raise_barrier": _raise_barrier,
    "resolver.open_barriers": _open_barriers,
    "resolver.set_log_ends": _set_log_ends,
    "resolver.positions": _positions,
    "resolver.finalise": _finalise,
    "resolver.drop_barriers": _drop_barriers,
}
