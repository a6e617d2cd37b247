"""The messages of the casino's own cashier and CRM.

There is one class per operation, with its leg, reference and cause.
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Final, Literal, TypeAlias, get_args

import msgspec

from schemas.causes import OPENING, PSP, QUARANTINE
from schemas.errors import RejectCode, Rejected
from schemas.events import Amount, Cause, Kind, Leg, Reference
from schemas.identity import ENTRY, ENTRY_ID
from schemas.money import amount_from_text
from streams.providers.fields import (
    CurrencyText,
    Id,
    Instant,
    Note,
    currency_of,
    note_of,
    signed_currency_of,
    text_of,
)

_RECORD: Final = re.compile(r"[a-z0-9_.]{1,128}-\d{1,9}@\d{1,18}#[0-9a-f]{8}", re.ASCII)

EntryId: TypeAlias = Annotated[str, msgspec.Meta(pattern=f"^{ENTRY_ID}$")]
"""The id of an event in the ledger, as its views print it."""


class HouseMessage(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag_field="operation"):
    """One object of the cashier's and its place in the log.

    Its methods raise Rejected for fields that cannot be used.
    """

    kind: ClassVar[Kind]
    id: Id
    at: Instant

    def player(self) -> str | None:
        """Return the player's id; None for a message that names no player."""
        raise NotImplementedError

    def leg(self) -> Leg:
        """Return the main leg."""
        return Leg(self.kind.value)

    def legs(self) -> list[Leg]:
        """Return all legs: the main one, unless an operation has more."""
        return [self.leg()]

    def reference(self) -> Reference | None:
        """Return the transaction that this one refers to; None where there is none."""
        return None

    def cause(self) -> Cause | None:
        """Return who or what caused the message; None where it carries no cause."""
        return None


