"""The detectors by rule id, and the rules that are active by default.

A detector runs if it stands in `DETECTORS` and its rule among the rules of the worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol

from fraud_agents.detectors import (
    d01_bet_velocity,
    d01b_spin_cycle,
    d02_fake_deposit,
    d02b_wrong_signatures,
    d03_affiliate_burst,
    d04_structuring,
    d05_little_play,
    d06_bonus_abuse,
    d07_velocity,
    d08_multi_accounting,
    d09_impossible_travel,
    d10_opposite_bets,
    d11_chip_dumping,
    d12_geofence,
    d13_rtp_drift,
    d14_result_integrity,
    d15_changed_duplicate,
    d16_win_without_bet,
    d17_past_posting,
    d18_excluded_play,
    d18b_under_age_play,
    d19_markers_of_harm,
    d20_limit_breach,
)
from fraud_agents.detectors.observation import Detector
from fraud_agents.detectors.signal_base import SignalDetector
from fraud_agents.rules import Rule

D01_BET_VELOCITY: Final = d01_bet_velocity.RULE

DEFAULT_RULES: Final[tuple[Rule, ...]] = (
    d01_bet_velocity.RULE,
    d01b_spin_cycle.RULE,
    d02_fake_deposit.RULE,
    d02b_wrong_signatures.RULE,
    d03_affiliate_burst.RULE,
    d04_structuring.RULE,
    d05_little_play.RULE,
    d06_bonus_abuse.RULE,
    d07_velocity.RULE,
    d08_multi_accounting.RULE,
    d09_impossible_travel.RULE,
    d10_opposite_bets.RULE,
    d11_chip_dumping.RULE,
    d12_geofence.RULE,
    d13_rtp_drift.RULE,
    d14_result_integrity.RULE,
    d15_changed_duplicate.RULE,
    d16_win_without_bet.RULE,
    d17_past_posting.RULE,
    d18_excluded_play.RULE,
    d18b_under_age_play.RULE,
    d19_markers_of_harm.RULE,
    d20_limit_breach.RULE,
)

PAST_RULES: Final[tuple[Rule, ...]] = (d01_bet_velocity.VERSION_1,)
"""Rules that raised alerts and are not active any more: those alerts can still be explained."""


class DetectorType(Protocol):
    """Class of a detector."""

    topic: str

    def __call__(self, rule: Rule, partition: int) -> Detector:
        """Make the detector of a rule for a partition of its topic."""


DETECTORS: Final[Mapping[str, tuple[DetectorType, ...]]] = MappingProxyType(
    {
        "D01": (d01_bet_velocity.BetVelocity,),
        "D01B": (d01b_spin_cycle.SpinCycle,),
        "D02": (d02_fake_deposit.FakeDeposit,),
        "D02B": (d02b_wrong_signatures.WrongSignatures,),
        "D03": (),
        "D04": (d04_structuring.Structuring,),
        "D05": (d05_little_play.LittlePlay,),
        "D06": (d06_bonus_abuse.BonusAbuse,),
        "D07": (d07_velocity.DepositVelocity, d07_velocity.PlayerVelocity),
        "D08": (),
        "D09": (d09_impossible_travel.ImpossibleTravel,),
        "D10": (),
        "D11": (d11_chip_dumping.ChipDumping,),
        "D12": (),
        "D13": (d13_rtp_drift.RtpDrift,),
        "D14": (d14_result_integrity.ResultIntegrity,),
        "D15": (d15_changed_duplicate.ChangedDuplicate,),
        "D16": (d16_win_without_bet.WinWithoutBet,),
        "D17": (d17_past_posting.PastPosting,),
        "D18": (d18_excluded_play.ExcludedPlay,),
        "D18B": (),
        "D19": (),
        "D20": (d20_limit_breach.LimitBreach,),
    }
)
"""Classes of the detectors by rule id, one for each topic that a rule reads by itself."""

SIGNAL_DETECTORS: Final[Mapping[str, type[SignalDetector[Any]]]] = MappingProxyType(
    {
        "D03": d03_affiliate_burst.AffiliateBurst,
        "D08": d08_multi_accounting.MultiAccounting,
        "D10": d10_opposite_bets.OppositeBets,
        "D12": d12_geofence.Geofence,
        "D18B": d18b_under_age_play.UnderAgePlay,
        "D19": d19_markers_of_harm.MarkersOfHarm,
    }
)
"""Detectors over signals, which see several partitions in the order of event time."""
