"""Generation of decoders, which turn a framed record into an event or a tuple."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, TypeAlias

import fastavro
import msgspec

from schemas.compiler import primitives as leaves
from schemas.compiler.avro_types import (
    Array,
    Enum,
    Map,
    Nullable,
    Primitive,
    RecordType,
    Type,
    to_json,
)
from schemas.compiler.binding import Classes
from schemas.compiler.quick_reader import QuickReader
from schemas.compiler.resolution import ReadRecord, narrow, resolve
from schemas.errors import RejectCode, Rejected

Decode: TypeAlias = Callable[[bytes], Any]


@dataclass(frozen=True)
class DecoderSpec:
    """Input of one decoder: the writer, the reader, and the classes or fields to return."""

    title: str
    """Name of the writer's schema, for messages."""
    frame: bytes
    """First bytes of a record of this writer."""
    writer: RecordType
    reader: RecordType
    classes: Classes
    """Classes of the reader's records."""
    fields: tuple[str, ...] = ()
    """Empty for the whole event; otherwise the values of the tuple to be returned."""

    @property
    def name(self) -> str:
        """Name of the function in tracebacks."""
        return " ".join(("decoder", self.title, *self.fields))


def compile_decoder(spec: DecoderSpec, other: Decode) -> Decode:
    """Return a function that decodes records with the frame and passes others to `other`.

    The function returns an event, or a tuple of fields; of these it reads no further than the last.
    It refuses what it cannot read with Rejected(BAD_CONTRACT), which names the schema, the field
    and the byte. Raises Incompatible where the reader cannot read what the writer writes, KeyError
    for a field that does not exist.
    """
    plan = resolve(spec.writer, spec.reader)
    assert isinstance(plan, ReadRecord)
    if spec.fields:
        plan = narrow(plan, spec.fields)
    return _quick_decoder(spec, plan, other, _careful_decoder(spec, plan))


def _quick_decoder(spec: DecoderSpec, plan: ReadRecord, other: Decode, careful: Decode) -> Decode:
    reader = QuickReader(spec.classes)
    source = reader.source
    source.add(0, "def decode(data):")
    frame = source.name("FRAME", spec.frame)
    source.add(1, f"if data is None or data[:{len(spec.frame)}] != {frame}:")
    source.add(2, f"return {source.name('other', other)}(data)")
    source.add(1, "try:", f"    i = {len(spec.frame)}")
    reader.fields(plan, "event", 2)
    # Where the data ends within a string, `i` is beyond its end.
    source.add(2, "if i <= len(data):" if spec.fields else "if i == len(data):")
    source.add(3, f"return {_result(reader, plan, spec.fields)}")
    source.add(1, "except (LookupError, TypeError, ValueError):", "    pass")
    source.add(1, f"return {source.name('careful', careful)}(data)")
    return source.function("decode", spec.name)


def _result(reader: QuickReader, plan: ReadRecord, fields: tuple[str, ...]) -> str:
    if not fields:
        return reader.build_expression(plan, "event")
    values = (_field(reader, plan, path, "event") for path in fields)
    return f"({', '.join(values)},)"


def _field(reader: QuickReader, plan: ReadRecord, path: str, prefix: str) -> str:
    head, _, tail = path.partition(".")
    step = next((step for field, step in plan.steps if field.name == head), None)
    if not tail:
        return reader.argument(plan, plan.argument(head), prefix)
    if isinstance(step, ReadRecord) and not step.builds:
        return _field(reader, step, tail, f"{prefix}__{head}")
    # The nested record is also requested as a whole, or comes from a default.
    return f"{reader.argument(plan, plan.argument(head), prefix)}.{tail}"


def _careful_decoder(spec: DecoderSpec, plan: ReadRecord) -> Decode:
    # For the forms that the quick decoder does not read. fastavro reads negative lengths, numbers
    # of any size and trailing bytes without a complaint and names no field: hence the check.
    written = RecordType(spec.writer.name, tuple(field for field, _ in plan.steps))
    writer = fastavro.parse_schema(to_json(written))
    heads = dict.fromkeys(path.partition(".")[0] for path in spec.fields)
    wanted = tuple(field for field in spec.reader.fields if field.name in heads or not heads)
    reader = fastavro.parse_schema(to_json(RecordType(spec.reader.name, wanted)))
    struct = spec.classes[spec.reader.name]
    types = {one.name: one.type for one in msgspec.structs.fields(struct) if one.name in heads}

    def decode(data: bytes) -> Any:
        end = _check(written, data, len(spec.frame), spec.title, "")
        if not spec.fields and end != len(data):
            raise _rejection(spec.title, "the end", end, f"{len(data) - end} bytes too many")
        body = BytesIO(data[len(spec.frame) : end])
        values: Any = fastavro.schemaless_reader(body, writer, reader)
        if not spec.fields:
            return msgspec.convert(values, struct)
        found = {name: msgspec.convert(values[name], type_) for name, type_ in types.items()}
        return tuple(_value_at(found, path) for path in spec.fields)

    return decode


def _value_at(found: dict[str, Any], path: str) -> Any:
    head, *attributes = path.split(".")
    value = found[head]
    for attribute in attributes:
        value = getattr(value, attribute)
    return value


def _check(type_: Type, data: bytes, i: int, title: str, path: str) -> int:
    """Return the end of the value that begins at byte `i`.

    Raises Rejected(BAD_CONTRACT), with the schema, the field and the byte, for bytes that Avro does
    not allow.
    """
    try:
        match type_:
            case Primitive(name):
                return leaves.LEAVES[name](data, i)[1]
            case Enum():
                return leaves.symbol_at(type_.symbols, data, i)[1]
            case Nullable(inner):
                is_there, i = leaves.presence_at(data, i)
                return _check(inner, data, i, title, path) if is_there else i
            case Array(items):
                return _check_blocks((items,), data, i, title, path)
            case Map(values):
                return _check_blocks((Primitive("string"), values), data, i, title, path)
            case RecordType():
                for field in type_.fields:
                    name = f"{path}.{field.name}" if path else field.name
                    i = _check(field.type, data, i, title, name)
                return i
    except IndexError:
        raise _rejection(title, path, i, "the data ends too early") from None
    except ValueError as error:
        raise _rejection(title, path, i, error) from error


def _check_blocks(item: tuple[Type, ...], data: bytes, i: int, title: str, path: str) -> int:
    count, size, i = leaves.count_at(data, i)
    while count:
        begin = i
        for _ in range(count):
            for type_ in item:
                i = _check(type_, data, i, title, path)
        if size not in {None, i - begin}:
            # fastavro skips by this size where the reader does not want the field.
            raise ValueError(f"a block of {i - begin} bytes says that it has {size}")
        count, size, i = leaves.count_at(data, i)
    return i


def _rejection(title: str, path: str, i: int, reason: object) -> Rejected:
    return Rejected(RejectCode.BAD_CONTRACT, f"{title}: {path}, near byte {i}: {reason}")
