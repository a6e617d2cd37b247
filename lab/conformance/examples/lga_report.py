"""A licensee's monthly report of three players; a month without any."""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from lab.conformance.examples.fill import Example, Expected, Fill
from lab.conformance.examples.written import ExampleWriter, sending_of
from lab.conformance.intents import DEFAULT_BRAND, Intent, Verb
from lab.conformance.writers.lga_report import (
    HEADINGS,
    WRITER,
    licensee_of,
    print_file,
    row_of,
    time_text,
)
from schemas.events import SignatureVerdict
from streams.providers.dialect import KeyMaterial

KEYS: Final[KeyMaterial] = {}

_NOT_CHECKED: Final = SignatureVerdict.NOT_CHECKED
_LGA: Final = ExampleWriter(WRITER, KEYS, _NOT_CHECKED)
_LICENSEE: Final = licensee_of(DEFAULT_BRAND)
_PLAYERS: Final = 3
_NOTED: Final = "INFORMATIONAL"


def examples(fill: Fill) -> list[Example]:
    """Return one file of three players, and one with Windows line ends and no player."""
    rows = [_row(fill, n) for n in range(_PLAYERS)]
    message = WRITER.write(rows, sending_of(fill), KEYS)
    expects = [_expected(row) for row in rows]
    return [
        _LGA.wrap(fill, message, *expects, name="a month", schema="report"),
        _file(fill, "a month without players", [], f"{_LICENSEE} II"),
    ]


def rebatch(fill: Fill) -> list[Example]:
    """Return the same lines in two files, the last player first."""
    rows = [_row(fill, n) for n in range(_PLAYERS)]
    return [
        _file(fill, "later", rows[:0:-1]),
        _file(fill, "earlier", rows[:1]),
        examples(fill)[1],
    ]


def payload(example: Example) -> dict[str, Any]:
    """Return the file as its payload schema describes it."""
    first, *rows, headings = [line.split("\t") for line in example.value.decode().splitlines()]
    names = headings
    return {
        "licensee": first[0],
        "selection": first[1:-1],
        "offset": first[-1],
        "headings": names,
        "players": [dict(zip(names, row, strict=True)) for row in rows],
    }


def _row(fill: Fill, n: int) -> Intent:
    player = fill.player if fill.hostile else f"{fill.player}-{n}"
    amounts = [fill.amount(3 * n), fill.amount(3 * n + 1), fill.amount(3 * n + 2), None]
    intent = _LGA.intent(
        fill,
        Verb.REPORT_ROW,
        "",
        legs=[(_NOTED, amount) for amount in amounts],
        at_ms=(fill.first_at_ms // 1000 + n) * 1000,
    )
    return replace(intent, player=" ".join(player.split()))  # a file cannot hold tabs


def _expected(row: Intent) -> Expected:
    currency = row.legs[0].currency or ""
    tx_id = "|".join((_LICENSEE, time_text(row.at_ms), row.player or "", currency))
    return replace(_LGA.expect(row), tx_id=tx_id, at_ms=row.at_ms)


def _file(fill: Fill, name: str, rows: list[Intent], licensee: str = _LICENSEE) -> Example:
    """Return a file with Windows line ends; without a line it is read as one notice."""
    lines = [list(row_of(row).values()) for row in rows]
    notice = Expected("player_data", licensee, None, ((_NOTED, None),), None, _NOT_CHECKED.value)
    expects = [_expected(row) for row in rows] or [notice]
    message = print_file(licensee, HEADINGS, lines, "\r\n")
    return _LGA.wrap(fill, message, *expects, name=name, schema="report")
