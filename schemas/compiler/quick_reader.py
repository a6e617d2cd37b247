"""Generator of lines that read the usual form of a record in place: our own encoder's.

One byte for a length, a count and a small number, six for a time, one block for an array. No
assumption can change a value: where one fails, a builtin error stops the function and the careful
decoder begins again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any, Final

from schemas.compiler import primitives as leaves
from schemas.compiler.avro_types import Field
from schemas.compiler.binding import Classes, default_value
from schemas.compiler.primitives import LEAVES, LeafReader, Memo
from schemas.compiler.resolution import (
    Default,
    Plan,
    ReadArray,
    ReadEnum,
    ReadMap,
    ReadNullable,
    ReadPrimitive,
    ReadRecord,
    Skip,
    skip_plan,
)
from schemas.compiler.source import FunctionSource
from schemas.errors import InvariantBroken

DISCARD: Final = "_"
"""Local variable of a value that is read past."""

_BYTE: Final = range(256)
# Value of a byte that is a whole number; None, which no arithmetic accepts, for any other.
_NUMBER: Final = tuple((byte >> 1) ^ -(byte & 1) if byte < 128 else None for byte in _BYTE)
_STRIDE: Final = tuple(1 + (byte >> 1) if byte < 128 and byte % 2 == 0 else None for byte in _BYTE)
_ONE: Final = tuple(1 if byte < 128 else None for byte in _BYTE)
_COUNT: Final = tuple(range(byte >> 1) if byte < 128 and byte % 2 == 0 else None for byte in _BYTE)
# Value of a byte as the first to the fourth of a number that is not negative: bits 0-5, 6-12,
# 13-19, 20-26.
_FIRST, _SECOND, _THIRD, _FOURTH = (
    tuple((byte & 127) << shift >> 1 for byte in _BYTE) for shift in (0, 7, 14, 21)
)
# A time has six bytes, and so its first two are never the last.
_TIME_1: Final = tuple(
    (byte & 127) >> 1 if byte > 127 and byte % 2 == 0 else None for byte in _BYTE
)
_TIME_2: Final = tuple((byte & 127) << 6 if byte > 127 else None for byte in _BYTE)


def _time_rest(four: bytes) -> int:
    # Bits 13-40 change only every 8 seconds, so they are remembered. 41 bits of milliseconds last
    # until 2039; later times have seven bytes, and the careful decoder reads them.
    a, b, c, d = four
    if not (a > 127 and b > 127 and c > 127 and d < 128):
        raise ValueError("not a time of six bytes")
    return ((a & 127) | (b & 127) << 7 | (c & 127) << 14 | d << 21) << leaves.LOW_BITS


_TIME_REST: Final[Memo[bytes, int]] = Memo(_time_rest)


def _long_at(data: bytes, i: int) -> tuple[int, int]:
    # Most offsets and amounts have two to four bytes and are not negative.
    first = data[i]
    if first & 1 == 0:
        second = data[i + 1]
        if second < 128:
            return _FIRST[first] + _SECOND[second], i + 2
        third = data[i + 2]
        if third < 128:
            return _FIRST[first] + _SECOND[second] + _THIRD[third], i + 3
        fourth = data[i + 3]
        if fourth < 128:
            return _FIRST[first] + _SECOND[second] + _THIRD[third] + _FOURTH[fourth], i + 4
    return leaves.long_at(data, i)


class QuickReader:
    """Lines that read the usual forms of values in place and raise a builtin error at others."""

    def __init__(self, classes: Classes) -> None:
        self.source = FunctionSource()
        self._classes = classes

    def value(self, plan: Plan, to: str, depth: int, *, is_time: bool = False) -> None:
        """Append the lines that read one value into a local variable, or past it for DISCARD."""
        match plan:
            case Skip():
                self.value(skip_plan(plan.type), DISCARD, depth, is_time=is_time)
            case ReadPrimitive():
                self.primitive("time" if is_time else plan.name, to, depth)
            case ReadEnum():
                self.enum(plan, to, depth)
            case ReadNullable():
                self.nullable(plan, to, depth, is_time=is_time)
            case ReadArray():
                self._make(to, "[]", depth)
                self.blocks(f"{to}__count", depth, lambda at: self._item(plan.items, to, at))
            case ReadMap():
                self._make(to, "{}", depth)
                self.blocks(f"{to}__count", depth, lambda at: self._entry(plan.values, to, at))
            case ReadRecord():
                self.fields(plan, to, depth)
                if plan.builds:
                    self._make(to, self.build_expression(plan, to), depth)

    def _make(self, to: str, expression: str, depth: int) -> None:
        if to != DISCARD:
            self.source.add(depth, f"{to} = {expression}")

    def _item(self, items: Plan, to: str, depth: int) -> None:
        if to == DISCARD:
            self.value(items, to, depth)
            return
        self.value(items, f"{to}__item", depth)
        self.source.add(depth, f"{to}.append({to}__item)")

    def _entry(self, values: Plan, to: str, depth: int) -> None:
        if to == DISCARD:
            self.primitive("bytes", to, depth)
            self.value(values, to, depth)
            return
        self.primitive("string", f"{to}__key", depth)
        self.value(values, f"{to}__value", depth)
        self.source.add(depth, f"{to}[{to}__key] = {to}__value")

    def fields(self, plan: ReadRecord, prefix: str, depth: int) -> None:
        """Append the lines that read a record's fields.

        Neighbours with repeating values are read as one run.
        """
        for is_run, group in groupby(plan.steps, key=_runs):
            steps = list(group)
            if is_run and any(_is_string(_plan(step)) for _, step in steps):
                self._run(steps, prefix, depth)
                continue
            for field, step in steps:
                self.value(step, f"{prefix}__{field.name}", depth, is_time=field.is_time)

    def _run(self, steps: list[tuple[Field, Plan]], prefix: str, depth: int) -> None:
        # Neighbours with repeating values are looked up as one: walk to their end, then take all
        # their bytes.
        plans = [_plan(step) for _, step in steps]
        self.source.add(depth, f"j = i + {self._stride(plans[0], 'i')}")
        self.source.add(depth, *(f"j += {self._stride(plan, 'j')}" for plan in plans[1:]))
        names = [
            DISCARD if isinstance(step, Skip) else f"{prefix}__{field.name}"
            for field, step in steps
        ]
        if any(name != DISCARD for name in names):
            memo = self.source.name("run", Memo(_run_reader([_leaf(plan) for plan in plans])))
            self.source.add(depth, f"{', '.join(names)}, = {memo}[data[i:j]]")
        self.source.add(depth, "i = j")

    def build_expression(self, plan: ReadRecord, prefix: str) -> str:
        """Return the expression that makes a record's class of its fields."""
        struct = self._classes[plan.name]
        arguments = (self.argument(plan, argument, prefix) for argument in plan.arguments)
        return f"{self.source.name(struct.__name__, struct)}({', '.join(arguments)})"

    def argument(self, plan: ReadRecord, argument: str | Default, prefix: str) -> str:
        """Return the expression for one of a record's fields."""
        if isinstance(argument, str):
            return f"{prefix}__{argument}"
        value = default_value(self._classes[plan.name], argument.name, argument.value)
        name = self.source.name(f"default_{argument.name}", value)
        # Each event gets a list or dict of its own.
        return f"{name}.copy()" if isinstance(value, list | dict) else name

    def _stride(self, plan: Plan, at: str) -> str:
        stride = (
            self.source.name("STRIDE", _STRIDE)
            if _is_string(plan)
            else self.source.name("ONE", _ONE)
        )
        if isinstance(plan, ReadNullable):
            return f"({stride}[data[{at} + 1]] + 1 if data[{at}] else 1)"
        return f"{stride}[data[{at}]]"

    def primitive(self, name: str, to: str, depth: int) -> None:
        """Append the lines that read a primitive: of the usual length in place, else in general."""
        match name:
            case "string" | "bytes":
                self._string(name, to, depth)
            case "time":
                tables = ("TIME_1", _TIME_1), ("TIME_2", _TIME_2), ("TIME_REST", _TIME_REST)
                first, second, rest = (self.source.name(*table) for table in tables)
                line = (
                    f"{to} = {first}[data[i]] + {second}[data[i + 1]] + {rest}[data[i + 2 : i + 6]]"
                )
                self.source.add(depth, line, "i += 6")
            case "boolean":
                self.source.add(
                    depth, f"{to} = {self.source.name('BOOLEAN', (False, True))}[data[i]]", "i += 1"
                )
            case _:
                self._number(name, to, depth)

    def _string(self, name: str, to: str, depth: int) -> None:
        stride = self.source.name("STRIDE", _STRIDE)
        self.source.add(depth, "n = data[i]", "if n < 128:")
        if to == DISCARD:
            self.source.add(depth + 1, f"i += {stride}[n]")
        else:
            decoded = ".decode()" if name == "string" else ""
            line = f"{to} = data[i + 1 : j]{decoded}"
            self.source.add(depth + 1, f"j = i + {stride}[n]", line, "i = j")
        leaf = LEAVES[name]
        call = f"{self.source.name(leaf.__name__, leaf)}(data, i)"
        self.source.add(depth, "else:", f"    {to}, i = {call}")

    def _number(self, name: str, to: str, depth: int) -> None:
        leaf = _long_at if name == "long" else LEAVES[name]
        self.source.add(depth, "n = data[i]", "if n < 128:")
        self.source.add(depth + 1, f"{to} = {self.source.name('NUMBER', _NUMBER)}[n]", "i += 1")
        self.source.add(
            depth, "else:", f"    {to}, i = {self.source.name(leaf.__name__, leaf)}(data, i)"
        )

    def enum(self, plan: ReadEnum, to: str, depth: int) -> None:
        """Append the lines that look up a symbol by its single byte."""
        symbols = {index << 1: symbol for index, symbol in enumerate(plan.symbols)}
        self.source.add(depth, f"{to} = {self.source.name(plan.name, symbols)}[data[i]]", "i += 1")

    def nullable(self, plan: ReadNullable, to: str, depth: int, *, is_time: bool) -> None:
        """Append the lines that read a value or null by the single byte of its branch."""
        self.source.add(depth, "n = data[i]", "i += 1", "if n == 2:")
        self.value(plan.inner, to, depth + 1, is_time=is_time)
        self.source.add(depth, "elif n == 0:", f"    {to} = None", "else:", "    raise ValueError")

    def blocks(self, count: str, depth: int, item: Callable[[int], None]) -> None:
        """Append the loop over the single block of an array or map."""
        self.source.add(depth, f"{count} = {self.source.name('COUNT', _COUNT)}[data[i]]", "i += 1")
        # The loop comes before the check of the count: None is not an empty block, and only the
        # loop raises for it.
        self.source.add(depth, f"for _ in {count}:")
        item(depth + 1)
        self.source.add(
            depth, f"if {count}:", "    if data[i]:", "        raise ValueError", "    i += 1"
        )


