"""Typed records of our own topics; the fields are in the order of their latest Avro schemas.

`WalletTransaction` is the record of `wallet.transactions.v1`, the only input that changes the
ledger. Times are epoch milliseconds, money is a 64-bit integer with a scale or in minor units,
never a float.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """Effect of a leg on a wallet.

    A string on the wire; a kind that the ledger does not know stops it.
    """

    BET = "BET"
    WIN = "WIN"
    JACKPOT_WIN = "JACKPOT_WIN"
    JACKPOT_CONTRIBUTION = "JACKPOT_CONTRIBUTION"
    PROMO_WIN = "PROMO_WIN"
    ROLLBACK = "ROLLBACK"
    CANCEL = "CANCEL"
    ADJUSTMENT = "ADJUSTMENT"
    DEPOSIT = "DEPOSIT"
    DEPOSIT_REVERSAL = "DEPOSIT_REVERSAL"
    WITHDRAWAL = "WITHDRAWAL"
    WITHDRAWAL_REVERSAL = "WITHDRAWAL_REVERSAL"
    BONUS_GRANT = "BONUS_GRANT"
    WAGERING = "WAGERING"
    BONUS_RELEASE = "BONUS_RELEASE"
    BONUS_FORFEIT = "BONUS_FORFEIT"
    ROUND_CLOSE = "ROUND_CLOSE"
    PLAYER_STATE = "PLAYER_STATE"
    SUSPENSE_ASSIGNMENT = "SUSPENSE_ASSIGNMENT"
    SUSPENSE_RETURN = "SUSPENSE_RETURN"
    ANSWER = "ANSWER"
    PROPOSAL = "PROPOSAL"
    OPERATOR_LIMIT = "OPERATOR_LIMIT"
    QUARANTINE = "QUARANTINE"
    OPENING_BALANCE = "OPENING_BALANCE"
    INFORMATIONAL = "INFORMATIONAL"
    HEARTBEAT = "HEARTBEAT"


class TimeSource(StrEnum):
    """Clock that `occurred_at` comes from."""

    PROVIDER = "PROVIDER"
    CONNECTOR = "CONNECTOR"
    BROKER = "BROKER"


class SignatureVerdict(StrEnum):
    """Result of the signature check.

    The check is made once, when the record is first read, and never again on replay.
    """

    VALID = "VALID"
    MISSING_ALLOWED = "MISSING_ALLOWED"  # the dialect accepts this operation unsigned
    NOT_CHECKED = "NOT_CHECKED"  # the provider signs nothing, or no key is configured for it
    # Signed correctly, but longer before its arrival than the provider's replay window allows.
    STALE = "STALE"


class SignalKind(StrEnum):
    """Subject of a risk signal."""

    BAD_SIGNATURE = "BAD_SIGNATURE"  # a record its provider did not sign; a dead letter too
    STALE_SIGNATURE = "STALE_SIGNATURE"  # signed outside the replay window; its event is in the log
    OTHER_OPERATION = "OTHER_OPERATION"  # an id that is known under another operation; not booked
    OTHER_BRAND = "OTHER_BRAND"  # an event whose player belongs to another brand; nothing is booked
    PARTIAL = "PARTIAL"  # what detectors with another key than the player need of a record
    WATERMARK = "WATERMARK"  # how far a partition has come, in event time
    LATE = "LATE"  # a record that came too late for detectors over several partitions


class Outcome(StrEnum):
    """Outcome of one attempt."""

    POSTED = "POSTED"
    EXISTS = "EXISTS"
    CONFLICT = "CONFLICT"
    REFUSED_FUNDS = "REFUSED_FUNDS"
    REFUSED_BLOCKED = "REFUSED_BLOCKED"
    REFUSED_LIMIT = "REFUSED_LIMIT"
    REFUSED_CURRENCY = "REFUSED_CURRENCY"
    REFUSED_EXPIRED = "REFUSED_EXPIRED"
    REFUSED_REFERENCE = "REFUSED_REFERENCE"
    TOMBSTONED = "TOMBSTONED"
    CANCELLED = "CANCELLED"
    UNRESOLVED = "UNRESOLVED"
    INFORMATIONAL = "INFORMATIONAL"


class Amount(msgspec.Struct, frozen=True, gc=False):
    """Exact amount as sent: `unscaled` / 10**`scale`, in major units of the currency."""

    unscaled: int
    scale: int


class Leg(msgspec.Struct, frozen=True, gc=False):
    """One movement that an event asks for.

    Amount and currency may be missing: a rollback takes them from its bet.
    """

    kind: str
    amount: Amount | None = None
    currency: str | None = None
    is_free: bool = False
    campaign_id: str | None = None


class Reference(msgspec.Struct, frozen=True, gc=False):
    """Earlier transaction of the same brand and provider, or of `house` for a PSP's notice.

    Some providers name an id and not whether it is that of a bet or a win: `other_operations` are
    the further operations that it may be of. `is_implied`: the transaction does not state it, it is
    known from its neighbours in the same message. Then it is not part of the fingerprint:
    the same transaction may come alone later.
    """

    operation: str
    tx_id: str
    other_operations: list[str] = []
    is_implied: bool = False


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """Place on a raw topic that an event came from.

    `record_index` counts the items of one raw record.
    """

    topic: str
    partition: int
    offset: int
    record_index: int = 0


class Cause(msgspec.Struct, frozen=True, gc=False):
    """Reason for an event of our own: an alert, an operator, a connector that gave up.

    Of a deposit that is opened it names the payment provider that will confirm it (`psp`).
    """

    type: str
    id: str
    actor: str | None = None
    reason: str | None = None


class GroupMember(msgspec.Struct, frozen=True, gc=False):
    """A further transaction of a group: the fields that differ from those of the first one."""

    event_id: str
    operation: str
    provider_tx_id: str
    record_index: int
    legs: list[Leg]
    reference: Reference | None
    round_id: str | None
    round_closed: bool
    game_id: str | None
    occurred_at: int
    time_source: str
    provider_at: int | None
    fingerprint: str
    signature: str
    decision_required: bool
    cause: Cause | None
    is_billable: bool


class Group(msgspec.Struct, frozen=True, gc=False):
    """The transactions of one message that are decided together, all or nothing.

    Each has a record of its own, one after the other in one partition. The first one's holds the
    others as `members`, so that the ledger decides all of them with it, wherever a batch ends.
    """

    id: str
    index: int
    size: int
    members: list[GroupMember]


class WalletTransaction(msgspec.Struct, frozen=True, gc=False):
    """Effect of one provider transaction on one player: decided together, booked once.

    `group`: what it is decided together with. `is_billable`: whether the provider counts it towards
    the revenue that it invoices.
    """

    event_id: str
    brand: str
    provider: str
    provider_version: str
    region: str
    operation: str
    provider_tx_id: str
    attempt: Attempt
    player_id: str | None
    legs: list[Leg]
    reference: Reference | None
    round_id: str | None
    round_closed: bool
    game_id: str | None
    occurred_at: int
    time_source: str
    provider_at: int | None
    received_at: int | None
    appended_at: int
    fingerprint: str
    fingerprint_version: int
    signature: str
    decision_required: bool
    cause: Cause | None
    group: Group | None = None
    is_billable: bool = True


class Position(msgspec.Struct, frozen=True, gc=False):
    """Place of a record on a topic."""

    topic: str
    partition: int
    offset: int


class WalletBalance(msgspec.Struct, frozen=True, gc=False):
    """Wallet after its latest transfer.

    `balance` = available + held; `bonus` is included in available.
    """

    player_id: str
    currency: str
    scale: int
    balance_minor: int
    available_minor: int
    held_minor: int
    bonus_minor: int
    version: int
    event_id: str
    source: Position


class WalletOutcome(msgspec.Struct, frozen=True, gc=False):
    """Answer to one attempt; sent at least once, always the same one.

    `decided_at` is the time of the decision; a repeat has that of the first attempt.
    """

    event_id: str
    brand: str
    provider: str
    operation: str
    provider_tx_id: str
    attempt: Attempt
    player_id: str | None
    outcome: str
    reason: str
    message: str
    currency: str | None
    scale: int | None
    balance_minor: int | None
    version: int | None
    decided_at: int | None = None


class PlayerEvent(msgspec.Struct, frozen=True, gc=False):
    """Event about a player that moves no money: identity checks, logins, devices.

    `scope` is the aspect of the player that the event holds for, as the provider names it (of
    Sumsub: the applicant and the level). Of two events of one scope the one with the later
    `provider_at` applies, whichever came last: a verdict that a provider sends again a day later
    does not undo a newer one. Records of version 1 have no scope.
    """

    event_id: str
    brand: str
    provider: str
    provider_version: str
    region: str
    operation: str
    provider_event_id: str
    attempt: Attempt
    player_id: str
    type: str
    attributes: dict[str, str]
    occurred_at: int
    time_source: str
    provider_at: int | None
    received_at: int | None
    appended_at: int
    signature: str
    scope: str | None = None


class MarketSettlement(msgspec.Struct, frozen=True, gc=False):
    """Message of a sports feed about one outcome of a market.

    It names no player and moves no money by itself.

    `action` is SETTLED, CANCELLED, SETTLEMENT_ROLLED_BACK or CANCELLATION_ROLLED_BACK. `specifiers`
    are sorted, so that a market has one spelling. `void_factor` and `dead_heat_factor` are decimal
    texts as sent. A cancel has no outcome: it holds for bets placed in [`from_at`, `until_at`).
    `void_reason` is the feed's code; `superseded_by` the match that takes a cancelled one's place.
    """

    event_id: str
    brand: str
    provider: str
    provider_version: str
    region: str
    operation: str
    provider_event_id: str
    attempt: Attempt
    match_id: str
    market_id: str
    specifiers: str
    outcome_id: str | None
    action: str
    result: str | None
    void_factor: str | None
    dead_heat_factor: str | None
    certainty: str | None
    from_at: int | None
    until_at: int | None
    occurred_at: int
    time_source: str
    provider_at: int | None
    received_at: int | None
    appended_at: int
    signature: str
    void_reason: str | None = None
    superseded_by: str | None = None


class RiskSignal(msgspec.Struct, frozen=True, gc=False):
    """Observation that is not a fraud by itself, for risk staff or a detector to add up.

    `kind` is a word of `SignalKind`. `signal_id` is the same whenever the same record gives the
    same signal again.
    """

    signal_id: str
    kind: str
    provider: str
    brand: str
    source: Position
    record_index: int | None
    player_id: str | None
    occurred_at: int
    attributes: dict[str, str]


class OffsetRange(msgspec.Struct, frozen=True, gc=False):
    """Records `first_offset` to `last_offset`, both included."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int


