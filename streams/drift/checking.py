"""A raw record against what its provider declared: pure, one record in, findings out, whatever the
bytes.

Which schema a record should fulfil is not asked of the dialect: the operations that it reads name
the folders, else the request's path does, else the declared schema that the body is closest to is
the one. So a rejected record, whose operation nobody could read, is compared with the message that
it was most likely meant to be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from streams.drift.payload_schemas import Body, PayloadSchema, load_payload_schemas
from streams.drift.shapes import DETAIL_MAX, DriftKind, Shape, printable_excerpt, schema_distance
from streams.providers.dialect import Dialect, Headers, Item
from streams.providers.keyring import Keyring
from streams.providers.registry import DIALECTS, Dialects
from streams.providers.routing import Fallback, ProviderRouter

SIGNATURE_REJECTIONS: Final = frozenset({RejectCode.BAD_SIGNATURE, RejectCode.MISSING_SIGNATURE})
"""Rejections of records that anybody may have sent."""

SHAPES_MAX: Final = 50
"""Of one record: a body may name a hundred thousand fields."""

_SEGMENT: Final = re.compile(rb"[/?.]+")


class DriftFinding(NamedTuple):
    """A shape in a record: of which version and event, against which schema ("" for none), and the
    record's fate.
    """

    provider: str
    version: str
    event: str
    schema: str
    shape: Shape
    rejected: RejectCode | None


class DialectResult(NamedTuple):
    """What the dialects make of a record, as far as drift asks."""

    version: str
    operations: tuple[str, ...]
    rejected: RejectCode | None
    detail: str
    fallbacks: tuple[Fallback, ...]


class DriftChecker:
    """Holds the records of every provider against its payload schemas."""

    def __init__(self, dialects: Dialects = DIALECTS, keyring: Keyring | None = None) -> None:
        """`keyring` is the normaliser's: what it refuses for its signature must be refused here.

        Raises UsageError for key material that cannot be used.
        """
        self._dialects = dialects
        self._speakers = {
            name: ProviderRouter(dialects.versions(name), (keyring or {}).get(name))
            for name in dialects
        }

    def knows(self, provider: str) -> bool:
        """Whether any dialect speaks for it; of others nothing can be found."""
        return provider in self._speakers

    def has_versions(self, provider: str) -> bool:
        """Whether one version may be read as another: only then a fallback can be found."""
        return self.knows(provider) and self._speakers[provider].only_version is None

    def check(self, provider: str, record: RawRecord) -> list[DriftFinding]:
        """Everything about one record. Raises nothing, whatever the bytes."""
        headers = dict(record.headers)
        read = self._read(provider, record, headers)
        event, schema, shapes = self._closest(provider, record, headers, read)
        if not shapes and read.rejected is RejectCode.UNKNOWN_OPERATION:
            event, schema, shapes = (
                "",
                "",
                [Shape(DriftKind.NEW_MESSAGE, "", printable_excerpt(read.detail, DETAIL_MAX))],
            )
        shapes = shapes[:SHAPES_MAX]
        found = [
            DriftFinding(provider, read.version, event, schema, shape, read.rejected)
            for shape in shapes
        ]
        return [*found, *_fallbacks(provider, read)]

    def check_fallbacks(self, provider: str, record: RawRecord) -> list[DriftFinding]:
        """Only whether another version than the expected one had to read it."""
        return _fallbacks(provider, self._read(provider, record, dict(record.headers)))

    def _read(self, provider: str, record: RawRecord, headers: Headers) -> DialectResult:
        speaker, version = self._speakers[provider], ""
        try:
            version = speaker.expected_reader(record, headers).version
            _, items, fallen = speaker.read(record, headers)
        except Rejected as error:
            return DialectResult(version, (), error.reason, error.detail, ())
        except Exception:
            return DialectResult(version, (), RejectCode.DIALECT_FAILED, "", ())
        refused = next((item for item in items if isinstance(item, Rejected)), None)
        code, detail = (None, "") if refused is None else (refused.reason, refused.detail)
        return DialectResult(
            version,
            _operations(items),
            code,
            detail,
            tuple(fallback for _, fallback in fallen.values()),
        )

    def _closest(
        self, provider: str, record: RawRecord, headers: Headers, read: DialectResult
    ) -> tuple[str, str, Sequence[Shape]]:
        declared = load_payload_schemas(provider)
        operation = read.operations[0] if read.operations else ""
        events = _events(declared, read.operations, headers)
        value = record.value or b""
        try:
            payload = _payload(self._dialects[provider], value)
        except Exception as error:
            text = f"the dialect finds no payload in it: {type(error).__name__}"
            return operation, "", [Shape(DriftKind.UNREADABLE, "", text)] if declared else []
        best: tuple[int, PayloadSchema, list[Shape]] | None = None
        for one in (one for event in events for one in declared[event]):
            shapes = one.check(Body(value, headers, payload))
            if best is None or schema_distance(shapes) < best[0]:
                best = schema_distance(shapes), one, shapes
            if not shapes:
                break
        if best is None:
            return operation, "", []
        is_another = any(shape.what is DriftKind.NEW_MESSAGE for shape in best[2])
        return (operation, "", best[2]) if is_another else (best[1].event, best[1].name, best[2])


def _payload(dialect: Dialect, value: bytes) -> Any:
    return dialect.payload(value)


def _operations(items: Sequence[Item]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item.operation for item in items if not isinstance(item, Rejected)))


def _events(
    declared: Mapping[str, Sequence[PayloadSchema]], operations: Sequence[str], headers: Headers
) -> Sequence[str]:
    named = [operation for operation in operations if operation in declared]
    if named:
        return named
    segments = _SEGMENT.split(headers.get("http-path") or b"")
    return [event for event in declared if event.encode() in segments] or list(declared)


def _fallbacks(provider: str, read: DialectResult) -> list[DriftFinding]:
    event = read.operations[0] if read.operations else ""
    shapes = dict.fromkeys(
        Shape(DriftKind.FALLBACK, "", f"read as version {fallback.used}: {fallback.code.value}")
        for fallback in read.fallbacks
    )
    return [DriftFinding(provider, read.version, event, "", shape, None) for shape in shapes]
