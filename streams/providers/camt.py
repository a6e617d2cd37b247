"""ISO 20022 bank statements, camt.053 and notifications, camt.054: XML files with many entries.

Sources: the message definitions on iso20022.org (camt.05x.001.02 and later) and the samples of
genkgo/camt. An entry of the account is one item, or one for each of its `TxDtls` where these divide
its amount (`streams.providers.camt_parts`). The operation is the direction, with `:PDNG` and the
like behind it where the entry is not booked.

Another message may state an entry as a whole that this one divides, and then the whole was booked.
So payments of an entry with a bank's reference come with an event that takes the whole back, or
closes it before it comes (`:DTLS`).

A booked credit is a DEPOSIT, a booked debit that returns an earlier credit (`RvslInd`, `RtrInf`, a
bank transaction code of a return) is a DEPOSIT_REVERSAL. Everything else is information: payouts
and their returns are the cashier's `withdrawal.paid`, and fees are our own. So is a detail whose
direction is not its entry's: the entry says what the account saw.

Identity comes from the bank's own references and never from `EndToEndId` alone, which the payer
chooses and repeats: the entry's `AcctSvcrRef`, or one of the detail's `AcctSvcrRef`, `TxId`,
`UETR`; where there is none, from statement and content. Payments that are the same in all of that
are counted within their statement, ordered by content, so that two payments that share everything
stay two in whichever order a copy lists them, and a payment in two statements of one file is one.
`CpyDplctInd`, message ids and creation times are not used: a duplicate brings the same ids, and so
does the other message about the same entry.

The player is found through the cashier's `deposit.opened`, whose id the payer was asked to give.
Money that names no deposit goes to suspense: it refers to `UNMATCHED`, which no event ever is.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, tzinfo
from functools import partial
from hashlib import blake2b
from typing import Any, ClassVar, Final, NamedTuple

import msgspec
from lxml import etree

from runtime.kafka.records import RawRecord
from schemas.causes import DIVIDED, PART
from schemas.errors import RejectCode, Rejected, UsageError
from schemas.events import Amount, Cause, Kind, Leg, Reference, SignatureVerdict
from schemas.money import amount_from_text, minor_units
from schemas.topics import DAY_MS
from streams.providers.camt_file import (
    BankEntry,
    Detail,
    Statement,
    find_document,
    read_entry,
    read_statements,
)
from streams.providers.camt_parts import Division, divide, drop_shared_references
from streams.providers.dialect import Dialect, Draft, FilePart, Headers, Item, KeyMaterial, Reader
from streams.providers.fields import ID_MAX, currency_of, text_of
from streams.providers.named_ids import NamedIds, find_named_ids
from streams.providers.references import is_placeholder
from streams.providers.times import ms_of_text, zone_of
from streams.providers.xml_body import make_parser, root_of

UNMATCHED: Final = "unmatched"
DIVISION: Final = ":DTLS"
"""The end of the operation by which a whole goes back whose payments are stated."""

_DIRECTIONS: Final = frozenset({"CRDT", "DBIT"})
_OPPOSITE: Final = {"CRDT": "DBIT", "DBIT": "CRDT"}
_STATUSES: Final = frozenset({"BOOK", "PDNG", "INFO", "FUTR"})
# An id of the older versions before UETR, so that one payment has one identity in all of them.
_UNIQUE: Final = ("AcctSvcrRef", "TxId", "UETR")
_SHARED: Final = ("PmtInfId", "InstrId", "EndToEndId", "TxId", "MsgId")
_NUMBER_ROOM: Final = 8
"""Characters for the number of an entry that is there several times."""
_UNSIGNED: Final = SignatureVerdict.NOT_CHECKED.value


class _Line(msgspec.Struct, frozen=True, gc=False):
    """One movement before it has its place among those that look the same."""

    operation: str
    key: str
    leg: Leg
    reference: Reference | None
    at: int | None
    entry: BankEntry
    detail: Detail | None
    whole_kind: str | None = None
    """Of an event that takes a whole back, the whole's kind."""
    whole: tuple[str, str] | None = None
    """Of a payment, operation and id of the event that may state its entry as a whole."""


class _EntryHead(NamedTuple):
    """An amount, an entry's or one of its payments', with what these have in common."""

    amount: Amount
    minor: int
    currency: str
    direction: str
    status: str
    at: int | None


