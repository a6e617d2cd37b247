"""Generator of lines that read any form of a record that Avro allows and track the field."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

from schemas.compiler import primitives as leaves
from schemas.compiler.binding import Classes, default_value
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

DISCARD: Final = "_"
"""Local variable of a value that is read past."""

LeafReader: TypeAlias = Callable[[bytes, int], tuple[Any, int]]

LEAVES: Final[dict[str, LeafReader]] = {
    "string": leaves.string_at,
    "bytes": leaves.bytes_at,
    "int": leaves.int_at,
    "long": leaves.long_at,
    "time": leaves.long_at,
    "boolean": leaves.boolean_at,
}


class ExactReader:
    """Lines that read values with the functions of `primitives`, whatever their form."""

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
        """Append the lines that read a record's fields into variables that begin with `prefix`."""
        for field, step in plan.steps:
            self.source.add(depth, f"where = {field.name!r}")
            self.value(step, f"{prefix}__{field.name}", depth)

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

    def primitive(self, name: str, to: str, depth: int) -> None:
        """Append the lines that read a primitive; a `time` is a long."""
        leaf = LEAVES[name]
        self.source.add(depth, f"{to}, i = {self.source.name(leaf.__name__, leaf)}(data, i)")

    def enum(self, plan: ReadEnum, to: str, depth: int) -> None:
        """Append the lines that read a symbol."""
        symbol_at = partial(leaves.symbol_at, plan.symbols)
        self.source.add(depth, f"{to}, i = {self.source.name(plan.name, symbol_at)}(data, i)")

    def nullable(self, plan: ReadNullable, to: str, depth: int, *, is_time: bool) -> None:
        """Append the lines that read a value or null."""
        presence = self.source.name("presence_at", leaves.presence_at)
        self.source.add(depth, f"{to} = None", f"n, i = {presence}(data, i)", "if n:")
        self.value(plan.inner, to, depth + 1, is_time=is_time)

    def blocks(self, count: str, depth: int, item: Callable[[int], None]) -> None:
        """Append the loop over the blocks of an array or map.

        `item` appends the lines for one item.
        """
        counter = self.source.name("count_at", leaves.count_at)
        self.source.add(depth, f"{count}, i = {counter}(data, i)", f"while {count}:")
        self.source.add(depth + 1, f"for _ in range({count}):")
        item(depth + 2)
        self.source.add(depth + 1, f"{count}, i = {counter}(data, i)")
