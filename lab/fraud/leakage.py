"""Whether labelled traffic gives its labels away: marks at random must not show in a score.

Players are marked at random and written by the same code as cases, with a truth of their own, and
their lives are drawn like everybody else's. So the score of the markers of harm (D19) cannot tell
them apart, unless something of a case that is not its behaviour leaks: names, times, the order of
appending, delays. The figure is the area under the ROC curve, 0.5 for no leak.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from random import Random
from typing import Final

import msgspec

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.ordered import OrderedDetectors
from fraud_agents.detectors.shard import MERGED
from fraud_agents.detectors.signal_base import Scope
from fraud_agents.rules import Rule
from lab.fraud.story import DAY_MS, HOUR_MS, MINUTE_MS, PlayerStory, Stream
from lab.fraud.traffic import SPAN_MS, START_MS
from lab.fraud.truth import CaseWriter, Level, Truth

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
    stream = Stream(seed)
    labels = [True] * marked + [False] * marked
    stream.rng.shuffle(labels)
    is_marked: dict[str, bool] = {}
    for number, label in enumerate(labels):
        start_ms = START_MS + stream.rng.randrange(SPAN_MS)
        player = _player(stream, start_ms, number if label else None)
        is_marked[player.player_id] = label
        _live(player, start_ms, stream.rng)
        if label and leak > 0:
            leak -= 1
            _cancel(player, start_ms + DAY_MS)
            _raise_limits(player, start_ms + DAY_MS)
        stream.case = None
    scores = _score(stream)
    groups = _split(is_marked, scores)
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


def _player(stream: Stream, start_ms: int, number: int | None) -> PlayerStory:
    """Return a new player; one with a number is that of a case, as cases are written."""
    if number is None:
        return PlayerStory(stream)
    truth = Truth(
        number=number,
        detector="D19",
        name="marked at random",
        level=Level.OVER,
        players=[],
        severity="review",
        severity_max="block",
    )
    stream.case = number
    return CaseWriter(stream, Level.OVER, start_ms, truth).player()


def _live(player: PlayerStory, at_ms: int, rng: Random) -> None:
    """Draw a life: each marker of harm with a chance of its own, beside ordinary play."""
    player.deposit(at_ms, 5_000)
    player.play(at_ms + MINUTE_MS, rng.randint(2, 6), 200)
    for write, share in ((_cancel, 0.3), (_raise_limits, 0.25), (_fail_deposits, 0.2)):
        at_ms += rng.randint(2, 30) * HOUR_MS
        if rng.random() < share:
            write(player, at_ms)


def _cancel(player: PlayerStory, at_ms: int) -> None:
    for number in range(2):
        player.report(at_ms + number * HOUR_MS, "WITHDRAWAL_CANCELLED", None, withdrawal="w")


def _raise_limits(player: PlayerStory, at_ms: int) -> None:
    for number in range(3):
        player.report(at_ms + number * HOUR_MS, "LIMIT_RAISED", None, limit="deposit")


def _fail_deposits(player: PlayerStory, at_ms: int) -> None:
    for number in range(3):
        player.report(at_ms + number * HOUR_MS, "DEPOSIT_FAILED", None, amount="1")


def _score(stream: Stream) -> dict[str, int]:
    """Return the most markers of each player at a time, by the production detector."""
    [rule] = [rule for rule in DEFAULT_RULES if rule.rule_id == "D19"]
    inputs = [(topic, _PARTITION) for topic in MERGED]
    watch = OrderedDetectors([_every_marker(rule)], inputs, Scope.PLAYER, MERGED)
    scores: dict[str, int] = {}
    offsets = dict.fromkeys(inputs, 0)
    for sent in stream.in_order():
        source = (sent.topic, _PARTITION)
        for alert in watch.observe(sent.record, source, offsets[source]):
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
