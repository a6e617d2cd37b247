"""Choice of the version that a raw record is read as, and the fallback to another one.

The rows of the registry say how a record is recognised
(`streams.providers.versions.VersionRow`). Where the expected version finds the record's structure
broken, the others are tried: providers switch before the day that they announced, and go back
without notice. After a missing or wrong signature no other version is tried, since that is not a
matter of structure; and no version may read without a check what the expected one would have
checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from runtime.kafka.records import RawRecord, readable_headers
from schemas.errors import RejectCode, Rejected
from schemas.events import SignatureVerdict
from streams.providers.dialect import Draft, Headers, Item, MarketDraft, PlayerDraft, Reader
from streams.providers.fields import seen_at
from streams.providers.keyring import KeyEntry, reader_of
from streams.providers.registry import Version
from streams.providers.versions import VersionRow, current_row, fallbacks, sort_by_preference

STRUCTURAL: Final = frozenset(
    {
        RejectCode.MALFORMED,
        RejectCode.UNKNOWN_OPERATION,
        RejectCode.MISSING_FIELD,
        RejectCode.BAD_FIELD,
        RejectCode.BAD_AMOUNT,
        RejectCode.BAD_TIME,
    }
)
"""Rejections that say "this is not the form that I know": another version may know it."""

_NOT_CHECKED: Final = SignatureVerdict.NOT_CHECKED.value


class VersionReader(NamedTuple):
    """One version of a provider's dialect, ready to read."""

    read: Reader
    provider: str
    version: str
    tolerance_ms: int


class Fallback(msgspec.Struct, frozen=True, gc=False):
    """One fallback: the `expected` version refused an item for `code`, and `used` could read it."""

    expected: str
    used: str
    code: RejectCode
    detail: str


FallbacksByIndex: TypeAlias = Mapping[int, tuple[VersionReader, Fallback]]
"""The items that another version than the expected one had to read, by their index."""


_NO_FALLBACKS: Final[FallbacksByIndex] = MappingProxyType({})


class RoutedRecord(NamedTuple):
    """The items of a record, its expected version, and the items that another version read."""

    reader: VersionReader
    items: list[Item]
    fallbacks_by_index: FallbacksByIndex = _NO_FALLBACKS


class _Candidate(NamedTuple):
    fits: Callable[[RawRecord, Headers], bool]
    reader: VersionReader
    others: tuple[VersionReader, ...]


