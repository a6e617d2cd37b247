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

from runtime.kafka.records import RawRecord
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


class RoutedRecord(NamedTuple):
    """The items of a record, its expected version, and the items that another version read."""

    reader: VersionReader
    items: list[Item]
    fallbacks_by_index: FallbacksByIndex = MappingProxyType({})


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
        reader, others = (
            (candidate := self._candidate_for(record, headers)).reader,
            candidate.others,
        )
        try:
            items = reader.read(record, headers)
        except Rejected as error:
            if error.reason not in STRUCTURAL:
                raise
            for other in others:
                items = self._attempt(other, record, headers)
                if any(map(_is_readable, items)):
                    fallback = Fallback(reader.version, other.version, error.reason, error.detail)
                    return RoutedRecord(
                        reader, items, dict.fromkeys(range(len(items)), (other, fallback))
                    )
            raise
        broken = {
            index: item
            for index, item in enumerate(items)
            if isinstance(item, Rejected) and item.reason in STRUCTURAL
        }
        if not broken or not others:
            return RoutedRecord(reader, items)
        return self._retry_rejected_items(candidate, record, headers, items, broken)

    def resolve_version(self, record: RawRecord) -> str:
        """Return the version that a record's first item is read as.

        That is the expected one where no version can read it. For a record whose own headers cannot
        be read it is the current one: its sender waits for an answer too.
        """
        headers = dict(record.headers)
        try:
            expected = self._candidate_for(record, headers)
        except Rejected:
            return self._default.reader.version
        try:
            reading = self.read(record, headers)
        except Rejected:
            return expected.reader.version
        reader, _ = reading.fallbacks_by_index.get(0, (reading.reader, None))
        return reader.version

    def _candidate_for(self, record: RawRecord, headers: Headers) -> _Candidate:
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


_FLAT_MEMBERS: Final = rb'\s*\{(?:\s*"[^"\\]*"\s*:\s*(?:"[^"\\]*"|[-+.\w]+)\s*,){0,40}?\s*'
"""The beginning of an object: members whose values are texts without escapes, numbers, words."""
_TEXT_VALUE: Final = rb'\s*:\s*"([ -!#-\[\]-~]*)"'


class _Keys(NamedTuple):
    from_ms: int
    header: str | None
    header_value: bytes | None
    path: re.Pattern[bytes] | None
    content: bytes | None
    member: _Member | None


class _Member(NamedTuple):
    """A text member of a JSON object: how it is found among the first members, and how anywhere.

    `head` matches an object from its beginning to the member, through members that hold neither an
    object nor an array: what it finds is a member of the object itself. It costs a fraction of a
    parse, of which the dialect makes one anyway.
    """

    name: bytes
    head: re.Pattern[bytes]
    decoder: msgspec.json.Decoder[Any]
    least: str
    least_bytes: bytes

    def fits(self, value: bytes) -> bool:
        """Return whether the member of this JSON object is a text that is not below `least`."""
        found = self.head.match(value)
        # Of a name that is there twice the last one counts, as in the dialect's parse.
        if found is not None and value.count(self.name) == 1:
            return found[1] >= self.least_bytes
        try:
            sent = self.decoder.decode(value).sent
        except (ValueError, RecursionError):  # msgspec's own errors are ValueErrors
            return False
        return isinstance(sent, str) and sent >= self.least


def _compile_member(member: str | None) -> _Member | None:
    if member is None:
        return None
    name, _, least = member.partition(">=")
    sent = ("sent", Any, msgspec.field(name=name, default=None))
    decoder = msgspec.json.Decoder(msgspec.defstruct("JsonMember", [sent]))
    quoted = b'"%s"' % name.encode()
    head = re.compile(_FLAT_MEMBERS + re.escape(quoted) + _TEXT_VALUE)
    return _Member(quoted, head, decoder, least, least.encode())


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
