"""Items of one message that their provider decides together, all or nothing.

A dialect says so by the same `group` in each of their drafts. A group stands or falls as a whole:
where the ledger could not book every item of it, none is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from schemas.errors import RejectCode, Rejected
from streams.providers.dialect import Draft, Item, UnreadableItem

GROUP_SIZE_MAX: Final = 100
"""Transactions of a group. The first one's record holds all of them, and a broker takes a million
bytes.
"""


def indexes_by_group(items: Sequence[Item]) -> dict[str, list[int]]:
    """Return the places of each group's drafts; a draft that is alone in its group is left out."""
    groups: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        if isinstance(item, Draft) and item.group is not None:
            groups.setdefault(item.group, []).append(index)
    return {name: indexes for name, indexes in groups.items() if len(indexes) > 1}


def reject_broken_groups(items: list[Item]) -> list[Item]:
    """Return the items with every draft rejected whose group cannot be decided as a whole.

    That is so where another item of the message is rejected, which may have been of any group;
    where the drafts are not of one player; where one transaction is there twice; and above
    `GROUP_SIZE_MAX`.
    """
    named = [isinstance(item, Draft) and item.group is not None for item in items]
    if not any(named):
        return items
    checked = list(items)
    unreadable = next((item for item in items if isinstance(item, Rejected)), None)
    if unreadable is not None:
        # Also a draft that is alone in its group: the unreadable item may have been beside it.
        return [
            _reject(item, unreadable) if isinstance(item, Draft) and is_named else item
            for item, is_named in zip(items, named, strict=True)
        ]
    for indexes in indexes_by_group(items).values():
        drafts = [item for item in (items[index] for index in indexes) if isinstance(item, Draft)]
        fault = _find_fault(drafts)
        if fault is not None:
            for index, draft in zip(indexes, drafts, strict=True):
                checked[index] = _reject(draft, fault)
    return checked


def _reject(draft: Draft, error: Rejected) -> UnreadableItem:
    detail = f"nothing of its group is booked, for one of it is unusable: {error.detail}"
    return UnreadableItem(error.reason, detail, draft.player_id)


def _find_fault(drafts: Sequence[Draft]) -> Rejected | None:
    if len(drafts) > GROUP_SIZE_MAX:
        detail = f"a group of {len(drafts)} transactions; {GROUP_SIZE_MAX} are allowed"
        return Rejected(RejectCode.TOO_LARGE, detail)
    players = {draft.player_id for draft in drafts}
    if None in players:
        return Rejected(RejectCode.MISSING_FIELD, "a transaction of a group names no player")
    if len(players) > 1:
        return Rejected(RejectCode.BAD_FIELD, "the transactions of a group are of several players")
    if len({(draft.operation, draft.provider_tx_id) for draft in drafts}) < len(drafts):
        return Rejected(RejectCode.BAD_FIELD, "a group holds one transaction twice")
    return None