@dataclass(frozen=True)
class Camt(Dialect):
    """The dialect of bank statements; its settings are the points in which banks differ.

    `money_in`: the messages that are booked. A bank that gives references reports the same of an
    entry in both, and it is booked once; of one that gives none, only one may count.
    `unique_references`: whether the bank uses an `AcctSvcrRef` once; if not, a reference only holds
    within its statement. `reversal_repeats_direction`: whether a reversal (`RvslInd`) is printed
    with the direction of what it reverses; by the standard it has its own. `zone`: where a date
    without a time begins its day. `deposit_pattern`: what the cashier's deposit ids look like
    within a sentence of the payer's.
    """

    provider: ClassVar[str] = "camt"
    version: ClassVar[str] = "1"
    reads_files: ClassVar[bool] = True

    money_in: frozenset[str] = frozenset({"camt.053", "camt.054"})
    unique_references: bool = True
    reversal_repeats_direction: bool = False
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

    def split_file(self, value: bytes) -> list[FilePart]:
        """Return the file, or smaller ones that say the same, each under its first account.

        Raises Rejected for a file that is not camt, TOO_LARGE where one payment does not fit.
        """
        from streams.providers.camt_splitting import split_file  # it reads by this dialect

        return [
            FilePart(next(read_statements(root_of(make_parser(), part))).account.encode(), part)
            for part in split_file(value, self)
        ]

    def payload(self, value: bytes) -> Any:
        """Return the camt document, without the envelope that it may have come in."""
        root = root_of(make_parser(), value)
        document = find_document(root)
        return value if document is None or document is root else etree.tostring(document)

    def keys_of(self, statement: Statement, entry: BankEntry) -> frozenset[str]:
        """Return the keys of the entry's movements before equal ones are counted.

        Movements that cannot be read have none.
        """
        lines = self._lines(statement, entry, UTC, re.compile(self.deposit_pattern))
        return frozenset(
            line.key
            for line in lines
            if isinstance(line, _Line) and not line.operation.endswith(DIVISION)
        )

    def _read(
        self,
        reader: etree.XMLParser,
        zone: tzinfo,
        pattern: re.Pattern[str],
        record: RawRecord,
        _: Headers,
    ) -> list[Item]:
        pairs: list[tuple[Statement, BankEntry]] = []
        statements: list[tuple[Statement, list[BankEntry]]] = []
        for statement in read_statements(root_of(reader, record.value or b"")):
            several = [read_entry(element, statement.namespace) for element in statement.entries]
            statements.append((statement, several))
            pairs += [(statement, entry) for entry in several]
        drop_shared_references(pairs)
        items: list[Item] = []
        for statement, several in statements:
            found = [
                line for entry in several for line in self._lines(statement, entry, zone, pattern)
            ]
            place = _places([line for line in found if isinstance(line, _Line)])
            items += [
                line if isinstance(line, Rejected) else _draft(line, next(place)) for line in found
            ]
        return items + [_nothing(one) for one, several in statements if not several]

    def _lines(
        self, statement: Statement, entry: BankEntry, zone: tzinfo, pattern: re.Pattern[str]
    ) -> Iterator[_Line | Rejected]:
        try:
            head = _read_head(entry, zone)
            division = divide(entry, head.minor, head.currency)
            if not division.parts:
                yield self._whole(statement, entry, head, division, pattern)
        except Rejected as error:
            yield error
            return
        divisions = list(self._division(statement, entry, head)) if division.parts else []
        whole = next(((head.direction, one.key) for one in divisions), None)
        for detail, amount, minor in division.parts:
            part = _EntryHead(amount, minor, head.currency, head.direction, head.status, head.at)
            try:
                named = find_named_ids(pattern, _texts(detail))
                kind = self._kind(entry, head, detail)
                line = self._line(statement, entry, part, detail, named, kind, "")
                yield line if whole is None else msgspec.structs.replace(line, whole=whole)
            except Rejected as error:
                yield error
        yield from divisions

    def _whole(
        self,
        statement: Statement,
        entry: BankEntry,
        head: _EntryHead,
        division: Division,
        pattern: re.Pattern[str],
    ) -> _Line:
        """Return an entry that is one movement: one payment, a sum, or one that is unclear."""
        detail, named, is_sum = division.detail, NamedIds(), division.is_sum
        if detail is not None and detail.repeated_element:
            raise Rejected(RejectCode.BAD_FIELD, f"{detail.repeated_element} is there twice")
        if not is_sum and not division.is_unclear:
            # The entry's own text is about its only payment. The text of several is not.
            texts = [] if detail is None else _texts(detail)
            named = find_named_ids(pattern, [*texts, entry.lines])
            is_sum = named.certain is None and entry.has_further_message
        kind = Kind.INFORMATIONAL if is_sum else self._kind(entry, head, detail)
        form = ":BTCH" if is_sum else ""
        return self._line(statement, entry, head, detail, named, kind, form, is_whole=True)

    def _division(
        self, statement: Statement, entry: BankEntry, head: _EntryHead
    ) -> Iterator[_Line]:
        """Yield what takes an entry back that another message stated as a whole.

        Only the bank's reference tells that two messages mean one entry.
        """
        kind = self._kind(entry, head, None)
        is_booked = head.status == "BOOK" and statement.message in self.money_in
        has_reference = self.unique_references and entry.fields.get("AcctSvcrRef")
        if kind is Kind.INFORMATIONAL or not is_booked or not has_reference:
            return
        money = f"{head.minor}{head.currency}"
        key = self._key(statement, entry, None, money, is_whole=True)
        if len(key) > ID_MAX - _NUMBER_ROOM:
            return
        leg = Leg(Kind.ROLLBACK.value, head.amount, head.currency)
        reference = Reference(head.direction, key)
        operation = head.direction + DIVISION
        yield _Line(operation, key, leg, reference, head.at, entry, None, kind.value)

    def _line(
        self,
        statement: Statement,
        entry: BankEntry,
        head: _EntryHead,
        detail: Detail | None,
        named: NamedIds,
        kind: Kind,
        form: str,
        *,
        is_whole: bool = False,
    ) -> _Line:
        """Return a movement; one that moves no money because of its status has another operation.

        So has one of a message that is not booked: it never blocks the booking under the same id.
        """
        operation = head.direction
        if head.status != "BOOK":
            operation, kind = f"{operation}:{head.status}", Kind.INFORMATIONAL
        operation += form
        if statement.message not in self.money_in:
            operation, kind = f"{statement.message}:{operation}", Kind.INFORMATIONAL
        money = f"{head.minor}{head.currency}"
        key = self._key(statement, entry, detail, money, is_whole=is_whole)
        reference = None
        if named.certain is not None:
            reference = Reference("deposit.opened", named.certain)
        elif kind is not Kind.INFORMATIONAL:
            reference = Reference(UNMATCHED, named.print_candidates() or key[:ID_MAX])
        leg = Leg(kind.value, head.amount, head.currency)
        return _Line(operation, key, leg, reference, head.at, entry, detail)

    def _kind(self, entry: BankEntry, head: _EntryHead, detail: Detail | None) -> Kind:
        """Return the effect of a booked movement on a player."""
        direction, opposite = head.direction, _OPPOSITE[head.direction]
        is_reversal = entry.fields.get("RvslInd") in {"true", "1"}
        # The details of a reversal may be those of what it reverses.
        is_original = is_reversal and all(one.direction == opposite for one in entry.details)
        if detail is not None and detail.direction not in {"", direction} and not is_original:
            return Kind.INFORMATIONAL
        is_returned = is_reversal or entry.is_returned
        if not is_returned and detail is not None:
            is_returned = detail.is_returned
        elif not is_returned and entry.details:
            is_returned = all(one.is_returned for one in entry.details)
        if is_reversal and self.reversal_repeats_direction:
            direction = opposite
        if direction == "CRDT":
            return Kind.INFORMATIONAL if is_returned else Kind.DEPOSIT
        return Kind.DEPOSIT_REVERSAL if is_returned else Kind.INFORMATIONAL

    def _key(
        self,
        statement: Statement,
        entry: BankEntry,
        detail: Detail | None,
        money: str,
        *,
        is_whole: bool,
    ) -> str:
        """Return a movement's key before equal ones are counted, by the first rule that applies."""
        reference = entry.fields.get("AcctSvcrRef", "")
        booked_as = reference if self.unique_references else ""
        if booked_as and is_whole:
            return _join_key(statement.account, booked_as, money)
        refs = {} if detail is None else detail.refs
        # The parts of a payment that is allocated share its references.
        part = [refs["Ref"]] if "Ref" in refs else []
        for name in _UNIQUE if self.unique_references else ():
            value = refs.get(name)
            if value and value != booked_as:
                return _join_key(statement.account, f"{name}={value}", money, *part)
        shared = [*[refs.get(name, "") for name in _SHARED], *part]
        if booked_as:
            return _join_key(statement.account, booked_as, money, *shared)
        own = entry.fields.get("NtryRef") or reference
        digest = "" if detail is None else _digest(_texts(detail))
        return _join_key(
            statement.account, statement.id, own, entry.when[:10], money, *shared, digest
        )