class BalanceQuestion(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A question for the balance of a player; without a currency, of the only wallet."""

    player_id: Id
    at: Instant
    currency: CurrencyText | None = None


class _OfPlayer(HouseMessage, frozen=True, gc=False, kw_only=True):
    player_id: Id

    def player(self) -> str | None:
        return text_of(self.player_id, "player_id")


class _Money(_OfPlayer, frozen=True, gc=False, kw_only=True):
    amount: str
    currency: CurrencyText

    def leg(self) -> Leg:
        amount = amount_from_text(self.amount)
        return Leg(self.kind.value, amount, currency_of(amount, self.currency))


class _DepositOpened(_Money, frozen=True, gc=False, kw_only=True, tag="deposit.opened"):
    kind: ClassVar[Kind] = Kind.INFORMATIONAL
    psp: Id

    def cause(self) -> Cause | None:
        return Cause(PSP, text_of(self.psp, "psp"))


class _WithdrawalRequested(_Money, frozen=True, gc=False, kw_only=True, tag="withdrawal.requested"):
    kind: ClassVar[Kind] = Kind.WITHDRAWAL


class _OfWithdrawal(_OfPlayer, frozen=True, gc=False, kw_only=True):
    withdrawal_id: Id

    def reference(self) -> Reference | None:
        return Reference("withdrawal.requested", text_of(self.withdrawal_id, "withdrawal_id"))


class _WithdrawalApproved(
    _OfWithdrawal, frozen=True, gc=False, kw_only=True, tag="withdrawal.approved"
):
    kind: ClassVar[Kind] = Kind.INFORMATIONAL


class _WithdrawalPaid(_OfWithdrawal, frozen=True, gc=False, kw_only=True, tag="withdrawal.paid"):
    kind: ClassVar[Kind] = Kind.WITHDRAWAL


class _WithdrawalRefused(
    _OfWithdrawal, frozen=True, gc=False, kw_only=True, tag="withdrawal.refused"
):
    kind: ClassVar[Kind] = Kind.WITHDRAWAL_REVERSAL
    reason: Note

    def cause(self) -> Cause | None:
        return Cause("operator", text_of(self.id, "id"), None, note_of(self.reason))


class _Adjustment(_Money, frozen=True, gc=False, kw_only=True, tag="adjustment"):
    kind: ClassVar[Kind] = Kind.ADJUSTMENT
    actor: Id
    reason: Note

    def leg(self) -> Leg:
        amount = amount_from_text(self.amount)
        return Leg(self.kind.value, amount, signed_currency_of(amount, self.currency))

    def cause(self) -> Cause | None:
        return Cause(
            "operator", text_of(self.id, "id"), text_of(self.actor, "actor"), note_of(self.reason)
        )


class _AdjustmentProposed(
    _Adjustment, frozen=True, gc=False, kw_only=True, tag="adjustment.proposed"
):
    kind: ClassVar[Kind] = Kind.INFORMATIONAL


class _AdjustmentApproved(
    _OfPlayer, frozen=True, gc=False, kw_only=True, tag="adjustment.approved"
):
    kind: ClassVar[Kind] = Kind.ADJUSTMENT
    proposal_id: Id
    actor: Id

    def reference(self) -> Reference | None:
        return Reference("adjustment.proposed", text_of(self.proposal_id, "proposal_id"))

    def cause(self) -> Cause | None:
        return Cause("operator", text_of(self.id, "id"), text_of(self.actor, "actor"), "approved")


class _OfOperator(HouseMessage, frozen=True, gc=False, kw_only=True):
    """An operator's act on an open item, which `entry_id` names, or on a limit."""

    actor: Id
    reason: Note = "approved"

    def player(self) -> str | None:
        return None

    def cause(self) -> Cause | None:
        return Cause(
            "operator", text_of(self.id, "id"), text_of(self.actor, "actor"), note_of(self.reason)
        )


class _OfItem(_OfOperator, frozen=True, gc=False, kw_only=True):
    entry_id: EntryId

    def reference(self) -> Reference | None:
        return Reference(ENTRY, self.entry_id)


class _OfProposal(_OfOperator, frozen=True, gc=False, kw_only=True):
    proposes: ClassVar[str]
    proposal_id: Id

    def reference(self) -> Reference | None:
        return Reference(self.proposes, text_of(self.proposal_id, "proposal_id"))


class _SuspenseAssigned(_OfItem, frozen=True, gc=False, kw_only=True, tag="suspense.assigned"):
    kind: ClassVar[Kind] = Kind.SUSPENSE_ASSIGNMENT
    player_id: Id

    def player(self) -> str | None:
        return text_of(self.player_id, "player_id")


class _AssignmentProposed(
    _SuspenseAssigned, frozen=True, gc=False, kw_only=True, tag="suspense.assignment.proposed"
):
    kind: ClassVar[Kind] = Kind.PROPOSAL


class _AssignmentApproved(
    _OfProposal, frozen=True, gc=False, kw_only=True, tag="suspense.assignment.approved"
):
    kind: ClassVar[Kind] = Kind.SUSPENSE_ASSIGNMENT
    proposes: ClassVar[str] = "suspense.assignment.proposed"
    player_id: Id

    def player(self) -> str | None:
        return text_of(self.player_id, "player_id")


class _SuspenseReturned(_OfItem, frozen=True, gc=False, kw_only=True, tag="suspense.returned"):
    kind: ClassVar[Kind] = Kind.SUSPENSE_RETURN


class _ReturnProposed(_OfItem, frozen=True, gc=False, kw_only=True, tag="suspense.return.proposed"):
    kind: ClassVar[Kind] = Kind.PROPOSAL


class _ReturnApproved(
    _OfProposal, frozen=True, gc=False, kw_only=True, tag="suspense.return.approved"
):
    kind: ClassVar[Kind] = Kind.SUSPENSE_RETURN
    proposes: ClassVar[str] = "suspense.return.proposed"


class _ItemAnswered(_OfItem, frozen=True, gc=False, kw_only=True, tag="item.answered"):
    kind: ClassVar[Kind] = Kind.ANSWER


class _LimitProposed(_OfOperator, frozen=True, gc=False, kw_only=True, tag="limit.proposed"):
    kind: ClassVar[Kind] = Kind.PROPOSAL
    amount: str
    currency: CurrencyText

    def leg(self) -> Leg:
        amount = amount_from_text(self.amount)
        return Leg(self.kind.value, amount, currency_of(amount, self.currency))


class _LimitApproved(_OfProposal, frozen=True, gc=False, kw_only=True, tag="limit.approved"):
    kind: ClassVar[Kind] = Kind.OPERATOR_LIMIT
    proposes: ClassVar[str] = "limit.proposed"


class _Bonus(_Money, frozen=True, gc=False, kw_only=True):
    campaign_id: Id

    def leg(self) -> Leg:
        amount = amount_from_text(self.amount)
        currency = currency_of(amount, self.currency)
        return Leg(
            self.kind.value, amount, currency, False, text_of(self.campaign_id, "campaign_id")
        )


class _BonusGranted(_Bonus, frozen=True, gc=False, kw_only=True, tag="bonus.granted"):
    kind: ClassVar[Kind] = Kind.BONUS_GRANT
    wagering_amount: str | None = None
    """The amount to bet before the bonus is cash.

    Without it the bonus waits for `bonus.released`.
    """

    def legs(self) -> list[Leg]:
        if self.wagering_amount is None:
            return [self.leg()]
        amount = amount_from_text(self.wagering_amount)
        currency = currency_of(amount, self.currency)
        campaign = text_of(self.campaign_id, "campaign_id")
        return [self.leg(), Leg(Kind.WAGERING.value, amount, currency, False, campaign)]


class _BonusReleased(_Bonus, frozen=True, gc=False, kw_only=True, tag="bonus.released"):
    kind: ClassVar[Kind] = Kind.BONUS_RELEASE


class _BonusForfeited(_Bonus, frozen=True, gc=False, kw_only=True, tag="bonus.forfeited"):
    kind: ClassVar[Kind] = Kind.BONUS_FORFEIT


class _PlayerState(_OfPlayer, frozen=True, gc=False, kw_only=True):
    kind: ClassVar[Kind] = Kind.PLAYER_STATE
    actor: Id
    reason: Note
    alert_id: Id | None = None
    source: Literal["operator", "alert", "kyc"] | None = None
    """The owner of the block, where it is not the operator or that of `alert_id`."""

    def cause(self) -> Cause | None:
        actor = text_of(self.actor, "actor")
        if self.alert_id is not None:
            return Cause("alert", text_of(self.alert_id, "alert_id"), actor, note_of(self.reason))
        return Cause(self.source or "operator", text_of(self.id, "id"), actor, note_of(self.reason))


class _PlayerBlocked(_PlayerState, frozen=True, gc=False, kw_only=True, tag="player.blocked"):
    pass


class _PlayerHeld(_PlayerState, frozen=True, gc=False, kw_only=True, tag="player.held"):
    pass


class _PlayerReleased(_PlayerState, frozen=True, gc=False, kw_only=True, tag="player.released"):
    pass


class _PlayerLimited(_PlayerState, frozen=True, gc=False, kw_only=True, tag="player.limited"):
    amount: str
    currency: CurrencyText

    def leg(self) -> Leg:
        amount = amount_from_text(self.amount)
        return Leg(self.kind.value, amount, currency_of(amount, self.currency))


class _PlayerUnlimited(_PlayerState, frozen=True, gc=False, kw_only=True, tag="player.unlimited"):
    currency: CurrencyText

    def leg(self) -> Leg:
        return Leg(self.kind.value, None, currency_of(Amount(0, 0), self.currency))


class _Quarantine(HouseMessage, frozen=True, gc=False, kw_only=True):
    """A step past a record of the log that cannot be booked.

    It names no player, so its id is its key, which the sender chooses for the record's partition.
    """

    kind: ClassVar[Kind] = Kind.QUARANTINE
    record: str
    """Place in the log and CRC-32: `topic-partition@offset#0123abcd`."""
    actor: Id
    reason: Note

    def player(self) -> str | None:
        return None

    def reference(self) -> Reference | None:
        return Reference("quarantined", self._record())

    def cause(self) -> Cause | None:
        actor = text_of(self.actor, "actor")
        return Cause(QUARANTINE, self._record(), actor, note_of(self.reason))

    def _record(self) -> str:
        if not _RECORD.fullmatch(self.record):
            raise Rejected(
                RejectCode.BAD_FIELD,
                "record is not a place and a checksum: topic-partition@offset#0123abcd",
            )
        return self.record


class _QuarantineProposed(
    _Quarantine, frozen=True, gc=False, kw_only=True, tag="quarantine.proposed"
):
    pass


class _QuarantineApproved(
    _Quarantine, frozen=True, gc=False, kw_only=True, tag="quarantine.approved"
):
    pass


class _BalanceOpened(_OfPlayer, frozen=True, gc=False, kw_only=True, tag="balance.opened"):
    """What a wallet holds where a new log begins; the ledger compares it and moves nothing."""

    kind: ClassVar[Kind] = Kind.OPENING_BALANCE
    currency: CurrencyText
    cash: str
    bonus: str
    held: str
    checkpoint: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of the checkpoint whose seals prove the balance."""
    actor: Id
    reason: Note

    def legs(self) -> list[Leg]:
        amounts = [amount_from_text(text) for text in (self.cash, self.bonus, self.held)]
        return [
            Leg(self.kind.value, amount, signed_currency_of(amount, self.currency))
            for amount in amounts
        ]

    def cause(self) -> Cause | None:
        actor = text_of(self.actor, "actor")
        return Cause(OPENING, self.checkpoint, actor, note_of(self.reason))


class _Heartbeat(HouseMessage, frozen=True, gc=False, kw_only=True, tag="heartbeat"):
    kind: ClassVar[Kind] = Kind.HEARTBEAT

    def player(self) -> str | None:
        return None


_Body: TypeAlias = (
    _DepositOpened
    | _WithdrawalRequested
    | _WithdrawalApproved
    | _WithdrawalPaid
    | _WithdrawalRefused
    | _Adjustment
    | _AdjustmentProposed
    | _AdjustmentApproved
    | _SuspenseAssigned
    | _AssignmentProposed
    | _AssignmentApproved
    | _SuspenseReturned
    | _ReturnProposed
    | _ReturnApproved
    | _ItemAnswered
    | _LimitProposed
    | _LimitApproved
    | _BonusGranted
    | _BonusReleased
    | _BonusForfeited
    | _PlayerBlocked
    | _PlayerHeld
    | _PlayerReleased
    | _PlayerLimited
    | _PlayerUnlimited
    | _QuarantineProposed
    | _QuarantineApproved
    | _BalanceOpened
    | _Heartbeat
)
BODY: Final[msgspec.json.Decoder[_Body]] = msgspec.json.Decoder(_Body)
"""The decoder of all of them; the tag of the class is its operation."""

MESSAGES: Final[tuple[type[HouseMessage], ...]] = get_args(_Body)
OPERATIONS: Final = tuple(str(message.__struct_config__.tag) for message in MESSAGES)
"""Every operation, in the order of this file."""
