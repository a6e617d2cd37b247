"""A query about the last day does not read the years before it."""

from __future__ import annotations

import psycopg
import pytest

from ledger_sink.store.statements import statements
from tests.integration.ledger.test_ledger_plans import full

pytestmark = pytest.mark.integration

__all__ = ["full"]


def test_the_traffic_of_a_day_is_found_by_an_index(full: psycopg.Connection):
    statement = statements("traffic")["versions"]
    for partition in (0, 5):
        [[end]] = full.execute(
            "SELECT max(source_offset) FROM entry WHERE part = %s", (partition,)
        ).fetchall()
        since = {"part": partition, "first": end - 100}
        [(provider, version, events, last)] = full.execute(statement, since).fetchall()
        assert (provider, version, events, last[16:18]) == ("hub88", "1", 101, "t-")
        plan = "\n".join(row[0] for row in full.execute("EXPLAIN " + statement, since))
        assert "Seq Scan" not in plan, plan
