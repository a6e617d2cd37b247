"""Which migrations only add, so that an earlier release works on the tables that they leave."""

from __future__ import annotations

import pytest

from fraud_agents import snapshots
from ledger_sink.store import migrate
from runtime.postgres.additions import find_change

ADDS = [
    "CREATE TABLE a (b int NOT NULL); CREATE UNIQUE INDEX c ON a (b); INSERT INTO a VALUES (1);",
    "ALTER TABLE entry ADD COLUMN a text;",
    "ALTER TABLE entry ADD COLUMN a numeric(3, 2), ADD COLUMN b boolean NOT NULL DEFAULT true;",
    "ALTER TABLE entry ADD COLUMN a text; UPDATE entry AS e SET a = 'x; DROP' FROM t WHERE t.id = e.id;",
    "ALTER TABLE wallet SET (fillfactor = 50);",
    "-- DROP TABLE entry;\nCREATE INDEX a ON entry (b);",
    "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN DELETE FROM entry; END $$;",
]
CHANGES = [
    "DROP TABLE a",
    "ALTER TABLE entry DROP COLUMN a",
    "ALTER TABLE entry ADD COLUMN a text NOT NULL",
    "ALTER TABLE entry ADD COLUMN a text, ADD CHECK (a <> '')",
    "ALTER TABLE entry RENAME COLUMN a TO b",
    "CREATE UNIQUE INDEX a ON entry (b)",
    "UPDATE entry SET reason = ''",
    "INSERT INTO entry VALUES (1)",
    "DELETE FROM entry",
    "CREATE OR REPLACE FUNCTION f() RETURNS void LANGUAGE sql AS $$ SELECT 1 $$",
    "DO $$ BEGIN END $$",
]


@pytest.mark.parametrize("text", ADDS)
def test_what_only_adds(text):
    assert find_change(text) is None


@pytest.mark.parametrize("text", CHANGES)
def test_what_removes_renames_or_forbids(text):
    found = find_change(f"CREATE TABLE other (a int); {text};")
    assert found is not None
    assert found.split()[0] == text.split()[0]


def test_the_files_of_this_release():
    """A release that changes tables says so here; the list grows only with a reason."""
    names = {
        migration.name
        for tables in (migrate.TABLES, snapshots.TABLES)
        for migration in tables.files()
        if not migration.is_additive
    }
    assert names == {
        "0002_repeats_and_barriers.sql",
        "0003_places_in_the_log.sql",
        "0010_player_states.sql",
        "0020_dead_letters.sql",
        "0060_months.sql",
        "0090_groups.sql",
    }
