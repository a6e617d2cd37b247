"""Check of a raw record against its provider's declared schemas: pure, one record in, findings out.

The choice of the schema does not depend on the dialect alone: the operations that it reads name the
folders, else the request's path does, else the declared schema that the body is closest to is
taken. So a rejected record, whose operation could not be read, is compared with the message that it
was most likely meant to be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from runtime.kafka.records import RawRecord, readable_headers
from schemas.errors import RejectCode, Rejected
from streams.drift.payload_schemas import Body, PayloadSchema, load_payload_schemas
from streams.drift.shapes import DETAIL_MAX, DriftKind, Shape, printable_excerpt, schema_distance
from streams.providers.dialect import Dialect, Headers, Item
from streams.providers.keyring import Keyring
from streams.providers.registry import DIALECTS, Dialects
from streams.providers.routing import Fallback, ProviderRouter

SIGNATURE_REJECTIONS: Final = frozenset({RejectCode.BAD_SIGNATURE, RejectCode.MISSING_SIGNATURE})
"""Rejections of records whose sender is unknown."""

SHAPES_MAX: Final = 50
"""Shapes of one record at most: a body may name a hundred thousand fields."""

_SEGMENT: Final = re.compile(rb"[/?.]+")


class DriftFinding(NamedTuple):
    """Shape in a record, with the version, event and schema ("" for none) it was compared with.

    `rejected` is the code under which the record was refused, None where it was not.
    """

    provider: str
    version: str
    event: str
    schema: str
    shape: Shape
    rejected: RejectCode | None


class DialectResult(NamedTuple):
    """Result of reading a record with the dialects, as far as drift needs it."""

    version: str
    operations: tuple[str, ...]
    rejected: RejectCode | None
    unknown: tuple[str, ...]
    """What the dialect says of each item whose operation it does not know."""
    fallbacks: tuple[Fallback, ...]


class DriftChecker:
    """Compares the records of every provider with its payload schemas."""

    def __init__(self, dialects: Dialects = DIALECTS, keyring: Keyring | None = None) -> None:
        """Prepare a reader for each provider.

        `keyring` is the normaliser's: what it refuses for its signature must be refused here.
        Raises UsageError for key material that cannot be used.
        """
        self._dialects = dialects
        self._routers = {
            name: ProviderRouter(dialects.versions(name), (keyring or {}).get(name))
            for name in dialects
        }
        # The normaliser has checked the signature of what it samples. A missing or wrong one rules
        # out a fallback, so only a provider of one version is read without its keys.
        self._keyless = {
            name: ProviderRouter(dialects.versions(name), None)
            for name, router in self._routers.items()
            if router.only_version is not None
        }

    def knows(self, provider: str) -> bool:
        """Return whether a provider has a dialect; without one nothing can be found."""
        return provider in self._routers

    def check(
        self, provider: str, record: RawRecord, *, is_verified: bool = False
    ) -> list[DriftFinding]:
        """Return everything found in one record. Raises nothing, whatever the bytes.

        `is_verified`: its signature was checked already, so it need not be checked again.
        """
        headers = dict(readable_headers(record))
        routers = self._keyless if is_verified else {}
        router = routers.get(provider, self._routers[provider])
        read = self._read(router, record, headers)
        event, schema, shapes = self._closest(provider, record, headers, read)
        is_reported = any(shape.what is DriftKind.NEW_MESSAGE for shape in shapes)
        unknown = [] if is_reported else _unknown(provider, read)
        found = [
            DriftFinding(provider, read.version, event, schema, shape, read.rejected)
            for shape in shapes[: SHAPES_MAX - len(unknown)]
        ]
        return [*found, *unknown, *_fallbacks(provider, read)]

    def _read(self, router: ProviderRouter, record: RawRecord, headers: Headers) -> DialectResult:
        version = ""
        try:
            version = router.expected_reader(record, headers).version
            _, items, fallbacks = router.read(record, headers)
        except Rejected as error:
            return DialectResult(version, (), error.reason, _unknown_operations([error]), ())
        except Exception:  # noqa: BLE001 - a dead letter by now; its shape may show why the dialect failed
            return DialectResult(version, (), RejectCode.DIALECT_FAILED, (), ())
        refused = next((item for item in items if isinstance(item, Rejected)), None)
        return DialectResult(
            version,
            _operations(items),
            None if refused is None else refused.reason,
            _unknown_operations(items),
            tuple(fallback for _, fallback in fallbacks.values()),
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
        except Exception as error:  # noqa: BLE001 - a dialect may raise anything for a broken body
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


def _unknown_operations(items: Sequence[Item]) -> tuple[str, ...]:
    refused = (item for item in items if isinstance(item, Rejected))
    return tuple(one.detail for one in refused if one.reason is RejectCode.UNKNOWN_OPERATION)


def _unknown(provider: str, read: DialectResult) -> list[DriftFinding]:
    """Return one finding for each unknown operation, whatever else differs in the record."""
    details = dict.fromkeys(printable_excerpt(text, DETAIL_MAX) for text in read.unknown)
    return [
        DriftFinding(
            provider,
            read.version,
            "",
            "",
            Shape(DriftKind.NEW_MESSAGE, "", detail),
            RejectCode.UNKNOWN_OPERATION,
        )
        for detail in list(details)[: SHAPES_MAX // 2]
    ]


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
