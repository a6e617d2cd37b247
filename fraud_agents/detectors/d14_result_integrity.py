"""D14, result integrity: a result that does not follow from its seeds, or is not signed.

Key: brand, provider and round. Where a game reveals its seeds: the hash of the server seed was
published before the round, the outcome is the one that the scheme computes from the seeds, and the
payout is the paytable's. A result whose seed is not revealed bears the provider's signature.

A commitment is a record of the round with `committed_hash`, and with neither seed nor outcome, that
the log has before the result and whose time is not after the round's bets were closed. A hash that
comes with its own seed proves nothing. In a chain the seed of the round before is the commitment.

False-positive traps: the hash of a seed's text or of the bytes that its hex digits mean (either is
right), a scheme or a version of a paytable that is not registered (its outcome is not checked:
nothing is known against it), rounding of a payout (cut to whole minor units), a round that several
share (no stake, no payout), a result that is sent again, rounds that a provider leaves open by the
thousand (the oldest are forgotten, and then a result without a commitment is not reported).
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
COMMITMENTS_MAX: Final = 8_192
"""Rounds of one brand and provider that are remembered, open ones and revealed ones apart: a game
that lasts a minute has as many open at 136 rounds a second."""
_CHAINS_MAX: Final = 1_024
"""Games of one brand and provider whose latest seed is remembered."""

RULE: Final = make_rule(
    "D14",
    "block",
    1,
    "results",
    60_000,
    title="Result integrity",
    stops_player=False,
    cooldown_ms=_DAY_MS,
    idle_ms=7 * _DAY_MS,
    words={
        "paytables": ["wheel-1/1 0 0 0 100 100 150 200 218"],
        "signing": ["hub88", "pragmatic"],
    },
    reason=(
        "Hard invariants of provably fair games, which players can check too. A paytable gives for "
        "each outcome, from 0 on, the payout in hundredths of the stake. A commitment is known for "
        "a week: longer than any round that is played at once."
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


class Commitment(msgspec.Struct, frozen=True, array_like=True):
    """What a provider has published of a seed, and where: a hash."""

    at_ms: int
    offset: int
    digest: str


class CommitmentState(msgspec.Struct, array_like=True):
    """Commitments of one brand and provider by round, oldest first, and what games revealed last.

    `cut_ms` is the time of the newest open round that was forgotten for want of space.
    """

    open: dict[str, Commitment] = {}
    revealed: dict[str, Commitment] = {}
    chains: dict[str, Commitment] = {}
    cut_ms: int = 0


class ResultIntegrity(KeyedDetector[CommitmentState]):
    """D14 over one partition of the game results."""

    kinds: ClassVar[frozenset[str] | None] = frozenset({RESULT})
    topic: ClassVar[str] = GAME_RESULTS
    state_type = CommitmentState

    def __init__(self, rule: Rule, partition: int) -> None:
        super().__init__(rule, partition)
        rows = (line.split(" ") for line in rule.words["paytables"])
        self._paytables = {name: [int(one) for one in payouts] for name, *payouts in rows}

    def key_of(self, event: GameResult) -> str | None:
        """Return brand and provider; the round is part of the alert's key."""
        return escape_key(event.brand, event.provider)

    def find(self, state: CommitmentState, event: GameResult, offset: int) -> Iterator[Finding]:
        """Remember a commitment, or check one result."""
        digest = event.committed_hash
        earlier = state.open.get(event.round_id) or state.revealed.get(event.round_id)
        if digest is not None and event.server_seed is None and event.outcome is None:
            own = Commitment(event.occurred_at, offset, digest.lower())
            if earlier is None:
                self._remember(state, event.round_id, own)
            is_other = earlier is not None and earlier.digest != own.digest
            reason = "SECOND_COMMITMENT" if is_other else ""
        elif event.scheme is None or event.server_seed is None:
            reason = self._find_unsigned(event)
        else:
            earlier = earlier or _link_of(state, event)
            reason = self._find_fault_of_commitment(state, event, earlier)
            reason = reason or self._find_fault_of_seeds(event)
            self._reveal(state, event, offset, earlier)
        if reason:
            yield self._finding(event, offset, reason, earlier)

    def _remember(self, state: CommitmentState, round_id: str, own: Commitment) -> None:
        state.open[round_id] = own
        horizon_ms = self.watermark_ms - self.rule.idle_ms
        for known in (state.open, state.revealed):
            while known and known[first := next(iter(known))].at_ms < horizon_ms:
                del known[first]
        if len(state.open) > COMMITMENTS_MAX:
            state.cut_ms = max(state.cut_ms, state.open.pop(next(iter(state.open))).at_ms)

    def _reveal(
        self, state: CommitmentState, event: GameResult, offset: int, earlier: Commitment | None
    ) -> None:
        """Note that a round is over: it makes room, and its seed is the commitment of the next."""
        if event.round_id in state.revealed:
            return  # it is sent again
        state.open.pop(event.round_id, None)
        if earlier is not None:
            state.revealed[event.round_id] = earlier
            if len(state.revealed) > COMMITMENTS_MAX:
                del state.revealed[next(iter(state.revealed))]
        state.chains.pop(event.game_id, None)
        seed = (event.server_seed or "").lower()
        state.chains[event.game_id] = Commitment(event.occurred_at, offset, seed)
        if len(state.chains) > _CHAINS_MAX:
            del state.chains[next(iter(state.chains))]

    def _finding(
        self, event: GameResult, offset: int, reason: str, earlier: Commitment | None
    ) -> Finding:
        evidence = {"scheme": event.scheme or "", "outcome": event.outcome or ""}
        if earlier is not None:
            evidence |= {
                "committed_hash": earlier.digest,
                "committed_at_ms": str(earlier.at_ms),
            }
        return Finding(
            reason=reason,
            severity=self.rule.severity,
            title=f"Round {event.round_id} of {event.game_id}: {reason}",
            player_id=event.player_id,
            at_ms=event.occurred_at,
            window=(event.occurred_at, event.occurred_at),
            observed=1,
            threshold=self.rule.threshold,
            unit=self.rule.unit,
            offsets=[offset] if earlier is None else [earlier.offset, offset],
            event_ids=[event.event_id],
            evidence=evidence,
            exposed_minor=event.payout_minor,
            currency=event.currency,
            key_suffix=escape_key(event.round_id),
        )

    def _find_unsigned(self, event: GameResult) -> str:
        # A scheme whose seed is not there is a promise: only the signature says who made it.
        signs = event.scheme is not None or event.provider in self.rule.words["signing"]
        return "NOT_SIGNED" if signs and event.signature != SignatureVerdict.VALID else ""

    def _find_fault_of_commitment(
        self, state: CommitmentState, event: GameResult, earlier: Commitment | None
    ) -> str:
        own = event.committed_hash
        if earlier is None:
            if self.watermark_ms - self.rule.idle_ms >= state.cut_ms:
                return "NOT_COMMITTED"
            return "" if own is None or own.lower() in _digests_of(event) else "OTHER_SEED"
        times = (event.bets_closed_at, event.outcome_known_at, event.occurred_at)
        if earlier.at_ms > next(at_ms for at_ms in times if at_ms is not None):
            return "COMMITTED_LATE"
        if own is not None and own.lower() != earlier.digest:
            return "OTHER_COMMITMENT"
        return "" if earlier.digest in _digests_of(event) else "OTHER_SEED"

    def _find_fault_of_seeds(self, event: GameResult) -> str:
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


def _digests_of(event: GameResult) -> set[str]:
    """Return what the hash of a seed may be: of its text, or of the bytes that it names."""
    seed = event.server_seed or ""
    digests = {sha256(seed.encode()).hexdigest()}
    with suppress(ValueError):
        digests.add(sha256(bytes.fromhex(seed)).hexdigest())
    return digests


def _link_of(state: CommitmentState, event: GameResult) -> Commitment | None:
    """Return the seed before in the game's chain, if this one's hash is that seed."""
    before = state.chains.get(event.game_id)
    return before if before is not None and before.digest in _digests_of(event) else None
