"""Players as questions see them: read by a read-only session, at once after the commit."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from ledger_sink.queries.current_player import PlayerPool
from ledger_sink.store.migrate import migrate
from schemas.current_player import CurrentPlayer, CurrentWallet
from schemas.errors import InvariantBroken, Unavailable

pytestmark = pytest.mark.integration

WALLET = "INSERT INTO wallet VALUES (%s, %s, 2, %s, %s, 0, %s, gen_random_uuid(), 0, 1, 'default')"
STATE = (
    "INSERT INTO player_state (player_id, event_id, standings, limits)"
    " VALUES (%s, gen_random_uuid(), %s, %s)"
)


async def test_a_player_is_read_with_wallets_blocks_and_limits(runtime):
    migrate(runtime.database_url)
    pool = PlayerPool(runtime.database_url, "pitboss.test", sessions=2)
    with psycopg.connect(runtime.database_url, autocommit=True) as connection:
        connection.execute(WALLET, ("p-1", "EUR", 9_000, 850, 7))
        connection.execute(WALLET, ("p-1", "SEK", 1, 0, 2))
        connection.execute(WALLET, ("p-2", "EUR", 5, 0, 1))
        standings = '{"kyc": ["FREE", 1], "operator": ["BLOCKED", 2]}'
        limits = '{"EUR": [500, 3], "SEK": [null, 4]}'
        connection.execute(STATE, ("p-1", standings, limits))
        connection.execute(STATE, ("p-3", '{"alert": ["HELD", 1]}', "{}"))
        euros = CurrentWallet("EUR", 2, 9_850, 7, "default")
        player = await pool.read_player("p-1")
        assert set(player.wallets) == {euros, CurrentWallet("SEK", 2, 1, 2, "default")}
        assert (player.is_blocked, player.bet_limits) == (True, {"EUR": 500})
        assert await pool.read_player("p-3") == CurrentPlayer()
        assert await pool.read_player("nobody") == CurrentPlayer()
        assert (await pool.read_player("p-2")).wallets[0].version == 1
        connection.execute("UPDATE wallet SET version = 2 WHERE player_id = 'p-2'")
        many = await asyncio.gather(*[pool.read_player("p-2") for _ in range(20)])
        assert {player.wallets[0].version for player in many} == {2}
        with pytest.raises(InvariantBroken, match="read-only"):
            await pool._sessions[0].read("UPDATE wallet SET version = 9 RETURNING 1")
    await pool.on_stop()


async def test_a_copy_is_read_once_it_has_what_was_committed_before(runtime):
    migrate(runtime.database_url)
    url = runtime.database_url
    pool = PlayerPool(url, "pitboss.test", sessions=1, primary_url=url)
    assert await pool.read_player("p-1") == CurrentPlayer()  # not a copy: it has everything
    assert pool._position is not None
    statement = "SELECT %s::pg_lsn <= pg_current_wal_flush_lsn()"
    with psycopg.connect(url) as connection:
        assert connection.execute(statement, (pool._position,)).fetchone() == (True,)
    await pool.on_stop()


async def test_a_database_that_is_away_is_unavailable():
    pool = PlayerPool("postgresql://p:secret@127.0.0.1:1/pitboss", "pitboss.test", sessions=1)
    for _ in range(2):
        with pytest.raises(Unavailable) as raised:
            await pool.read_player("p-1")
        assert "secret" not in str(raised.value)
