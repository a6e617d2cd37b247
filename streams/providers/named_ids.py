"""Ids that a sentence names, in text that may be cut into lines in the middle of a word.

A prefix of an id may be an id too: of `… dep-12` and `34 thanks` on the next line nothing tells
whether `dep-12` or `dep-1234` was written. Each place that names an id therefore has all of its
readings, and the id is certain where one reading, and no other, fits every place. Of `dep-12_34`
nothing is certain: a letter, a digit or an underscore behind an id shows that it goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from streams.providers.fields import ID_MAX

_TEXT_MAX: Final = 20_000
"""Characters that are searched; free text of camt has a few hundred."""
_REACH: Final = 2 * ID_MAX
_REST: Final = re.compile(r"(?:\w+(?:-+\w+)*)?")
"""The rest of a word that begins like an id."""


class NamedIds(NamedTuple):
    """The id that texts certainly name, and all that they may name, sorted."""

    certain: str | None = None
    candidates: tuple[str, ...] = ()

    def print_candidates(self) -> str:
        """Return the candidates as a text of at most ID_MAX characters; the rest is counted."""
        shown = " or ".join(self.candidates)
        number = len(self.candidates)
        while len(shown) > ID_MAX:
            number -= 1
            rest = f"{len(self.candidates) - number} more"
            shown = " or ".join([*self.candidates[:number], rest])
        return shown


def find_named_ids(pattern: re.Pattern[str], texts: Sequence[Sequence[str]]) -> NamedIds:
    """Return the ids that the texts name, each a list of lines.

    None is certain where they name no id, several, or one that could as well be another one; nor is
    one that no deposit can have (longer than ID_MAX, unprintable).
    """
    fitting: set[str] | None = None
    found: set[str] = set()
    broken: set[str] = set()
    for lines in texts:
        for readings in _readings(pattern, lines, broken) if lines else ():
            fitting = readings if fitting is None else fitting & readings
            found |= readings
    if fitting is None:
        return _NOTHING
    candidates = tuple(sorted(id_ for id_ in found if len(id_) <= ID_MAX and id_.isprintable()))
    certain = next(iter(fitting)) if len(fitting) == 1 else None
    is_usable = certain not in broken and certain in candidates
    return NamedIds(certain if is_usable else None, candidates)


_NOTHING: Final = NamedIds()


def _readings(
    pattern: re.Pattern[str], lines: Sequence[str], broken: set[str]
) -> Iterator[set[str]]:
    """Yield for each place that names an id what it may mean.

    Words that only begin like an id are added to `broken`.
    """
    if len(lines) == 1:
        if len(lines[0]) <= _TEXT_MAX:
            for match in pattern.finditer(lines[0]):
                yield {_read_word(match, broken)}
        return
    whole = "".join(lines)
    if len(whole) > _TEXT_MAX:
        return
    ends = list(accumulate(map(len, lines)))
    starts = {match.start() for match in pattern.finditer(whole)}
    for number, line in enumerate(lines):
        begin = ends[number] - len(line)
        alone = {
            begin + match.start(): _read_word(match, broken) for match in pattern.finditer(line)
        }
        for start in sorted(alone.keys() | {at for at in starts if begin <= at < ends[number]}):
            readings = {alone[start]} if start in alone else set[str]()
            text = whole[start : start + _REACH]
            readings |= _joined_readings(pattern, text, start, ends[number:], broken)
            if readings:
                yield readings


def _read_word(match: re.Match[str], broken: set[str]) -> str:
    """Return the word that a match begins: the id, or a word that is added to `broken`."""
    rest = _REST.match(match.string, match.end())
    if rest is None or not rest[0]:
        return match[0]
    word = match[0] + rest[0]
    broken.add(word)
    return word


def _joined_readings(
    pattern: re.Pattern[str], text: str, start: int, ends: Sequence[int], broken: set[str]
) -> set[str]:
    """Return the ids that the text begins with, read up to each end of a line that it covers.

    None where it ends in the line that it begins in.
    """
    longest = pattern.match(text)
    if longest is None:
        return set()
    word = _read_word(longest, broken)
    cuts = [end - start for end in ends if start < end < start + len(word)]
    if not cuts:
        return set()
    shorter = (pattern.match(text[:cut]) for cut in cuts)
    return {word, *(_read_word(match, broken) for match in shorter if match is not None)}
