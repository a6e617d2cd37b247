"""Records to bytes and back, in Confluent's wire format: 0x00, the schema id as 4 bytes big-endian, the Avro body."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from io import BytesIO
from operator import attrgetter
from typing import Any, TypeVar, cast

import fastavro
import msgspec

from schemas.errors import Rejected, RejectCode
from schemas.registry import released, subject_of

R = TypeVar("R", bound=msgspec.Struct)


@cache
def _parsed(schema_id: int) -> Any:
    return fastavro.parse_schema(released().by_id(schema_id).json)


@cache
def encoder(record: type[R]) -> Callable[[R], bytes]:
    """A function that turns an event into a framed Avro record. It raises Rejected(BAD_CONTRACT) for what does not fit."""
    schema = released().latest(subject_of(record))
    frame = b"\0" + schema.id.to_bytes(4, "big")

    def encode(event: R) -> bytes:
        out = BytesIO()
        out.write(frame)
        try:
            fastavro.schemaless_writer(
                out, _parsed(schema.id), msgspec.to_builtins(event, builtin_types=(bytes,))
            )
        except (TypeError, ValueError, OverflowError) as error:
            raise Rejected(
                RejectCode.BAD_CONTRACT, f"{record.__name__} does not fit {schema.name}: {error}"
            ) from error
        return out.getvalue()

    return encode


@cache
def decoder(record: type[R], fields: tuple[str, ...] | None = None) -> Callable[[bytes], Any]:
    """A function that turns a framed Avro record into an event, or into a tuple of the named fields.

    A dot reaches into a nested record: `attempt.offset`. It raises Rejected(BAD_CONTRACT) for what it cannot read.
    """
    subject = subject_of(record)
    schema = released().latest(subject)

    def decode(data: bytes) -> R:
        if data is None or data[:1] != b"\0" or len(data) < 5:
            raise Rejected(RejectCode.BAD_CONTRACT, "not a record in Confluent's wire format")
        writer = released().by_id(int.from_bytes(data[1:5], "big"))
        if writer.subject != subject:
            raise Rejected(RejectCode.BAD_CONTRACT, f"{writer.name} where {subject} is expected")
        body = BytesIO(data[5:])
        try:
            value = fastavro.schemaless_reader(body, _parsed(writer.id), _parsed(schema.id))
            if body.read(1):
                raise ValueError("bytes after the end")
            return msgspec.convert(value, record)
        except Exception as error:
            raise Rejected(RejectCode.BAD_CONTRACT, f"unreadable {writer.name}: {error!r}") from error

    if fields is None:
        return decode
    pick = attrgetter(*fields)
    if len(fields) == 1:
        return lambda data: (pick(decode(data)),)
    return lambda data: cast("tuple[Any, ...]", pick(decode(data)))
