"""Generation of encoders, which turn an event into a framed record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any, Final, TypeAlias

import fastavro
import msgspec

from schemas.compiler import primitives as leaves
from schemas.compiler.avro_types import (
    Array,
    AvroJson,
    BadSchema,
    Enum,
    Field,
    Map,
    Nullable,
    Primitive,
    RecordType,
    Type,
)
from schemas.compiler.mismatch import find_mismatch
from schemas.compiler.primitives import Memo
from schemas.compiler.source import FunctionSource
from schemas.errors import RejectCode, Rejected

Encode: TypeAlias = Callable[[Any], bytes]


def _nullable_string_text(text: str | None) -> str:
    return "\0" if text is None else "\2" + leaves.string_text(text)


def _map_text(values: dict[str, str]) -> str:
    if not values:
        return "\0"
    pairs = [_REPEATED[key] + leaves.string_text(value) for key, value in values.items()]
    return f"{leaves.long_text(len(pairs))}{''.join(pairs)}\0"


def _array_text(items: list[Any], item_text: Callable[[Any], str]) -> str:
    return (
        f"{leaves.long_text(len(items))}{''.join([item_text(item) for item in items])}\0"
        if items
        else "\0"
    )


_REPEATED: Final[Memo[str, str]] = Memo(leaves.string_text)
_REPEATED_OR_NULL: Final[Memo[str | None, str]] = Memo(_nullable_string_text)
_NAMES: Final[dict[str, object]] = {
    "REPEATED": _REPEATED,
    "REPEATED_OR_NULL": _REPEATED_OR_NULL,
    "HIGH": leaves.HIGH,
    "LOW": leaves.LOW,
    "SHORT": leaves.SHORT,
    "BOOLEAN": {False: "\0", True: "\1"},
    "array_text": _array_text,
    "map_text": _map_text,
    "bytes_text": leaves.bytes_text,
    "int_text": leaves.int_text,
    "long_text": leaves.long_text,
    "string_text": leaves.string_text,
    "utf8_text": leaves.utf8_text,
}


def compile_encoder(title: str, schema: AvroJson, record: RecordType, frame: bytes) -> Encode:
    """Return a function that writes `frame` and the Avro body of an event.

    The body has the same bytes as fastavro's.

    It refuses with Rejected(BAD_CONTRACT) what the schema cannot hold, such as a number of more
    than 64 bits.
    """
    source = FunctionSource()
    writer = _Writer(source)
    items = [repr(frame.decode("latin-1")), *writer.fields(record, "event")]
    source.add(0, "def encode(event):")
    source.add(1, "try:", "    return ''.join((")
    source.add(3, *(f"{item}," for item in items))
    source.add(2, ")).encode('latin-1')")
    source.add(1, "except (AttributeError, LookupError, TypeError, ValueError):")
    source.add(
        2,
        f"return {source.name('with_care', _careful_encoder(title, schema, record, frame))}(event)",
    )
    return source.function("encode", f"{title} encoder")


def _careful_encoder(title: str, schema: AvroJson, record: RecordType, frame: bytes) -> Encode:
    # For what the compiled function rejects: very long strings are written, defects are named.
    parsed = fastavro.parse_schema(schema)

    def encode(event: Any) -> bytes:
        if (why := find_mismatch(record, event)) is not None:
            raise Rejected(RejectCode.BAD_CONTRACT, f"{title} cannot hold this event: {why}")
        out = BytesIO()
        out.write(frame)
        fastavro.schemaless_writer(out, parsed, msgspec.to_builtins(event, builtin_types=(bytes,)))
        return out.getvalue()

    return encode


class _Writer:
    """Expressions for the fragments of a record's text, in field order.

    Each may use `v` for its current value.
    """

    def __init__(self, source: FunctionSource) -> None:
        self._source = source
        self._functions: dict[str, str] = {}
        for name, value in _NAMES.items():
            source.name(name, value)

    def fields(self, record: RecordType, owner: str) -> Iterator[str]:
        """Yield the fragments of a record's fields; `owner` is the expression for the record."""
        for field in record.fields:
            yield from self._field(field, f"{owner}.{field.name}")

    def _field(self, field: Field, value: str) -> Iterator[str]:
        match field.type:
            case RecordType() as record:
                yield from self.fields(record, value)
            case Primitive("string") if field.is_repeating:
                yield f"REPEATED[{value}]"
            case Nullable(Primitive("string")) if field.is_repeating:
                yield f"REPEATED_OR_NULL[{value}]"
            case Primitive("string"):
                yield from _string(f"(v := {value})")
            case Nullable(Primitive("string")):
                length, text = _string("v")
                yield f"'\\0' if (v := {value}) is None else '\\2' + ({length})"
                yield f"{text} or ''"
            case Primitive("long") if field.is_time:
                yield f"LOW[(v := {value}) & {leaves.LOW_MASK}]"
                yield f"HIGH[v >> {leaves.LOW_BITS}]"
            case Nullable(Primitive("long")) if field.is_time:
                yield f"'\\0' if (v := {value}) is None else '\\2'"
                yield f"'' if v is None else LOW[v & {leaves.LOW_MASK}]"
                yield f"'' if v is None else HIGH[v >> {leaves.LOW_BITS}]"
            case Nullable(inner):
                yield f"'\\0' if (v := {value}) is None else '\\2' + ({self._text(inner, 'v')})"
            case other:
                yield self._text(other, value)

    def _text(self, type_: Type, value: str) -> str:
        match type_:
            case Primitive("boolean"):
                return f"BOOLEAN[{value}]"
            case Primitive("int" | "long"):
                short = f"SHORT[v] if 0 <= (v := {value}) <= {leaves.LOW_MASK}"
                return f"{short} else {type_.name}_text(v)"
            case Enum():
                symbols = {
                    symbol: leaves.long_text(index) for index, symbol in enumerate(type_.symbols)
                }
                return f"{self._source.name(type_.name, symbols)}[{value}]"
            case Array():
                # One item is usual for legs and sources, none for a reference's other operations.
                item = self._function(type_.items)
                one = f"'\\2' + {item}(v[0]) + '\\0'"
                several = f"array_text(v, {item}) if v else '\\0'"
                return f"{one} if len(v := {value}) == 1 else {several}"
            case Map(Primitive("string")):
                return f"map_text({value})"
            case Map():
                raise BadSchema("a map of anything but strings is not used in our contracts")
        return f"{self._function(type_)}({value})"

    def _function(self, type_: Type) -> str:
        match type_:
            case Primitive():
                return f"{type_.name}_text"
            case RecordType():
                return self._functions.get(type_.name) or self._record_function(type_)
        raise BadSchema(f"{type(type_).__name__} is not used in such a place in our contracts")

    def _record_function(self, record: RecordType) -> str:
        name = self._functions[record.name] = f"{record.name}_text"
        items = list(self.fields(record, "record"))
        self._source.add(0, f"def {name}(record):", "    return ''.join((")
        self._source.add(2, *(f"{item}," for item in items))
        self._source.add(1, "))")
        return name


def _string(value: str) -> tuple[str, str]:
    # An ASCII string is its own text; any other is replaced by its text, so that the next fragment
    # can use `v`.
    return f"SHORT[len(v)] if {value}.isascii() else long_text(len(v := utf8_text(v)))", "v"