class ProviderRouter:
    """The versions of one provider, side by side."""

    def __init__(self, versions: Sequence[Version], entry: KeyEntry | None) -> None:
        """Make a reader for each version under the provider's entry of the keyring.

        Raises UsageError for an entry that cannot be used.
        """
        rows = [version.row for version in versions]
        readers = {version.row.version: _version_reader(version, entry) for version in versions}
        self._checks = entry is not None
        self._candidates = [
            _Candidate(
                partial(_fits, _compile_keys(row)),
                readers[row.version],
                tuple(readers[other.version] for other in fallbacks(row, rows)),
            )
            for row in sort_by_preference(rows)
        ]
        self._heads = _member_heads(rows)
        default = readers[current_row(rows).version]
        self._default = next(one for one in self._candidates if one.reader is default)
        self.only_version: VersionReader | None = default if len(readers) == 1 else None
        """The version of a provider that has just one: it needs no matching."""

    def expected_reader(self, record: RawRecord, headers: Headers) -> VersionReader:
        """Return the version that the record's keys select, else the current one."""
        return self._candidate_for(record, headers).reader

    def read(self, record: RawRecord, headers: Headers) -> RoutedRecord:
        """Read a record as the expected version, or as another where its structure does not fit.

        Raises Rejected, with the expected version's reason, where no version can read any of it.
        """
        candidate = self._candidate_for(record, headers)
        _, reader, others = candidate
        try:
            items = reader.read(record, headers)
        except Rejected as error:
            if error.reason not in STRUCTURAL:
                raise
            for other in others:
                items = self._attempt(other, record, headers)
                if any(map(_is_readable, items)):
                    fallback = Fallback(reader.version, other.version, error.reason, error.detail)
                    others_by_index = dict.fromkeys(range(len(items)), (other, fallback))
                    return RoutedRecord(reader, items, others_by_index)
            raise
        broken = {
            index: item
            for index, item in enumerate(items)
            if isinstance(item, Rejected) and item.reason in STRUCTURAL
        }
        if not broken or not others:
            return RoutedRecord(reader, items)
        return self._retry_rejected_items(candidate, record, headers, items, broken)

    def read_plainly(
        self, record: RawRecord, headers: Headers
    ) -> tuple[VersionReader, list[Item], FallbacksByIndex]:
        """Read a record as `read` does, most of them for little more than their dialect costs.

        Those are records of one draft whose version a look at a member tells. Everything here is
        written out, and nothing is made that the record does not need: a call costs a fiftieth of
        an event.
        """
        heads = self._heads
        if heads is not None:
            value, quoted = record.value or b"", heads.quoted
            at = value.find(quoted)
            if at > 0 and value.count(b"{", 0, at) == 1 and value.rfind(quoted) == at:
                candidate = heads.known.get(value[at : at + HEAD_BYTES])
                if candidate is not None:
                    reader = candidate[1]
                    try:
                        items = reader[0](record, headers)
                    except Rejected:
                        return self.read(record, headers)
                    if len(items) == 1 and type(items[0]) is Draft:
                        return reader, items, _NO_FALLBACKS
        return self.read(record, headers)

    def resolve_version(self, record: RawRecord) -> str:
        """Return the version that a record's first item is read as.

        That is the expected one where no version can read it. For a record whose own headers cannot
        be read it is the current one: its sender waits for an answer too.
        """
        headers = dict(readable_headers(record))
        try:
            expected = self._candidate_for(record, headers)
        except Rejected:
            return self._default.reader.version
        try:
            reader, _, fallbacks_by_index = self.read(record, headers)
        except Rejected:
            return expected.reader.version
        first, _ = fallbacks_by_index.get(0, (reader, None))
        return first.version

    def _candidate_for(self, record: RawRecord, headers: Headers) -> _Candidate:
        heads = self._heads
        if heads is None:
            return self._match(record, headers)
        value = record.value or b""
        return heads.find(value) or heads.keep(value, self._match(record, headers))

    def _match(self, record: RawRecord, headers: Headers) -> _Candidate:
        for candidate in self._candidates:
            if candidate.fits(record, headers):
                return candidate
        return self._default

    def _retry_rejected_items(
        self,
        candidate: _Candidate,
        record: RawRecord,
        headers: Headers,
        items: list[Item],
        broken: dict[int, Rejected],
    ) -> RoutedRecord:
        """Read with other versions the items of a batch that the expected version rejected."""
        merged, fallbacks_by_index = list(items), {}
        for other in candidate.others:
            others = self._attempt(other, record, headers)
            if len(others) != len(items):
                continue  # it finds another number of items, so they cannot be matched
            for index, error in list(broken.items()):
                if _is_readable(others[index]):
                    merged[index] = others[index]
                    version = candidate.reader.version
                    fallbacks_by_index[index] = (
                        other,
                        Fallback(version, other.version, error.reason, error.detail),
                    )
                    del broken[index]
        return RoutedRecord(candidate.reader, merged, fallbacks_by_index)

    def _attempt(self, reader: VersionReader, record: RawRecord, headers: Headers) -> list[Item]:
        try:
            items = reader.read(record, headers)
        except Exception:  # noqa: BLE001 - its fault must not spoil what the expected version read
            return []
        if self._checks and any(getattr(item, "signature", None) == _NOT_CHECKED for item in items):
            # A key is configured, and this version would read without checking it.
            return []
        return items


def _version_reader(version: Version, entry: KeyEntry | None) -> VersionReader:
    dialect, row = version.dialect, version.row
    return VersionReader(
        reader_of(dialect, entry), row.provider, row.version, dialect.time_tolerance_ms
    )


_TEXT_VALUE: Final = re.compile(rb'\s*:\s*"([ -!#-\[\]-~]*)"')
"""The value of a member: a printable text of ASCII without escapes."""
HEAD_BYTES: Final = 48
"""Of a member and what follows it, by which its candidate is kept."""
_HEADS_MAX: Final = 256


