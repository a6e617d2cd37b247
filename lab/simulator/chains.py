"""The transfers of each wallet, one after the other: what they add up to, and which events left it
below zero.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby

from lab.simulator.tables import Row, Server


def chains_of(server: Server) -> dict[tuple[str, str], list[Row]]:
    """By player and currency the transfers of a wallet, in the order of their versions."""
    chains: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in server.tables["transfer"].rows.values():
        if row["player_id"] is not None:
            chains[row["player_id"], row["currency"]].append(row)
    return {key: sorted(rows, key=lambda row: row["version"]) for key, rows in chains.items()}


def gaps_of(server: Server) -> Iterator[str]:
    """Versions with gaps, and rows that are not the one before them and what they moved."""
    for key, rows in chains_of(server).items():
        balances = {"cash": 0, "bonus": 0, "held": 0}
        for number, row in enumerate(rows, 1):
            for account, sign in ((row["debit"], -1), (row["credit"], 1)):
                if account.startswith("player:"):
                    balances[account.rsplit(":", 1)[1]] += sign * row["amount_minor"]
            after = {purse: row[f"{purse}_minor"] for purse in balances}
            if row["version"] != number or after != balances:
                yield f"wallet {key} v{row['version']}: it should be v{number} with {balances}, the row says {after}"
        wallet = server.tables["wallet"].rows.get(key)
        if wallet is None or wallet["version"] != len(rows):
            yield f"wallet {key} has {len(rows)} transfers: {wallet}"


def debts_of(chain: Sequence[Row]) -> Iterator[str]:
    """The events that left a wallet's cash or bonus below zero, and lower than it was before them."""
    before = {"cash_minor": 0, "bonus_minor": 0}
    for (event_id, _), rows in groupby(chain, key=lambda row: (row["event_id"], row["decision"])):
        *_, after = rows
        if any(after[purse] < min(was, 0) for purse, was in before.items()):
            yield event_id
        before = {purse: after[purse] for purse in before}
