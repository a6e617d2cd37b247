"""Who an event is, and what it says: the two questions that idempotency asks.

Identity is (brand, provider, operation, provider transaction id); the operation is the provider's own word, never
our kind, so that a remapped kind cannot pay twice. Providers reuse one id for a bet, its win and its rollback
(100HP txId, Play'n GO cancelReserve, Microgaming actionid), so the id alone is not enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b, sha1
from typing import Final

from schemas.events import Leg, Reference

FINGERPRINT_VERSION: Final = 1
"""Version 1 covers player, legs' kinds, amounts and currencies, round, game and reference; never time or request id."""

# UUIDv5(NAMESPACE_DNS, "events.pitboss") and "alerts.pitboss": fixed for ever, every event id hangs on it.
_EVENT_NAMESPACE: Final = bytes.fromhex("65f8f5bc0a5d51afbdcea4aff6671f90")
_ALERT_NAMESPACE: Final = bytes.fromhex("af6adf3e37385a848687eba64a216471")


def _uuid5(namespace: bytes, name: str) -> str:
    # RFC 9562 section 5.5 by hand: uuid.uuid5 costs 2.5 times this, and each event needs one.
    digest = bytearray(sha1(namespace + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _joined(parts: Sequence[str]) -> str:
    # A length before each part, so that ("a", "b:c") and ("a:b", "c") never meet.
    return "".join([f"{len(part)}:{part}" for part in parts])


def event_id(brand: str, provider: str, operation: str, provider_tx_id: str) -> str:
    """The stable id of an event: the same bytes sent again, or the same transaction said otherwise, is the same event."""
    return _uuid5(_EVENT_NAMESPACE, _joined((brand, provider, operation, provider_tx_id)))


def alert_id(rule_id: str, rule_version: int, key: str, episode_start: int) -> str:
    """The stable id of an alert: the same after a restart and in a replay."""
    return _uuid5(_ALERT_NAMESPACE, _joined((rule_id, str(rule_version), key, str(episode_start))))


def _leg_text(leg: Leg) -> str:
    amount = leg.amount
    if amount is None:
        number = "-"
    else:
        # 1.50 and 1.5 are one amount: a provider that changes its number format has not changed its mind.
        unscaled, scale = amount.unscaled, amount.scale
        while scale and unscaled % 10 == 0:
            unscaled //= 10
            scale -= 1
        number = f"{unscaled}e{scale}"
    return f"{leg.kind},{number},{leg.currency},{leg.is_free:d},{leg.campaign_id}"


def fingerprint(
    player_id: str | None,
    legs: Sequence[Leg],
    reference: Reference | None,
    round_id: str | None,
    game_id: str | None,
) -> str:
    """What an event says, as 32 hex digits; the same identity with another fingerprint is a conflict, not a retry.

    The rule is Hub88's for RS_ERROR_DUPLICATE_TRANSACTION (same uuid, other reference, amount, currency, round, user
    or game); Formance and TigerBeetle keep the same one.
    """
    # Null and empty must differ, and parts must not run together: prefix and length see to both.
    parts = [_leg_text(leg) for leg in legs]
    parts.append("-" if player_id is None else "=" + player_id)
    parts.append("-" if round_id is None else "=" + round_id)
    parts.append("-" if game_id is None else "=" + game_id)
    parts.append("-" if reference is None else "=" + _joined((reference.operation, reference.tx_id)))
    return blake2b(_joined(parts).encode(), digest_size=16).hexdigest()


HOUSE: Final = "house"
HOUSE_REFERENCES: Final = frozenset({"deposit.opened", "withdrawal.requested"})
"""Operations of the house dialect that a payment provider's notice refers to by our own reference."""


def referenced_event_id(brand: str, provider: str, reference: Reference) -> str:
    """The event that a reference means: one of the same provider, or the cashier's own where the operation is a house one."""
    owner = HOUSE if reference.operation in HOUSE_REFERENCES else provider
    return event_id(brand, owner, reference.operation, reference.tx_id)
