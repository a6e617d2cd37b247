"""Dead letters and waiting records of a broker that was lost: the mirror has other records at their offsets."""

from __future__ import annotations

import json

import pytest

from ledger_sink.store.migrate import migrate
from pitboss.embedded.databases import create_database, drop_database
from pitboss.ops.topic_admin import create_topics
from replay.log.broker import BrokerLog
from runtime.kafka.group_admin import GroupAdmin
from schemas.topics import (
    BALANCES,
    OUTCOMES,
    TRANSACTIONS,
    UNRESOLVED,
    dead_letter_topic,
    raw_topic,
)
from streams.normalise.handler import NAME as NORMALISE
from tests.integration.replay.test_recover_held import KEY, rows, run, send, until_rows, working
from tests.support.mirror import Mirror, lose_broker

pytestmark = [
    pytest.mark.integration,
    pytest.mark.faults,
    pytest.mark.prove,
    pytest.mark.timeout(900),
]

RAW = raw_topic("house")
COPIED = (TRANSACTIONS, UNRESOLVED, OUTCOMES, BALANCES, RAW, dead_letter_topic(RAW))
BEGUN = 3
"""Records of the raw topic that the mirror never had."""
BONUS = "SELECT bonus_minor::int FROM wallet"
WHY = ("--by", "ann", "--reason", "no amount at all")


@pytest.fixture
async def runtime(private_stack, namespace):
    runtime = private_stack.runtime(namespace)
    create_database(runtime)
    migrate(runtime.database_url)
    await create_topics(runtime.broker, runtime.namespace, ["house"], 2, 1)
    yield runtime
    drop_database(runtime)


async def lose_and_mirror(runtime, stack, *, begun: int) -> None:
    """Start another cluster with a mirror that began after so many raw records."""
    mirror = Mirror.take(runtime, COPIED).since(runtime.topic(RAW), 0, begun)
    await lose_broker(stack)
    await create_topics(runtime.broker, runtime.namespace, ["house"], 2, 1)
    mirror.copy_to(runtime, {})
    with BrokerLog(runtime.broker) as source:
        raw = runtime.topic(RAW)
        ends = {number: end for number, (_, end) in source.bounds(raw).items()}
    GroupAdmin(runtime.broker).set_offsets(runtime.group(NORMALISE), raw, ends)


def waits(runtime) -> list[tuple[int, int]]:
    """The open holds of the raw topic, each with the number of records that wait."""
    return rows(
        runtime,
        "SELECT j.from_offset::int, count(p.source_offset)::int FROM dead_letters.jam j"
        " JOIN dead_letters.parked p ON (p.topic, p.part, p.jam_from) = (j.topic, j.part, j.from_offset)"
        " WHERE j.until_offset IS NULL AND p.released_at IS NULL GROUP BY 1",
    )


@pytest.mark.parametrize("begun", [BEGUN, 0])
async def test_what_waits_is_booked_and_no_record_of_today_is_taken_for_one_of_before(
    runtime, private_stack, tmp_path, begun
):
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"house": KEY}))
    keys.chmod(0o600)
    settings = {"PITBOSS_PARK": "house", "PITBOSS_KEYS_FILE": str(keys)}
    async with working(runtime):
        for number in range(BEGUN):
            await send(runtime, number, "1.00")
        await send(runtime, 3, "no amount")
        await send(runtime, 4, "2.00")
        await until_rows(runtime, BONUS, [(300,)])
        await until_rows(runtime, "SELECT count(*)::int FROM dead_letters.parked", [(1,)])
    assert waits(runtime) == [(3, 1)]
    await lose_and_mirror(runtime, private_stack, begun=begun)
    found = await run(runtime, settings, "ledger", "rebind", "--by", "ann")
    is_other = begun != 0
    name = f"{runtime.topic(RAW)}-0"
    assert (name in found["raw"]["changed"]) == is_other
    assert found["raw"]["appended"] == is_other
    assert waits(runtime) == ([] if is_other else [(3, 1)])
    groups = await run(runtime, settings, "dlt", "list")
    assert [one["open"] for one in groups] == [1]
    async with working(runtime):
        if not is_other:  # the offsets are the same: all goes on as if nothing had happened
            await run(runtime, settings, "dlt", "drop", "--all", *WHY)
            await until_rows(runtime, BONUS, [(500,)])
            return
        await until_rows(runtime, BONUS, [(500,)])
        # At the offsets of the letter and of the record that waited before.
        await send(runtime, 5, "none")
        await send(runtime, 6, "4.00")
        await until_rows(runtime, "SELECT count(*)::int FROM dead_letters.parked", [(2,)])
        assert waits(runtime) == [(3, 1)]
        dropped = await run(runtime, settings, "dlt", "drop", "--all", *WHY)
        assert sorted(one["source"]["topic"] for one in dropped) == [
            runtime.topic(RAW),
            f"{runtime.topic(RAW)}@before-1",
        ]
        await until_rows(runtime, BONUS, [(900,)])
    groups = await run(runtime, settings, "dlt", "list")
    assert sum(one["open"] for one in groups) == 0
    assert sum(one["count"] for one in groups) == 2
