"""ISO 20022 bank statements, camt.053 and notifications, camt.054: XML files with many entries.

Sources: the message definitions on iso20022.org (camt.05x.001.02 and later) and the samples of
genkgo/camt. An entry of the account is one item, or one for each of its `TxDtls` where these state
their own amounts. The operation is the direction, with `:PDNG` and the like behind it where the
entry is not booked.

A booked credit is a DEPOSIT, a booked debit that returns an earlier credit (`RvslInd`, `RtrInf`) is
a DEPOSIT_REVERSAL. Everything else is information: payouts and their returns are the cashier's
`withdrawal.paid`, and fees are our own. So is a detail whose direction is not its entry's: the
entry says what the account saw.

Identity comes from the bank's own references and never from `EndToEndId` alone, which the payer
chooses and repeats: the entry's `AcctSvcrRef`, or one of the detail's `AcctSvcrRef`, `UETR`,
`TxId`; where there is none, from statement and content. Payments that are the same in all of that
are counted within their file, ordered by content, so that two payments that share everything stay
two in whichever order a copy lists them. `CpyDplctInd`, message ids and creation times are not
used: a duplicate brings the same ids, and so does the other message about the same entry.

The player is found through the cashier's `deposit.opened`, whose id the payer was asked to give.
Money that names no deposit goes to suspense: it refers to `UNMATCHED`, which no event ever is.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, tzinfo
from functools import partial
from hashlib import blake2b
from typing import ClassVar, Final

import msgspec
from lxml import etree

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected, UsageError
from schemas.events import Kind, Leg, Reference, SignatureVerdict
from schemas.money import amount_from_text, minor_units
from schemas.topics import DAY_MS
from streams.providers.camt_file import (
    BankEntry,
    Detail,
    Statement,
    read_entry,
    read_statements,
    text_of_element,
)
from streams.providers.dialect import Dialect, Draft, Headers, Item, KeyMaterial, Reader
from streams.providers.fields import ID_MAX, currency_of, text_of
from streams.providers.times import ms_of_text, zone_of
from streams.providers.xml_body import make_parser, root_of

UNMATCHED: Final = "unmatched"

_DIRECTIONS: Final = frozenset({"CRDT", "DBIT"})
_STATUSES: Final = frozenset({"BOOK", "PDNG", "INFO", "FUTR"})
_UNIQUE: Final = ("AcctSvcrRef", "UETR", "TxId")
_SHARED: Final = ("PmtInfId", "InstrId", "EndToEndId", "TxId", "MsgId")
_NONE: Final = frozenset({"NOTPROVIDED", "NONREF"})
_TEXT_MAX: Final = 1_000
_UNSIGNED: Final = SignatureVerdict.NOT_CHECKED.value


class _Line(msgspec.Struct, frozen=True, gc=False):
    """One movement before it has its place among those that look the same."""

    operation: str
    key: str
    leg: Leg
    reference: Reference | None
    at: int | None
    element: etree._Element


@dataclass(frozen=True)
class Camt(Dialect):
    """The dialect of bank statements; its settings are the points in which banks differ.

    `money_in`: the messages that are booked. A bank that gives references reports the same of an
    entry in both, and it is booked once; of one that gives none, only one may count.
    `unique_references`: whether the bank uses an `AcctSvcrRef` once; if not, a reference only holds
    within its statement. `zone`: where a date without a time begins its day. `deposit_pattern`:
    what the cashier's deposit ids look like within a sentence of the payer's.
    """

    provider: ClassVar[str] = "camt"
    version: ClassVar[str] = "1"

    money_in: frozenset[str] = frozenset({"camt.053", "camt.054"})
    unique_references: bool = True
    zone: str = "UTC"
    deposit_pattern: str = r"\bdep-[0-9A-Za-z]+(?:-[0-9A-Za-z]+)*"
    # A file comes after the bank's night, a weekend and perhaps a holiday.
    time_tolerance_ms: int = 7 * DAY_MS

    def reader(self, material: KeyMaterial | None) -> Reader:
        """Return a reader; files are signed by their channel, if at all.

        Raises UsageError for an unusable zone or pattern.
        """
        del material
        try:
            pattern = re.compile(self.deposit_pattern)
        except re.error as error:
            raise UsageError(
                f"camt: deposit_pattern {self.deposit_pattern!r} is not a regular expression"
            ) from error
        return partial(self._read, make_parser(), zone_of(self.zone), pattern)

    def keys_of(self, statement: Statement, entry: BankEntry) -> frozenset[str]:
        """Return the keys of the entry's movements before equal ones are counted.

        Movements that cannot be read have none.
        """
        lines = self._lines(statement, entry, UTC, re.compile(self.deposit_pattern))
        return frozenset(line.key for line in lines if isinstance(line, _Line))

    def _read(
        self,
        reader: etree.XMLParser,
        zone: tzinfo,
        pattern: re.Pattern[str],
        record: RawRecord,
        _: Headers,
    ) -> list[Item]:
        found: list[_Line | Rejected] = []
        empty: list[Item] = []
        for statement in read_statements(root_of(reader, record.value or b"")):
            if not statement.entries:
                empty.append(_nothing(statement))
            for element in statement.entries:
                found += self._lines(
                    statement, read_entry(element, statement.namespace), zone, pattern
                )
        place = _places([line for line in found if isinstance(line, _Line)])
        return [
            line if isinstance(line, Rejected) else _draft(line, next(place)) for line in found
        ] + empty

    def _lines(
        self, statement: Statement, entry: BankEntry, zone: tzinfo, pattern: re.Pattern[str]
    ) -> Iterator[_Line | Rejected]:
        split = entry.is_divided
        # Several details without amounts of their own do not divide the entry: it is unknown how
        # much is whose.
        single = entry.details[0] if len(entry.details) == 1 else None
        for detail in entry.details if split else [single]:
            try:
                yield self._line(statement, entry, detail, split, zone, pattern)
            except Rejected as error:
                yield error

    def _line(
        self,
        statement: Statement,
        entry: BankEntry,
        detail: Detail | None,
        split: bool,
        zone: tzinfo,
        pattern: re.Pattern[str],
    ) -> _Line:
        doubled = entry.repeated_element or ("" if detail is None else detail.repeated_element)
        if doubled:
            raise Rejected(RejectCode.BAD_FIELD, f"{doubled} is there twice")
        money = detail.money if split and detail is not None else entry.money
        if money is None:
            raise Rejected(RejectCode.MISSING_FIELD, "Amt is missing")
        amount = amount_from_text(money.text)
        currency = currency_of(amount, money.currency)
        operation, kind = self._meaning(statement.message, entry, detail)
        key = self._key(
            statement, entry, detail, split, f"{minor_units(amount, currency)}{currency}"
        )
        deposit = _deposit(entry, detail, pattern)
        reference = None if deposit is None else Reference("deposit.opened", deposit)
        if reference is None and kind is not Kind.INFORMATIONAL:
            reference = Reference(UNMATCHED, key[:ID_MAX])
        element = entry.element if detail is None else detail.element
        at = ms_of_text(entry.when, zone, field="BookgDt") if entry.when else None
        return _Line(operation, key, Leg(kind.value, amount, currency), reference, at, element)

    def _meaning(self, message: str, entry: BankEntry, detail: Detail | None) -> tuple[str, Kind]:
        """Return the operation and its kind.

        A movement that moves no money because of its message or status has an operation of its own.
        """
        operation = direction = _one_of(entry, "CdtDbtInd", _DIRECTIONS)
        status = _one_of(entry, "Sts", _STATUSES)
        kind = _kind(direction, entry, detail)
        if status != "BOOK":
            operation, kind = f"{operation}:{status}", Kind.INFORMATIONAL
        if not entry.details and (entry.has_further_message or entry.count not in {"", "1"}):
            # A sum, or an entry that another message divides.
            operation, kind = f"{operation}:BTCH", Kind.INFORMATIONAL
        if message not in self.money_in:
            operation, kind = f"{message}:{operation}", Kind.INFORMATIONAL
        return operation, kind

    def _key(
        self, statement: Statement, entry: BankEntry, detail: Detail | None, split: bool, money: str
    ) -> str:
        """Return a movement's key before equal ones are counted, by the first rule that applies."""
        reference = entry.fields.get("AcctSvcrRef", "")
        booked_as = reference if self.unique_references else ""
        if booked_as and not split:
            return _join_key(statement.account, booked_as, money)
        refs = {} if detail is None else detail.refs
        for name in _UNIQUE if self.unique_references else ():
            value = refs.get(name)
            if value and value not in _NONE and value != booked_as:
                return _join_key(statement.account, f"{name}={value}", money)
        shared = [refs.get(name, "") for name in _SHARED]
        if booked_as:
            return _join_key(statement.account, booked_as, money, *shared)
        own = entry.fields.get("NtryRef") or reference
        texts = (
            ""
            if detail is None
            else blake2b("\n".join(detail.texts).encode(), digest_size=8).hexdigest()
        )
        return _join_key(
            statement.account, statement.id, own, entry.when[:10], money, *shared, texts
        )


