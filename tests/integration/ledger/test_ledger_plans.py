"""No statement on the way of an event reads a table whole, and none costs more because there is more history."""

from __future__ import annotations

import re
import uuid

import psycopg
import pytest

from ledger_sink.store.migrate import migrate
from ledger_sink.store.statements import statements
from pitboss.embedded.databases import create_database, drop_database

pytestmark = pytest.mark.integration

ROWS = 120_000
FILL = f"""
INSERT INTO entry
SELECT gen_random_uuid(), 0, 'b', 'hub88', '1', 'MT', 'bet', n::text, 'BET', 'p-' || n % 9999, 'r', 'g', NULL, 'f', 't',
       0, n, 0, CASE WHEN n / 100 % 2 = 0 THEN 0 ELSE 1 + n / 200 % 11 END,
       CASE WHEN n / 100 % 2 = 0 THEN n / 200 * 100 + n % 100 ELSE n / 200 / 11 * 100 + n % 100 END,
       0, 'POSTED', 'BOOKED', 'EUR', 1, 1, 1 FROM generate_series(0, {ROWS}) n;
INSERT INTO repeat
SELECT 0, n, gen_random_uuid(), 'b', 'hub88', 'bet', n::text, 'p', 'f', 't', 0, n, 0, false, 'EXISTS', 'BOOKED', 'EUR', 1, 1
  FROM generate_series(0, {ROWS}) n;
INSERT INTO transfer
SELECT 'p-' || n % 9999, 'EUR', n / 9999, 'a', 'b', 1, 1, 0, 0, gen_random_uuid(), 0, 0, n, 0 FROM generate_series(0, {ROWS}) n;
INSERT INTO wallet SELECT 'p-' || n, 'EUR', 2, 1, 0, 0, 1, gen_random_uuid(), 0, n FROM generate_series(0, {ROWS}) n;
INSERT INTO closing SELECT gen_random_uuid(), 'p-' || n, 'REVERSED', gen_random_uuid(), 0, n FROM generate_series(0, {ROWS}) n;
INSERT INTO player_state (player_id, event_id) SELECT 'p-' || n, gen_random_uuid() FROM generate_series(0, {ROWS}) n;
"""
IDS = [str(uuid.UUID(int=n)) for n in range(500)]
PLAYERS = [f"p-{n}" for n in range(500)]
READS = {
    "known_entries": {"event_ids": IDS},
    "known_closings": {"event_ids": IDS},
    "known_wallets": {"players": PLAYERS},
    "known_states": {"players": PLAYERS},
    "known_repeats": {"event_ids": IDS, "offsets": [1] * 500},
    "transfers_of": {
        "event_ids": IDS,
        "decisions": [0] * 500,
        "players": PLAYERS,
        "currencies": ["EUR"] * 500,
        "firsts": [1] * 500,
        "lasts": [2] * 500,
        "months": None,
    },
}

# Months in which nothing has come yet may well be read whole.
SCANNED = re.compile(r"Seq Scan on (?!transfer_(\d|other))")


@pytest.fixture(scope="module")
def filled(stack, namespaces):
    """A database with a history, which the tests of this module only read."""
    runtime = stack.runtime(namespaces())
    create_database(runtime)
    migrate(runtime.database_url)
    with psycopg.connect(runtime.database_url, autocommit=True) as connection:
        connection.execute(FILL)
        for table in ("entry", "repeat", "transfer", "wallet", "closing", "player_state"):
            connection.execute(f"VACUUM ANALYZE {table}")
    yield runtime
    if not stack.is_temporary:
        drop_database(runtime)


@pytest.fixture
def full(filled):
    with psycopg.connect(filled.database_url, autocommit=True) as connection:
        yield connection


def test_whatever_is_known_is_found_by_an_index(full):
    for mode in ("force_custom_plan", "force_generic_plan"):
        full.execute(f"SET plan_cache_mode = {mode}")
        for name, parameters in READS.items():
            statement = statements("ledger")[name]
            plan = "\n".join(
                row[0] for row in full.execute("EXPLAIN " + statement, parameters, prepare=True)
            )
            assert not SCANNED.search(plan), (mode, name, plan)


def test_history_is_probed_and_not_searched(full):
    player = {"player": "p-7"}
    questions = {
        "wallets": player,
        "wallets_at": {**player, "next_offset": 50},
        "movements": {
            **player,
            "currency": "EUR",
            "before": 9,
            "since_ms": 0,
            "until_ms": 1,
            "kinds": ["BET"],
            "count": 50,
        },
        "entries": {"event_id": IDS[0]},
        "movements_of": {
            **player,
            "currency": "EUR",
            "first": 1,
            "last": 2,
            "event_id": IDS[0],
            "decision": 0,
        },
        "closings": {"event_id": IDS[0]},
        "round_of_player": {**player, "round_id": "r", "provider": None, "count": 100},
        "repeats": {"event_id": IDS[0], "count": 100},
    }
    for name, parameters in questions.items():
        plan = "\n".join(
            row[0] for row in full.execute("EXPLAIN " + statements("history")[name], parameters)
        )
        assert not SCANNED.search(plan), (name, plan)


def test_a_providers_question_is_one_probe_of_each_primary_key(full):
    statement = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statements("people")["current_player"]
    for mode in ("force_custom_plan", "force_generic_plan"):
        full.execute(f"SET plan_cache_mode = {mode}")
        for player in ("p-7", "a-stranger"):
            [[[explained]]] = full.execute(statement, {"player": player}, prepare=True).fetchall()
            nodes = list(nodes_of(explained["Plan"]))
            reads = [node for node in nodes if "Relation Name" in node or "Index Name" in node]
            probes = sorted((node["Index Name"], node["Actual Loops"]) for node in reads)
            assert probes == [("player_state_pkey", 1), ("wallet_pkey", 1)], (mode, nodes)
            assert all(node["Actual Rows"] <= 1 for node in reads)
            # Of a tree of 120,000 keys: root, leaf, and the row.
            pages = sum(node["Shared Hit Blocks"] + node["Shared Read Blocks"] for node in reads)
            assert pages <= 8, (mode, pages)


def nodes_of(plan):
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes_of(child)


def test_a_stretch_of_the_log_is_found_however_unequal_the_partitions_are(full):
    for partition in (0, 5):
        [[end]] = full.execute(
            "SELECT max(source_offset) FROM entry WHERE part = %s", (partition,)
        ).fetchall()
        rows = full.execute(
            "EXPLAIN (ANALYZE, BUFFERS) " + statements("positions")["outcomes_between"],
            {"part": partition, "first": end - 200, "next": end + 1},
        ).fetchall()
        plan = "\n".join(row[0] for row in rows)
        assert "Bitmap Heap Scan on entry" in plan, (partition, plan)
        removed = sum(
            map(int, re.findall(r"Rows Removed by (?:Index Recheck|Filter): (\d+)", plan))
        )
        assert removed < ROWS / 10, (partition, plan)


def test_the_traffic_of_a_day_is_found_by_an_index(full):
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
