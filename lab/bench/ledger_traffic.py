"""Encoded events for the ledger's bench: bets and wins of many players. Pure.

A mix defines the share of trouble among them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from schemas.codec import encoder
from schemas.events import Amount, Attempt, Leg, Reference, WalletTransaction
from schemas.identity import event_id, fingerprint

DEPOSIT_MINOR: Final = 1_000_000_00
"""So much that no bet is ever refused."""

_BRAND: Final = "acme"
START_MS: Final = 1_790_000_000_000
_ATTEMPT_TOPIC: Final = "provider.hub88.raw.v1"
_GAMES: Final = 400
_RECENT: Final = 2_000
"""A retry, or a rollback, follows its bet within so many events."""

EncodedRecord = tuple[bytes, bytes]
"""Key and value of a record of the log."""


@dataclass(frozen=True)
class TrafficMix:
    """Composition of traffic; shares are of all events.

    `zipf` is the exponent of the distribution of players, 0 for one where all are alike.
    """

    name: str
    duplicates: float = 0.0
    rollbacks: float = 0.0
    zipf: float = 0.0


PLAIN: Final = TrafficMix("plain")
TROUBLED: Final = TrafficMix(
    "duplicates, rollbacks, Zipf", duplicates=0.05, rollbacks=0.02, zipf=1.0
)


class LedgerTraffic:
    """An endless casino: each round is a bet and its win; the same seed gives the same events."""

    def __init__(self, seed: int, players: int) -> None:
        self._random = random.Random(seed)
        self._players = [f"player-{number:07d}" for number in range(players)]
        self._encode = encoder(WalletTransaction)
        self._raw_offset = 0
        self._weights: dict[float, list[float]] = {}

    def deposits(self) -> Iterator[EncodedRecord]:
        """Yield one deposit for each player."""
        for player in self._players:
            legs = [Leg("DEPOSIT", Amount(DEPOSIT_MINOR, 2), "EUR")]
            yield self._encode_event("AUTHORISATION", self._id(), player, legs, provider="adyen")

    def play(self, mix: TrafficMix, events: int) -> list[EncodedRecord]:
        """Return `events` events of the mix."""
        out: list[EncodedRecord] = []
        recent: list[tuple[str, str, str]] = []  # bets: transaction, player, round
        players = iter(self._draw_players(mix, events))
        while len(out) < events:
            draw = self._random.random()
            if out and draw < mix.duplicates:
                out.append(out[-self._random.randint(1, min(len(out), _RECENT))])
            elif recent and draw < mix.duplicates + mix.rollbacks:
                bet, player, round_id = recent.pop(self._random.randrange(len(recent)))
                out.append(self._game("rollback", player, round_id, Leg("ROLLBACK"), bet))
            else:
                player, round_id = next(players), self._id()
                bet = self._id()
                minor = self._random.randint(10, 5_000)
                out.append(
                    self._game(
                        "bet", player, round_id, Leg("BET", Amount(minor, 2), "EUR"), tx_id=bet
                    )
                )
                won = Leg("WIN", Amount(self._random.randint(1, 2 * minor), 2), "EUR")
                out.append(self._game("win", player, round_id, won, bet))
                recent = (
                    [*recent[-_RECENT // 20 :], (bet, player, round_id)] if mix.rollbacks else []
                )
        return out[:events]

    def _draw_players(self, mix: TrafficMix, count: int) -> list[str]:
        if not mix.zipf:
            return self._random.choices(self._players, k=count)
        if mix.zipf not in self._weights:
            ranks = range(1, len(self._players) + 1)
            self._weights[mix.zipf] = list(accumulate(rank**-mix.zipf for rank in ranks))
        return self._random.choices(self._players, cum_weights=self._weights[mix.zipf], k=count)

    def _game(
        self,
        operation: str,
        player: str,
        round_id: str,
        leg: Leg,
        bet: str | None = None,
        tx_id: str | None = None,
    ) -> EncodedRecord:
        reference = Reference("bet", bet) if bet else None
        return self._encode_event(
            operation, tx_id or self._id(), player, [leg], round_id=round_id, reference=reference
        )

    def _id(self) -> str:
        text = f"{self._random.getrandbits(128):032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def _encode_event(
        self,
        operation: str,
        tx_id: str,
        player: str,
        legs: list[Leg],
        *,
        provider: str = "hub88",
        round_id: str | None = None,
        reference: Reference | None = None,
    ) -> EncodedRecord:
        self._raw_offset += 1
        offset, game = (
            self._raw_offset,
            f"clt-game-{self._raw_offset % _GAMES:03d}" if round_id else None,
        )
        at_ms = START_MS + offset // 10
        event = WalletTransaction(
            event_id(_BRAND, provider, operation, tx_id),
            _BRAND,
            provider,
            "1",
            "MT",
            operation,
            tx_id,
            Attempt(_ATTEMPT_TOPIC, offset % 8, offset),
            player,
            legs,
            reference,
            round_id,
            operation == "win",
            game,
            at_ms,
            "CONNECTOR",
            None,
            at_ms,
            at_ms + 2,
            fingerprint(player, legs, reference, round_id, game),
            1,
            "VALID",
            operation == "bet",
            None,
        )
        return player.encode(), self._encode(event)
