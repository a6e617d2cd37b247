"""Transaction ids that are valid under one operation only, for signatures that cover no operation.

Where a provider's policy names such operations, an event whose id is known under another of them is
the same signed message under another path, or the id is not the provider's: it moves nothing.
"""

from __future__ import annotations

from typing import Final

from ledger_sink.rules.amounts import Verdict
from ledger_sink.rules.open_posting import Posting
from ledger_sink.rules.references import select_named_wallet
from schemas.events import Outcome, WalletTransaction
from schemas.identity import event_id
from schemas.policies import LedgerPolicy

ID_OF_OTHER_OPERATION: Final = "ID_OF_OTHER_OPERATION"
"""The reason of each such event; it raises a risk signal."""


def twin_ids(event: WalletTransaction, policy: LedgerPolicy) -> list[str]:
    """Return the ids that an event would have under the operations that exclude its own."""
    operations, own = policy.exclusive_operations, event.operation
    if own not in operations:
        return []
    return [
        event_id(event.brand, event.provider, operation, event.provider_tx_id)
        for operation in operations
        if operation != own
    ]


def twin_refusal(posting: Posting) -> Verdict | None:
    """Return why an event is refused whose id is known under another operation; else None.

    What was itself refused for this reason makes no id known: it must not stop the real event.
    """
    if not posting.policy.exclusive_operations:
        return None
    event, entries = posting.event, posting.book.entries
    for twin_id in twin_ids(event, posting.policy):
        if any(entry.answer.reason != ID_OF_OTHER_OPERATION for entry in entries.get(twin_id, ())):
            select_named_wallet(posting)
            outcome = Outcome.REFUSED_REFERENCE if event.decision_required else Outcome.UNRESOLVED
            return outcome.value, ID_OF_OTHER_OPERATION
    return None
