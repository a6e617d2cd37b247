"""Raw records after an adapter's repair: what they mean now, and the corrections that follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ledger_sink.queries.people import read_player
from ledger_sink.rules.journal import Wallet
from ledger_sink.store.database import LedgerDatabase
from pitboss.ops.dead_letters import read_before_rebind
from pitboss.ops.periods import format_time
from pitboss.settings import Runtime
from replay.log.blocks import LogSource
from replay.raw.comparison import (
    RawComparison,
    RawPlace,
    StoredRecord,
    compare_period,
    read_players,
)
from replay.raw.corrections import AdapterChanges, Correction, PlayerCorrections, correct_players
from runtime.postgres.roles import Role
from schemas.errors import UsageError
from schemas.events import WalletTransaction
from schemas.money import exponent_of, format_minor
from schemas.topics import TRANSACTIONS, UNRESOLVED, raw_topic
from streams.normalise.mapping.brands import BrandsByProvider
from streams.normalise.mapping.normaliser import Normaliser
from streams.normalise.mapping.renormalise import EventComparison
from streams.providers.keyring import Keyring
from streams.providers.registry import DIALECTS, Dialects, policies


class RawReplay(msgspec.Struct, frozen=True):
    """What the raw records of a period mean now, and what follows from it."""

    provider: str
    records: int
    unreadable: int
    events: int
    rejected: int
    differences: list[EventComparison]
    missing: list[WalletTransaction]
    """Events that no adjustment may stand for: their records are appended again, to be booked under
    their own identity."""
    players: list[PlayerCorrections]

    def corrections(self) -> list[Correction]:
        """Return the corrections of all players that are not proposed yet."""
        return [one for player in self.players for one in player.corrections if not one.is_proposed]


async def replay_raw(
    runtime: Runtime,
    source: LogSource,
    provider: str,
    period: tuple[int, int],
    *,
    keyring: Keyring,
    brands: BrandsByProvider,
    dialects: Dialects = DIALECTS,
    begin: Callable[[str], None] = lambda _: None,
) -> tuple[RawReplay, dict[RawPlace, StoredRecord]]:
    """Compare the raw records of a period with the log, and work out the corrections.

    Returns also the records behind the differences, by their place. Raises LogGap where raw records
    or the log from its beginning are neither on the broker nor in the archive, UsageError,
    Unavailable.
    """
    await _check_places(runtime, runtime.topic(raw_topic(provider)), period[0])
    begin("reading the raw records")
    normaliser = Normaliser(dialects, keyring, brands=brands)
    log = runtime.topic(TRANSACTIONS)
    topics = (log, runtime.topic(UNRESOLVED))
    compared = compare_period(
        source, normaliser, runtime.topic(raw_topic(provider)), topics, *period
    )
    changes = AdapterChanges(compared.found, compared.known)
    players: Sequence[PlayerCorrections] = ()
    if changes.players:
        begin("deciding the events of the players concerned again")
        events, _ = read_players(source, log, changes.players)
        live = await _read_wallets(runtime, changes.players)
        players = correct_players(events, changes, live, policies(dialects))
    return _result(provider, compared, changes, players), compared.originals


async def _check_places(runtime: Runtime, topic: str, since_ms: int) -> None:
    """Raise UsageError for a period before a rebind whose raw offsets are others than events name.

    Every event of it would seem to be missing, and another one to be there without a record.
    """
    earlier = await read_before_rebind(runtime)
    if earlier is None or since_ms >= earlier.bound_ms:
        return
    if changed := sorted(name for name in earlier.changed if name.rpartition("-")[0] == topic):
        raise UsageError(
            f"the records of {', '.join(changed)} have other offsets since the ledger was bound to"
            f" another log ({format_time(earlier.bound_ms)}), so they cannot be compared with the"
            " events of before: begin at that time"
        )


def _result(
    provider: str,
    compared: RawComparison,
    changes: AdapterChanges,
    players: Sequence[PlayerCorrections],
) -> RawReplay:
    return RawReplay(
        provider=provider,
        records=compared.records,
        unreadable=compared.unreadable,
        events=compared.events,
        rejected=compared.rejected,
        differences=compared.found,
        missing=changes.missing,
        players=[one for one in players if one.corrections or one.unproposed or one.unexplained],
    )


async def _read_wallets(runtime: Runtime, players: set[str]) -> dict[str, list[Wallet]]:
    database = LedgerDatabase(runtime.database_url, "pitboss.raw_replay", role=Role.READER)
    try:
        return {
            player: [one for one in (await read_player(database, player)).wallets if one.version]
            for player in sorted(players)
        }
    finally:
        await database.close()


def proposal_event(correction: Correction, actor: str, reason: str) -> dict[str, Any]:
    """Return the house event that proposes a correction to a second person."""
    amount = format_minor(correction.amount_minor, exponent_of(correction.currency))
    return {
        "operation": "adjustment.proposed",
        "id": correction.id,
        "player_id": correction.player_id,
        "amount": amount,
        "currency": correction.currency,
        "actor": actor,
        "reason": reason,
    }
