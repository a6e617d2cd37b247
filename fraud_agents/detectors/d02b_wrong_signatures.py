"""D02B, wrong signatures: records that claim to be a provider's and that it did not sign.

Key: brand and provider; where the records name one player, the alert about them has the player in
its key. The normaliser refuses each such record, writes a dead letter, and says so on
`risk.signals.v1`; nothing of it is booked. Counted in 10 minutes of event time, which here is the
clock of the connector: a forger's own time is not believed. One is a broken proxy or a key that was
changed on one side only, many are an attempt to guess a key or to make up money. A person looks;
the player whom a forged record names may have nothing to do with it, so no player is stopped.

False-positive traps: a key that was rotated on one side (the alert says so early, which is right),
a record that is read again (counted once), signatures that are right and too old (STALE_SIGNATURE:
the event is in the log), a record of many items (each is a signal up to 16, and then the record).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Final

import msgspec

from fraud_agents.detectors.base import Finding, KeyedDetector, escape_key
from fraud_agents.detectors.evidence import counts_text
from fraud_agents.features import count_events
from fraud_agents.rules import Limit, Rule, make_rule
from fraud_agents.windows import Arrival, EventWindow, ExactSpec, WindowEntry
from schemas.events import RiskSignal, SignalKind
from schemas.topics import SIGNALS

KEPT_MAX: Final = 512
"""Signals of a provider that are remembered: under a flood the oldest go, long after the alert."""
_SHOWN: Final[tuple[str, ...]] = ("detail", "connector", "http-path")

RULE: Final = make_rule(
    "D02B",
    "review",
    20,
    "signals",
    600_000,
    title="Wrong signatures",
    stops_player=False,
    limits={
        "player": Limit(5, "wrong signatures in 10 min that name one player", "our default"),
    },
    reason=(
        "A signature that is wrong is refused wherever it comes from, so no money is at stake yet; "
        "many of them are an attempt. No source has a number: a connector whose key is "
        "wrong sends 20 within a minute, and a retry of one record is counted once."
    ),
)


class ForgedState(msgspec.Struct, array_like=True):
    """Wrong signatures of one brand and provider; the subject of each is the player it names."""

    forged: EventWindow = msgspec.field(default_factory=EventWindow)


class WrongSignatures(KeyedDetector[ForgedState]):
    """D02B over one partition of the risk signals, in the order in which they were written."""

    kinds: ClassVar[frozenset[str] | None] = frozenset({SignalKind.BAD_SIGNATURE.value})
    topic: ClassVar[str] = SIGNALS
    state_type = ForgedState

    def __init__(self, rule: Rule, partition: int) -> None:
        super().__init__(rule, partition)
        self._spec = ExactSpec(rule.grace_ms, rule.dedup_horizon_ms, capacity=KEPT_MAX)

    def key_of(self, event: RiskSignal) -> str | None:
        """Return brand and provider."""
        return escape_key(event.brand, event.provider)

    def find(self, state: ForgedState, event: RiskSignal, offset: int) -> Iterator[Finding]:
        """Count a signal in each window that holds it, of the provider and of the player."""
        player_id = event.player_id or ""
        entry = WindowEntry(event.occurred_at, offset, event.signal_id, subject=player_id)
        if state.forged.add(entry, self._spec) is not Arrival.COUNTED:
            return
        runs = [*state.forged.runs(event.occurred_at, self.rule.window_ms)]
        fullest = max(runs, key=count_events)
        if count_events(fullest) >= self.rule.threshold:
            yield self._finding(event, fullest, self.rule.threshold, None)
        if player_id:
            of_player = [[one for one in run if one.subject == player_id] for run in runs]
            own, least = max(of_player, key=count_events), self.rule.limit("player")
            if count_events(own) >= least:
                yield self._finding(event, own, least, player_id)

    def _finding(
        self,
        event: RiskSignal,
        window: Sequence[WindowEntry],
        threshold: int,
        player_id: str | None,
    ) -> Finding:
        count, source = count_events(window), event.source
        named = f" that name player {player_id}" if player_id is not None else ""
        title = f"{count} records of {event.provider} with a wrong signature{named}"
        latest: dict[str, str] = {
            name: event.attributes[name] for name in _SHOWN if name in event.attributes
        }
        return Finding(
            reason="PROVIDER" if player_id is None else "PLAYER",
            severity=self.rule.severity,
            title=title,
            player_id=player_id,
            key_suffix="" if player_id is None else escape_key(player_id),
            at_ms=event.occurred_at,
            window=(window[0].at_ms, window[-1].at_ms),
            observed=count,
            threshold=threshold,
            unit=self.rule.unit,
            offsets=[entry.offset for entry in window],
            event_ids=[entry.event_id for entry in window],
            evidence={
                "operator": ">=",
                "provider": event.provider,
                "players": counts_text(entry.subject for entry in window if entry.subject),
                "latest_record": f"{source.topic}-{source.partition}@{source.offset}",
                **latest,
            },
        )
