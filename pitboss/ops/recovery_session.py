"""What every way back begins with: no worker of the ledger runs, and what is where is known."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress

from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.migrate import migrate
from pitboss.settings import Runtime
from replay.log.blocks import LogSource
from replay.log.broker import list_topics
from replay.recovery.survey import Survey, check_alone, groups_of, make_survey
from runtime.kafka.group_admin import GroupAdmin
from runtime.postgres.roles import Role
from schemas.topics import provider_of


def raw_topics(runtime: Runtime) -> list[str]:
    """Return the raw topics of the installation as they are on the broker. Raises Unavailable."""
    found = []
    for name in list_topics(runtime.broker, runtime.prefix):
        with suppress(ValueError):
            provider_of(topic := runtime.topic(name))
            found.append(topic)
    return found


def wait_until_alone(
    runtime: Runtime, wait_s: float, begin: Callable[[str], None], more_groups: Collection[str] = ()
) -> GroupAdmin:
    """Wait until no worker is in the ledger's groups, and return what administers them.

    `more_groups` are further ones, without the namespace. Raises RecoveryRefused while there is a
    worker, Unavailable.
    """
    admin = GroupAdmin(runtime.broker)
    groups = [*groups_of(runtime.namespace), *map(runtime.group, more_groups)]
    check_alone(admin.wait_until_empty(groups, wait_s, begin), 0)
    return admin


@asynccontextmanager
async def survey_ledger(
    place: Runtime,
    namespace: str,
    source: LogSource,
    admin: GroupAdmin,
    *,
    application: str,
    role: Role = Role.WRITER,
    migrates: bool = True,
) -> AsyncIterator[tuple[LedgerDatabase, Survey]]:
    """Provide the ledger's database and the survey of it, its log and its groups.

    `place` has the database, which may be a copy; `namespace` is that of the topics. With
    `migrates` its tables are brought to this release before. Raises as `make_survey`.
    """
    if migrates:
        migrate(place.database_url)
    database = LedgerDatabase(place.database_url, application, role=role, silence_max_s=None)
    try:
        yield database, await make_survey(database, source, admin, namespace)
    finally:
        await database.close()