class AlertStatus(StrEnum):
    """Stage of an alert's life that a record of it reports."""

    OPEN = "OPEN"
    UPDATED = "UPDATED"
    CLOSED = "CLOSED"


class GameResult(msgspec.Struct, frozen=True, gc=False):
    """Result of one round of a game, as its provider reports it. It moves no money.

    `scheme` says how the outcome follows from the seeds, `committed_hash` was published before the
    round. `outcome_known_at` is the provider's clock.
    """

    event_id: str
    brand: str
    provider: str
    provider_version: str
    region: str
    operation: str
    provider_event_id: str
    attempt: Attempt
    round_id: str
    game_id: str
    game_version: str
    player_id: str | None
    stake_minor: int | None
    payout_minor: int | None
    currency: str | None
    selection: str | None
    outcome: str | None
    scheme: str | None
    committed_hash: str | None
    server_seed: str | None
    client_seed: str | None
    nonce: int | None
    bets_closed_at: int | None
    outcome_known_at: int | None
    occurred_at: int
    time_source: str
    provider_at: int | None
    received_at: int | None
    appended_at: int
    signature: str


class FraudAlert(msgspec.Struct, frozen=True, gc=False):
    """Finding of a detector, with all that is needed to run its rule again on its records.

    An alert is one or more records under one `alert_id`; the one of the highest `revision` applies.
    `reason` says which of the rule's conditions holds. `exposed_minor` is the money that the alert
    is about, up to the event that raised it.
    """

    alert_id: str
    rule_id: str
    rule_version: int
    severity: str
    key: str
    player_id: str | None
    title: str
    episode_start: int
    window_start: int
    window_end: int
    observed: int
    threshold: int
    unit: str
    occurred_at: int
    sources: list[OffsetRange]
    sample_event_ids: list[str]
    evidence: dict[str, str]
    status: str = AlertStatus.OPEN.value
    revision: int = 1
    reason: str = ""
    exposed_minor: int | None = None
    currency: str | None = None
    handling: str = "normal"


class SchemaDrift(msgspec.Struct, frozen=True, gc=False):
    """One way in which a provider's payloads differ from their declared schema.

    It is published once, with the first example seen. `drift_id` depends on provider, version,
    event, path, what and detail; `what` is a word of `streams.drift.shapes.DriftKind`. `schema`
    names the file that the payload was compared with; empty for a message without a declared
    schema. `rejected` is the code under which that record was refused, None where events were made
    of it nevertheless.
    """

    drift_id: str
    provider: str
    provider_version: str
    event: str
    schema: str
    what: str
    path: str
    detail: str
    example: str
    source: Position
    seen_at: int
    rejected: str | None


class Header(msgspec.Struct, frozen=True, gc=False):
    """Record header as received; its value may be null."""

    name: str
    value: bytes | None


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """Record or item that could not be used, byte for byte, and the reason."""

    source: Position
    record_index: int | None
    key: bytes | None
    value: bytes | None
    headers: list[Header]
    source_timestamp: int
    code: str
    detail: str
    stage: str
    code_version: str
    player_id: str | None
