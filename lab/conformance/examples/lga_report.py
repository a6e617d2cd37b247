"""A licensee's monthly report of three players; a month without any."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from lab.conformance.examples.fill import Example, Expected, Fill, plain
from schemas.events import SignatureVerdict
from streams.providers.dialect import KeyMaterial

KEYS: Final[KeyMaterial] = {}

_LICENSEE: Final = "Acme Gaming Ltd"
_HEADINGS: Final = (
    "TIMESTAMP",
    "PLAYER_ID",
    "REG_NATION",
    "REG_DOB",
    "LAST_LOGIN",
    "CURRENCY",
    "BET_IN_MONTH",
    "BALANCE_MONTH_END",
    "PENDING_TRANSFER",
    "CASINO_CHIPS_VALUE",
)
_PLAYERS: Final = 3
_AHEAD: Final = timedelta(hours=2)  # of UTC: an hour ahead of CET
_NOTED: Final = "INFORMATIONAL"


def examples(fill: Fill) -> list[Example]:
    """Return one file of three players, and one with Windows line ends and no player."""
    rows = [_row(fill, n) for n in range(_PLAYERS)]
    return [
        _file(fill, "a month", _LICENSEE, rows, "\n"),
        _file(fill, "a month without players", f"{_LICENSEE} II", [], "\r\n"),
    ]


def rebatch(fill: Fill) -> list[Example]:
    """Return the same lines in two files, the last player first."""
    rows = [_row(fill, n) for n in range(_PLAYERS)]
    files = (("later", rows[:0:-1]), ("earlier", rows[:1]))
    return [
        *(_file(fill, name, _LICENSEE, some, "\r\n") for name, some in files),
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


def _row(fill: Fill, n: int) -> tuple[str, Expected]:
    at = fill.first_at_ms // 1000 + n
    time = f"{datetime.fromtimestamp(at, UTC) + _AHEAD:%Y-%m-%dT%H:%M:%S}"
    player = _tabless(f"{fill.player}-{n}" if not fill.hostile else fill.player)
    amounts: list[Decimal | None] = [
        fill.amount(3 * n),
        fill.amount(3 * n + 1),
        fill.amount(3 * n + 2),
        None,
    ]
    fields = [time, player, "MT", "1980-02-29", time, fill.currency]
    fields += ["" if amount is None else plain(amount) for amount in amounts]
    legs = tuple((_NOTED, amount) for amount in amounts)
    tx_id = f"{_LICENSEE}|{time}|{player}|{fill.currency}"
    unsigned = SignatureVerdict.NOT_CHECKED.value
    return "\t".join(fields), Expected(
        "player_data", tx_id, player, legs, None, unsigned, at_ms=at * 1000
    )


def _tabless(text: str) -> str:
    return " ".join(text.split())


def _file(
    fill: Fill, name: str, licensee: str, rows: list[tuple[str, Expected]], end: str
) -> Example:
    lines = [f"{licensee}\t2026-10\t+01:00", *(text for text, _ in rows), "\t".join(_HEADINGS)]
    unsigned = SignatureVerdict.NOT_CHECKED.value
    no_players = Expected("player_data", licensee, None, ((_NOTED, None),), None, unsigned)
    headers = fill.headers("text/tab-separated-values", "/lga")
    expects = tuple(expected for _, expected in rows) or (no_players,)
    return Example(
        name, headers, licensee.encode(), (end.join(lines) + end).encode(), expects, "report"
    )