class _Keys(NamedTuple):
    from_ms: int
    header: str | None
    header_value: bytes | None
    path: re.Pattern[bytes] | None
    content: bytes | None
    member: _Member | None


_NO_KEYS: Final = _Keys(0, None, None, None, None, None)


class _Member(NamedTuple):
    """A text member of a JSON object that must not sort before `least`."""

    quoted: bytes
    decoder: msgspec.json.Decoder[Any]
    least: str

    def fits(self, value: bytes) -> bool:
        """Return whether the value is such an object."""
        try:
            sent = self.decoder.decode(value).sent
        except (ValueError, RecursionError):  # msgspec's own errors are ValueErrors
            return False
        return isinstance(sent, str) and sent >= self.least


class _MemberHeads:
    """The candidates that records of one provider had, by how the member is written in them.

    A parse tells the member of a record; a look at its bytes costs a fifth of one, and the dialect
    parses them anyway. One brace before the member says that it is the object's own. Of a name that
    is there twice the last one counts, as in a parse, so the look does not decide then.
    """

    def __init__(self, quoted: bytes) -> None:
        self.quoted = quoted
        self.known: dict[bytes, _Candidate] = {}

    def find(self, value: bytes) -> _Candidate | None:
        """Return the candidate of records whose member is written like this one's, or None."""
        quoted = self.quoted
        at = value.find(quoted)
        if at < 0 or value.count(b"{", 0, at) != 1:
            return None
        known = self.known.get(value[at : at + HEAD_BYTES])
        return None if known is None or value.find(quoted, at + 1) >= 0 else known

    def keep(self, value: bytes, candidate: _Candidate) -> _Candidate:
        """Return the candidate of this record, kept if its member is whole within the head.

        A body that is not JSON had no member to be chosen by, however it begins.
        """
        at = value.find(self.quoted)
        head = value[at : at + HEAD_BYTES]
        is_whole = at >= 0 and _TEXT_VALUE.match(head, len(self.quoted)) is not None
        if (
            is_whole
            and _is_json(value)
            and value.count(b"{", 0, at) == 1
            and value.find(self.quoted, at + 1) < 0
        ):
            if len(self.known) >= _HEADS_MAX:
                self.known.clear()
            self.known[head] = candidate
        return candidate


def _is_json(value: bytes) -> bool:
    try:
        msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return False
    return True


def _member_heads(rows: Sequence[VersionRow]) -> _MemberHeads | None:
    """Return the look at a member, where nothing else chooses among the rows."""
    keys = [_compile_keys(row) for row in rows]
    names = {each.member.quoted for each in keys if each.member is not None}
    chosen_by_it = all(each._replace(member=None) == _NO_KEYS for each in keys)
    return _MemberHeads(*names) if len(names) == 1 and chosen_by_it else None


def _compile_member(member: str | None) -> _Member | None:
    if member is None:
        return None
    name, _, least = member.partition(">=")
    sent = ("sent", Any, msgspec.field(name=name, default=None))
    decoder = msgspec.json.Decoder(msgspec.defstruct("JsonMember", [sent]))
    return _Member(b'"%s"' % name.encode(), decoder, least)


def _compile_keys(row: VersionRow) -> _Keys:
    name, given, value = (row.header or "").partition("=")
    return _Keys(
        row.from_ms,
        name or None,
        value.encode() if given else None,
        None if row.path is None else re.compile(row.path.encode()),
        None if row.content is None else row.content.encode(),
        _compile_member(row.member),
    )


def _fits(keys: _Keys, record: RawRecord, headers: Headers) -> bool:
    if keys.header is not None:
        sent = headers.get(keys.header)
        if sent is None or (keys.header_value is not None and sent != keys.header_value):
            return False
    if keys.path is not None and not keys.path.search(headers.get("http-path") or b""):
        return False
    if keys.content is not None and keys.content not in (record.value or b""):
        return False
    if keys.member is not None and not keys.member.fits(record.value or b""):
        return False
    return not keys.from_ms or seen_at(record, headers) >= keys.from_ms


def _is_readable(item: Item) -> bool:
    return isinstance(item, Draft | PlayerDraft | MarketDraft)
