"""Open rounds, and what the sweeper proposes about those that are too old.

100HP leaves it to the wallet to roll a bet back after two weeks without a deposit or a rollback
(Operator API 2.7.0). A proposal is an event of the log like any other: the ledger decides it in the
log's order, and takes back no bet that a win has named meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Final

import msgspec

from ledger_sink.rules.references import SWEEP
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.statements import statements
from schemas.events import (
    Attempt,
    Cause,
    Kind,
    Leg,
    Reference,
    SignatureVerdict,
    TimeSource,
    WalletTransaction,
)
from schemas.identity import FINGERPRINT_VERSION, event_id, fingerprint
from schemas.policies import DEFAULT_POLICY, LedgerPolicy

ROLLBACK_OPERATION: Final = "sweep.rollback"
CLOSE_OPERATION: Final = "sweep.close"
_SQL = statements("rounds")


class OpenBet(msgspec.Struct, frozen=True):
    """A booked bet that nothing has ended.

    `staked_minor` is what it took; `partition` and `source_offset` are its position in the log.
    """

    event_id: str
    brand: str
    provider: str
    provider_version: str
    region: str
    operation: str
    provider_tx_id: str
    player_id: str
    round_id: str | None
    game_id: str | None
    currency: str | None
    staked_minor: int
    occurred_at_ms: int
    partition: int
    source_offset: int


class OpenRound(msgspec.Struct, frozen=True):
    """A player's open bets of one round; a bet without a round is one of its own."""

    bets: tuple[OpenBet, ...]

    @property
    def opened_at_ms(self) -> int:
        """Time of the first of them."""
        return min(bet.occurred_at_ms for bet in self.bets)

    @property
    def staked_minor(self) -> int:
        """Sum of what they took."""
        return sum(bet.staked_minor for bet in self.bets)


async def read_open_rounds(
    database: LedgerDatabase,
    until_ms: int,
    provider: str | None = None,
    player_id: str | None = None,
) -> list[OpenRound]:
    """Return rounds with an open bet up to `until_ms`, oldest first.

    It is a report: all entries are read.
    """
    columns = {"until_ms": until_ms, "provider": provider, "player": player_id}
    async with database.transaction() as connection:
        await connection.execute("SET LOCAL statement_timeout = 0")
        cursor = await connection.execute(_SQL["open_bets"], columns)
        return group_into_rounds(OpenBet(*row) for row in await cursor.fetchall())


def group_into_rounds(bets: Iterable[OpenBet]) -> list[OpenRound]:
    """Return the bets by round, oldest round first."""

    def key(bet: OpenBet) -> tuple[str, ...]:
        alone = "" if bet.round_id else bet.event_id
        return (bet.brand, bet.provider, bet.player_id, bet.round_id or "", alone)

    rounds = [OpenRound(tuple(group)) for _, group in groupby(sorted(bets, key=key), key)]
    return sorted(rounds, key=lambda one: (one.opened_at_ms, one.bets[0].event_id))


def overdue_action(
    open_round: OpenRound, policies: Mapping[str, LedgerPolicy], now_ms: int
) -> str | None:
    """Return ROLLBACK or CLOSE if the provider's policy says that the round is too old, or None."""
    policy = policies.get(open_round.bets[0].provider, DEFAULT_POLICY)
    age_max_ms = policy.open_round_max_age_ms
    if age_max_ms is None or now_ms - open_round.opened_at_ms < age_max_ms:
        return None
    return policy.open_round_action


def propose_endings(
    rounds: Iterable[OpenRound],
    policies: Mapping[str, LedgerPolicy],
    now_ms: int,
    actor: str,
    log_topic: str,
) -> list[WalletTransaction]:
    """Return the events that end what is too old: one for each bet to roll back or round to close.

    Another sweep of a round makes the same events under the same ids, so two sweepers do no harm.
    """
    events: list[WalletTransaction] = []
    for open_round in rounds:
        action = overdue_action(open_round, policies, now_ms)
        if action is None:
            continue
        bets = open_round.bets if action == "ROLLBACK" else open_round.bets[:1]
        events += [_proposal(bet, action, now_ms, actor, log_topic) for bet in bets]
    return events


def _proposal(
    bet: OpenBet, action: str, now_ms: int, actor: str, log_topic: str
) -> WalletTransaction:
    is_rollback = action == "ROLLBACK"
    operation = ROLLBACK_OPERATION if is_rollback else CLOSE_OPERATION
    # Some providers' ids are unique only together with the operation (100HP, Play'n GO).
    tx_id = f"{bet.operation}:{bet.provider_tx_id}"
    legs = [Leg((Kind.ROLLBACK if is_rollback else Kind.ROUND_CLOSE).value)]
    reference = Reference(bet.operation, bet.provider_tx_id) if is_rollback else None
    age_h = (now_ms - bet.occurred_at_ms) // 3_600_000
    return WalletTransaction(
        event_id=event_id(bet.brand, bet.provider, operation, tx_id),
        brand=bet.brand,
        provider=bet.provider,
        provider_version=bet.provider_version,
        region=bet.region,
        operation=operation,
        provider_tx_id=tx_id,
        # It comes from no raw record: the attempt is the bet's position.
        attempt=Attempt(log_topic, bet.partition, bet.source_offset, 0),
        player_id=bet.player_id,
        legs=legs,
        reference=reference,
        round_id=bet.round_id,
        round_closed=not is_rollback,
        game_id=bet.game_id,
        occurred_at=now_ms,
        time_source=TimeSource.CONNECTOR.value,
        provider_at=None,
        received_at=now_ms,
        appended_at=now_ms,
        fingerprint=fingerprint(bet.player_id, legs, reference, bet.round_id, bet.game_id),
        fingerprint_version=FINGERPRINT_VERSION,
        signature=SignatureVerdict.NOT_CHECKED.value,
        decision_required=False,
        cause=Cause(SWEEP, bet.round_id or bet.event_id, actor, f"open for {age_h} hours"),
    )
