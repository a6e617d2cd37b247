"""Ids that a sentence names, in text that may be cut into lines in the middle of a word.

A prefix of an id may be an id too: of `… dep-12` and `34 thanks` on the next line nothing tells
whether `dep-12` or `dep-1234` was written. Each place that names an id therefore has all of its
readings, and the id is certain where one reading, and no other, fits every place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from streams.providers.fields import ID_MAX

_TEXT_MAX: Final = 20_000
"""Characters that are searched; free text of camt has a few hundred."""
_REACH: Final = 2 * ID_MAX


def find_named_id(pattern: re.Pattern[str], texts: Sequence[Sequence[str]]) -> str | None:
    """Return the one id that the texts name, each a list of lines.

    None where they name no id, several, or one that could as well be another one; and for an id
    that no deposit can have (longer than ID_MAX, unprintable).
    """
    fitting: set[str] | None = None
    for lines in texts:
        if len(lines) == 1 and len(lines[0]) <= _TEXT_MAX:
            places = [{match[0]} for match in pattern.finditer(lines[0])]
        else:
            places = list(_readings(pattern, lines)) if lines else []
        for readings in places:
            fitting = readings if fitting is None else fitting & readings
            if not fitting:
                return None
    if fitting is None or len(fitting) != 1:
        return None
    [named] = fitting
    return named if len(named) <= ID_MAX and named.isprintable() else None


def _readings(pattern: re.Pattern[str], lines: Sequence[str]) -> Iterator[set[str]]:
    """Yield for each place that names an id what it may mean."""
    whole = "".join(lines)
    if len(whole) > _TEXT_MAX:
        return
    ends = list(accumulate(map(len, lines)))
    last = len(lines) - 1
    starts = {match.start() for match in pattern.finditer(whole)}
    for number, line in enumerate(lines):
        begin = ends[number] - len(line)
        alone = {begin + match.start(): match[0] for match in pattern.finditer(line)}
        for start in sorted(alone.keys() | {at for at in starts if begin <= at < ends[number]}):
            readings = {alone[start]} if start in alone else set[str]()
            is_cut = start not in alone or start + len(alone[start]) == ends[number]
            if is_cut and number < last:
                readings |= _joined_readings(pattern, whole[start : start + _REACH], start, ends)
            if readings:
                yield readings


def _joined_readings(
    pattern: re.Pattern[str], text: str, start: int, ends: Sequence[int]
) -> set[str]:
    """Return the ids that the text begins with, read up to each end of a line that it covers."""
    longest = pattern.match(text)
    if longest is None:
        return set()
    cuts = [end - start for end in ends if start < end < start + longest.end()]
    shorter = (pattern.match(text[:cut]) for cut in cuts)
    return {longest[0], *(match[0] for match in shorter if match is not None)}
