"""D14, result integrity: a result that does not follow from its seeds, or is not signed.

Key: brand, provider and round. Where a game reveals its seeds: the hash of the server seed is the
one that was published before the round, the outcome is the one that the scheme computes from the
seeds, and the payout is the paytable's. Where it does not, the result bears the provider's
signature.

False-positive traps: the hash of a seed's text or of the bytes that its hex digits mean (either is
right), a scheme or a version of a paytable that is not registered (not checked, since nothing is
known against it), rounding of a payout (cut to whole minor units), a round that several share (no
stake, no payout).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from types import MappingProxyType
from typing import ClassVar, Final

import msgspec

from fraud_agents.detectors.base import RESULT, Finding, KeyedDetector, escape_key
from fraud_agents.rules import Rule, make_rule
from schemas.events import GameResult, SignatureVerdict
from schemas.topics import GAME_RESULTS

_DAY_MS: Final = 86_400_000

RULE: Final = make_rule(
    "D14",
    "block",
    1,
    "results",
    60_000,
    title="Result integrity",
    stops_player=False,
    cooldown_ms=_DAY_MS,
    words={
        "paytables": ["wheel-1/1 0 0 0 100 100 150 200 218"],
        "signing": ["hub88", "pragmatic"],
    },
    reason=(
        "Hard invariants of provably fair games, which players can check too. A paytable gives for "
        "each outcome, from 0 on, the payout in hundredths of the stake."
    ),
)


def _digest(result: GameResult) -> str:
    text = f"{result.client_seed}:{result.nonce}"
    return hmac.new((result.server_seed or "").encode(), text.encode(), sha256).hexdigest()


def _dice(result: GameResult, outcomes: int) -> str:
    """Return a roll of 0 to 9999: the first 32 bits of the HMAC, scaled."""
    del outcomes
    return str(int(_digest(result)[:8], 16) * 10_000 >> 32)


def _wheel(result: GameResult, outcomes: int) -> str:
    """Return the segment: the first 52 bits of the HMAC modulo the number of segments."""
    return str(int(_digest(result)[:13], 16) % outcomes) if outcomes else ""


def _crash(result: GameResult, outcomes: int) -> str:
    """Return the multiplier in hundredths, as bustabit computes it from a game's hash."""
    del outcomes
    seed, salt = (result.server_seed or "").encode(), (result.client_seed or "").encode()
    digest = hmac.new(seed, salt, sha256).hexdigest()
    if int(digest, 16) % 101 == 0:
        return "100"
    high, whole = int(digest[:13], 16), 2**52
    return str((100 * whole - high) // (whole - high))


SCHEMES: Final[Mapping[str, Callable[[GameResult, int], str]]] = MappingProxyType(
    {
        "dice-hmac-sha256/1": _dice,
        "wheel-hmac-sha256/1": _wheel,
        "crash-bustabit/1": _crash,
    }
)
"""How each registered scheme computes an outcome, given the number of outcomes in the paytable."""


class CheckedState(msgspec.Struct, array_like=True):
    """Nothing: every result is checked by itself."""


_NO_STATE: Final = CheckedState()


class ResultIntegrity(KeyedDetector[CheckedState]):
    """D14 over one partition of the game results."""

    kinds: ClassVar[frozenset[str] | None] = frozenset({RESULT})
    topic: ClassVar[str] = GAME_RESULTS
    state_type = CheckedState

    def __init__(self, rule: Rule, partition: int) -> None:
        super().__init__(rule, partition)
        rows = (line.split(" ") for line in rule.words["paytables"])
        self._paytables = {name: [int(one) for one in payouts] for name, *payouts in rows}

    def _touch(self, key: str) -> CheckedState:
        """Remember nothing: there are as many keys as rounds."""
        del key
        return _NO_STATE

    def key_of(self, event: GameResult) -> str | None:
        """Return brand, provider and round."""
        return escape_key(event.brand, event.provider, event.round_id)

    def find(self, state: CheckedState, event: GameResult, offset: int) -> Iterator[Finding]:
        """Check one result."""
        del state
        reason = self._find_fault(event)
        if reason:
            yield Finding(
                reason=reason,
                severity=self.rule.severity,
                title=f"Round {event.round_id} of {event.game_id}: {reason}",
                player_id=event.player_id,
                at_ms=event.occurred_at,
                window=(event.occurred_at, event.occurred_at),
                observed=1,
                threshold=self.rule.threshold,
                unit=self.rule.unit,
                offsets=[offset],
                event_ids=[event.event_id],
                evidence={"scheme": event.scheme or "", "outcome": event.outcome or ""},
                exposed_minor=event.payout_minor,
                currency=event.currency,
            )

    def _find_fault(self, event: GameResult) -> str:
        if event.scheme is None:
            signs = event.provider in self.rule.words["signing"]
            return "NOT_SIGNED" if signs and event.signature != SignatureVerdict.VALID else ""
        return "" if event.server_seed is None else self._find_fault_of_seeds(event)

    def _find_fault_of_seeds(self, event: GameResult) -> str:
        if event.committed_hash is not None and not _is_committed(event):
            return "OTHER_SEED"
        payouts = self._paytables.get(f"{event.game_id}/{event.game_version}")
        compute = SCHEMES.get(event.scheme or "")
        expected = "" if compute is None else compute(event, len(payouts or ()))
        if expected and expected != event.outcome:
            return "OTHER_OUTCOME"
        if payouts is None or event.stake_minor is None or event.payout_minor is None:
            return ""
        outcome = event.outcome or ""
        place = int(outcome) if outcome.isdecimal() else -1
        if not 0 <= place < len(payouts):
            return "UNKNOWN_OUTCOME"
        is_right = event.payout_minor == event.stake_minor * payouts[place] // 100
        return "" if is_right else "OTHER_PAYOUT"


def _is_committed(event: GameResult) -> bool:
    seed = event.server_seed or ""
    digests = [sha256(seed.encode()).hexdigest()]
    with suppress(ValueError):
        digests.append(sha256(bytes.fromhex(seed)).hexdigest())
    return (event.committed_hash or "").lower() in digests
