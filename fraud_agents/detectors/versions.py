"""The versions of the rules that are in force over one input, each with its detector: pure.

What the detectors find is handled as the rules say: raised, held back, tried or snoozed. Rules
change between two records; a version that was in force keeps its state, a new one begins with that
of the active version of its rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Generic, Protocol, TypeVar

from fraud_agents.detectors.catalogue import DETECTORS, SIGNAL_DETECTORS
from fraud_agents.rule_set import RuleEntry, RuleSet, RuleState
from fraud_agents.rules import Rule
from schemas.errors import UsageError
from schemas.events import FraudAlert
from schemas.rule_changes import AlertHandling

_STOPPING: Final = frozenset({AlertHandling.NORMAL, AlertHandling.CONTROL})


class VersionDetector(Protocol):
    """What is needed of a detector to run several versions of its rule side by side."""

    rule: Rule

    @property
    def next_due_ms(self) -> int:
        """Event time of its first timer."""

    def close_cases(self, is_kept: Callable[[FraudAlert], bool]) -> Sequence[FraudAlert]:
        """Forget the open alerts that are not kept, and return the records that close them."""

    def state(self) -> bytes:
        """Return everything that future answers depend on."""

    def restore(self, state: bytes) -> None:
        """Take over a state, before the first record."""


D = TypeVar("D", bound=VersionDetector)


class RuleVersions(Generic[D]):
    """The detectors of the versions in force, the active version of a rule before its others.

    `make` gives the detectors that a rule has over this input. Raises UsageError for a rule that no
    detector implements.
    """

    def __init__(self, rules: RuleSet, make: Callable[[Rule], Sequence[D]]) -> None:
        self._make = make
        self.detectors: tuple[D, ...] = ()
        self._stopping: set[tuple[str, int]] = set()
        self._use(rules, {})

    def _use(self, rules: RuleSet, running: Mapping[str, D]) -> None:
        known = DETECTORS.keys() | SIGNAL_DETECTORS.keys()
        if unknown := [e.rule.rule_id for e in rules.entries if e.rule.detector_id not in known]:
            raise UsageError(
                f"no detector for {', '.join(unknown)}; there are {', '.join(DETECTORS)}"
            )
        self.rules, self.name = rules, rules.name
        made: list[tuple[D, RuleEntry]] = []
        for entry in sorted(rules.entries, key=lambda one: one.state is not RuleState.ACTIVE):
            kept = running.get(version_name(entry.rule))
            own = self._make(entry.rule) if kept is None else [kept]
            made += [(detector, entry) for detector in own]
        self.detectors = tuple(detector for detector, _ in made)
        self._entries = {id(detector): entry for detector, entry in made}
        # Kept when a set is over: an alert is asked about after its record has changed the rules.
        self._stopping |= {
            (one.rule.rule_id, one.rule.version) for one in rules.entries if one.rule.stops_player
        }

    def handle(self, detector: D, found: Iterable[FraudAlert]) -> list[FraudAlert]:
        """Return the alerts of a detector as they are published."""
        entry = self._entries[id(detector)]
        raised = (self.rules.handle(alert, entry) for alert in found)
        return [alert for alert in raised if alert is not None]

    def may_stop(self, alert: FraudAlert) -> bool:
        """Return whether an alert may block or hold its player, by its version and handling."""
        version = (alert.rule_id, alert.rule_version)
        return alert.handling in _STOPPING and version in self._stopping

    def switch(self, rules: RuleSet) -> list[FraudAlert]:
        """Go on under other rules; return the ends of alerts that their rules no longer raise.

        An open alert whose handling changes is closed, so that the next finding opens one that is
        handled as the new set says.
        """
        old, old_rules = self.detectors, self.rules
        entries = [self._entries[id(detector)] for detector in old]
        running = {version_name(one.rule): one for one in old}
        states = {version_name(one.rule): one.state() for one in old}
        self._use(rules, running)
        closed: list[FraudAlert] = []
        for detector, entry in zip(old, entries, strict=True):
            closed += self._close_changed(detector, old_rules, entry)
        for detector in self.detectors:
            if version_name(detector.rule) in states:
                continue
            if (state := _state_of(detector.rule, states)) is not None:
                detector.restore(state)
                # The alerts that the superseded version left open go on under the new one.
                if self._entries[id(detector)].state is not RuleState.ACTIVE:
                    detector.close_cases(lambda _: False)
        return closed

    def _close_changed(
        self, detector: D, old_rules: RuleSet, old_entry: RuleEntry
    ) -> list[FraudAlert]:
        entry = self.rules.entry_of(detector.rule)
        if entry is None and self._is_superseded(old_entry):
            return []
        changed: list[FraudAlert] = []

        def is_kept(alert: FraudAlert) -> bool:
            after = None if entry is None else self.rules.handle(alert, entry)
            before = old_rules.handle(alert, old_entry)
            return before is not None and after == before

        for alert in detector.close_cases(is_kept):
            raised = old_rules.handle(alert, old_entry)
            if raised is not None:
                changed.append(raised)
        return changed

    def _is_superseded(self, old: RuleEntry) -> bool:
        """Return whether another version has taken over from an active one."""
        return old.state is RuleState.ACTIVE and any(
            entry.state is RuleState.ACTIVE and entry.rule.rule_id == old.rule.rule_id
            for entry in self.rules.entries
        )

    def states(self) -> dict[str, bytes]:
        """Return the state of each version's detector, by rule and version."""
        return {version_name(one.rule): one.state() for one in self.detectors}

    def restore(self, states: Mapping[str, bytes]) -> None:
        """Take over states of this or an earlier version of the rules, before any record.

        Windows and open episodes belong to the players, not to a version: a new version of a rule
        continues with them, and a rule that the states do not know begins empty.
        """
        for detector in self.detectors:
            if (own := _state_of(detector.rule, states)) is not None:
                detector.restore(own)


def version_name(rule: Rule) -> str:
    """Return the name of a version, as in `D01@2`."""
    return f"{rule.rule_id}@{rule.version}"


def _state_of(rule: Rule, states: Mapping[str, bytes]) -> bytes | None:
    """Return the state of a version; else that of the first version of its rule."""
    own = states.get(version_name(rule))
    if own is not None:
        return own
    return next((s for name, s in states.items() if name.startswith(f"{rule.rule_id}@")), None)