def _plan(step: Plan) -> Plan:
    return skip_plan(step.type) if isinstance(step, Skip) else step


def _is_string(plan: Plan) -> bool:
    inner = plan.inner if isinstance(plan, ReadNullable) else plan
    return isinstance(inner, ReadPrimitive) and inner.name == "string"


def _is_small(plan: Plan) -> bool:
    # Usually one byte: it may be in a run, but alone it is read faster than looked up.
    return isinstance(plan, ReadEnum) or (
        isinstance(plan, ReadPrimitive) and plan.name in {"boolean", "int"}
    )


def _runs(step: tuple[Field, Plan]) -> bool:
    field, plan = step[0], _plan(step[1])
    return _is_small(plan) or (field.is_repeating and _is_string(plan))


def _leaf(plan: Plan) -> LeafReader:
    match plan:
        case ReadPrimitive():
            return LEAVES[plan.name]
        case ReadEnum():
            return partial(leaves.symbol_at, plan.symbols)
        case ReadNullable():
            return partial(_nullable_at, _leaf(plan.inner))
    raise InvariantBroken(f"{plan} is in a run of fields")


def _nullable_at(leaf: LeafReader, data: bytes, i: int) -> tuple[Any, int]:
    is_there, i = leaves.presence_at(data, i)
    return leaf(data, i) if is_there else (None, i)


def _run_reader(leaves: Sequence[LeafReader]) -> Callable[[bytes], tuple[Any, ...]]:
    def read(data: bytes) -> tuple[Any, ...]:
        values, i = [], 0
        for leaf in leaves:
            value, i = leaf(data, i)
            values.append(value)
        if i != len(data):
            raise ValueError("not a run")
        return tuple(values)

    return read
