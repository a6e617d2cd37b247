"""The ledger's rows as values, which a group reads, decides and writes. Times are epoch ms."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

import msgspec

from schemas.events import Attempt

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

Action = Literal[
    "REVERSED",
    "CANCELLED",
    "PAID",
    "REFUSED",
    "APPROVED",
    "SETTLED",
    "ASSIGNED",
    "RETURNED",
    "ANSWERED",
    "QUARANTINED",
]
"""How an event is closed. ASSIGNED, RETURNED and ANSWERED are the acts of a person.

SETTLED is not an end: a win has named the bet, and its provider's policy says whether a rollback
may still come.
"""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The answer to an attempt: the outcome, the wallet right after the decision, and its time.

    `decided_at` is the time in the log of the event that was decided, epoch ms.
    """

    outcome: str
    reason: str
    currency: str | None = None
    available_minor: int | None = None
    version: int | None = None
    decided_at: int | None = None


class Transfer(msgspec.Struct, frozen=True, gc=False):
    """One movement.

    `version` and the balances after it are the wallet's; None between house accounts.
    """

    player_id: str | None
    currency: str
    version: int | None
    debit: str
    credit: str
    amount_minor: int
    cash_minor: int | None
    bonus_minor: int | None
    held_minor: int | None


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A decided event, as far as later events need it.

    `group_id` is that of the events that it was decided with, None where it was alone.
    `contribution_rest` is what it contributed to jackpots less what was moved for it: a decimal
    text in minor units, None for zero.
    """

    event_id: str
    decision: int
    player_id: str | None
    fingerprint: str
    attempt: Attempt
    answer: Answer
    transfers: int
    group_id: str | None = None
    contribution_rest: str | None = None

    @property
    def first_version(self) -> int:
        """The wallet version of its first transfer; meaningless without one."""
        assert self.answer.version is not None
        return self.answer.version - self.transfers + 1


class Closing(msgspec.Struct, frozen=True, gc=False):
    """The end of an event: it was reversed, paid out or refused, possibly in advance."""

    event_id: str
    player_id: str
    action: Action
    by_event_id: str


WalletSnapshot = tuple[int, int, int, int, str, int, int, str]
"""A wallet's cash, bonus and held, version, the event and position that moved it last, its brand.
"""


class Wallet(msgspec.Struct, gc=False):
    """A player's money in one currency, in minor units; version 0 means nothing has moved yet."""

    player_id: str
    currency: str
    scale: int
    cash_minor: int = 0
    bonus_minor: int = 0
    held_minor: int = 0
    version: int = 0
    event_id: str = ""
    partition: int = 0
    source_offset: int = 0
    brand: str = ""
    """The brand of the event that moved it first; empty before that."""

    @property
    def available_minor(self) -> int:
        """Money that may be bet."""
        return self.cash_minor + self.bonus_minor

    def snapshot(self) -> WalletSnapshot:
        """Return everything that a movement changes."""
        return (
            self.cash_minor,
            self.bonus_minor,
            self.held_minor,
            self.version,
            self.event_id,
            self.partition,
            self.source_offset,
            self.brand,
        )

    def restore(self, snapshot: WalletSnapshot) -> None:
        """Return to the state of a snapshot."""
        self.cash_minor, self.bonus_minor, self.held_minor, self.version = snapshot[:4]
        self.event_id, self.partition, self.source_offset, self.brand = snapshot[4:]


class PlayerState(msgspec.Struct, frozen=True, gc=False):
    """A player's state apart from money, as set by events of the log.

    Each value of `standings` and `limits` ends with its time.

    - `standings`: by source (kyc, alert, operator), BLOCKED, HELD or FREE.
    - `limits`: by currency, the largest single bet in minor units, or None.
    - `wagering`: by currency, what is still to be bet before bonus money becomes cash, in minor
      units, and the wallet version that it began at; 0 left is a requirement that was met.
    - `reversals`: by `payment's event id:currency`, what was taken from the payment and not given
      back: from the player's money, and what waits in suspense. It has no time.
    - `fractions`: by `provider:currency`, what the player's jackpot contributions sum to beyond
      what was moved for them, as decimal text of minor units.
    """

    player_id: str
    standings: Mapping[str, tuple[str, int]] = _NOTHING
    limits: Mapping[str, tuple[int | None, int]] = _NOTHING
    wagering: Mapping[str, tuple[int, int]] = _NOTHING
    event_id: str = ""
    fractions: Mapping[str, str] = _NOTHING
    reversals: Mapping[str, tuple[int, int]] = _NOTHING

    @property
    def is_blocked(self) -> bool:
        """Whether any source stops both bets and withdrawals."""
        return any(level == BLOCKED for level, _ in self.standings.values())

    @property
    def is_held(self) -> bool:
        """Whether any source stops withdrawals."""
        return any(level != FREE for level, _ in self.standings.values())


class Proposal(msgspec.Struct, frozen=True, gc=False):
    """An act that waits for a second operator; `amount_minor` has a sign.

    `player_id` is empty where no player is concerned. `act` is ADJUST, ASSIGN, RETURN or LIMIT;
    `item_id` the event whose money an ASSIGN or RETURN moves.
    """

    event_id: str
    player_id: str
    currency: str
    amount_minor: int
    actor: str
    reason: str
    brand: str
    id: str
    occurred_at_ms: int
    act: str = "ADJUST"
    item_id: str | None = None


class OperatorLimit(msgspec.Struct, frozen=True, gc=False):
    """The most that one operator may move alone in a currency, and the event that set it."""

    currency: str
    amount_minor: int
    event_id: str


class OpenItem(msgspec.Struct, frozen=True, gc=False):
    """A decision that waits for a person: UNRESOLVED, and neither answered nor decided again.

    `amount_minor` is what suspense holds for it (below zero: what it is owed) if `in_suspense`,
    else what the event is about, None where that is not known. `opened_at_ms` is its time in the
    log.
    """

    event_id: str
    decision: int
    provider: str
    player_id: str | None
    currency: str | None
    amount_minor: int | None
    in_suspense: bool
    opened_at_ms: int


class Quarantine(msgspec.Struct, frozen=True, gc=False):
    """The step of two people past a record of the log that cannot be booked.

    `record` names it by place and checksum. `event_id` is the id under which it is closed,
    `by_event_id` that of the approval.
    """

    record: str
    brand: str
    event_id: str
    by_event_id: str
    proposed_by: str
    approved_by: str
    reason: str


class OpenedDeposit(msgspec.Struct, frozen=True, gc=False):
    """A deposit that the cashier opened, with the payment provider that will confirm it."""

    event_id: str
    player_id: str
    psp: str
    currency: str
    amount_minor: int


BLOCKED: Final = "BLOCKED"
HELD: Final = "HELD"
FREE: Final = "FREE"

REVERSED: Final[Action] = "REVERSED"
CANCELLED: Final[Action] = "CANCELLED"
PAID: Final[Action] = "PAID"
REFUSED: Final[Action] = "REFUSED"
APPROVED: Final[Action] = "APPROVED"
SETTLED: Final[Action] = "SETTLED"
QUARANTINED: Final[Action] = "QUARANTINED"
ASSIGNED: Final[Action] = "ASSIGNED"
RETURNED: Final[Action] = "RETURNED"
ANSWERED: Final[Action] = "ANSWERED"
BY_PERSON: Final = frozenset({ASSIGNED, RETURNED, ANSWERED})
"""The ends of an open item that a person has made."""

ADJUST: Final = "ADJUST"
ASSIGN: Final = "ASSIGN"
RETURN: Final = "RETURN"
LIMIT: Final = "LIMIT"
