"""SIGKILL at every named point, on the real broker and database: zero lost, zero doubled, versions without gaps.

A worker freezes itself at the point, so that the kill meets it exactly there, full of work; its successor is frozen at
the next point and killed in its turn. What is left in the end is held against every check that there is. `make prove`
kills ten times at each point.
"""

from __future__ import annotations

import asyncio
import signal

import pytest

from pitboss.embedded.processes import poll
from schemas.topics import UNRESOLVED
from tests.faults.ledger_scene import PATIENCE_S, new_scene, traffic
from tests.support.ledger_events import bet, deposit, house, leg, transaction

pytestmark = [pytest.mark.integration, pytest.mark.faults, pytest.mark.timeout(900)]

LEDGER_POINTS = (
    "inside the claim",
    "after the claim",
    "before it is sent again",
    "after it is sent again",
    "before the transaction",
    "between two rows",
    "between two tables",
    "inside the transaction",
    "before the commit",
    "after the commit",
    "before it is published",
    "after it is published",
    "before the offsets are committed",
    "after the offsets are committed",
)
"""In the order in which a worker comes to them."""

UNREAD_POINTS = ("behind the lock", "behind the only write")
"""Of a group that is written in one round trip: each before its COMMIT is sent."""

RESOLVER_POINTS = (
    "inside the claim",
    "after the claim",
    "before it is parked",
    "after it is parked",
    "before it is appended",
    "after it is appended",
    "before the offsets are committed",
)

ROUNDS = 10
NOTICES = 12


@pytest.fixture
async def scene(runtime, tmp_path):
    return await new_scene(runtime, tmp_path)


async def killed_at(scene, points, role="ledger", more=None):
    """One process after the other: each gets new work, freezes at its point, and is killed there."""
    for number, point in enumerate(points):
        scene.arm.touch()
        await (more or append_traffic)(scene, number)
        with scene.worker(f"{role}-1", point, role) as process:
            await scene.frozen(process)


async def append_traffic(scene, number):
    await scene.append(traffic(number, count=100))


async def drained(scene, process):
    await scene.published(processes=[process])
    process.send_signal(signal.SIGTERM)
    assert await scene.ended(process) == 0, scene.logs()


async def ledger_killed_at(scene, points):
    await killed_at(scene, points)
    await append_traffic(scene, len(points))
    with scene.worker("ledger-1") as process:
        await drained(scene, process)
    await scene.proven()


@pytest.mark.prove
async def test_a_ledger_worker_is_killed_at_every_point(scene):
    await ledger_killed_at(scene, LEDGER_POINTS)


async def append_bets(scene, number):
    players = [f"p-{n}" for n in range(12)]
    events = [deposit(f"{number}-{player}", 5_000, player=player) for player in players]
    await scene.append(events + [bet(f"{number}-{p}", 400, player=p) for p in players])


@pytest.mark.prove
@pytest.mark.parametrize("point", UNREAD_POINTS)
async def test_a_ledger_worker_is_killed_in_the_only_round_trip_of_a_group(scene, point):
    await killed_at(scene, [point] * 3, more=append_bets)
    with scene.worker("ledger-1") as process:
        await drained(scene, process)
    await scene.proven()
    assert scene.rows("SELECT DISTINCT cash_minor, version FROM wallet") == [(3 * 4_600, 6)]


@pytest.mark.prove
@pytest.mark.timeout(900)
@pytest.mark.parametrize("point", LEDGER_POINTS)
async def test_a_ledger_worker_is_killed_again_and_again(scene, point):
    await ledger_killed_at(scene, [point] * ROUNDS)


async def append_notices(scene, number):
    """Payments, each with its refund before it; half of the deposits are never opened."""
    numbers = range(number * NOTICES, (number + 1) * NOTICES)
    await scene.append([refund(n) for n in numbers], UNRESOLVED)
    await scene.append([opened(n) for n in numbers if n % 2])
    await scene.append([notice(n) for n in numbers], UNRESOLVED)


def opened(number: int):
    return house(
        "deposit.opened", f"dep-{number}", leg("INFORMATIONAL", 2_500), player=f"p-{number % 12}"
    )


def notice(number: int):
    return deposit(
        f"psp-{number}", 2_500, player=None, reference=("deposit.opened", f"dep-{number}")
    )


def refund(number: int):
    return transaction(
        "REFUND",
        f"ref-{number}",
        leg("DEPOSIT_REVERSAL", 500),
        provider="adyen",
        player=None,
        reference=("AUTHORISATION", f"psp-{number}"),
        round_id=None,
    )


async def resolver_killed_at(scene, points):
    rounds = len(points) + 1
    events = 2 * NOTICES * rounds
    with scene.worker("ledger-1") as ledger:
        await killed_at(scene, points, "resolve", append_notices)
        await append_notices(scene, len(points))
        with scene.worker("resolve-1", role="resolve") as process:

            def is_resolved() -> bool:
                assert (process.poll(), ledger.poll()) == (None, None), scene.logs()
                return scene.rows("SELECT count(*) FILTER (WHERE appended) FROM parked") == [
                    (events,)
                ]

            assert await asyncio.to_thread(poll, is_resolved, PATIENCE_S), scene.logs()
            process.send_signal(signal.SIGTERM)
            assert await scene.ended(process) == 0, scene.logs()
        await drained(scene, ledger)
    await scene.proven()
    paid = (2_500 - 500) * NOTICES // 2 * rounds
    assert scene.rows("SELECT sum(cash_minor) FROM wallet") == [(paid,)]
    assert scene.rows("SELECT count(*) FROM entry WHERE outcome = 'UNRESOLVED'") == [
        (NOTICES * rounds,)
    ]
    suspense = "SELECT sum(CASE WHEN credit = 'suspense:adyen' THEN amount_minor ELSE -amount_minor END) FROM transfer"
    assert scene.rows(f"{suspense} WHERE 'suspense:adyen' IN (debit, credit)") == [(paid,)]


@pytest.mark.prove
async def test_a_resolver_is_killed_at_every_point(scene):
    await resolver_killed_at(scene, RESOLVER_POINTS)


@pytest.mark.prove
@pytest.mark.timeout(900)
@pytest.mark.parametrize("point", RESOLVER_POINTS)
async def test_a_resolver_is_killed_again_and_again(scene, point):
    await resolver_killed_at(scene, [point] * ROUNDS)
