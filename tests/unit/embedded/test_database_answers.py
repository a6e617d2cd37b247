"""Whether a database answers: a server that is only busy has as long as a broker has."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pitboss.embedded.postgres import database_answers

BUSY_S = 4


@pytest.mark.parametrize("takes_s", [BUSY_S, 60])
def test_a_database_that_takes_seconds_is_busy_and_one_that_takes_a_minute_is_away(
    monkeypatch: pytest.MonkeyPatch, takes_s: int
):
    class Connection:
        """A session of a server that takes so long to open it, as libpq waits for it."""

        def __init__(self, _: str, *, connect_timeout: int) -> None:
            if takes_s > connect_timeout:
                raise psycopg.OperationalError("connection timeout expired")

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None: ...

        def execute(self, _: str) -> Any:
            return self

        def fetchone(self) -> tuple[int]:
            return (1,)

    monkeypatch.setattr(psycopg, "connect", Connection)
    assert database_answers("postgresql://u@127.0.0.1/d") is (takes_s == BUSY_S)
