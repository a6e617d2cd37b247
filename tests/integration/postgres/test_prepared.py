"""Transactions of prepared statements that go out at once: what is committed, and what an error leaves behind."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from runtime.postgres.database import Database, DataRefused, DemandFailed
from runtime.postgres.prepared import prepared_text
from schemas.errors import InvariantBroken, Unavailable, UsageError

pytestmark = pytest.mark.integration

ADD = "INSERT INTO thing SELECT * FROM unnest(%(numbers)s::int[])"
DEMAND = """
DO $$ BEGIN IF (SELECT count(*) FROM thing) > 3 THEN
    RAISE EXCEPTION 'too many' USING ERRCODE = 'PB001';
END IF; END $$
"""


class Things(Database):
    """A database with one table."""

    owner = "the test's"


@pytest.fixture
async def database(runtime):
    with psycopg.connect(runtime.database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE thing (number int PRIMARY KEY)")
        connection.execute("GRANT ALL ON thing TO PUBLIC")
        things = Things(runtime.database_url, "pitboss.test")
        yield things
        await things.close()
        connection.execute("DROP TABLE thing")


def numbers(runtime):
    with psycopg.connect(runtime.database_url) as connection:
        return [row[0] for row in connection.execute("SELECT number FROM thing ORDER BY 1")]


async def commit(database, *statements):
    async with database.trips() as trips:
        await trips.commit_all(statements)


@pytest.mark.parametrize("times", [1, 12])
async def test_statements_are_committed_together_again_and_again(database, runtime, times):
    for number in range(times):
        added = (ADD, {"numbers": f"{{{2 * number}}}"}), (ADD, {"numbers": f"{{{2 * number + 1}}}"})
        await commit(database, *added)
    assert numbers(runtime) == list(range(2 * times))


async def test_the_first_error_is_raised_and_nothing_of_it_is_committed(database, runtime):
    await commit(database, (ADD, {"numbers": "{1,2,3}"}), (DEMAND, {}))
    with pytest.raises(DemandFailed, match="too many"):
        await commit(database, (ADD, {"numbers": "{4}"}), (DEMAND, {}), (ADD, {"numbers": "{1}"}))
    with pytest.raises(InvariantBroken, match="thing_pkey"):
        await commit(database, (ADD, {"numbers": "{5}"}), (ADD, {"numbers": "{1}"}), (DEMAND, {}))
    assert numbers(runtime) == [1, 2, 3]
    # The rollback has dropped what was prepared, and the connection is as good as before.
    await commit(database, (ADD, {"numbers": "{9}"}))
    assert numbers(runtime) == [1, 2, 3, 9]


async def test_what_another_rollback_has_dropped_is_prepared_anew(database, runtime):
    await commit(database, (ADD, {"numbers": "{1}"}))
    async with database._use() as connection:
        await connection.execute("DEALLOCATE ALL")
    await commit(database, (ADD, {"numbers": "{2}"}))
    assert numbers(runtime) == [1, 2]


async def test_a_statement_that_cannot_be_prepared_leaves_the_connection_usable(database, runtime):
    with pytest.raises(UsageError, match="nowhere"):
        await commit(database, (ADD, {"numbers": "{1}"}), ("SELECT * FROM nowhere", {}))
    await commit(database, (ADD, {"numbers": "{2}"}))
    assert numbers(runtime) == [2]


async def test_a_value_with_a_nul_is_refused_and_not_cut_there(database, runtime):
    with pytest.raises(DataRefused, match="NUL"):
        await commit(database, (ADD, {"numbers": "{1}\0,2}"}))
    await commit(database, (ADD, {"numbers": "{2}"}))
    assert numbers(runtime) == [2]


async def test_a_lost_server_is_unavailable_and_a_cancel_commits_nothing(database, runtime):
    await commit(database, (ADD, {"numbers": "{1}"}))
    with (
        psycopg.connect(runtime.database_url) as other,
        psycopg.connect(runtime.database_url, autocommit=True) as killer,
    ):
        other.execute("LOCK TABLE thing")
        waits = "SELECT pid FROM pg_stat_activity WHERE application_name = 'pitboss.test' AND wait_event_type = 'Lock'"

        async def waiting(work):
            while not (found := killer.execute(waits).fetchall()):
                assert not work.done()
                await asyncio.sleep(0.01)
            return found[0][0]

        work = asyncio.ensure_future(commit(database, (ADD, {"numbers": "{2}"})))
        killer.execute("SELECT pg_terminate_backend(%s)", [await waiting(work)])
        with pytest.raises(Unavailable):
            await work
        work = asyncio.ensure_future(commit(database, (ADD, {"numbers": "{3}"})))
        await waiting(work)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    await commit(database, (ADD, {"numbers": "{4}"}))
    assert numbers(runtime) == [1, 4]


def test_parameters_are_numbered_by_their_first_place():
    found = prepared_text("SELECT %(b)s::int, %(a)s || '100 %%', %(b)s")
    assert found.text == b"SELECT $1::int, $2 || '100 %', $1"
    assert found.parameters == ("b", "a")
    assert found.name != prepared_text("SELECT 1").name
