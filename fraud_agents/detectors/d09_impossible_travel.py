"""D09, impossible travel: two logins of one account too far apart for the time between them.

Key: brand and player. Neighbours in event time, at most 24 hours apart, are compared: the great
circle between them and the speed that it takes. That alone is for a person to look at; with a
second sign, a new device or changed credentials within `sign`, the money is held.

False-positive traps: a VPN or a data centre (such an address is not where the person is, so it is
left out of the speed test), places of one city that differ (the least distance), a login that
arrives late (neighbours by event time), a login without a place.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar, Final

import msgspec

from fraud_agents.detectors.base import Finding, KeyedDetector
from fraud_agents.facts import PlayerFact, place_of
from fraud_agents.features import distance_km, speed_kmh
from fraud_agents.rules import Limit, Severity, make_rule
from schemas.events import PlayerEvent
from schemas.topics import PLAYER_EVENTS

_DAY_MS: Final = 86_400_000
FIXES_MAX: Final = 64
DEVICES_MAX: Final = 32
_NOT_A_PLACE: Final = frozenset({"vpn", "hosting"})

RULE: Final = make_rule(
    "D09",
    "review",
    1,
    "journeys",
    _DAY_MS,
    title="Impossible travel",
    idle_ms=30 * _DAY_MS,
    limits={
        "speed": Limit(
            1_000,
            "km/h",
            "the published default of two products (Airlock IAM, synapse-waf)",
            "above",
        ),
        "distance": Limit(100, "km", "upper end of 50 to 100 km: errors of city databases"),
        "sign": Limit(_DAY_MS, "ms", "our default", "not above"),
    },
    reason=(
        "An airliner flies 900 km/h. Other products begin at 250 or 805 km/h, with more false "
        "alerts. A single sign has harmless reasons, two together rarely do. Devices are "
        "remembered for 30 days of silence."
    ),
)


class LoginFix(msgspec.Struct, frozen=True, array_like=True, order=True):
    """Where and with what a login was made."""

    at_ms: int
    offset: int
    event_id: str
    north: int
    east: int
    is_new_device: bool


class TravelState(msgspec.Struct, array_like=True):
    """Recent logins of one player by event time, known devices, and changes of credentials."""

    fixes: list[LoginFix] = []
    devices: list[str] = []
    changes: list[int] = []


class ImpossibleTravel(KeyedDetector[TravelState]):
    """D09 over one partition of the player events."""

    kinds: ClassVar[frozenset[str] | None] = frozenset(
        {PlayerFact.LOGIN.value, PlayerFact.CREDENTIAL_CHANGED.value}
    )
    topic: ClassVar[str] = PLAYER_EVENTS
    state_type = TravelState

    def find(self, state: TravelState, event: PlayerEvent, offset: int) -> Iterator[Finding]:
        """Take in a login or a change of credentials."""
        if event.type == PlayerFact.CREDENTIAL_CHANGED:
            state.changes = [*state.changes[-15:], event.occurred_at]
            yield from self._find_journeys(state, event, offset)
            return
        device = event.attributes.get("device", "")
        is_new = bool(device) and bool(state.devices) and device not in state.devices
        if device and device not in state.devices:
            state.devices = [*state.devices[-DEVICES_MAX + 1 :], device]
        place = place_of(event)
        if place is None or event.attributes.get("network") in _NOT_A_PLACE:
            return
        fix = LoginFix(event.occurred_at, offset, event.event_id, *place, is_new)
        insort(state.fixes, fix)
        horizon_ms = state.fixes[-1].at_ms - 2 * self.rule.window_ms
        state.fixes = [one for one in state.fixes if one.at_ms >= horizon_ms][-FIXES_MAX:]
        yield from self._find_journeys(state, event, offset, fix)

    def _find_journeys(
        self, state: TravelState, event: PlayerEvent, offset: int, fix: LoginFix | None = None
    ) -> Iterator[Finding]:
        for earlier, later in pairwise(state.fixes):
            if fix is not None and fix not in {earlier, later}:
                continue
            elapsed_ms = later.at_ms - earlier.at_ms
            distance = distance_km((earlier.north, earlier.east), (later.north, later.east))
            speed = speed_kmh(distance, elapsed_ms)
            is_far = distance >= self.rule.limit("distance")
            if elapsed_ms > self.rule.window_ms or not is_far or speed <= self.rule.limit("speed"):
                continue
            sign = self._find_sign(state, later)
            if fix is None and not sign:
                continue
            yield self._finding(earlier, later, event, offset, (distance, speed, sign))

    def _find_sign(self, state: TravelState, later: LoginFix) -> str:
        if later.is_new_device:
            return "new device"
        near = (abs(changed_ms - later.at_ms) for changed_ms in state.changes)
        if any(gap_ms <= self.rule.limit("sign") for gap_ms in near):
            return "credentials changed"
        return ""

    def _finding(
        self,
        earlier: LoginFix,
        later: LoginFix,
        event: PlayerEvent,
        offset: int,
        journey: tuple[int, int, str],
    ) -> Finding:
        distance, speed, sign = journey
        severity: Severity = "hold" if sign else self.rule.severity
        return Finding(
            reason="",
            severity=severity,
            title=f"{distance} km between two logins at {speed} km/h",
            player_id=event.player_id,
            at_ms=event.occurred_at,
            window=(earlier.at_ms, later.at_ms),
            observed=1,
            threshold=self.rule.threshold,
            unit=self.rule.unit,
            offsets=[earlier.offset, later.offset, offset],
            event_ids=[earlier.event_id, later.event_id],
            evidence={"distance_km": str(distance), "speed_kmh": str(speed), "second_sign": sign},
        )
