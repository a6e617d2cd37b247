"""Expectations of a demo besides its checks, which also hold for an empty ledger. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fraud_agents.detectors import D01_BET_VELOCITY, DETECTORS
from gateway.decisions.reading import FORGED
from lab.conformance.books import ProviderBooks, differing_books
from lab.conformance.intents import Identity
from lab.sandbox.calling import PlannedCall
from pitboss.demo.decisions import TrafficLog
from pitboss.demo.figures import DemoFigures
from replay.audit.checks import Check
from replay.audit.evidence import TableEvidence, TopicEvidence, raised_again
from replay.audit.rerun import differing_alerts
from schemas.errors import RejectCode
from schemas.events import Kind
from streams.providers.registry import DIALECTS


@dataclass(frozen=True)
class DemoResult:
    """Result of a demo: its figures and its checks."""

    figures: DemoFigures
    checks: list[Check]
    namespace: str = ""
    """Name of what is kept for inspection; empty if nothing is."""
    hops_ms: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Times of the events by hop, for the report."""
    traffic: TrafficLog = field(default_factory=TrafficLog)
    """What was observed of the traffic, for the report."""

    @property
    def holds(self) -> bool:
        """Whether every check holds and every expectation is met."""
        return all(check.holds for check in self.checks) and not self.figures.unmet


class ChecksFailed(Exception):  # not an error of the program: it carries the result
    """A check does not hold or an expectation is not met."""

    def __init__(self, result: DemoResult) -> None:
        super().__init__("not every check holds")
        self.result = result


def check_providers(moves: Mapping[str, Mapping[str, int]], books: ProviderBooks) -> Check:
    """Check that the books of every provider, kept by its answers, equal the ledger's.

    `moves` are the ledger's: what it moved by provider and event.
    """
    theirs = books.moved_by_event()
    differing = differing_books(moves, theirs)
    if not moves and not theirs:
        differing = ["nothing was played: all books are empty"]
    if differing:
        more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
        return Check("providers_agree", holds=False, detail=f"{differing[0]}{more}")
    sizes = [f"{len(events)} of {provider}" for provider, events in sorted(theirs.items())]
    return Check("providers_agree", holds=True, detail=f"moves in their books: {', '.join(sizes)}")


def unmet_expectations(
    calls: Sequence[PlannedCall],
    topics: TopicEvidence,
    tables: TableEvidence,
    accepted: Collection[Identity],
) -> list[str]:
    """Return the expectations that topics and tables do not meet, a sentence each.

    `calls` is everything that was sent, `accepted` the transactions that were answered with
    success.
    """
    return [
        *_answered(accepted, tables),
        *_dead_letters(calls, topics),
        *_alerts(topics),
    ]


def _answered(accepted: Collection[Identity], tables: TableEvidence) -> Iterator[str]:
    known = {
        (answer.brand, answer.provider, answer.operation, answer.provider_tx_id)
        for answer in tables.answers
    }
    if not accepted:
        yield "no transaction was accepted"
    if missing := sorted(set(accepted) - known):
        yield (
            f"{len(missing)} transactions were answered with success and are not in the ledger, "
            f"first {missing[0]}"
        )


def is_refused_at_the_door(call: PlannedCall) -> bool:
    """Return whether nothing of a spoilt call is appended, by what the gateway promises.

    A wrong signature, or a body from which no secret could be read where that is the signature.
    """
    face = DIALECTS[call.provider].face
    if call.expected_reject in FORGED:
        return True
    is_unproven = face is not None and face.waits and not face.signs_bytes
    return is_unproven and call.expected_reject is RejectCode.MALFORMED


def _dead_letters(calls: Sequence[PlannedCall], topics: TopicEvidence) -> Iterator[str]:
    expected = Counter(
        str(call.expected_reject)
        for call in calls
        if call.expected_reject is not None and not is_refused_at_the_door(call)
    )
    # After a crash a letter may be published twice; it counts once.
    letters = {(letter.source, letter.record_index, letter.code) for letter in topics.dead_letters}
    found = Counter(code for _, _, code in letters)
    if found != expected:
        yield f"the poison is {_text_of(expected)}, and the dead letters are {_text_of(found)}"


def _alerts(topics: TopicEvidence) -> Iterator[str]:
    # The ledger's own alerts come from its tables and not from a detector.
    published = {name: alert for name, alert in topics.alerts.items() if alert.rule_id in DETECTORS}
    if differing := differing_alerts(published, raised_again(topics)):
        yield f"alert {differing[0]} is not what the detectors find in the log"
    rule_id = D01_BET_VELOCITY.rule_id
    held = {
        alert.player_id
        for alert in published.values()
        if alert.rule_id == rule_id and alert.severity == "hold"
    }
    if held != (fast := find_fast_players(topics)):
        yield f"{len(fast)} players bet too fast, and {rule_id} holds the money of {len(held)}"


def find_fast_players(topics: TopicEvidence) -> set[str | None]:
    """Return the players who bet too fast, by the times of their bets in the log alone.

    Too fast are as many distinct bets as the rule D01 allows in as long a time, or more. At a low
    rate of the demo the account that speeds is not among them.
    """
    bets: dict[tuple[str, str | None], dict[str, int]] = {}
    for log in topics.log.values():
        for event in (one.event for one in log):
            if any(leg.kind == Kind.BET for leg in event.legs):
                bets.setdefault((event.brand, event.player_id), {})[event.event_id] = (
                    event.occurred_at
                )
    rule = D01_BET_VELOCITY
    return {
        player
        for (_, player), times in bets.items()
        if _has_burst(sorted(times.values()), rule.threshold, rule.window_ms)
    }


def _has_burst(times_ms: Sequence[int], count: int, within_ms: int) -> bool:
    return any(
        last - first < within_ms
        for first, last in zip(times_ms, times_ms[count - 1 :], strict=False)
    )


def _text_of(codes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {code}" for code, count in sorted(codes.items())) or "none"
