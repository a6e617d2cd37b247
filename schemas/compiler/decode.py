"""Reading: from a plan to the function that turns a framed record into an event or a tuple."""

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
    """What is read, of which writer, and into what."""

    title: str
    """The writer's schema, for messages."""
    frame: bytes
    """What a record of this writer begins with."""
    plan: ReadRecord
    classes: Classes
    fields: tuple[str, ...] = ()
    """None for the whole event; otherwise the values of the tuple to be returned."""

    @property
    def name(self) -> str:
        """What tracebacks call the function."""
        return " ".join(("decoder", self.title, *self.fields))


def compile_decoder(decoding: DecoderSpec, other: Decode) -> Decode:
    """The function that reads records beginning with the frame, and leaves all others to `other`.

    It returns an event or a tuple of fields; of these it looks no further than the last. What it
    cannot read it refuses with Rejected(BAD_CONTRACT), which names the schema, the field and the
    byte.
    """
    if decoding.fields:
        decoding = replace(decoding, plan=narrow(decoding.plan, decoding.fields))
    return _quick(decoding, other, _exact(decoding))


def _exact(decoding: DecoderSpec) -> Decode:
    def refused(where: str, i: int, error: Exception) -> Rejected:
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
    source.add(2, f"raise {source.name('refused', refused)}(where, i, error) from error")
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
    # The nested record is wanted as a whole, too, or comes from a default.
    return f"{reader.argument(plan, plan.argument(head), prefix)}.{tail}"