def _read_head(entry: BankEntry, zone: tzinfo) -> _EntryHead:
    if entry.repeated_element:
        raise Rejected(RejectCode.BAD_FIELD, f"{entry.repeated_element} is there twice")
    if entry.money is None:
        raise Rejected(RejectCode.MISSING_FIELD, "Amt is missing")
    amount = amount_from_text(entry.money.text)
    currency = currency_of(amount, entry.money.currency)
    direction = _one_of(entry, "CdtDbtInd", _DIRECTIONS)
    status = _one_of(entry, "Sts", _STATUSES)
    minor, at = minor_units(amount, currency), _time_of(entry, zone)
    return _EntryHead(amount, minor, currency, direction, status, at)


def _time_of(entry: BankEntry, zone: tzinfo) -> int | None:
    """Return when the entry was booked, else its value date; None where it states neither.

    Of a time that cannot be read the day counts: money that has one must not wait for its hour.
    """
    text = entry.when
    if not text:
        return None
    try:
        return ms_of_text(text, zone, field="BookgDt")
    except Rejected:
        for other in (text[:10], entry.fields.get("ValDt", "")[:10]):
            with suppress(Rejected):
                return ms_of_text(other, zone)
        raise


def _texts(detail: Detail) -> list[Sequence[str]]:
    """Return the texts in which a payment may name its deposit, each as its lines."""
    return [detail.lines, *detail.texts, [detail.refs.get("EndToEndId", "")]]


