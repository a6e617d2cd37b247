"""All detectors over one partition of the log, and their state as one snapshot: pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from fraud_agents.detectors import DETECTORS, Detector, Observation
from fraud_agents.rules import Rule, rule_set_name
from schemas.errors import UsageError
from schemas.events import FraudAlert

STATE_VERSION: Final = 1


class PartitionState(msgspec.Struct, frozen=True, array_like=True):
    """The state of each rule's detector, by rule id."""

    version: int
    detectors: dict[str, bytes]


class PartitionDetectors:
    """The detectors of one partition. Raises UsageError for a rule that no detector implements."""

    def __init__(self, rules: Sequence[Rule], partition: int) -> None:
        unknown = [rule.rule_id for rule in rules if rule.rule_id not in DETECTORS]
        if unknown:
            raise UsageError(
                f"no detector for {', '.join(unknown)}; there are {', '.join(DETECTORS)}"
            )
        self.rule_set = rule_set_name(rules)
        self.detectors: tuple[Detector, ...] = tuple(
            DETECTORS[rule.rule_id](rule, partition) for rule in rules
        )

    def observe(self, event: Observation, offset: int) -> list[FraudAlert]:
        """Show one record to every detector, each offset once and in the order of the log."""
        return [
            alert
            for detector in self.detectors
            if (alert := detector.observe(event, offset)) is not None
        ]

    def state(self) -> bytes:
        """Return a snapshot; equal states give equal bytes."""
        states = {detector.rule.rule_id: detector.state() for detector in self.detectors}
        return msgspec.msgpack.encode(PartitionState(STATE_VERSION, states))

    def restore(self, state: bytes) -> None:
        """Take over a snapshot, of this or an earlier version of the rules, before any record.

        Windows and open episodes belong to the players, not to a version: a new version of a rule
        continues with them, and a rule that the snapshot does not know begins empty. Raises
        ValueError for bytes that are not a snapshot.
        """
        saved = msgspec.msgpack.decode(state, type=PartitionState)
        if saved.version != STATE_VERSION:
            raise ValueError(
                f"snapshot version {saved.version}; this program reads {STATE_VERSION}"
            )
        for detector in self.detectors:
            if (own := saved.detectors.get(detector.rule.rule_id)) is not None:
                detector.restore(own)
