"""What a provider's dialect tells the ledger: policy as data, so that no provider's name stands in a posting rule."""

from __future__ import annotations

import msgspec


class LedgerPolicy(msgspec.Struct, frozen=True):
    """How the ledger treats one provider's events where providers differ.

    `refused_id_reusable`: a new attempt under the id of a refused bet is decided anew (Microgaming sends a bet that
    was refused for funds again under its actionid with another amount); otherwise the refusal stands.
    """

    refused_id_reusable: bool = False


DEFAULT_POLICY = LedgerPolicy()
