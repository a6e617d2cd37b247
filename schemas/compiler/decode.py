"""Generation of decoders, which turn a framed record into an event or a tuple."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from schemas.compiler.binding import Classes
from schemas.compiler.exact_reader import ExactReader
from schemas.compiler.quick_reader import QuickReader
from schemas.compiler.resolution import ReadRecord, narrow
from schemas.errors import RejectCode, Rejected

Decode: TypeAlias = Callable[[bytes], Any]


@dataclass(frozen=True)
class DecoderSpec:
    """Input of one decoder: the writer, the plan, and the classes or fields to return."""

    title: str
    """Name of the writer's schema, for messages."""
    frame: bytes
    """First bytes of a record of this writer."""
    plan: ReadRecord
    classes: Classes
    fields: tuple[str, ...] = ()
    """Empty for the whole event; otherwise the values of the tuple to be returned."""

    @property
    def name(self) -> str:
        """Name of the function in tracebacks."""
        return " ".join(("decoder", self.title, *self.fields))


def compile_decoder(decoding: DecoderSpec, other: Decode) -> Decode:
    """Return a function that decodes records with the frame and passes others to `other`.

    The function returns an event, or a tuple of fields; of these it reads no further than the last.
    It refuses what it cannot read with Rejected(BAD_CONTRACT), which names the schema, the field
    and the byte.
    """
    if decoding.fields:
        decoding = replace(decoding, plan=narrow(decoding.plan, decoding.fields))
    return _quick(decoding, other, _exact(decoding))


def _exact(decoding: DecoderSpec) -> Decode:
    def rejection(where: str, i: int, error: Exception) -> Rejected:
        reason = "the data ends too early" if isinstance(error, IndexError) else error
        return Rejected(
            RejectCode.BAD_CONTRACT, f"{decoding.title}: {where}, near byte {i}: {reason}"
        )

    reader = ExactReader(decoding.classes)
    source = reader.source
    source.add(0, "def decode(data):")
    source.add(1, "where = ''", f"i = {len(decoding.frame)}", "try:")
    reader.fields(decoding.plan, "event", 2)
    if not decoding.fields:
        source.add(2, "where = 'the end'", "if i != len(data):")
        source.add(3, "raise ValueError(f'{len(data) - i} bytes too many')")
    source.add(2, f"return {_result(reader, decoding)}")
    source.add(1, "except (LookupError, ValueError) as error:")
    source.add(2, f"raise {source.name('rejection', rejection)}(where, i, error) from error")
    return source.function("decode", f"exact {decoding.name}")


def _quick(decoding: DecoderSpec, other: Decode, exact: Decode) -> Decode:
    reader = QuickReader(decoding.classes)
    source = reader.source
    source.add(0, "def decode(data):")
    frame = source.name("FRAME", decoding.frame)
    source.add(1, f"if data is None or data[:{len(decoding.frame)}] != {frame}:")
    source.add(2, f"return {source.name('other', other)}(data)")
    source.add(1, "try:", f"    i = {len(decoding.frame)}")
    reader.fields(decoding.plan, "event", 2)
    # Where the data ends within a string, `i` is beyond its end.
    source.add(2, "if i <= len(data):" if decoding.fields else "if i == len(data):")
    source.add(3, f"return {_result(reader, decoding)}")
    source.add(1, "except (LookupError, TypeError, ValueError):", "    pass")
    source.add(1, f"return {source.name('exact', exact)}(data)")
    return source.function("decode", decoding.name)


def _result(reader: ExactReader, decoding: DecoderSpec) -> str:
    if not decoding.fields:
        return reader.build_expression(decoding.plan, "event")
    values = (_field(reader, decoding.plan, path, "event") for path in decoding.fields)
    return f"({', '.join(values)},)"


def _field(reader: ExactReader, plan: ReadRecord, path: str, prefix: str) -> str:
    head, _, tail = path.partition(".")
    step = next((step for field, step in plan.steps if field.name == head), None)
    if not tail:
        return reader.argument(plan, plan.argument(head), prefix)
    if isinstance(step, ReadRecord) and not step.builds:
        return _field(reader, step, tail, f"{prefix}__{head}")
    # The nested record is also wanted as a whole, or comes from a default.
    return f"{reader.argument(plan, plan.argument(head), prefix)}.{tail}"
