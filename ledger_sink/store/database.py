"""The ledger's database, and what is peculiar to it."""

from __future__ import annotations

from runtime.postgres import database
from runtime.postgres.database import LockTimeout

__all__ = ["LedgerDatabase", "LockTimeout"]


class LedgerDatabase(database.Database):
    """One transaction after the other over one connection; see `runtime.postgres.database` for what
    it raises.
    """

    owner = "the ledger's"
    remedy = "run `pitboss ledger migrate up`"
    retriable_constraints = frozenset({"entry_pkey"})
    """Another partition's worker may just have booked the same identity: at the next try it is a
    repeat.
    """
