"""Whether a migration only adds: then an earlier release works on the tables that it leaves. Pure.

An earlier release names the columns that it reads and writes. So new tables, indexes and columns
with a default or without a value do not disturb it; whatever removes, renames or forbids does. What
is not known to add does not add.
"""

from __future__ import annotations

import re
from typing import Final

_COMMENT: Final = re.compile(r"--[^\n]*")
_BODY: Final = re.compile(r"\$(\w*)\$.*?\$\1\$", re.DOTALL)
_TEXT: Final = re.compile(r"'(?:[^']|'')*'")
_NAME: Final = r"(?:IF NOT EXISTS )?([\w.]+)"
_CREATED: Final = re.compile(rf"CREATE TABLE {_NAME}", re.IGNORECASE)
_ADDED: Final = re.compile(rf"ADD COLUMN {_NAME}", re.IGNORECASE)
_ALTER: Final = re.compile(r"ALTER TABLE ([\w.]+) (.*)", re.IGNORECASE | re.DOTALL)
_STORAGE: Final = re.compile(r"SET \([^)]*\)", re.IGNORECASE)
_INSERT: Final = re.compile(r"INSERT INTO ([\w.]+)", re.IGNORECASE)
_UPDATE: Final = re.compile(r"UPDATE ([\w.]+)(?: AS \w+)? SET (.*)", re.IGNORECASE | re.DOTALL)
_UNIQUE: Final = re.compile(r"CREATE UNIQUE INDEX \w+ ON ([\w.]+)", re.IGNORECASE)
_HARMLESS: Final = re.compile(
    r"(CREATE (TABLE|INDEX|SCHEMA|FUNCTION)|COMMENT ON|GRANT|REVOKE ALL ON FUNCTION|SELECT) ",
    re.IGNORECASE,
)


def find_change(text: str) -> str | None:
    """Return the first statement of a migration that does more than add; None if none does."""
    statements = [
        " ".join(one.split())
        for one in _TEXT.sub("''", _BODY.sub("''", _COMMENT.sub("", text))).split(";")
    ]
    created = {name for one in statements for name in _CREATED.findall(one)}
    added = {name for one in statements for name in _ADDED.findall(one)}
    return next((one for one in statements if one and not _adds(one, created, added)), None)


def _adds(statement: str, created: set[str], added: set[str]) -> bool:
    """Return whether a statement only adds to the tables `created` and columns `added` before."""
    if unique := _UNIQUE.match(statement):
        return unique[1] in created
    if insert := _INSERT.match(statement):
        return insert[1] in created
    if update := _UPDATE.match(statement):
        columns = re.findall(r"(?:^|, )(\w+) = ", update[2].partition(" FROM ")[0])
        return update[1] in created or (bool(columns) and set(columns) <= added)
    if alter := _ALTER.match(statement):
        return alter[1] in created or all(_adds_column(one) for one in _split(alter[2]))
    return _HARMLESS.match(statement) is not None


def _adds_column(action: str) -> bool:
    if _STORAGE.fullmatch(action):
        return True
    upper = action.upper()
    is_optional = "NOT NULL" not in upper or " DEFAULT " in upper or " GENERATED " in upper
    return upper.startswith("ADD COLUMN ") and is_optional


def _split(actions: str) -> list[str]:
    """Split the actions of an ALTER TABLE at the commas that are not in brackets."""
    depth, found = 0, [""]
    for character in actions:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            found.append("")
        else:
            found[-1] += character
    return [one.strip() for one in found]