def _kind(direction: str, entry: BankEntry, detail: Detail | None) -> Kind:
    """Return the effect of a booked movement on a player."""
    if detail is not None and detail.direction not in {"", direction}:
        return Kind.INFORMATIONAL
    returned = entry.fields.get("RvslInd") in {"true", "1"} or (
        detail is not None and detail.is_returned
    )
    if direction == "CRDT":
        return Kind.INFORMATIONAL if returned else Kind.DEPOSIT
    return Kind.DEPOSIT_REVERSAL if returned else Kind.INFORMATIONAL


def _deposit(entry: BankEntry, detail: Detail | None, pattern: re.Pattern[str]) -> str | None:
    """Return the one deposit that the payer named; None for none, and for two different ones."""
    texts = [entry.fields.get("AddtlNtryInf", "")]
    if detail is not None:
        texts += [*detail.texts, detail.refs.get("EndToEndId", "")]
    named = {match[0] for text in texts for match in pattern.finditer(text[:_TEXT_MAX])}
    return _check_length(named.pop(), "the deposit's id") if len(named) == 1 else None


def _places(lines: list[_Line]) -> Iterator[str]:
    """Return the ids of the lines in order.

    An id is the line's key, and from the second equal one on also its number among them by content.
    """
    alike: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, line in enumerate(lines):
        alike[line.operation, line.key].append(index)
    ids = [line.key for line in lines]
    for indexes in alike.values():
        if len(indexes) > 1:
            indexes.sort(key=lambda index: _content(lines[index].element))
            for number, index in enumerate(indexes[1:], start=2):
                ids[index] = f"{ids[index]}#{number}"
    return iter(ids)


