"""The events of a message that are decided together: each gets its group, the first all others."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from schemas.events import Group, GroupMember, WalletTransaction
from schemas.identity import group_id


def group_transactions(transactions: Sequence[WalletTransaction]) -> list[WalletTransaction]:
    """Return the transactions of one group, in their order, as their records hold them."""
    id_ = group_id(transaction.event_id for transaction in transactions)
    size = len(transactions)
    members = [_member_of(transaction) for transaction in transactions[1:]]
    return [
        replace(transaction, group=Group(id_, index, size, members if index == 0 else []))
        for index, transaction in enumerate(transactions)
    ]


def _member_of(transaction: WalletTransaction) -> GroupMember:
    return GroupMember(
        transaction.event_id,
        transaction.operation,
        transaction.provider_tx_id,
        transaction.attempt.record_index,
        transaction.legs,
        transaction.reference,
        transaction.round_id,
        transaction.round_closed,
        transaction.game_id,
        transaction.occurred_at,
        transaction.time_source,
        transaction.provider_at,
        transaction.fingerprint,
        transaction.signature,
        transaction.decision_required,
        transaction.cause,
        transaction.is_billable,
    )
