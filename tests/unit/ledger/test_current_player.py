"""The rows of the statement as a player, and a copy of the database that is behind at the start."""

from __future__ import annotations

from typing import Any

import pytest

from ledger_sink.queries.current_player import PlayerPool, player_of_rows
from schemas.current_player import CurrentPlayer, CurrentWallet
from schemas.errors import Unavailable

NONE = (None,) * 5


@pytest.mark.parametrize(
    ("rows", "player"),
    [
        ([], CurrentPlayer()),
        ([(*NONE, None, None)], CurrentPlayer()),
        ([(*NONE, {"kyc": ["BLOCKED", 1]}, {})], CurrentPlayer((), is_blocked=True)),
        ([(*NONE, {"kyc": ["HELD", 1], "a": ["FREE", 2]}, {})], CurrentPlayer()),
        (
            [("EUR", 2, 5, 1, "b", {}, {"EUR": [0, 1], "SEK": [None, 1]})],
            CurrentPlayer((CurrentWallet("EUR", 2, 5, 1, "b"),), bet_limits={"EUR": 0}),
        ),
    ],
)
def test_rows_become_a_player(rows: list[Any], player: CurrentPlayer):
    assert player_of_rows(rows) == player


class FakeSession:
    """Answers statements from a list, and keeps them."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.statements: list[str] = []

    async def read(self, statement: str, _: Any = None) -> list[Any]:
        self.statements.append(statement)
        return self.answers.pop(0)

    async def close(self) -> None:
        self.statements.append("closed")


async def test_a_copy_that_is_behind_the_start_of_this_process_is_not_read():
    pool = PlayerPool("postgresql://copy/x", "test", sessions=1, primary_url="postgresql://p/x")
    row = ("EUR", 2, 5, 1, "b", None, None)
    copy = FakeSession([[False]], [[True]], [row], [row])
    primary = FakeSession([["0/16B3748"]])
    pool._sessions, pool._primary = [copy], primary  # type: ignore[assignment,list-item]
    pool._idle.get_nowait()
    pool._idle.put_nowait(copy)  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="0/16B3748"):
        await pool.read_player("p-1")
    for _ in range(2):
        assert (await pool.read_player("p-1")).wallets[0].version == 1
    assert len(primary.statements) == 1  # asked once, at the first question
    assert len(copy.statements) == 4
    await pool.on_stop()
    assert copy.statements[-1] == primary.statements[-1] == "closed"
