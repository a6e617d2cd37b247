"""A run's traffic: cases of every detector, near-misses, hard negatives and ordinary players."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Final

import msgspec

from lab.fraud import cases_games, cases_harm, cases_money, cases_people, cases_play
from lab.fraud.background import HARD_NEGATIVES, send_ordinary
from lab.fraud.story import DAY_MS, PlayerStory, Sent, Stream
from lab.fraud.truth import CaseType, CaseWriter, Level, Truth
from schemas.events import Leg
from schemas.heartbeats import player_heartbeat
from schemas.topics import GAME_RESULTS, PLAYER_EVENTS, TRANSACTIONS

START_MS: Final = 1_788_739_200_000
"""2026-09-07 00:00 UTC, a Monday."""
SPAN_MS: Final = 14 * DAY_MS
INJECTIONS_MIN: Final = 20
LATER_GAMES: Final = 64
"""So many games are in every partition, with eight of them."""
HEARTBEATS: Final = (5_000, 10_000, 15_000, 20_000, 30_000, 60_000, 125_000)
"""The log has a heartbeat every few seconds; only those that can matter to a case are made."""

ALL_CASES: Final[tuple[CaseType, ...]] = (
    *cases_money.CASES,
    *cases_play.CASES,
    *cases_games.CASES,
    *cases_people.CASES,
    *cases_harm.CASES,
)


class Traffic(msgspec.Struct, frozen=True):
    """Records in the order of appending, and the truth about them.

    A record with an empty key goes to every partition.
    """

    sent: list[Sent]
    truths: list[Truth]
    hard_negatives: dict[str, str]
    """Name of the hard negative by player."""
    marked: dict[str, bool] = {}
    """Players whom a check of leaks compares: whether they were marked at random."""


def make_traffic(
    seed: int,
    *,
    detectors: Sequence[str] = (),
    ordinary: int = 120,
    injections: int = INJECTIONS_MIN,
    marked: int = 0,
) -> Traffic:
    """Make the traffic of a seed, of all detectors or of some, with so many cases of each.

    `marked` players more are ordinary ones whom it writes as if they were cases, and as many are
    not marked.
    """
    stream = Stream(seed)
    truths: list[Truth] = []
    names = sorted({case.detector for case in ALL_CASES})
    for detector in names:
        if detectors and detector not in detectors:
            continue
        for case_type, level in _plan(detector, injections):
            truths.append(_write(stream, case_type, level, len(truths)))
    stream.case = None
    hard_negatives: dict[str, str] = {}
    for name, write in HARD_NEGATIVES.items():
        before = stream.sent.copy()
        write(stream, START_MS + stream.rng.randrange(SPAN_MS))
        hard_negatives |= {sent.key: name for sent in stream.sent[len(before) :]}
    send_ordinary(stream, ordinary, START_MS, SPAN_MS)
    is_marked = _send_marked(stream, marked, len(truths))
    _send_heartbeats(stream, truths)
    return Traffic(stream.in_order(), truths, hard_negatives, is_marked)


def _send_marked(stream: Stream, marked: int, first_number: int) -> dict[str, bool]:
    """Send ordinary players, half of them as players of a case; return by player whether."""
    labels = [True] * marked + [False] * marked
    stream.rng.shuffle(labels)
    is_marked: dict[str, bool] = {}
    for number, label in enumerate(labels, first_number):
        truth = Truth(
            number=number,
            detector="D19",
            name="marked at random",
            level=Level.OVER,
            players=[],
            severity="review",
        )
        stream.case = number if label else None
        case = CaseWriter(stream, Level.OVER, START_MS, truth)
        new_player = case.player if label else None
        [player] = send_ordinary(stream, 1, START_MS, SPAN_MS, new_player)
        is_marked[player] = label
    stream.case = None
    return is_marked


def _plan(detector: str, injections: int) -> Iterator[tuple[CaseType, Level]]:
    """Return cases of a detector: so many that are to be found, and all near-misses as often.

    Every third is at the edge where the detector has cases with an edge.
    """
    own = [case for case in ALL_CASES if case.detector == detector]
    over = cycle([case for case in own if Level.OVER in case.levels])
    edges = [case for case in own if Level.EDGE in case.levels]
    nears = [case for case in own if Level.NEAR in case.levels]
    edge_count = max(len(edges), -(-injections // 3)) if edges else 0
    over_count = max(0, injections - edge_count)
    if not any(Level.OVER in case.levels for case in own):
        edge_count, over_count = injections, 0
    yield from ((case, Level.OVER) for case, _ in zip(over, range(over_count), strict=False))
    yield from (
        (case, Level.EDGE) for case, _ in zip(cycle(edges), range(edge_count), strict=False)
    )
    near_count = max(edge_count, 2 * len(nears))
    yield from (
        (case, Level.NEAR) for case, _ in zip(cycle(nears), range(near_count), strict=False)
    )


def _write(stream: Stream, case_type: CaseType, level: Level, number: int) -> Truth:
    severity: str | None = case_type.severity
    severity_max = "block"
    if level is Level.NEAR:
        severity = case_type.near_severity_max
        severity_max = severity or "block"
    truth = Truth(
        number=number,
        detector=case_type.detector,
        name=case_type.name,
        level=level,
        players=[],
        severity=severity,
        severity_max=severity_max,
    )
    stream.case = number
    start_ms = START_MS + stream.rng.randrange(SPAN_MS)
    case_type.write(CaseWriter(stream, level, start_ms, truth))
    return truth


def _go_on_playing(stream: Stream, at_ms: int) -> None:
    """Send a later result in each partition: games go on, and that alone ends their windows."""
    results = [one.record for one in stream.sent if one.topic == GAME_RESULTS]
    for number in range(LATER_GAMES if results else 0):
        name = stream.next_name("result")
        later = msgspec.structs.replace(
            results[-1],
            event_id=name,
            provider_event_id=name,
            round_id=name,
            game_id=f"later-{number}",
            player_id=None,
            stake_minor=None,
            payout_minor=None,
            bets_closed_at=at_ms - 1_000,
            outcome_known_at=at_ms,
            occurred_at=at_ms,
            provider_at=at_ms,
            received_at=at_ms,
            appended_at=at_ms,
        )
        stream.sent.append(Sent(at_ms, GAME_RESULTS, later.game_id, later))


def _send_heartbeats(stream: Stream, truths: Sequence[Truth]) -> None:
    own = PlayerStory(stream)
    last_ms = max(sent.append_ms for sent in stream.sent)
    times = {truth.complete_ms + after for truth in truths for after in HEARTBEATS}
    times |= {last_ms + DAY_MS}
    _go_on_playing(stream, last_ms + DAY_MS)
    for at_ms in sorted(times):
        own.send(at_ms, "heartbeat", [Leg("HEARTBEAT")], provider="house", delay_ms=0)
        sent = stream.sent.pop()
        beat = msgspec.structs.replace(sent.record, player_id=None)
        stream.sent += [
            Sent(at_ms, TRANSACTIONS, "", beat),
            Sent(at_ms, PLAYER_EVENTS, "", player_heartbeat(beat, beat.provider_tx_id)),
        ]
