"""Whether labelled traffic gives its labels away: marks at random must not show in a score.

Ordinary players of the traffic that is scored are marked at random and written as the players of
cases, with a truth of their own, beside all its cases. So the score of the markers of harm (D19)
cannot tell them from as many others, unless something of a case that is not its behaviour leaks:
names, times, the order of appending, delays. The figure is the area under the ROC curve, 0.5 for no
leak.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

import msgspec

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.ordered import OrderedDetectors
from fraud_agents.detectors.shard import MERGED
from fraud_agents.detectors.signal_base import Scope
from fraud_agents.rules import Rule
from lab.fraud.story import HOUR_MS, PlayerStory, Sent, Stream
from lab.fraud.traffic import SPAN_MS, START_MS, make_traffic

MARKED: Final = 2_000
AUC_BOUNDS: Final = (0.45, 0.55)
"""With 2,000 players on each side a fair score is 0.5 with a deviation of 0.009."""
_PARTITION: Final = 0


class Leakage(msgspec.Struct, frozen=True):
    """Scores of both groups, and the area under the ROC curve of the marked over the others."""

    seed: int
    marked: int
    others: int
    scores: dict[int, tuple[int, int]]
    """Players by number of markers: marked, others."""
    auc: float

    @property
    def is_fair(self) -> bool:
        """Whether the score cannot tell the marked from the others."""
        return AUC_BOUNDS[0] <= self.auc <= AUC_BOUNDS[1]


def measure_leakage(seed: int, *, marked: int = MARKED, leak: int = 0) -> Leakage:
    """Return how well the score of the markers of harm tells marked players from as many others.

    `leak` players of the marked behave differently after all: the check has to notice them.
    """
    traffic = make_traffic(seed, marked=marked)
    leaking = [player for player, label in traffic.marked.items() if label][:leak]
    groups = _split(traffic.marked, _score([*traffic.sent, *_leak(leaking)]))
    names = sorted({*groups[0], *groups[1]})
    return Leakage(
        seed,
        len(groups[0]),
        len(groups[1]),
        {score: (groups[0].count(score), groups[1].count(score)) for score in names},
        round(area_under_curve(*groups), 4),
    )


def _split(is_marked: dict[str, bool], scores: dict[str, int]) -> tuple[list[int], list[int]]:
    marked = [scores.get(player, 0) for player, label in is_marked.items() if label]
    return marked, [scores.get(player, 0) for player, label in is_marked.items() if not label]


def _leak(players: Sequence[str]) -> list[Sent]:
    """Return what gives players away: each raises their limits, and more often than others do."""
    stream = Stream(0)
    for player_id in players:
        player = PlayerStory(stream)
        player.player_id = player_id
        for number in range(3):
            player.report(START_MS + SPAN_MS + number * HOUR_MS, "LIMIT_RAISED", what="deposit")
    return stream.sent


def _score(sent: Sequence[Sent]) -> dict[str, int]:
    """Return the most markers of each player at a time, by the production detector."""
    [rule] = [rule for rule in DEFAULT_RULES if rule.rule_id == "D19"]
    inputs = [(topic, _PARTITION) for topic in MERGED]
    watch = OrderedDetectors([_every_marker(rule)], inputs, Scope.PLAYER, MERGED)
    scores: dict[str, int] = {}
    offsets = dict.fromkeys(inputs, 0)
    for one in sorted(sent, key=lambda one: one.append_ms):
        source = (one.topic, _PARTITION)
        if source not in offsets:
            continue
        for alert in watch.observe(one.record, source, offsets[source]):
            if alert.player_id is not None:
                scores[alert.player_id] = max(scores.get(alert.player_id, 0), alert.observed)
        offsets[source] += 1
    return scores


def _every_marker(rule: Rule) -> Rule:
    """Return the rule with alerts from the first marker on, so that the score is seen."""
    return msgspec.structs.replace(rule, threshold=1, close_below=1)


def area_under_curve(positives: Sequence[int], negatives: Sequence[int]) -> float:
    """Return how often a positive scores higher than a negative, ties counted half."""
    ordered = sorted(negatives)
    wins = sum(bisect_left(ordered, score) + bisect_right(ordered, score) for score in positives)
    return wins / (2 * len(positives) * len(negatives))
