"""Reading: from a plan to the function that turns a framed record into an event or a tuple."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from schemas.compiler.binding import Classes
from schemas.compiler.exact_reader import ExactReader
from schemas.compiler.quick_reader import QuickReader
from schemas.compiler.resolution import ReadRecord, narrowed
from schemas.errors import RejectCode, Rejected

Decode: TypeAlias = Callable[[bytes], Any]


def compile_decoder(
    title: str, plan: ReadRecord, classes: Classes, frame: bytes, other: Decode, fields: Sequence[str] = ()
) -> Decode:
    """The function that reads records beginning with `frame`, and leaves all others to `other`.

    It returns an event or, given `fields`, a tuple of those; then it looks no further than the last of them. What it
    cannot read it refuses with Rejected(BAD_CONTRACT), whose detail names `title`, the field and the byte.
    """
    wanted = narrowed(plan, fields) if fields else plan
    return _quick(title, wanted, classes, frame, other, _exact(title, wanted, classes, len(frame), fields), fields)


def _exact(title: str, plan: ReadRecord, classes: Classes, start: int, fields: Sequence[str]) -> Decode:
    def refused(where: str, i: int, error: Exception) -> Rejected:
        reason = "the data ends too early" if isinstance(error, IndexError) else error
        return Rejected(RejectCode.BAD_CONTRACT, f"{title}: {where}, near byte {i}: {reason}")

    reader = ExactReader(classes)
    source = reader.source
    source.add(0, "def decode(data):")
    source.add(1, "where = ''", f"i = {start}", "try:")
    reader.fields(plan, "event", 2)
    if not fields:
        source.add(
            2, "where = 'the end'", "if i != len(data):", "    raise ValueError(f'{len(data) - i} bytes too many')"
        )
    source.add(2, f"return {_result(reader, plan, fields)}")
    source.add(1, "except (LookupError, ValueError) as error:")
    source.add(2, f"raise {source.name('refused', refused)}(where, i, error) from error")
    return source.function("decode", f"{title} exact decoder")


def _quick(
    title: str,
    plan: ReadRecord,
    classes: Classes,
    frame: bytes,
    other: Decode,
    exact: Decode,
    fields: Sequence[str],
) -> Decode:
    reader = QuickReader(classes)
    source = reader.source
    source.add(0, "def decode(data):")
    source.add(1, f"if data is None or data[:{len(frame)}] != {source.name('FRAME', frame)}:")
    source.add(2, f"return {source.name('other', other)}(data)")
    source.add(1, "try:", f"    i = {len(frame)}")
    reader.fields(plan, "event", 2)
    # Where the data ends within a string, `i` is beyond its end.
    source.add(2, "if i <= len(data):" if fields else "if i == len(data):")
    source.add(3, f"return {_result(reader, plan, fields)}")
    source.add(1, "except (LookupError, TypeError, ValueError):", "    pass")
    source.add(1, f"return {source.name('exact', exact)}(data)")
    return source.function("decode", f"{title} decoder")


def _result(reader: ExactReader, plan: ReadRecord, fields: Sequence[str]) -> str:
    if not fields:
        return reader.built(plan, "event")
    return f"({', '.join(_field(reader, plan, name, 'event') for name in fields)},)"


def _field(reader: ExactReader, plan: ReadRecord, path: str, prefix: str) -> str:
    head, _, tail = path.partition(".")
    for field, step in plan.steps:
        if field.name == head and tail and isinstance(step, ReadRecord):
            return _field(reader, step, tail, f"{prefix}__{head}")
    return reader.argument(plan, plan.argument(head), prefix)
