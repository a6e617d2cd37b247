"""Splitting of a camt file into files that fit a raw record, for connectors.

Pure: the same file, the same result.

Each result is a whole file of its own, with the group header and the statement's head. Payments
that are the same in all that identity looks at stay in one file, where they are counted; so the
results say of every payment exactly what the file said.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Final, NamedTuple

from lxml import etree

from schemas.errors import RejectCode, Rejected
from streams.providers.camt import Camt
from streams.providers.camt_file import Statement, read_entry, read_statements
from streams.providers.xml_body import make_parser, root_of

SPLIT_MAX_BYTES: Final = 1_000_000


class _Unit(NamedTuple):
    """An element that is not split any further: an entry, the keys of its payments, its size."""

    element: etree._Element
    keys: frozenset[str]
    size: int


def split_file(
    value: bytes, dialect: Camt | None = None, max_bytes: int = SPLIT_MAX_BYTES
) -> list[bytes]:
    """Return the file itself if it fits `max_bytes`, else files that do.

    `dialect` must be the one that will read them. Raises Rejected: what the dialect raises for a
    file that it cannot read, TOO_LARGE where even one payment does not fit.
    """
    root = root_of(make_parser(), value)
    statements = list(read_statements(root))
    if len(value) <= max_bytes:
        return [value]
    made: list[bytes] = []
    for number, statement in enumerate(statements):
        frame = _frame(root, statements, number)
        room = max_bytes - len(_print_file(frame, []))
        units = [
            unit
            for element in statement.entries
            for unit in _units(dialect or Camt(), statement, element, room)
        ]
        made += [_print_file(frame, chosen) for chosen in _pack(_group_by_key(units), room)]
    return made


def _frame(root: etree._Element, statements: list[Statement], number: int) -> etree._Element:
    """Return the file with one of its statements and no entry."""
    frame = deepcopy(root)
    copies = list(read_statements(frame))
    assert len(copies) == len(statements)
    for index, copy in enumerate(copies):
        for entry in copy.entries:
            _remove(entry)
        if index != number:
            _remove(copy.element)
    return frame


def _remove(element: etree._Element) -> None:
    above = element.getparent()
    assert above is not None
    above.remove(element)


def _print_file(frame: etree._Element, entries: list[etree._Element]) -> bytes:
    whole = deepcopy(frame)
    [statement] = read_statements(whole)
    head = [child for child in statement.element if not str(child.tag).endswith("Inf")]
    at = statement.element.index(head[-1]) + 1
    statement.element[at:at] = [deepcopy(entry) for entry in entries]
    return etree.tostring(whole, encoding="UTF-8", xml_declaration=True)


def _units(
    dialect: Camt, statement: Statement, element: etree._Element, room: int
) -> Iterator[_Unit]:
    """Return the entry, or, where it does not fit by itself, an entry for each of its details."""
    size = len(etree.tostring(element))
    entry = read_entry(element, statement.namespace)
    if size <= room or not entry.is_divided:
        yield _Unit(element, dialect.keys_of(statement, entry), size)
        return
    frame = deepcopy(element)
    for detail in read_entry(frame, statement.namespace).details:
        _remove(detail.element)
    for detail in entry.details:
        alone = deepcopy(frame)
        details = alone.find(f"{statement.namespace}NtryDtls")
        assert details is not None
        if read_entry(alone, statement.namespace).count in {"", "1"}:
            # Otherwise the one detail would pass for the whole entry.
            batch = etree.SubElement(details, f"{statement.namespace}Btch")
            etree.SubElement(batch, f"{statement.namespace}NbOfTxs").text = str(len(entry.details))
        details.append(deepcopy(detail.element))
        keys = dialect.keys_of(statement, read_entry(alone, statement.namespace))
        yield _Unit(alone, keys, len(etree.tostring(alone)))


def _group_by_key(units: list[_Unit]) -> list[tuple[list[etree._Element], int]]:
    """Group the units that share a key, in the order of their first one; with their sizes."""
    leader = list(range(len(units)))

    def first_of(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    seen: dict[str, int] = {}
    for index, unit in enumerate(units):
        for key in sorted(unit.keys):
            one, other = sorted((first_of(index), first_of(seen.setdefault(key, index))))
            leader[other] = one
    groups: dict[int, list[_Unit]] = {}
    for index, unit in enumerate(units):
        groups.setdefault(first_of(index), []).append(unit)
    return [
        ([unit.element for unit in group], sum(unit.size for unit in group))
        for group in groups.values()
    ]


def _pack(
    groups: list[tuple[list[etree._Element], int]], room: int
) -> Iterator[list[etree._Element]]:
    chosen: list[etree._Element] = []
    used = 0
    for elements, size in groups:
        if size > room:
            raise Rejected(
                RejectCode.TOO_LARGE,
                f"payments that belong together have {size} bytes; {room} are left",
            )
        if chosen and used + size > room:
            yield chosen
            chosen, used = [], 0
        chosen += elements
        used += size
    yield chosen
