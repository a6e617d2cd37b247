"""What the peers of the pipeline decide: identity, balance, and the balance to publish.

As much as is needed to be compared with the ledger and no more: no double entries, no history of
answers, no limits. The events are ours, from our normaliser with signatures checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from schemas import codec
from schemas.events import Position, WalletBalance, WalletTransaction
from schemas.money import exponent_of, minor_units

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS peer_transaction (
    id text PRIMARY KEY, player text NOT NULL, currency text NOT NULL, delta bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS peer_balance (
    player text, currency text, available bigint NOT NULL, version bigint NOT NULL,
    PRIMARY KEY (player, currency)
)
"""
SELECT_TRANSACTIONS: Final = """
SELECT id, currency, delta FROM peer_transaction WHERE id = ANY(%s)
"""
SELECT_BALANCES: Final = """
SELECT player, currency, available, version FROM peer_balance WHERE player = ANY(%s)
ORDER BY player, currency FOR UPDATE
"""
INSERT_TRANSACTIONS: Final = """
INSERT INTO peer_transaction SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[])
"""
UPSERT_BALANCES: Final = """
INSERT INTO peer_balance SELECT * FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::bigint[])
ON CONFLICT (player, currency) DO UPDATE SET available = EXCLUDED.available,
    version = EXCLUDED.version
"""

_SIGNS: Final = {"BET": -1, "WIN": 1, "JACKPOT_WIN": 1, "PROMO_WIN": 1, "ADJUSTMENT": 1}

_encode = codec.encoder(WalletBalance)


class PeerRecord(msgspec.Struct, frozen=True, gc=False):
    """A record as another client gave it, in the shape that our normaliser reads."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Any


def identity_of(event: WalletTransaction, operation: str | None = None, tx_id: str = "") -> str:
    """Return the identity of an event, or of another transaction of its provider."""
    if operation is None:
        operation, tx_id = event.operation, event.provider_tx_id
    return f"{event.brand}|{event.provider}|{operation}|{tx_id}"


def identities_needed(events: Iterable[WalletTransaction]) -> list[str]:
    """Return the identities of the events, and of those that they refer to."""
    needed = set()
    for event in events:
        needed.add(identity_of(event))
        if event.reference is not None:
            needed.add(identity_of(event, event.reference.operation, event.reference.tx_id))
    return sorted(needed)


def players_of(events: Iterable[WalletTransaction]) -> list[str]:
    """Return the players whose balances the events may change, in order."""
    return sorted({event.player_id for event in events if event.player_id is not None})


@dataclass
class PeerBook:
    """What the tables hold of a batch, and what the batch adds to it."""

    transactions: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Currency and movement by identity."""
    balances: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """Available and version by player and currency."""
    added: list[tuple[str, str, str, int]] = field(default_factory=list)
    changed: set[tuple[str, str]] = field(default_factory=set)

    def fill(
        self, transactions: Iterable[Sequence[Any]], balances: Iterable[Sequence[Any]]
    ) -> None:
        """Take what `SELECT_TRANSACTIONS` and `SELECT_BALANCES` returned."""
        self.transactions = {row[0]: (row[1], row[2]) for row in transactions}
        self.balances = {(row[0], row[1]): (row[2], row[3]) for row in balances}

    def apply(self, event: WalletTransaction) -> tuple[bytes, bytes] | None:
        """Book an event if the balance allows it, and return the balance to publish.

        Returns None for an event that is booked already.
        """
        identity, player = identity_of(event), event.player_id or ""
        if identity in self.transactions:
            return None
        currency, delta = self._movement(event)
        available, version = self.balances.get((player, currency), (0, 0))
        is_bet = any(leg.kind == "BET" for leg in event.legs)
        if not is_bet or available + delta >= 0:
            available, version = available + delta, version + 1
            self.transactions[identity] = currency, delta
            self.balances[player, currency] = available, version
            self.added.append((identity, player, currency, delta))
            self.changed.add((player, currency))
        return encode_balance(event, player, currency, available, version)

    def _movement(self, event: WalletTransaction) -> tuple[str, int]:
        currency, delta = "", 0
        for leg in event.legs:
            currency = leg.currency or currency
            if leg.amount is not None and leg.currency is not None and not leg.is_free:
                minor = minor_units(leg.amount, leg.currency)
                delta += _SIGNS.get(leg.kind, 0) * minor
        if event.reference is not None and any(leg.kind == "ROLLBACK" for leg in event.legs):
            of = identity_of(event, event.reference.operation, event.reference.tx_id)
            currency, moved = self.transactions.get(of, (currency, 0))
            delta -= moved
        return currency, delta

    def transaction_columns(self) -> list[list[Any]]:
        """Return the arguments of `INSERT_TRANSACTIONS`."""
        return [list(column) for column in zip(*self.added, strict=True)]

    def balance_columns(self) -> list[list[Any]]:
        """Return the arguments of `UPSERT_BALANCES`."""
        rows = [(*key, *self.balances[key]) for key in sorted(self.changed)]
        return [list(column) for column in zip(*rows, strict=True)]


def encode_balance(
    event: WalletTransaction, player: str, currency: str, available: int, version: int
) -> tuple[bytes, bytes]:
    """Return key and value of a balance, in the schema that the ledger publishes."""
    attempt = event.attempt
    scale = exponent_of(currency) if currency else 0
    source = Position(attempt.topic, attempt.partition, attempt.offset)
    balance = WalletBalance(
        player, currency, scale, available, available, 0, 0, version, event.event_id, source
    )
    return f"{player}:{currency}".encode(), _encode(balance)
