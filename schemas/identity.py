"""Identity and content fingerprint of an event, the two inputs of idempotency.

Identity is (brand, provider, operation, provider transaction id). The operation is the provider's
own word, never our kind, so that a remapped kind cannot pay twice. Providers reuse one id for a
bet, its win and its rollback (100HP txId, Play'n GO cancelReserve, Microgaming actionid), so the id
alone is not enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b, sha1
from typing import Final

from schemas.events import Leg, Position, Reference

FINGERPRINT_VERSION: Final = 1
"""Version 1 covers player, legs' kinds, amounts and currencies, round, game and reference; never
time or request id."""

# UUIDv5(NAMESPACE_DNS, "events.pitboss"), "groups.pitboss", "alerts.pitboss", "signals.pitboss" and
# "drift.pitboss": fixed for ever, since all ids depend on them.
_EVENT_NAMESPACE: Final = bytes.fromhex("65f8f5bc0a5d51afbdcea4aff6671f90")
_GROUP_NAMESPACE: Final = bytes.fromhex("384067ee80115bbd90da533a253dda07")
_ALERT_NAMESPACE: Final = bytes.fromhex("af6adf3e37385a848687eba64a216471")
_SIGNAL_NAMESPACE: Final = bytes.fromhex("57b3ce5e190754c98a9e552234627c95")
_DRIFT_NAMESPACE: Final = bytes.fromhex("76ca2d3645e754529d752f7af9b9442e")


_BLAKE2B_16: Final = blake2b(digest_size=16)
# RFC 9562 section 4.1: the two highest bits of the 17th hex digit are 10.
_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def _uuid5(name: bytes) -> str:
    # RFC 9562 section 5.5, of a name that begins with its namespace. Not uuid.uuid5: it costs 4
    # times this, and each event needs an id.
    text = sha1(name, usedforsecurity=False).hexdigest()
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:32]}"


def _join(texts: Iterable[str]) -> str:
    # A length before each text, so that ("a", "b:c") and ("a:b", "c") never meet.
    return "".join([f"{len(text)}:{text}" for text in texts])


@lru_cache(maxsize=4096)
def _event_name(brand: str, provider: str, operation: str) -> bytes:
    # All but the last component of an event's name: few different ones, needed for every event.
    return _EVENT_NAMESPACE + _join((brand, provider, operation)).encode()


def event_id(brand: str, provider: str, operation: str, provider_tx_id: str) -> str:
    """Return the stable id of an event.

    A repeat of the same bytes, and the same transaction in another spelling, are the same event.
    """
    return _uuid5(
        _event_name(brand, provider, operation) + f"{len(provider_tx_id)}:{provider_tx_id}".encode()
    )


def group_id(event_ids: Iterable[str]) -> str:
    """Return the stable id of the events that are decided together, in whatever order."""
    return _uuid5(_GROUP_NAMESPACE + _join(sorted(event_ids)).encode())


def alert_id(rule_id: str, rule_version: int, key: str, episode_start: int) -> str:
    """Return the stable id of an alert: the same after a restart and in a replay."""
    return _uuid5(
        _ALERT_NAMESPACE + _join((rule_id, str(rule_version), key, str(episode_start))).encode()
    )


def signal_id(kind: str, source: Position, record_index: int | None) -> str:
    """Return the stable id of a risk signal: one for each kind and record, or item of a record."""
    place = (
        source.topic,
        str(source.partition),
        str(source.offset),
        "-" if record_index is None else str(record_index),
    )
    return _uuid5(_SIGNAL_NAMESPACE + _join((kind, *place)).encode())


def drift_id(
    provider: str, provider_version: str, event: str, path: str, what: str, detail: str
) -> str:
    """Return the stable id of a shape of drift: the same in every record and for every worker."""
    return _uuid5(
        _DRIFT_NAMESPACE + _join((provider, provider_version, event, path, what, detail)).encode()
    )


def _leg_text(leg: Leg) -> str:
    amount = leg.amount
    if amount is None:
        number = "-"
    elif amount.unscaled:
        # 1.50 and 1.5 are one amount: another number format is not another content.
        digits, scale = str(amount.unscaled), amount.scale
        kept = digits.rstrip("0")
        dropped = len(digits) - len(kept)
        number = (
            f"{kept}e{scale - dropped}"
            if dropped <= scale
            else f"{digits[: len(digits) - scale]}e0"
        )
    else:
        number = "0e0"
    campaign_id = leg.campaign_id
    campaign = "" if campaign_id is None else "=" + campaign_id
    text = f"{leg.kind},{number},{leg.currency or ''},{'1' if leg.is_free else '0'},{campaign}"
    return f"{len(text)}:{text}"


def _nullable_text(text: str | None) -> str:
    # Null and empty must differ: hence the sign before the text, which its length includes.
    return "1:-" if text is None else f"{len(text) + 1}:={text}"


def fingerprint(
    player_id: str | None,
    legs: Sequence[Leg],
    reference: Reference | None,
    round_id: str | None,
    game_id: str | None,
) -> str:
    """Return the fingerprint of an event's content as 32 hex digits.

    The same identity with another fingerprint is a conflict, not a retry. The rule is Hub88's for
    RS_ERROR_DUPLICATE_TRANSACTION (same uuid, other reference, amount, currency, round, user or
    game); Formance and TigerBeetle keep the same one.
    """
    legs_text = _leg_text(legs[0]) if len(legs) == 1 else "".join(map(_leg_text, legs))
    if reference is None or reference.is_implied:
        reference_text = None
    elif reference.other_operations:
        operations = (reference.operation, *reference.other_operations)
        reference_text = _join((*operations, reference.tx_id))
    else:
        # As `_join` does it, at a third of its cost.
        operation, tx_id = reference.operation, reference.tx_id
        reference_text = f"{len(operation)}:{operation}{len(tx_id)}:{tx_id}"
    digest = _BLAKE2B_16.copy()
    digest.update(
        f"{legs_text}{_nullable_text(player_id)}{_nullable_text(round_id)}{_nullable_text(game_id)}"
        f"{_nullable_text(reference_text)}".encode()
    )
    return digest.hexdigest()


def quarantined_record(source: Position, checksum: int) -> str:
    """Return the name of a record of the log: its place, and the CRC-32 of its key and value."""
    return f"{source.topic}-{source.partition}@{source.offset}#{checksum:08x}"


HOUSE: Final = "house"
HOUSE_REFERENCES: Final = frozenset({"deposit.opened", "withdrawal.requested"})
"""Operations of the house dialect that a payment provider's notice refers to by our reference."""


