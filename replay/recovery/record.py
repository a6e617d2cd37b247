"""The row of a recovery: while it is unfinished, no worker of the ledger starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from psycopg.types.json import Jsonb

from ledger_sink.store.database import LedgerDatabase
from replay.recovery.survey import SQL, Obstacle, RecoveryRefused, Survey


class RecoveryRow(msgspec.Struct, frozen=True):
    """An unfinished recovery."""

    id: int
    kind: str
    cluster_id: str
    topic_id: str | None
    starts: dict[str, int]
    """Positions by "consumer topic-partition" when it began."""

    def starts_of(self, consumer: str, topic: str) -> dict[int, int]:
        """Return where the partitions of a consumer's topic were when it began."""
        prefix = f"{consumer} {topic}-"
        return {
            int(name.removeprefix(prefix)): offset
            for name, offset in self.starts.items()
            if name.startswith(prefix)
        }


async def find_unfinished(database: LedgerDatabase, kind: str) -> RecoveryRow | None:
    """Return the recovery that another run has begun.

    Raises RecoveryRefused where that is one of another kind.
    """
    for row in await database.query(SQL["unfinished"]):
        found = RecoveryRow(*row)
        if found.kind != kind:
            command = "rebind" if found.kind == "REBIND" else "recover --to-log"
            raise RecoveryRefused(
                Obstacle.OTHER_RECOVERY,
                f"`pitboss ledger {command}` has begun and is not finished: run it again first",
            )
        return found
    return None


async def begin(database: LedgerDatabase, kind: str, survey: Survey, actor: str) -> RecoveryRow:
    """Note that a recovery begins, or return the row of the one that goes on."""
    found = await find_unfinished(database, kind)
    if found is not None:
        return found
    topic_id = survey.topic_ids.get(survey.log_topic)
    columns = {
        "kind": kind,
        "actor": actor,
        "cluster_id": survey.cluster_id,
        "topic_id": topic_id,
        "starts": Jsonb(survey.starts()),
    }
    [(number,)] = await database.query(SQL["begin"], columns)
    return RecoveryRow(number, kind, survey.cluster_id, topic_id, survey.starts())


async def finish(database: LedgerDatabase, number: int, report: Mapping[str, Any]) -> None:
    """Note that a recovery is finished: workers may start."""
    await database.query(SQL["finish"], {"id": number, "report": Jsonb(report)})