def _join_lines(lines: Sequence[str]) -> str:
    return "".join(lines).replace(" ", "")


def _digest(texts: Sequence[Sequence[str]]) -> str:
    """Return a digest of what was written besides `EndToEndId`, wherever its lines are cut."""
    whole = map(_join_lines, texts[:-1])
    written = "\n".join(text for text in whole if not is_placeholder(text))
    return blake2b(written.encode(), digest_size=8).hexdigest() if written else ""


def _places(lines: list[_Line]) -> Iterator[str]:
    """Return the ids of the lines in order.

    An id is the line's key, and from the second equal one on also its number among them by content.
    """
    ids = [line.key for line in lines]
    if len(set(ids)) == len(ids):
        return iter(ids)
    alike: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, line in enumerate(lines):
        alike[line.operation, line.key].append(index)
    for indexes in alike.values():
        if len(indexes) > 1:
            indexes.sort(key=lambda index: _content(lines[index]))
            for number, index in enumerate(indexes[1:], start=2):
                ids[index] = f"{ids[index]}#{number}"
    return iter(ids)


def _content(line: _Line) -> tuple[list[list[tuple[str, str]]], list[str]]:
    """Return what a payment states of itself: the same in every version and packing of it."""
    details = line.entry.details if line.detail is None else [line.detail]
    texts = [_join_lines(lines) for one in details for lines in _texts(one)]
    texts += [_join_lines(line.entry.lines), line.entry.fields.get("NtryRef", "")]
    return [sorted(one.refs.items()) for one in details], texts


def _draft(line: _Line, tx_id: str) -> Draft:
    reference, cause = line.reference, None
    if line.whole_kind is not None and reference is not None:
        reference = Reference(reference.operation, tx_id)
        cause = Cause(DIVIDED, tx_id, reason=line.whole_kind)
    elif line.whole is not None:
        cause = Cause(PART, line.whole[1], reason=line.whole[0])
    return Draft(
        line.operation,
        tx_id,
        [line.leg],
        None,
        reference,
        None,
        False,
        None,
        line.at,
        False,
        _UNSIGNED,
        cause,
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
    joined = "|".join(texts)
    is_plain = "%" not in joined and joined.count("|") == len(texts) - 1
    if is_plain and len(joined) <= ID_MAX and joined.isprintable():
        return joined
    return "|".join(
        [
            _check_length(text, "a reference").replace("%", "%25").replace("|", "%7C")
            for text in texts
        ]
    )
