"""The monthly player report of Malta's Lotteries and Gaming Authority, a tab-separated text file.

Source: gamingservicesmalta.com, player data. The first record names the licensee, what was selected
and how far the timestamps are from Central European Time; the last one holds the headings and marks
the end. A file without that mark was cut off on its way and is rejected whole. Each line between is
one item that moves no money: four amounts as INFORMATIONAL legs in the order bet in the month,
balance at its end, pending transfers, value of chips.

Columns are found by their headings, so one more of them changes nothing. Nationality and date of
birth stay in the raw record and are not shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta, timezone
from typing import Any, ClassVar, Final

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import Kind, Leg, SignatureVerdict
from schemas.money import amount_from_text
from schemas.topics import DAY_MS
from streams.providers.dialect import (
    FILE_PART_BYTES_MAX,
    Dialect,
    Draft,
    FilePart,
    Headers,
    Item,
    KeyMaterial,
    Reader,
    UnreadableItem,
)
from streams.providers.fields import ID_MAX, signed_currency_of, text_of
from streams.providers.times import ms_of_text

OPERATION: Final = "player_data"
AMOUNTS: Final = ("BET_IN_MONTH", "BALANCE_MONTH_END", "PENDING_TRANSFER", "CASINO_CHIPS_VALUE")

_NEEDED: Final = frozenset({"TIMESTAMP", "PLAYER_ID", "CURRENCY", *AMOUNTS})
_PERSONAL: Final = frozenset({b"REG_NATION", b"REG_DOB"})
_HEADINGS: Final = frozenset(name.encode() for name in _NEEDED)
_NOT_SHOWN: Final = b"(not shown: without its last line it is unknown which columns are personal)"
_OFFSET: Final = re.compile(r"([+-])(\d{1,2})(?::?(\d\d))?", re.ASCII)
_UNSIGNED: Final = SignatureVerdict.NOT_CHECKED.value


@dataclass(frozen=True)
class LgaReport(Dialect):
    """The report's dialect and its settings.

    `cet_offset_minutes` is how far Central European Time is taken to be from UTC: an hour, in
    summer too. The description says CET; whether a licensee's files mean local time in Malta
    instead, only the licensee can say.
    """

    provider: ClassVar[str] = "lga_report"
    version: ClassVar[str] = "1"
    reads_files: ClassVar[bool] = True

    cet_offset_minutes: int = 60
    time_tolerance_ms: int = 62 * DAY_MS

    def reader(self, material: KeyMaterial | None) -> Reader:
        """Return a reader; the file is not signed, whatever the keyring holds."""
        del material
        return self._read

    def split_file(self, value: bytes) -> list[FilePart]:
        """Return the file, or several with its first and its last line, under the licensee.

        Raises Rejected for a file that was cut off or is another one, TOO_LARGE for a line that
        does not fit.
        """
        licensee, _, _, _ = self._parts(value)
        if len(value) <= FILE_PART_BYTES_MAX:
            return [FilePart(licensee.encode(), value)]
        first, *rows, last = value.rstrip(b"\r\n").split(b"\n")
        room = FILE_PART_BYTES_MAX - len(first) - len(last) - 2
        packs: list[list[bytes]] = [[]]
        used = 0
        for row in rows:
            size = len(row) + 1
            if size > room:
                raise Rejected(RejectCode.TOO_LARGE, f"a line of {size:,} bytes fits no record")
            if used + size > room:
                packs.append([])
                used = 0
            packs[-1].append(row)
            used += size
        return [FilePart(licensee.encode(), b"\n".join([first, *pack, last])) for pack in packs]

    def redact(self, value: bytes) -> bytes:
        """Return the file without nationalities, dates of birth, or what could be one of them.

        A file that was cut off has no headings, so none of it is shown; a line whose number of
        fields differs from that of the headings has unknown columns, so none of the line is shown.
        """
        lines = value.split(b"\n")
        end = max((index for index, line in enumerate(lines) if line.strip()), default=0)
        headings = [name.strip() for name in lines[end].split(b"\t")]
        if end == 0 or not _HEADINGS.issubset(headings):
            return _NOT_SHOWN
        personal = {place for place, name in enumerate(headings) if name in _PERSONAL}
        for index in range(1, end):
            fields = lines[index].split(b"\t")
            if len(fields) != len(headings):
                fields = [b"***"]
            lines[index] = b"\t".join(
                b"***" if place in personal else field for place, field in enumerate(fields)
            )
        return b"\n".join(lines)

    def payload(self, value: bytes) -> dict[str, Any]:
        """Return the file as its payload schema describes it, each line by its headings."""
        first, *rows, headings = [
            line.split("\t")
            for line in value.decode("utf-8-sig").replace("\r\n", "\n").rstrip("\n").split("\n")
        ]
        names = [name.strip() for name in headings]
        return {
            "licensee": first[0].strip(),
            "selection": first[1:-1],
            "offset": first[-1].strip(),
            "headings": names,
            "players": [dict(zip(names, row, strict=False)) for row in rows],
        }

    def _read(self, record: RawRecord, _: Headers) -> list[Item]:
        licensee, zone, rows, columns = self._parts(record.value or b"")
        items: list[Item] = []
        for row in rows:
            try:
                items.append(_draft(licensee, zone, row.split("\t"), columns))
            except Rejected as error:
                items.append(error)
        if not items:
            leg = Leg(Kind.INFORMATIONAL.value)
            items.append(
                Draft(
                    OPERATION,
                    licensee,
                    [leg],
                    None,
                    None,
                    None,
                    False,
                    None,
                    None,
                    False,
                    _UNSIGNED,
                )
            )
        return items

    def _parts(self, value: bytes) -> tuple[str, timezone, list[str], Mapping[str, int]]:
        """Return licensee, zone of the timestamps, lines between, and columns by name."""
        try:
            lines = value.decode("utf-8-sig").replace("\r\n", "\n").rstrip("\n").split("\n")
        except UnicodeDecodeError:
            raise Rejected(RejectCode.MALFORMED, "the file is not UTF-8") from None
        headings = [name.strip() for name in lines[-1].split("\t")]
        columns = {name: place for place, name in enumerate(headings)}
        if len(lines) < 2 or not columns.keys() >= _NEEDED:
            raise Rejected(
                RejectCode.MALFORMED,
                "the last line does not hold the headings: the file was cut off",
            )
        if len(columns) < len(headings):
            raise Rejected(RejectCode.MALFORMED, "a heading is there twice")
        first = [field.strip() for field in lines[0].split("\t")]
        match = _OFFSET.fullmatch(first[-1])
        if len(first) < 2 or match is None or not first[0]:
            raise Rejected(
                RejectCode.BAD_TIME,
                "the first line does not name the licensee and end with the offset to CET",
            )
        offset = timedelta(hours=int(match[2]), minutes=int(match[3] or 0))
        ahead = timedelta(minutes=self.cet_offset_minutes) + (
            offset if match[1] == "+" else -offset
        )
        if abs(ahead) >= timedelta(days=1):
            raise Rejected(
                RejectCode.BAD_TIME, "the first line is further from CET than any place is"
            )
        return _check_id(first[0], "licensee"), timezone(ahead), lines[1:-1], columns


def _draft(licensee: str, zone: timezone, row: list[str], columns: Mapping[str, int]) -> Draft:
    if len(row) != len(columns):
        raise Rejected(
            RejectCode.BAD_FIELD, f"a line of {len(row)} fields under {len(columns)} headings"
        )
    texts = {name: row[place].strip() for name, place in columns.items() if name in _NEEDED}
    player_id = _check_id(texts["PLAYER_ID"], "PLAYER_ID")
    try:
        legs = [_leg(texts[name], texts["CURRENCY"]) for name in AMOUNTS]
        time = texts["TIMESTAMP"]
        tx_id = "|".join((licensee, time, player_id, legs[0].currency or ""))
        at = ms_of_text(time, zone, field="TIMESTAMP")
    except Rejected as error:
        raise UnreadableItem(error.reason, error.detail, player_id) from error
    return Draft(OPERATION, tx_id, legs, player_id, None, None, False, None, at, False, _UNSIGNED)


def _leg(text: str, currency: str) -> Leg:
    """Return a column's amount as a leg; an empty column has no amount, which is not zero."""
    amount = amount_from_text(text or "0")
    code = signed_currency_of(amount, currency)
    return Leg(Kind.INFORMATIONAL.value, amount if text else None, code)


def _check_id(text: str, name: str) -> str:
    if not text:
        raise Rejected(RejectCode.MISSING_FIELD, f"{name} is missing")
    if len(text) > ID_MAX:
        raise Rejected(RejectCode.BAD_FIELD, f"{name} is longer than {ID_MAX} characters")
    return text_of(text, name)
