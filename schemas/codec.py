"""Records of our own topics to bytes and back, in Confluent's wire format.

A value is 0x00, the schema id as 4 bytes big-endian, and the Avro body. `encoder` and `decoder`
return functions that are made once for each record class, from its schema file: about 2 and 3 µs
for a bet on a machine where fastavro takes 15 and 11. Ask for them when a worker starts, not for
each event.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final, TypeAlias, TypeVar, overload

import msgspec

from schemas.compiler.avro_types import parse
from schemas.compiler.binding import bind
from schemas.compiler.decode import DecoderSpec, compile_decoder
from schemas.compiler.encode import compile_encoder
from schemas.compiler.resolution import ReadRecord, resolve
from schemas.errors import RejectCode, Rejected
from schemas.registry import Registry, Schema, released_registry, subject_of

R = TypeVar("R", bound=msgspec.Struct)
Encoder: TypeAlias = Callable[[R], bytes]
Decoder: TypeAlias = Callable[[bytes], R]
FieldsDecoder: TypeAlias = Callable[[bytes], tuple[Any, ...]]

_MAGIC: Final = b"\0"
_FRAME_BYTES: Final = 5


def frame_of(schema_id: int) -> bytes:
    """What a value begins with that was written under a schema id."""
    return _MAGIC + schema_id.to_bytes(4, "big")


def encoder(record: type[R]) -> Encoder[R]:
    """The function that writes an event of a record class as the value of a Kafka record.

    It raises Rejected(BAD_CONTRACT) for what the schema cannot hold: a number of more than 64 bits,
    half a surrogate pair, a missing value.
    """
    made: Encoder[R] = _encoder(record)
    return made


@cache
def _encoder(record: type[Any]) -> Encoder[Any]:
    # By itself, since the type of what `cache` returns does not tell one record class from another.
    return build_encoder(record, released_registry(), subject_of(record))


@overload
def decoder(record: type[R]) -> Decoder[R]: ...
@overload
def decoder(record: type[R], fields: tuple[str, ...]) -> FieldsDecoder: ...
@cache
def decoder(record: type[R], fields: tuple[str, ...] = ()) -> Decoder[R] | FieldsDecoder:
    """The function that reads the value of a Kafka record into an event of a class.

    With `fields` it returns a tuple of those only, and is the faster the earlier the last of them
    stands in the record: what follows is neither read nor judged. A dot reaches into a nested
    record: `attempt.offset`. Values written with any released version of the subject are read.

    It raises Rejected(BAD_CONTRACT) for bytes that are no such record, and the more particular
    UnknownSchema for a schema id that this code was not released with.
    """
    return build_decoder(record, released_registry(), subject_of(record), fields)


def build_encoder(record: type[R], registry: Registry, subject: str) -> Encoder[R]:
    """As `encoder`, for a class and a registry of the caller's."""
    schema = registry.latest(subject)
    tree = parse(schema.json)
    bind(tree, record)
    return compile_encoder(schema.name, schema.json, tree, frame_of(schema.id))


def build_decoder(
    record: type[R], registry: Registry, subject: str, fields: tuple[str, ...] = ()
) -> Callable[[bytes], Any]:
    """As `decoder`, for a class and a registry of the caller's."""
    latest = registry.latest(subject)
    reader = parse(latest.json)
    classes = bind(reader, record)

    def compiled(writer: Schema, other: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        plan = resolve(parse(writer.json), reader)
        assert isinstance(plan, ReadRecord)
        return compile_decoder(
            DecoderSpec(writer.name, frame_of(writer.id), plan, classes, fields), other
        )

    @cache
    def of_version(schema_id: int) -> Callable[[bytes], Any]:
        return compiled(registry.by_id(schema_id), other)

    def other(data: bytes) -> Any:
        # Not under the frame of the latest version: of another one, or not ours.
        schema = writer_schema(data, registry)
        if schema.subject != subject:
            raise Rejected(
                RejectCode.BAD_CONTRACT, f"a {schema.subject} where a {subject} should be"
            )
        return of_version(schema.id)(data)

    return compiled(latest, other)


def writer_schema(data: bytes | None, registry: Registry | None = None) -> Schema:
    """The schema that a value was written with. Raises Rejected(BAD_CONTRACT)."""
    if data is None:
        raise Rejected(RejectCode.BAD_CONTRACT, "the record has no value")
    if len(data) < _FRAME_BYTES or not data.startswith(_MAGIC):
        raise Rejected(
            RejectCode.BAD_CONTRACT, "the value does not begin with 0x00 and a schema id"
        )
    return (registry or released_registry()).by_id(int.from_bytes(data[1:_FRAME_BYTES], "big"))
