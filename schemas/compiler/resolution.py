"""Avro's schema resolution, decided once for each pair of writer and reader.

The result is a plan: the writer's fields in their order, each read or skipped, then a class built
from what was read and from the defaults of what the writer did not know. The decoder is generated
from it, and two schemas are compatible where a plan exists. Source of the rules: Avro 1.12
specification, "Schema Resolution".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from schemas.compiler.avro_types import (
    Array,
    Enum,
    Field,
    Map,
    Nullable,
    Primitive,
    RecordType,
    Type,
)
from schemas.errors import Fatal


class Incompatible(Fatal):
    """A reader cannot read what a writer may write; the message says which field and why."""

    code = "INCOMPATIBLE"
    exit_code = 78  # EX_CONFIG of sysexits.h

    def __init__(self, where: str, why: str, path: str | None = None) -> None:
        """Compose the message.

        `where` is the innermost type that was compared, empty for the record; `path` is the
        offending field.
        """
        super().__init__(f"{where or 'the record'}: {why}")
        self.path = where if path is None else path


@dataclass(frozen=True)
class Skip:
    """Read past a value."""

    type: Type


@dataclass(frozen=True)
class ReadPrimitive:
    """Read a value as it is. A writer's int is also a reader's long: the bytes are the same."""

    name: str


@dataclass(frozen=True)
class ReadEnum:
    """The reader's symbol for each of the writer's."""

    name: str
    symbols: tuple[str, ...]


@dataclass(frozen=True)
class ReadNullable:
    """A value or null."""

    inner: Plan


@dataclass(frozen=True)
class ReadArray:
    """A list."""

    items: Plan


@dataclass(frozen=True)
class ReadMap:
    """A dict by string."""

    values: Plan


@dataclass(frozen=True)
class Default:
    """JSON value of a field that the writer did not know."""

    name: str
    value: Any


@dataclass(frozen=True)
class ReadRecord:
    """The writer's fields in order, and what is made of them.

    `arguments` are the reader's fields in its own order: names of `steps`, or defaults. Where it
    `builds`, they make an instance of the record's class; otherwise only the values are returned.
    """

    name: str
    steps: tuple[tuple[Field, Plan], ...]
    arguments: tuple[str | Default, ...]
    builds: bool = True

    def argument(self, name: str) -> str | Default:
        """Return the reader's field of that name. Raises KeyError."""
        for argument in self.arguments:
            if name == (argument if isinstance(argument, str) else argument.name):
                return argument
        raise KeyError(name)


Plan: TypeAlias = Skip | ReadPrimitive | ReadEnum | ReadNullable | ReadArray | ReadMap | ReadRecord


def resolve(writer: Type, reader: Type, path: str = "") -> Plan:  # noqa: PLR0911 - one return for each case
    """Return the plan to read `writer`'s bytes as `reader`. Raises Incompatible."""
    match writer, reader:
        case Primitive(), Primitive():
            if writer.name == reader.name or (writer.name, reader.name) == ("int", "long"):
                return ReadPrimitive(reader.name)
        case Enum(), Enum() if writer.name == reader.name:
            return _resolve_enum(writer, reader, path)
        case Nullable(), Nullable():
            return ReadNullable(resolve(writer.inner, reader.inner, path))
        case _, Nullable():
            return resolve(writer, reader.inner, path)
        case Array(), Array():
            return ReadArray(resolve(writer.items, reader.items, f"{path}[]"))
        case Map(), Map():
            return ReadMap(resolve(writer.values, reader.values, f"{path}[]"))
        case RecordType(), RecordType() if writer.name == reader.name:
            return _resolve_record(writer, reader, path)
    raise Incompatible(path, f"written as {_word(writer)}, read as {_word(reader)}")


def _resolve_enum(writer: Enum, reader: Enum, path: str) -> Plan:
    unknown = [symbol for symbol in writer.symbols if symbol not in reader.symbols]
    if unknown and reader.default is None:
        raise Incompatible(path, f"the reader has no symbol {', '.join(unknown)} and no default")
    default = reader.default or ""
    return ReadEnum(
        reader.name,
        tuple(symbol if symbol in reader.symbols else default for symbol in writer.symbols),
    )


def _resolve_record(writer: RecordType, reader: RecordType, path: str) -> Plan:
    steps: list[tuple[Field, Plan]] = []
    for field in writer.fields:
        wanted = reader.field(field.name)
        inner = f"{path}.{field.name}" if path else field.name
        steps.append(
            (field, Skip(field.type) if wanted is None else resolve(field.type, wanted.type, inner))
        )
    arguments: list[str | Default] = []
    for wanted in reader.fields:
        if writer.field(wanted.name) is not None:
            arguments.append(wanted.name)
        elif wanted.has_default:
            arguments.append(Default(wanted.name, wanted.default))
        else:
            why = f"the writer has no {wanted.name}, and the reader no default for it"
            raise Incompatible(path, why, f"{path}.{wanted.name}" if path else wanted.name)
    return ReadRecord(reader.name, tuple(steps), tuple(arguments))


def _word(type_: Type) -> str:
    match type_:
        case Primitive(name):
            return name
        case Enum(name) | RecordType(name):
            return f"{type(type_).__name__.lower()} {name}"
    return type(type_).__name__.lower()


def skip_plan(type_: Type) -> Plan:
    """Return the plan to read past a value."""
    match type_:
        case Primitive():
            return ReadPrimitive(type_.name)
        case Enum():
            return ReadEnum(type_.name, type_.symbols)
        case Nullable():
            return ReadNullable(skip_plan(type_.inner))
        case Array():
            return ReadArray(skip_plan(type_.items))
        case Map():
            return ReadMap(skip_plan(type_.values))
        case RecordType():
            steps = tuple((field, Skip(field.type)) for field in type_.fields)
            return ReadRecord(type_.name, steps, (), builds=False)


def narrow(plan: ReadRecord, fields: Sequence[str]) -> ReadRecord:
    """Return the plan that reads only some fields and builds nothing.

    `attempt.offset` means a field of a nested record. What comes after the last field is not read
    at all. Raises KeyError for a field that does not exist.
    """
    narrow = _narrow_steps(plan, fields)
    last = max(
        (n for n, (_, step) in enumerate(narrow.steps) if not isinstance(step, Skip)), default=-1
    )
    return replace(narrow, steps=narrow.steps[: last + 1])


def _narrow_steps(plan: ReadRecord, fields: Sequence[str]) -> ReadRecord:
    paths = [name.partition(".") for name in fields]
    arguments = tuple(plan.argument(head) for head in dict.fromkeys(head for head, _, _ in paths))
    steps: list[tuple[Field, Plan]] = []
    for field, step in plan.steps:
        tails = [tail for head, dot, tail in paths if dot and head == field.name]
        if field.name in fields:
            steps.append((field, step))
        elif not tails:
            steps.append((field, Skip(field.type)))
        elif isinstance(step, ReadRecord):
            steps.append((field, _narrow_steps(step, tails)))
        else:
            raise KeyError(f"{field.name} is not a record with a field {tails[0]}")
    return ReadRecord(plan.name, tuple(steps), arguments, builds=False)
