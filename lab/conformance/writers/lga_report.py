"""The monthly player report to Malta's Lotteries and Gaming Authority: a tab-separated text file.

Source: gamingservicesmalta.com, player data. The file is unsigned, and a line has no id: licensee,
time, player and currency name it. A tab or line break in a text cannot be printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final

from lab.conformance.intents import Intent, IntentLeg, Verb
from lab.conformance.writers.encoding import amount_text
from lab.conformance.writers.ids import Ids
from lab.conformance.writers.writer import Message, Secrets, Sending, Writer

PATH: Final = "/lga"
CONTENT_TYPE: Final = "text/tab-separated-values"
AMOUNT_HEADINGS: Final = (
    "BET_IN_MONTH",
    "BALANCE_MONTH_END",
    "PENDING_TRANSFER",
    "CASINO_CHIPS_VALUE",
)
HEADINGS: Final = (
    "TIMESTAMP",
    "PLAYER_ID",
    "REG_NATION",
    "REG_DOB",
    "LAST_LOGIN",
    "CURRENCY",
    *AMOUNT_HEADINGS,
)

_CET_OFFSET: Final = "+01:00"  # of the timestamps, from Central European Time
_AHEAD_OF_UTC: Final = timedelta(hours=2)
_LINE_ENDS: Final = ("\n", "\r\n")


class LgaReportWriter(Writer):
    """Writes files of several players; a licensee's file may have another order of columns."""

    provider = "lga_report"
    says: ClassVar = {Verb.REPORT_ROW: "player_data"}
    batch_max = 20

    def write(self, items: Sequence[Intent], sending: Sending, secrets: Secrets | None) -> Message:
        """Write one file, a line an intent."""
        del secrets
        headings, line_end = list(HEADINGS), _LINE_ENDS[0]
        if sending.style is not None:
            sending.style.shuffle(headings)
            line_end = sending.style.choice(_LINE_ENDS)
        rows = [row_of(intent) for intent in items]
        lines = [[row[heading] for heading in headings] for row in rows]
        return print_file(licensee_of(items[0].brand), headings, lines, line_end)

    def draw_id(self, ids: Ids, verb: Verb, at_ms: int) -> str:
        """Draw a name for the line; the file does not print it."""
        del verb, at_ms
        return str(ids.number())


def row_of(intent: Intent) -> dict[str, str]:
    """Return a player's line by heading; an amount that does not apply is empty."""
    time = time_text(intent.at_ms)
    amounts = dict(zip(AMOUNT_HEADINGS, map(_amount_text, intent.legs), strict=True))
    return {
        "TIMESTAMP": time,
        "PLAYER_ID": intent.player or "",
        "REG_NATION": "MT",
        "REG_DOB": "1980-02-29",
        "LAST_LOGIN": time,
        "CURRENCY": next(leg.currency for leg in intent.legs if leg.currency) or "",
        **amounts,
    }


def time_text(at_ms: int) -> str:
    """Format epoch milliseconds as the report's local time, in whole seconds."""
    return f"{datetime.fromtimestamp(at_ms // 1000, UTC) + _AHEAD_OF_UTC:%Y-%m-%dT%H:%M:%S}"


def licensee_of(brand: str) -> str:
    """Return the name of the brand's licensee."""
    return f"{brand.capitalize()} Gaming Ltd"


def print_file(
    licensee: str, headings: Sequence[str], lines: Sequence[Sequence[str]], line_end: str
) -> Message:
    """Return the file: what it is about, a line a player, and the headings, which end it."""
    head = (licensee, "2026-10", _CET_OFFSET)
    text = "".join("\t".join(line) + line_end for line in (head, *lines, headings))
    return Message(licensee, text.encode(), PATH, CONTENT_TYPE)


def _amount_text(leg: IntentLeg) -> str:
    if leg.minor is None or leg.currency is None:
        return ""
    return amount_text(leg.minor, leg.currency)


WRITER: Final = LgaReportWriter()
