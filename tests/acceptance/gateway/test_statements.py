"""Bank statements that are put into the gateway's folder: appended, moved, and booked once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lab.conformance.calls import CallOrder, make_intent
from lab.conformance.intents import Verb
from lab.conformance.writers.find import find_writers
from lab.conformance.writers.writer import Sending
from pitboss.embedded.processes import poll
from tests.acceptance.gateway.conftest import Door
from tests.acceptance.gateway.test_wallets import raw_ends

pytestmark = pytest.mark.integration


def write_statement() -> bytes:
    writer = find_writers(("camt",))["camt"]
    at_ms = time.time_ns() // 1_000_000
    order = CallOrder(Verb.DEPOSIT, "n-1", "ref-77", 5_000, deposit_id="dep-77", at_ms=at_ms)
    return writer.write((make_intent(writer, order),), Sending(at_ms, 0), None).body


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def read(door: Door, sql: str) -> list[Any]:
    with psycopg.connect(door.runtime.database_url) as connection:
        return connection.execute(sql).fetchall()


def test_a_statement_that_is_put_there_twice_is_booked_once(door: Door):
    folder = door.folder / "files" / str(door.port) / "camt"
    body = write_statement()
    for name in ("monday.xml", "again.xml"):
        (folder / name).write_bytes(body)
    (folder / "invoice.xml").write_bytes(b"<invoice/>")
    assert poll(lambda: {"monday.xml", "again.xml"} <= names_in(folder / "done"), timeout_s=180)
    assert poll(lambda: "invoice.xml" in names_in(folder / "failed"), timeout_s=180)
    reason = (folder / "failed" / "invoice.xml.reason.txt").read_text()
    assert reason.startswith("UNKNOWN_OPERATION: ")
    assert sum(asyncio.run(raw_ends(door, "camt")).values()) == 2
    both = "SELECT count(*) = 2 FROM parked WHERE provider = 'camt' AND appended"
    assert poll(lambda: read(door, both) == [(True,)], timeout_s=180)
    entries = "SELECT count(*) FROM entry WHERE provider = 'camt'"
    assert poll(lambda: read(door, entries) != [(0,)], timeout_s=180)
    assert read(door, entries) == [(1,)]