def _content(element: etree._Element) -> list[tuple[str, str]]:
    return [(str(node.tag), text_of_element(node)) for node in element.iter()]


def _draft(line: _Line, tx_id: str) -> Draft:
    return Draft(
        line.operation,
        tx_id,
        [line.leg],
        None,
        line.reference,
        None,
        False,
        None,
        line.at,
        False,
        _UNSIGNED,
    )


def _nothing(statement: Statement) -> Draft:
    """Return the item of a statement without entries, so that it is accounted for too."""
    tx_id = _join_key(statement.account, statement.id)
    leg = Leg(Kind.INFORMATIONAL.value)
    return Draft(
        statement.message, tx_id, [leg], None, None, None, False, None, None, False, _UNSIGNED
    )


def _one_of(entry: BankEntry, name: str, known: frozenset[str]) -> str:
    text = entry.fields.get(name)
    if not text:
        raise Rejected(RejectCode.MISSING_FIELD, f"{name} is missing")
    if text not in known:
        raise Rejected(RejectCode.BAD_FIELD, f"{name} {text[:16]!r} is not known")
    return text


def _check_length(text: str, name: str) -> str:
    if len(text) > ID_MAX:
        raise Rejected(RejectCode.BAD_FIELD, f"{name} is longer than {ID_MAX} characters")
    return text_of(text, name)


def _join_key(*texts: str) -> str:
    """Join texts into one readable id.

    A bar within a text is escaped, so that no two ids coincide.
    """
    return "|".join(
        [
            _check_length(text, "a reference").replace("%", "%25").replace("|", "%7C")
            for text in texts
        ]
    )