ENTRY: Final = "ledger.entry"
"""The operation of a reference by which an operator names an event of any provider by its id."""

ENTRY_ID: Final = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
"""The pattern of such an id."""

_ENTRY_ID: Final = re.compile(ENTRY_ID)


def names_entry(provider: str, reference: Reference) -> bool:
    """Return whether a reference of the house names an event by its id."""
    return (
        provider == HOUSE
        and reference.operation == ENTRY
        and _ENTRY_ID.fullmatch(reference.tx_id) is not None
    )


def referenced_event_id(brand: str, provider: str, reference: Reference) -> str:
    """Return the id of the event that a reference means, under the likeliest of its operations.

    It is an event of the same provider, of the cashier if the operation is the house's, or the one
    that an operator names by its id.
    """
    if names_entry(provider, reference):
        return reference.tx_id
    owner = HOUSE if reference.operation in HOUSE_REFERENCES else provider
    return event_id(brand, owner, reference.operation, reference.tx_id)


def referenced_event_ids(brand: str, provider: str, reference: Reference) -> tuple[str, ...]:
    """Return the ids of all events that a reference may mean, the likeliest first."""
    first = referenced_event_id(brand, provider, reference)
    if not reference.other_operations:
        return (first,)
    return (
        first,
        *[
            event_id(brand, provider, operation, reference.tx_id)
            for operation in reference.other_operations
        ],
    )
