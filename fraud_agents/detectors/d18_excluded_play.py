"""D18, play or deposit while excluded or under age.

Key: brand and player. The log says who is excluded and from when: a PLAYER_STATE `player.blocked`
whose cause is an exclusion or an identity check (which also refuses minors; D18B goes by the date
of birth), until the same cause releases the player. Bets and openings of deposits are joined with
the status as of their own event time, so one that was placed before and arrives after is right, and
one that arrives before the news of the exclusion but was placed after it is found.

False-positive traps: a bet placed before the exclusion and settled after it (wins are not looked
at), a payment that completes after it (the opening counts), a block by an operator or an alert
(money on hold is not an exclusion), a release.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Final

import msgspec

from fraud_agents.detectors.base import Finding, KeyedDetector, has_kind
from fraud_agents.features import sum_legs
from fraud_agents.rules import make_rule
from schemas.events import Kind, WalletTransaction

_DAY_MS: Final = 86_400_000
RECENT_MS: Final = 600_000
RECENT_MAX: Final = 32
"""The latest acts are kept, to be joined with an exclusion that arrives after them. One is enough
for an alert, and the latest of all is the one that is most surely after the exclusion."""

LIFTED_MAX: Final = 32
"""Exclusions that were lifted, for acts that arrive late."""

RULE: Final = make_rule(
    "D18",
    "block",
    1,
    "acts",
    60_000,
    title="Play while excluded or under age",
    cooldown_ms=_DAY_MS,
    idle_ms=_DAY_MS,
    words={"causes": ["exclusion", "kyc"]},
    reason=(
        "Zero tolerance in every jurisdiction: Spelpaus, OASIS, GAMSTOP, Cruks, RGIAJ. An "
        "exclusion is remembered until it is lifted; the ledger refuses the bet in any case."
    ),
)


class PlayerAct(msgspec.Struct, frozen=True, array_like=True):
    """A bet or the opening of a deposit."""

    at_ms: int
    offset: int
    event_id: str
    what: str
    minor: int
    currency: str | None


class Exclusion(msgspec.Struct, array_like=True):
    """A period in which a player may not play, [from_ms, until_ms)."""

    cause: str
    from_ms: int
    until_ms: int | None = None
    offset: int = 0


class ExclusionState(msgspec.Struct, array_like=True):
    """Exclusions of one player, and recent acts."""

    exclusions: list[Exclusion] = []
    recent: list[PlayerAct] = []


class ExcludedPlay(KeyedDetector[ExclusionState]):
    """D18 over one partition of the log."""

    kinds: ClassVar[frozenset[str] | None] = frozenset(
        {Kind.BET.value, Kind.INFORMATIONAL.value, Kind.PLAYER_STATE.value}
    )
    state_type = ExclusionState

    def find(
        self, state: ExclusionState, event: WalletTransaction, offset: int
    ) -> Iterator[Finding]:
        """Join acts and exclusions."""
        if has_kind(event, Kind.PLAYER_STATE):
            yield from self._take_state(state, event, offset)
            return
        act = _act_of(event, offset)
        if act is None:
            return
        state.recent.append(act)
        horizon_ms = self.watermark_ms - RECENT_MS
        if state.recent[0].at_ms < horizon_ms or len(state.recent) > RECENT_MAX:
            state.recent = [one for one in state.recent if one.at_ms >= horizon_ms][-RECENT_MAX:]
        for exclusion in state.exclusions:
            if _covers(exclusion, act.at_ms):
                yield self._finding(exclusion, act, event.player_id)
                break

    def _take_state(
        self, state: ExclusionState, event: WalletTransaction, offset: int
    ) -> Iterator[Finding]:
        cause = "" if event.cause is None else event.cause.type
        if cause not in self.rule.words["causes"]:
            return
        if event.operation == "player.released":
            for exclusion in state.exclusions:
                if exclusion.cause == cause and exclusion.until_ms is None:
                    exclusion.until_ms = event.occurred_at
        if event.operation != "player.blocked":
            return
        open_ones = (one for one in state.exclusions if one.until_ms is None)
        if any(one.cause == cause and _covers(one, event.occurred_at) for one in open_ones):
            return  # stated again: it finds nothing that the first does not
        exclusion = Exclusion(cause, event.occurred_at, None, offset)
        state.exclusions = [*_without_old(state.exclusions), exclusion]
        for act in state.recent:
            if _covers(exclusion, act.at_ms):
                yield self._finding(exclusion, act, event.player_id)

    def retain(self, state: ExclusionState) -> bool:
        """Return whether an exclusion is in force; that is never forgotten."""
        state.recent = []
        state.exclusions = [one for one in state.exclusions if one.until_ms is None]
        return bool(state.exclusions)

    def _finding(self, exclusion: Exclusion, act: PlayerAct, player_id: str | None) -> Finding:
        return Finding(
            reason=exclusion.cause.upper(),
            severity=self.rule.severity,
            title=f"{act.what} by an excluded player",
            player_id=player_id,
            at_ms=act.at_ms,
            window=(exclusion.from_ms, act.at_ms),
            observed=1,
            threshold=self.rule.threshold,
            unit=self.rule.unit,
            offsets=[exclusion.offset, act.offset],
            event_ids=[act.event_id],
            evidence={"excluded_since_ms": str(exclusion.from_ms), "act": act.what},
            exposed_minor=act.minor,
            currency=act.currency,
            adds=True,
        )


def _without_old(exclusions: Sequence[Exclusion]) -> list[Exclusion]:
    """Return the exclusions without the oldest of those that were lifted, if they are many."""
    lifted = [one for one in exclusions if one.until_ms is not None]
    dropped = lifted[:-LIFTED_MAX]
    return [one for one in exclusions if one not in dropped]


def _covers(exclusion: Exclusion, at_ms: int) -> bool:
    until_ms = exclusion.until_ms
    return exclusion.from_ms <= at_ms and (until_ms is None or at_ms < until_ms)


def _act_of(event: WalletTransaction, offset: int) -> PlayerAct | None:
    if has_kind(event, Kind.BET):
        kind, what = Kind.BET, "bet"
    elif event.operation == "deposit.opened":
        kind, what = Kind.INFORMATIONAL, "deposit"
    else:
        return None
    minor, currency = sum_legs(event, kind)
    return PlayerAct(event.occurred_at, offset, event.event_id, what, minor, currency)
