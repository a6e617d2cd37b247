"""Connection to the ledger's database, with its own remedies and retriable conflicts."""

from __future__ import annotations

from runtime.postgres import database
from runtime.postgres.database import LockTimeout

__all__ = ["LedgerDatabase", "LockTimeout"]


class LedgerDatabase(database.Database):
    """One connection to the ledger's tables, used for one transaction after the other.

    `runtime.postgres.database` says what it raises.
    """

    owner = "the ledger's"
    remedy = "run `pitboss ledger migrate up`"
    retriable_constraints = frozenset({"entry_pkey"})
    """Another partition's worker may just have booked the same identity: the next try finds it."""
