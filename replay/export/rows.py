"""The rows of a piece: read, cut to the period, filtered, masked, one an event or one a leg."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from replay.columns.avro_reader import TIME
from replay.columns.masking import mask_fields, mask_headers
from replay.columns.topic_table import TableStats, TopicTable
from replay.columns.where_mask import check_where, mask_rows
from replay.export.plan import ExportPlan
from replay.log.blocks import LogBlock
from schemas.tags import PLAIN_HEADERS, sensitive_fields

_LEGS: Final = "legs"


@dataclass
class RowStats(TableStats):
    """Counts of a piece's records and rows."""

    read: int = 0
    rows: int = 0
    in_margin: int = 0
    """Records that were read although their append time is outside the period."""
    from_margin: int = 0
    """Rows of those: their event is inside the period."""
    inexact_amounts: int = 0
    """Amounts that DECIMAL(38, 18) cannot hold: null there, exact in the two columns beside it."""
    unreadable_headers: list[str] = field(default_factory=list)


class RowMaker:
    """Makes the rows of one plan; all its tables have the same schema."""

    def __init__(self, plan: ExportPlan) -> None:
        """Check the filters against the topic's fields. Raises UsageError."""
        self._request = plan.request
        self._table = TopicTable(plan.request.subject)
        self._condition = plan.request.condition()
        if self._condition is not None:
            check_where(self._condition, self._table.schema)
        has_period = plan.request.since_ms is not None or plan.request.until_ms is not None
        self._time_column = plan.request.time_column if has_period else None
        is_masked = plan.request.unmask_reason is None
        self.masked_fields = sensitive_fields(plan.request.subject) if is_masked else ()
        self._masks_headers = is_masked
        self.schema = self.build([], RowStats()).schema

    def build(self, blocks: Iterable[LogBlock], stats: RowStats) -> pa.Table:
        """Return the rows of a piece's blocks as one table without chunks."""
        schema = self._table.schema
        found = pa.concat_tables([schema.empty_table(), *self._selected(blocks, stats)])
        if self._request.has_row_per_leg:
            found = explode_legs(found)
        stats.rows += found.num_rows
        return found.combine_chunks()

    def _selected(self, blocks: Iterable[LogBlock], stats: RowStats) -> Iterator[pa.Table]:
        key = self._request.key_wanted
        for whole in blocks:
            stats.read += len(whole)
            stats.unreadable_headers += [
                f"{whole.topic}-{whole.partition}@{offset}" for offset in whole.unreadable_headers
            ]
            block = whole
            if key is not None:
                block = whole.keep([index for index, one in enumerate(whole.keys) if one == key])
            table = self._table.build(block, stats)
            if self._time_column is not None:
                table = self._in_period(table, stats)
            if self._condition is not None and table.num_rows:
                table = table.filter(pa.array(mask_rows(self._condition, table)))
            if _LEGS in table.column_names:
                stats.inexact_amounts += _count_inexact(table.column(_LEGS))
            yield self._mask(table)

    def _in_period(self, table: pa.Table, stats: RowStats) -> pa.Table:
        append = self._is_inside(table.column("_append_at"))
        inside = append
        if self._time_column != "_append_at":
            inside = self._is_inside(table.column(self._time_column))
        stats.in_margin += int((~append).sum())
        stats.from_margin += int((inside & ~append).sum())
        return table if inside.all() else table.filter(pa.array(inside))

    def _is_inside(self, times: pa.ChunkedArray) -> Any:
        inside = np.asarray(pc.is_valid(times).to_numpy())
        for bound_ms, compare in (
            (self._request.since_ms, pc.greater_equal),
            (self._request.until_ms, pc.less),
        ):
            if bound_ms is not None:
                bound = pa.scalar(bound_ms * 1000, pa.int64()).cast(TIME)
                inside = inside & compare(times, bound).fill_null(fill_value=False).to_numpy()
        return inside

    def _mask(self, table: pa.Table) -> pa.Table:
        if self._masks_headers:
            headers = table.column("_headers")
            chunks = [mask_headers(chunk, PLAIN_HEADERS) for chunk in headers.chunks]
            place = table.schema.get_field_index("_headers")
            masked = pa.chunked_array(chunks, headers.type)
            table = table.set_column(place, table.schema.field(place), masked)
        return mask_fields(table, self.masked_fields)


def _count_inexact(legs: pa.ChunkedArray) -> int:
    items = pc.list_flatten(legs)
    if not len(items):
        return 0
    exact, unscaled = pc.struct_field(items, "amount"), pc.struct_field(items, "amount_unscaled")
    return int(exact.null_count - unscaled.null_count)


def explode_legs(table: pa.Table) -> pa.Table:
    """Return a row for each leg: its fields in the place of the list, and `leg` counts from 0.

    An event without legs has no row.
    """
    legs = table.column(_LEGS).combine_chunks()
    array = legs if isinstance(legs, pa.Array) else pa.concat_arrays(legs.chunks)
    parents, items = pc.list_parent_indices(array), pc.list_flatten(array)
    owners = parents.to_numpy(zero_copy_only=False)
    firsts = np.searchsorted(owners, owners, side="left")
    numbers = pa.array(np.arange(owners.size) - firsts, pa.int32())
    columns: dict[str, Any] = {}
    for name in table.column_names:
        if name == _LEGS:
            columns["leg"] = numbers
            columns |= dict(zip(items.type.names, items.flatten(), strict=True))
        else:
            columns[name] = table.column(name).take(parents)
    return pa.table(columns)
