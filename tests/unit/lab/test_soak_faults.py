"""The faults of a soak follow from its seed."""

from __future__ import annotations

from pitboss.workers import ROLES
from tests.support.soak import FREEZE_S, JOIN_S, draw_faults


def test_faults_are_those_of_their_seed_and_hit_every_worker_in_every_way():
    faults = draw_faults(7, 1_800, ROLES)
    assert faults == draw_faults(7, 1_800, ROLES)
    assert faults != draw_faults(8, 1_800, ROLES)
    assert draw_faults(7, 60, ROLES) == [fault for fault in faults if fault.at_s < 60]
    assert {(fault.kind, fault.role) for fault in faults} == {
        (kind, role) for kind in ("kill", "freeze", "join") for role in ROLES
    }
    assert 200 < len(faults) < 400
    for fault in faults:
        shortest, longest = JOIN_S if fault.kind == "join" else FREEZE_S
        assert shortest <= fault.for_s <= longest
