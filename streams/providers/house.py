"""The casino's own cashier and CRM: deposits opened, withdrawals, adjustments, bonuses, blocks, limits, heartbeats.

POST JSON, one object an event, `x-house-signature` = hex HMAC-SHA256 over the raw body. Amounts are decimal strings in
major units, times RFC 3339. `operation` tells what the object is, `id` is unique within its operation. A payment
provider's notice finds its player through the `deposit.opened` that it names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final, Literal, TypeAlias

import msgspec

from schemas.errors import RejectCode, Rejected
from schemas.events import Amount, Cause, Kind, Leg, Reference, SignatureVerdict
from schemas.money import amount_from_text
from streams.providers.dialect import (
    Dialect,
    Draft,
    Headers,
    Item,
    KeyMaterial,
    RawRecord,
    Reader,
    Unreadable,
    entry_of,
)
from streams.providers.fields import (
    CurrencyText,
    Id,
    Instant,
    Note,
    currency_of,
    epoch_ms,
    read_json,
    signed_currency_of,
    text_of,
)
from streams.providers.signatures import HmacSha256

SIGNATURE_HEADER: Final = "x-house-signature"


class _Said(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag_field="operation"):
    kind: ClassVar[Kind]
    id: Id
    at: Instant

    def player(self) -> str | None:
        raise NotImplementedError

    def leg(self) -> Leg:
        return Leg(self.kind.value)

    def legs(self) -> list[Leg]:
        return [self.leg()]

    def reference(self) -> Reference | None:
        return None

    def cause(self) -> Cause | None:
        return None


class _OfPlayer(_Said, frozen=True, gc=False, kw_only=True):
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


class _WithdrawalRequested(_Money, frozen=True, gc=False, kw_only=True, tag="withdrawal.requested"):
    kind: ClassVar[Kind] = Kind.WITHDRAWAL


class _OfWithdrawal(_OfPlayer, frozen=True, gc=False, kw_only=True):
    withdrawal_id: Id

    def reference(self) -> Reference | None:
        return Reference("withdrawal.requested", text_of(self.withdrawal_id, "withdrawal_id"))


class _WithdrawalApproved(_OfWithdrawal, frozen=True, gc=False, kw_only=True, tag="withdrawal.approved"):
    kind: ClassVar[Kind] = Kind.INFORMATIONAL


class _WithdrawalPaid(_OfWithdrawal, frozen=True, gc=False, kw_only=True, tag="withdrawal.paid"):
    kind: ClassVar[Kind] = Kind.WITHDRAWAL


class _WithdrawalRefused(_OfWithdrawal, frozen=True, gc=False, kw_only=True, tag="withdrawal.refused"):
    kind: ClassVar[Kind] = Kind.WITHDRAWAL_REVERSAL
    reason: Note

    def cause(self) -> Cause | None:
        return Cause("operator", text_of(self.id, "id"), None, self.reason)


class _Adjustment(_Money, frozen=True, gc=False, kw_only=True, tag="adjustment"):
    kind: ClassVar[Kind] = Kind.ADJUSTMENT
    actor: Id
    reason: Note

    def leg(self) -> Leg:
        amount = amount_from_text(self.amount)
        return Leg(self.kind.value, amount, signed_currency_of(amount, self.currency))

    def cause(self) -> Cause | None:
        return Cause("operator", text_of(self.id, "id"), text_of(self.actor, "actor"), self.reason)


class _AdjustmentProposed(_Adjustment, frozen=True, gc=False, kw_only=True, tag="adjustment.proposed"):
    kind: ClassVar[Kind] = Kind.INFORMATIONAL


class _AdjustmentApproved(_OfPlayer, frozen=True, gc=False, kw_only=True, tag="adjustment.approved"):
    kind: ClassVar[Kind] = Kind.ADJUSTMENT
    proposal_id: Id
    actor: Id

    def reference(self) -> Reference | None:
        return Reference("adjustment.proposed", text_of(self.proposal_id, "proposal_id"))

    def cause(self) -> Cause | None:
        return Cause("operator", text_of(self.id, "id"), text_of(self.actor, "actor"), "approved")


class _Bonus(_Money, frozen=True, gc=False, kw_only=True):
    campaign_id: Id

    def leg(self) -> Leg:
        amount = amount_from_text(self.amount)
        currency = currency_of(amount, self.currency)
        return Leg(self.kind.value, amount, currency, False, text_of(self.campaign_id, "campaign_id"))


class _BonusGranted(_Bonus, frozen=True, gc=False, kw_only=True, tag="bonus.granted"):
    kind: ClassVar[Kind] = Kind.BONUS_GRANT
    wagering_amount: str | None = None
    """What has to be bet before the bonus is cash; without it the bonus waits for `bonus.released`."""

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
    """Whose block it is, where it is not the operator's or that of `alert_id`."""

    def cause(self) -> Cause | None:
        actor = text_of(self.actor, "actor")
        if self.alert_id is not None:
            return Cause("alert", text_of(self.alert_id, "alert_id"), actor, self.reason)
        return Cause(self.source or "operator", text_of(self.id, "id"), actor, self.reason)


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


class _Heartbeat(_Said, frozen=True, gc=False, kw_only=True, tag="heartbeat"):
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
    | _BonusGranted
    | _BonusReleased
    | _BonusForfeited
    | _PlayerBlocked
    | _PlayerHeld
    | _PlayerReleased
    | _PlayerLimited
    | _PlayerUnlimited
    | _Heartbeat
)
_BODY: Final[msgspec.json.Decoder[_Body]] = msgspec.json.Decoder(_Body)


@dataclass(frozen=True)
class House(Dialect):
    """Our own format. A field that it does not know is let by, so that the cashier can be upgraded first."""

    provider: ClassVar[str] = "house"
    version: ClassVar[str] = "1"
    decides: ClassVar[frozenset[str]] = frozenset({"withdrawal.requested"})

    def reader(self, material: KeyMaterial | None) -> Reader:
        """A reader that checks `x-house-signature`. Needs `hmac_hex`."""
        matches = None
        if material is not None:
            matches = HmacSha256(entry_of(material, "hmac_hex", self.provider)).matches_hex
        return partial(self._read, matches)

    def _read(self, matches: Callable[[bytes, bytes], bool] | None, record: RawRecord, headers: Headers) -> list[Item]:
        value = record.value or b""
        verdict = SignatureVerdict.NOT_CHECKED.value
        if matches is not None:
            signature = headers.get(SIGNATURE_HEADER)
            if not signature:
                raise Rejected(RejectCode.MISSING_SIGNATURE, f"the header {SIGNATURE_HEADER} is missing")
            if not matches(value, signature):
                raise Rejected(RejectCode.BAD_SIGNATURE, f"{SIGNATURE_HEADER} does not sign this body")
            verdict = SignatureVerdict.VALID.value
        said = read_json(_BODY, value)
        player_id = said.player()
        try:
            return [self._draft(said, player_id, verdict)]
        except Rejected as error:
            raise Unreadable(error.reason, error.detail, player_id) from error

    def _draft(self, said: _Said, player_id: str | None, verdict: str) -> Draft:
        operation = str(said.__struct_config__.tag)
        return Draft(
            operation,
            text_of(said.id, "id"),
            said.legs(),
            player_id,
            said.reference(),
            None,
            False,
            None,
            epoch_ms(said.at),
            operation in self.decides,
            verdict,
            said.cause(),
        )
