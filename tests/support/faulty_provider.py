"""A made-up provider whose adapter has faults that can be repaired, and its raw records."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import msgspec

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import Amount, Kind, Leg, Reference
from streams.providers.dialect import Dialect, Draft, Headers, Item, KeyMaterial, Reader
from streams.providers.registry import Dialects, by_provider

RAW_TOPIC = "provider.faulty.raw.v1"
PLAYERS = ("p-0", "p-1", "p-2", "p-3")


class Body(msgspec.Struct):
    op: str
    id: str
    player: str
    amount: int = 0
    of: str | None = None
    guest: str | None = None


@dataclass(frozen=True)
class Faulty(Dialect):
    """Amounts are cents. With `faults` it misreads wins, players and status messages, and rejects or loses facts."""

    provider: ClassVar[str] = "faulty"
    version: ClassVar[str] = "1"
    faults: frozenset[str] = field(default_factory=frozenset)

    def reader(self, material: KeyMaterial | None) -> Reader:
        del material
        return partial(self._read)

    def _read(self, record: RawRecord, headers: Headers) -> list[Item]:
        del headers
        body = msgspec.json.decode(record.value or b"", type=Body)
        minor, player = body.amount, body.player
        if body.op == "win" and "factor" in self.faults and minor > 5_000:
            minor //= 10
        if body.op == "win" and "guest" in self.faults and body.guest is not None:
            player = body.guest
        if "reject" in self.faults and body.op == "win" and minor == 7_000:
            raise Rejected(RejectCode.BAD_AMOUNT, "a planted fault")
        if "lose" in self.faults and (body.op == "back" or (body.op == "win" and minor == 300)):
            return []
        if "lose-bets" in self.faults and body.op == "bet" and minor % 3 == 0:
            return []
        kinds = {"bet": Kind.BET, "win": Kind.WIN, "back": Kind.ROLLBACK, "gift": Kind.PROMO_WIN}
        if body.op == "status" and "status" not in self.faults:
            legs = [Leg(Kind.INFORMATIONAL.value)]
        elif body.op == "back":
            legs = [Leg(Kind.ROLLBACK.value)]
        else:
            kind = kinds.get(body.op, Kind.WIN)
            legs = [Leg(kind.value, Amount(minor, 2), "EUR")]
        reference = None if body.of is None else Reference("bet", body.of)
        return [
            Draft(
                body.op,
                body.id,
                legs,
                player,
                reference,
                None,
                False,
                None,
                None,
                body.op == "bet",
                "NOT_CHECKED",
            )
        ]


def dialects(*faults: str) -> Dialects:
    """The provider's adapter, with faults or repaired."""
    return by_provider([Faulty(faults=frozenset(faults))])


def make_bodies(seed: object, count: int) -> list[tuple[str, bytes]]:
    """Player and body of raw records: gifts, bets, wins of bets, rollbacks, status messages."""
    rng = random.Random(f"{seed}")
    bodies: list[dict[str, Any]] = [
        {"op": "gift", "id": f"g{player}", "player": player, "amount": 100_000}
        for player in PLAYERS
    ]
    bets: dict[str, list[str]] = {player: [] for player in PLAYERS}
    for number in range(count):
        player = rng.choice(PLAYERS)
        one: dict[str, Any] = {
            "op": "bet",
            "id": f"t{number}",
            "player": player,
            "amount": rng.randrange(1, 900),
        }
        choice = rng.random()
        if choice < 0.3 and bets[player]:
            one |= {
                "op": "win",
                "amount": rng.choice([300, 7_000, 9_990]),
                "of": rng.choice(bets[player]),
            }
            if rng.random() < 0.3:
                one["guest"] = rng.choice(PLAYERS)
        elif choice < 0.4 and bets[player]:
            one |= {"op": "back", "of": bets[player].pop(rng.randrange(len(bets[player])))}
        elif choice < 0.5:
            one |= {"op": "status", "amount": 250}
        else:
            bets[player].append(one["id"])
        bodies.append(one)
    return [(one["player"], json.dumps(one).encode()) for one in bodies]
