"""Splitting of a camt file into files that fit a raw record, for connectors.

Pure: the same file, the same result.

Each result is a whole file of its own, with the group header and the statement's head. Payments
that are the same in all that identity looks at stay in one file, where they are counted. An entry
that does not fit becomes entries of some of its payments, each with their sum as its amount, so
that they add up. References that the file gives to different payments are left out: in the results
nothing else would show that they are none. So the results say of every payment exactly what the
file said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Final, NamedTuple

from lxml import etree

from schemas.errors import RejectCode, Rejected
from schemas.money import amount_from_text, exponent_of, format_minor, minor_units
from streams.providers.camt import Camt
from streams.providers.camt_file import (
    BankEntry,
    Statement,
    read_entry,
    read_statements,
    text_of_element,
)
from streams.providers.camt_parts import Part, divide, drop_shared_references
from streams.providers.fields import currency_of
from streams.providers.xml_body import make_parser, root_of

SPLIT_MAX_BYTES: Final = 1_000_000


class _Source(NamedTuple):
    """An entry that is split: without its details, and as it was read."""

    frame: etree._Element
    namespace: str
    entry: BankEntry


class _Unit(NamedTuple):
    """An entry that is not split any further, the keys of its payments, its size.

    `source` and `parts` are those of a piece of an entry. Pieces of one entry that get into one
    file become one entry again: with its reference twice it would seem to identify nothing.
    """

    element: etree._Element
    keys: frozenset[str]
    size: int
    source: _Source | None = None
    parts: tuple[Part, ...] = ()


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
    _remove_shared_references(statements)
    made: list[bytes] = []
    for number, statement in enumerate(statements):
        frame = _frame(root, statements, number)
        room = max_bytes - len(_print_file(frame, []))
        units = [
            unit
            for element in statement.entries
            for unit in _units(dialect or Camt(), statement, element, room)
        ]
        packed = _pack(_group_by_key(units), room)
        made += [_print_file(frame, _merge_pieces(chosen)) for chosen in packed]
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


def _remove_shared_references(statements: list[Statement]) -> None:
    entries = [
        (statement, read_entry(element, statement.namespace))
        for statement in statements
        for element in statement.entries
    ]
    shared = drop_shared_references(entries)
    for statement, entry in entries if shared else ():
        skip = len(statement.namespace)
        leaves = [("Ntry", leaf) for leaf in entry.element]
        for detail in entry.details:
            refs = detail.element.findall(f"{statement.namespace}Refs/*")
            leaves += [(str(leaf.tag)[skip:], leaf) for leaf in refs]
        for name, leaf in leaves:
            is_own = name != "Ntry" or str(leaf.tag)[skip:] == "AcctSvcrRef"
            if is_own and (name, text_of_element(leaf)) in shared:
                _remove(leaf)


def _units(
    dialect: Camt, statement: Statement, element: etree._Element, room: int
) -> Iterator[_Unit]:
    """Return the entry, or, where it does not fit by itself, entries of two of its payments.

    The last one has three if their number is odd: a single one would pass for a whole entry.
    """
    size = len(etree.tostring(element))
    entry = read_entry(element, statement.namespace)
    parts = [] if size <= room else _parts_of(entry)
    if len(parts) < 4:
        yield _Unit(element, dialect.keys_of(statement, entry), size)
        return
    frame = deepcopy(element)
    for detail in read_entry(frame, statement.namespace).details:
        _remove(detail.element)
    source = _Source(frame, statement.namespace, entry)
    cuts = [*range(0, len(parts) - 1, 2), len(parts)]
    for start, end in pairwise(cuts):
        piece = tuple(parts[start:end])
        alone = _entry_of(source, piece)
        keys = dialect.keys_of(statement, read_entry(alone, statement.namespace))
        yield _Unit(alone, keys, len(etree.tostring(alone)), source, piece)


def _parts_of(entry: BankEntry) -> list[Part]:
    """Return the entry's payments if each of its details is one, else nothing."""
    if entry.money is None or any(detail.allocations for detail in entry.details):
        return []
    try:
        amount = amount_from_text(entry.money.text)
        currency = currency_of(amount, entry.money.currency)
    except Rejected:
        return []
    return list(divide(entry, minor_units(amount, currency), currency).parts)


def _merge_pieces(units: list[_Unit]) -> list[etree._Element]:
    """Return the entries of one file."""
    pieces: dict[int, list[_Unit]] = {}
    for unit in units:
        pieces.setdefault(id(unit.element if unit.source is None else unit.source), []).append(unit)
    return [
        several[0].element
        if several[0].source is None
        else _entry_of(several[0].source, [part for unit in several for part in unit.parts])
        for several in pieces.values()
    ]


def _entry_of(source: _Source, parts: Sequence[Part]) -> etree._Element:
    """Return the entry with some of its payments and with their sum as its amount."""
    (frame, namespace, entry) = source
    assert entry.money is not None
    alone, direction = deepcopy(frame), entry.fields.get("CdtDbtInd", "")
    currency = entry.money.currency.upper()
    signs = (-1 if part.detail.direction not in {"", direction} else 1 for part in parts)
    total = abs(sum(sign * part.minor for sign, part in zip(signs, parts, strict=True)))
    amount, details = alone.find(f"{namespace}Amt"), alone.find(f"{namespace}NtryDtls")
    assert amount is not None
    assert details is not None
    amount.text = format_minor(total, exponent_of(currency))
    details.extend(deepcopy(part.detail.element) for part in parts)
    return alone


def _group_by_key(units: list[_Unit]) -> list[list[_Unit]]:
    """Group the units that share a key, in the order of their first one."""
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
    return list(groups.values())


def _pack(groups: list[list[_Unit]], room: int) -> Iterator[list[_Unit]]:
    chosen: list[_Unit] = []
    used = 0
    for group in groups:
        size = sum(unit.size for unit in group)
        if size > room:
            raise Rejected(
                RejectCode.TOO_LARGE,
                f"payments that belong together have {size} bytes; {room} are left",
            )
        if chosen and used + size > room:
            yield chosen
            chosen, used = [], 0
        chosen += group
        used += size
    yield chosen
