"""How many dead letters one record may have: what a stranger sends must not grow on its way to the
disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from schemas.errors import RejectCode
from streams.normalise.mapping.normaliser import RejectedItem

ITEM_LETTERS_MAX: Final = 16
"""More items than providers put into one notice; and less than a person wants to look at one by
one.
"""

_INDEXES_SHOWN: Final = 5


def cap_rejections(
    rejected: Sequence[RejectedItem],
) -> tuple[RejectedItem | None, Sequence[RejectedItem]]:
    """What speaks for the whole record, and which of its unusable items speak for themselves.

    While they are few, each speaks for itself. Of more, one for the record counts them, under the
    most frequent code; and the first of each code stays, so that the record is found by any of
    them. A megabyte can hold 33,330 items, and nobody has to sign it to have them rejected.
    """
    if len(rejected) <= ITEM_LETTERS_MAX:
        return None, rejected
    by_code: dict[RejectCode, list[RejectedItem]] = {}
    for item in rejected:
        by_code.setdefault(item.code, []).append(item)
    most = max(by_code, key=lambda code: len(by_code[code]))
    told = "; ".join(
        f"{len(items):,} {code} ({_indexes(items)})" for code, items in by_code.items()
    )
    detail = f"{len(rejected):,} items cannot be used, too many for a dead letter each: {told}"
    return RejectedItem(most, detail, None, None), [items[0] for items in by_code.values()]


def _indexes(items: Sequence[RejectedItem]) -> str:
    shown = ", ".join(str(item.record_index) for item in items[:_INDEXES_SHOWN])
    more = "" if len(items) <= _INDEXES_SHOWN else ", …"
    return f"item{'s' if len(items) > 1 else ''} {shown}{more}"
