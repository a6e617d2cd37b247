"""An applied migration is never edited: a database that has it refuses every other text.

A new file needs a new line in `checksums.json`; a changed line there is always a mistake.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fraud_agents import snapshots
from ledger_sink.store import migrate

CHECKSUMS = Path(__file__).parents[1] / "vectors" / "migrations" / "checksums.json"


@pytest.mark.parametrize("tables", [migrate.TABLES, snapshots.TABLES], ids=lambda t: t.package)
def test_each_migration_is_the_one_that_was_applied(tables):
    domain = tables.package.partition(".")[0]
    expected = {
        name.partition("/")[2]: checksum
        for name, checksum in json.loads(CHECKSUMS.read_text()).items()
        if name.startswith(f"{domain}/")
    }
    files = tables.files()
    assert files
    assert {migration.name: migration.checksum for migration in files} == expected
