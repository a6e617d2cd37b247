"""Canonical records of one player's life, as the normaliser would write them. Seeded and pure."""

from __future__ import annotations

from random import Random
from typing import Any, Final

import msgspec

from schemas.events import (
    Amount,
    Attempt,
    Cause,
    GameResult,
    Leg,
    PlayerEvent,
    Position,
    Reference,
    RiskSignal,
    WalletTransaction,
)
from schemas.identity import event_id, fingerprint, signal_id
from schemas.money import exponent_of
from schemas.topics import GAME_RESULTS, PLAYER_EVENTS, SIGNALS, TRANSACTIONS

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000

CURRENCIES: Final = {
    "MT": "EUR",
    "GB": "GBP",
    "DE": "EUR",
    "SE": "SEK",
    "ES": "EUR",
    "CA-ON": "CAD",
    "US-NJ": "USD",
}


GEOFENCED: Final = ("CA-ON", "US-NJ")
"""Regions where a bet needs a location."""


class Sent(msgspec.Struct, frozen=True):
    """A record and when it is appended; `money` is what it puts at stake as part of a case."""

    append_ms: int
    topic: str
    key: str
    record: Any
    case: int | None = None
    money: int = 0


class Stream:
    """Everything that is sent in one run. `case` marks what is sent until it is changed."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(f"fraud {seed}")
        self.tag = f"{self.rng.getrandbits(24):06x}"
        self.sent: list[Sent] = []
        self.case: int | None = None
        self._number = 0

    def next_name(self, prefix: str) -> str:
        """Return a name that this run has not used."""
        self._number += 1
        return f"{prefix}-{self.tag}-{self._number}"

    def append(
        self, topic: str, key: str, record: Any, *, delay_ms: int | None = None, money: int = 0
    ) -> None:
        """Send a record; without a delay it takes up to two seconds, as records do."""
        delay_ms = self.rng.randrange(50, 2_000) if delay_ms is None else delay_ms
        self.sent.append(Sent(record.occurred_at + delay_ms, topic, key, record, self.case, money))

    def in_order(self) -> list[Sent]:
        """Return everything in the order of appending."""
        return sorted(self.sent, key=lambda sent: sent.append_ms)


class PlayerStory:
    """One player; every method sends records. Amounts are minor units of the player's currency."""

    def __init__(
        self, stream: Stream, region: str = "MT", *, brand: str = "aurora", currency: str = ""
    ) -> None:
        self.stream = stream
        self.player_id = stream.next_name("p")
        self.region = region
        self.brand = brand
        self.currency = currency or CURRENCIES[region]
        self.provider = "hub88"

    def leg(self, kind: str, minor: int | None, currency: str = "", **more: Any) -> Leg:
        """Return a leg of an amount."""
        currency = currency or self.currency
        amount = None if minor is None else Amount(minor, exponent_of(currency))
        return Leg(kind, amount, currency, **more)

    def send(
        self,
        at_ms: int,
        operation: str,
        legs: list[Leg],
        *,
        provider: str = "",
        tx_id: str = "",
        delay_ms: int | None = None,
        money: int = 0,
        **fields: Any,
    ) -> WalletTransaction:
        """Send a transaction; `fields` are those of the record that are not as usual."""
        provider = provider or self.provider
        tx_id = tx_id or self.stream.next_name("tx")
        usual = {"reference": None, "round_id": None, "game_id": None, "round_closed": False}
        fields = {**usual, "signature": "VALID", "cause": None, **fields}
        content = (fields["reference"], fields["round_id"], fields["game_id"])
        record = WalletTransaction(
            event_id=event_id(self.brand, provider, operation, tx_id),
            brand=self.brand,
            provider=provider,
            provider_version="v1",
            region=self.region,
            operation=operation,
            provider_tx_id=tx_id,
            attempt=Attempt(f"provider.{provider}.raw.v1", 0, 0),
            player_id=self.player_id,
            legs=legs,
            occurred_at=at_ms,
            time_source="PROVIDER",
            provider_at=at_ms,
            received_at=at_ms,
            appended_at=at_ms,
            fingerprint=fingerprint(self.player_id, legs, *content),
            fingerprint_version=1,
            decision_required=operation == "bet",
            **fields,
        )
        self.stream.append(TRANSACTIONS, self.player_id, record, delay_ms=delay_ms, money=money)
        return record

    def bet(
        self, at_ms: int, minor: int, *, game: str = "table-1", round_id: str = "", **more: Any
    ) -> WalletTransaction:
        """Place a bet."""
        round_id = round_id or self.stream.next_name("round")
        free = more.pop("is_free", False)
        leg = self.leg("BET", minor, is_free=free)
        return self.send(at_ms, "bet", [leg], round_id=round_id, game_id=game, **more)

    def win(
        self, at_ms: int, minor: int, round_id: str, *, kind: str = "WIN", **more: Any
    ) -> WalletTransaction:
        """Win in a round."""
        words = {name: more.pop(name) for name in ("is_free", "campaign_id") if name in more}
        leg = self.leg(kind, minor, **words)
        return self.send(at_ms, "win", [leg], round_id=round_id, game_id="table-1", **more)

    def play(self, at_ms: int, rounds: int, minor: int, every_ms: int = 20_000) -> int:
        """Play rounds one after the other and return the time after the last."""
        for _ in range(rounds):
            if self.region in GEOFENCED:
                self.report(at_ms - 2_000, "LOCATED", jurisdiction=self.region)
            bet = self.bet(at_ms, minor)
            assert bet.round_id is not None
            if self.stream.rng.random() < 0.4:
                self.win(at_ms + 3_000, minor * 2, bet.round_id)
            at_ms += every_ms + self.stream.rng.randrange(-3_000, 3_000)
        return at_ms

    def open_deposit(self, at_ms: int, minor: int, **more: Any) -> str:
        """Open a deposit at the cashier and return its reference."""
        leg = self.leg("INFORMATIONAL", minor)
        record = self.send(at_ms, "deposit.opened", [leg], provider="house", **more)
        return record.provider_tx_id

    def deposit(self, at_ms: int, minor: int, **more: Any) -> None:
        """Deposit as it should be: opened, and confirmed by the payment provider."""
        money = more.pop("money", 0)
        reference = self.open_deposit(at_ms, minor)
        self.confirm(at_ms + 5_000, minor, reference, money=money, **more)

    def confirm(
        self, at_ms: int, minor: int, reference: str | None, **more: Any
    ) -> WalletTransaction:
        """Send a payment provider's notice about an opened deposit."""
        currency, provider = more.pop("currency", ""), more.pop("provider", "adyen")
        return self.send(
            at_ms,
            "AUTHORISATION",
            [self.leg("DEPOSIT", minor, currency)],
            provider=provider,
            reference=None if reference is None else Reference("deposit.opened", reference),
            **more,
        )

    def withdraw(self, at_ms: int, minor: int, **more: Any) -> WalletTransaction:
        """Ask for a withdrawal."""
        leg = self.leg("WITHDRAWAL", minor)
        return self.send(at_ms, "withdrawal.requested", [leg], provider="house", **more)

    def bonus(self, at_ms: int, kind: str, minor: int, campaign: str, **more: Any) -> None:
        """Grant, release or forfeit a bonus."""
        leg = self.leg(kind, minor, campaign_id=campaign)
        self.send(at_ms, kind.lower().replace("_", "."), [leg], provider="house", **more)

    def set_state(self, at_ms: int, operation: str, cause: str, **more: Any) -> None:
        """Block, release or limit the player."""
        minor = more.pop("minor", None)
        leg = Leg("PLAYER_STATE") if minor is None else self.leg("PLAYER_STATE", minor)
        why = Cause(cause, self.stream.next_name("cause"), "compliance", "register")
        self.send(at_ms, operation, [leg], provider="house", cause=why, **more)

    def report(self, at_ms: int, fact: str, delay_ms: int | None = None, **facts: str) -> None:
        """Send a player event."""
        number = self.stream.next_name("fact")
        record = PlayerEvent(
            event_id=event_id(self.brand, "house", fact, number),
            brand=self.brand,
            provider="house",
            provider_version="1",
            region=self.region,
            operation=fact,
            provider_event_id=number,
            attempt=Attempt("provider.house.raw.v1", 0, 0),
            player_id=self.player_id,
            type=fact,
            attributes=facts,
            occurred_at=at_ms,
            time_source="PROVIDER",
            provider_at=at_ms,
            received_at=at_ms,
            appended_at=at_ms,
            signature="VALID",
        )
        self.stream.append(PLAYER_EVENTS, self.player_id, record, delay_ms=delay_ms)


def send_signal(
    stream: Stream, at_ms: int, kind: str, provider: str, player_id: str | None = None
) -> RiskSignal:
    """Send what the normaliser says about a record's signature, under the provider as the key."""
    source = Position(f"provider.{provider}.raw.v1", 0, len(stream.sent))
    record = RiskSignal(
        signal_id=signal_id(kind, source, None),
        kind=kind,
        provider=provider,
        brand="aurora",
        source=source,
        record_index=None,
        player_id=player_id,
        occurred_at=at_ms,
        attributes={"detail": "the signature is wrong", "connector": "c-1"},
    )
    stream.append(SIGNALS, provider, record)
    return record


def send_result(
    stream: Stream, result: GameResult, *, delay_ms: int | None = None, money: int = 0
) -> None:
    """Send a game's result, under the game as the key."""
    stream.append(GAME_RESULTS, result.game_id, result, delay_ms=delay_ms, money=money)
