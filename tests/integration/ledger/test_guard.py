"""A worker that stood still between its claim and the look at its log: what it finds proves nothing about the log."""

from __future__ import annotations

import pytest

from ledger_sink.booking.positions import PositionGuard, claim_positions
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.migrate import migrate
from runtime.security import BrokerAddress
from schemas.errors import Fenced, LogMismatch

pytestmark = pytest.mark.integration


class Overtaken(PositionGuard):
    """Somebody else claims and commits while the log is looked at."""

    is_overtaken = True

    async def check_installation(self) -> None:
        """Not what is tested here."""

    async def verify(self, stored) -> None:
        if self.is_overtaken:
            await claim_positions(self.database, [0, 1])
        raise LogMismatch("the database is at 0, the group was at 69")


async def no_count() -> int:
    return 1


@pytest.mark.parametrize(("is_overtaken", "error"), [(True, Fenced), (False, LogMismatch)])
async def test_who_was_overtaken_is_fenced_and_does_not_accuse_the_log(
    runtime, is_overtaken, error
):
    migrate(runtime.database_url)
    database = LedgerDatabase(runtime.database_url, "pitboss.test")
    guard = Overtaken(database, BrokerAddress(""), "ledger", "wallet.transactions.v1", no_count)
    Overtaken.is_overtaken = is_overtaken
    with pytest.raises(error):
        await guard.claim([0, 1], "ledger")
    await database.close()
