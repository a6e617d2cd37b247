"""The versions of the rules that are in force over one input, each with its detector: pure.

What the detectors find is handled as the rules say: raised, held back, tried or snoozed. Rules
change between two records; a version that was in force keeps its state, a new one begins with that
of the active version of its rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from fraud_agents.detectors.catalogue import DETECTORS, SIGNAL_DETECTORS
from fraud_agents.features import reference_minor
from fraud_agents.rule_set import RuleEntry, RuleSet, RuleState
from fraud_agents.rules import Rule
from schemas.errors import UsageError
from schemas.events import AlertStatus, FraudAlert
from schemas.rule_changes import AlertHandling

_DAY_MS: Final = 86_400_000
_BUDGETS: Final = "control groups"
_STOPPING: Final = frozenset({AlertHandling.NORMAL, AlertHandling.CONTROL})


class ControlBudget(msgspec.Struct, array_like=True):
    """Money of one version's control group, in euro cents, on one day of event time."""

    day: int = 0
    spent: int = 0
    admitted: dict[str, int] = {}
    """Open alerts of the group, and how much of each is counted."""

    def admit(self, alert: FraudAlert, day_minor_max: int) -> bool:
        """Return whether an alert that would be of the group is; count what it exposes.

        An alert is admitted when it is opened, and stays in the group while its money fits.
        """
        if alert.status == AlertStatus.CLOSED:
            return self.admitted.pop(alert.alert_id, None) is not None
        counted = self.admitted.get(alert.alert_id)
        if counted is None and alert.status != AlertStatus.OPEN:
            return False
        day = alert.occurred_at // _DAY_MS
        if day > self.day:
            self.day, self.spent = day, 0
        exposed = reference_minor(alert.exposed_minor or 0, alert.currency) or 0
        if self.spent + exposed - (counted or 0) > day_minor_max:
            self.admitted.pop(alert.alert_id, None)
            return False
        self.spent += exposed - (counted or 0)
        self.admitted[alert.alert_id] = exposed
        return True


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
        self._budgets: dict[str, ControlBudget] = {}
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
        self._players = {id(one): rules.players_of(entry.rule) for one, entry in made}
        # Kept when a set is over: an alert is asked about after its record has changed the rules.
        self._stopping |= {
            (one.rule.rule_id, one.rule.version) for one in rules.entries if one.rule.stops_player
        }

    def players_of(self, detector: D) -> frozenset[str] | None:
        """Return the players that a detector is limited to by segments; None: all."""
        return self._players[id(detector)]

    def handle(self, detector: D, found: Iterable[FraudAlert]) -> list[FraudAlert]:
        """Return the alerts of a detector as they are published."""
        entry = self._entries[id(detector)]
        published = []
        for alert in found:
            raised = self.rules.handle(alert, entry)
            if raised is not None and raised.handling == AlertHandling.CONTROL:
                control, name = entry.rule.control, version_name(entry.rule)
                assert control is not None
                budget = self._budgets.setdefault(name, ControlBudget())
                raised = raised if budget.admit(alert, control.day_minor_max) else alert
            if raised is not None:
                published.append(raised)
        return published

    def _as_published(
        self, alert: FraudAlert, rules: RuleSet, entry: RuleEntry
    ) -> FraudAlert | None:
        """Return an open alert as it stands under a set, without counting its money."""
        raised = rules.handle(alert, entry)
        if raised is None or raised.handling != AlertHandling.CONTROL:
            return raised
        budget = self._budgets.get(version_name(entry.rule))
        is_admitted = budget is not None and alert.alert_id in budget.admitted
        return raised if is_admitted else alert

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
            after = None if entry is None else self._as_published(alert, self.rules, entry)
            before = self._as_published(alert, old_rules, old_entry)
            return before is not None and after == before

        for alert in detector.close_cases(is_kept):
            raised = self._as_published(alert, old_rules, old_entry)
            if raised is not None:
                changed.append(raised)
            if (budget := self._budgets.get(version_name(old_entry.rule))) is not None:
                budget.admitted.pop(alert.alert_id, None)
        return changed

    def _is_superseded(self, old: RuleEntry) -> bool:
        """Return whether another version has taken over from an active one."""
        return old.state is RuleState.ACTIVE and any(
            entry.state is RuleState.ACTIVE and entry.rule.rule_id == old.rule.rule_id
            for entry in self.rules.entries
        )

    def states(self) -> dict[str, bytes]:
        """Return the state of each version's detector, by rule and version, and the budgets."""
        states = {version_name(one.rule): one.state() for one in self.detectors}
        if self._budgets:
            states[_BUDGETS] = msgspec.msgpack.encode(self._budgets)
        return states

    def restore(self, states: Mapping[str, bytes]) -> None:
        """Take over states of this or an earlier version of the rules, before any record.

        Windows and open episodes belong to the players, not to a version: a new version of a rule
        continues with them, and a rule that the states do not know begins empty.
        """
        for detector in self.detectors:
            if (own := _state_of(detector.rule, states)) is not None:
                detector.restore(own)
        if (budgets := states.get(_BUDGETS)) is not None:
            self._budgets = msgspec.msgpack.decode(budgets, type=dict[str, ControlBudget])


def version_name(rule: Rule) -> str:
    """Return the name of a version, as in `D01@2`."""
    return f"{rule.rule_id}@{rule.version}"


def _state_of(rule: Rule, states: Mapping[str, bytes]) -> bytes | None:
    """Return the state of a version; else that of the first version of its rule."""
    own = states.get(version_name(rule))
    if own is not None:
        return own
    return next((s for name, s in states.items() if name.startswith(f"{rule.rule_id}@")), None)
