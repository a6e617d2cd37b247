"""The demo of fake deposits: $250,000 made up through an affiliate, and no cent of it leaves.

The installation has no key of its payment provider, so a notice shows nothing about its sender.
Twenty-five players of one affiliate each open a deposit of $10,000 at the cashier, and a person
with access to the connector sends the notices that it was paid. The ledger credits them. Detector
D02 finds deposits that no provider has signed; with enforcement on, its blocks reach the ledger's
decisions through the log. Some seconds later every player asks for the money.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Final

import msgspec

from fraud_agents.features import leg_minor
from lab.conformance.intents import Intent, Verb
from lab.conformance.writers.find import find_writers
from lab.sandbox.actions import ADYEN, HOUSE, PROVIDERS, Delivery, IntentRequest
from lab.sandbox.feeder import feed_records
from lab.sandbox.keys import SandboxKeys
from lab.sandbox.players import Player, Purse
from lab.sandbox.records import RawEvent
from lab.sandbox.seats import make_intent
from lab.sandbox.writing import write_all
from pitboss.demo.display import DemoDisplay
from pitboss.demo.environment import demo_environment, running_workers
from pitboss.demo.quiescence import DemoProgress, QuiescenceMonitor
from pitboss.demo.traffic import STALL_S
from pitboss.settings import Runtime, StackSettings
from replay.audit.evidence import TopicEvidence, read_all_topics
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas.events import AlertStatus, WalletTransaction

PLAYERS: Final = 25
CREDITED_MINOR: Final = 1_000_000
CURRENCY: Final = "USD"
BRAND: Final = "aurora"
WITHDRAWAL_AFTER_S: Final = 5.0
"""Time from the last notice to the first request for a withdrawal: a person at the cashier."""
BLOCK_TARGET_MS: Final = 1_000
"""An alert reaches the ledger's decisions through the log within this time."""


class FakeDepositFigures(msgspec.Struct, frozen=True):
    """What became of the burst. Money is in minor units of `currency`."""

    currency: str
    credited_minor: int
    """Booked by the ledger for the false notices."""
    exposed_minor: int
    """Money that the alerts of D02 are about."""
    paid_minor: int
    """Money of withdrawals that the ledger accepted."""
    players: int
    blocked_players: int
    withdrawals_refused: int
    refusals: dict[str, int]
    slowest_block_ms: int | None
    """From the append of a false notice to that of its player's block, the longest of all."""
    unblocked_minor_max: int
    """Most money at one time that was credited to players who were not blocked yet."""

    @property
    def is_block_in_time(self) -> bool:
        """Whether the slowest block came within the target."""
        return self.slowest_block_ms is not None and self.slowest_block_ms <= BLOCK_TARGET_MS

    @property
    def holds(self) -> bool:
        """Whether all money was found, in time, and none could leave."""
        whole = PLAYERS * CREDITED_MINOR
        return (
            self.credited_minor == self.exposed_minor == whole
            and self.paid_minor == 0
            and self.blocked_players == self.withdrawals_refused == self.players == PLAYERS
            and self.refusals == {"REFUSED_BLOCKED": PLAYERS}
            and self.is_block_in_time
        )


def run_fake_deposits(
    stack: StackSettings, display: DemoDisplay, *, use_given_servers: bool, keep: bool
) -> FakeDepositFigures:
    """Run the scenario on real workers in a namespace of its own.

    Raises Stalled if something does not settle.
    """
    with demo_environment(
        stack, "demo", display.print_line, use_given_servers=use_given_servers, keep=keep
    ) as environment:
        runtime = environment.runtime
        with running_workers(
            runtime,
            stack.home,
            display.print_line,
            SandboxKeys({HOUSE: environment.keys.secrets[HOUSE]}),
            PITBOSS_FRAUD_ENFORCE="block,hold",
        ):
            asyncio.run(_play(runtime, environment.keys, display))
        topics = asyncio.run(read_all_topics(runtime.broker, runtime.namespace, PROVIDERS))
        return measure_fake_deposits(topics)


def make_players() -> list[Player]:
    """Return the affiliate's players."""
    purse = Purse(CURRENCY, (100,), (CREDITED_MINOR,))
    return [Player(f"affiliate-7-{number}", BRAND, "US-NJ", purse) for number in range(PLAYERS)]


def deposit_records(players: Sequence[Player], keys: SandboxKeys, at_ms: int) -> list[RawEvent]:
    """Return the openings of deposits, and the false notices that they were paid."""
    writers = find_writers((HOUSE, ADYEN))
    house, adyen = writers[HOUSE], writers[ADYEN]
    intents: list[Intent] = []
    for number, player in enumerate(players):
        opened = make_intent(
            house,
            Verb.DEPOSIT_OPENED,
            player,
            f"deposit-{player.id}",
            at_ms,
            CREDITED_MINOR,
            details=(("psp", ADYEN),),
        )
        notice = make_intent(
            adyen,
            Verb.DEPOSIT,
            player,
            f"PSP{number:013}",
            at_ms,
            CREDITED_MINOR,
            reference=opened.identity,
            deposit_id=opened.tx_id,
            region="",
            details=(("method", "visa"),),
        )
        intents += [opened, notice]
    return _written(intents, keys, at_ms)


def withdrawal_records(players: Sequence[Player], keys: SandboxKeys, at_ms: int) -> list[RawEvent]:
    """Return a request of each player for all of the money."""
    house = find_writers((HOUSE,))[HOUSE]
    verb = Verb.WITHDRAWAL_REQUESTED
    intents = [
        make_intent(house, verb, player, f"withdrawal-{number}", at_ms, CREDITED_MINOR)
        for number, player in enumerate(players)
    ]
    return _written(intents, keys, at_ms)


def _written(intents: Iterable[Intent], keys: SandboxKeys, at_ms: int) -> list[RawEvent]:
    deliveries = [
        Delivery(IntentRequest(at_ms, (intent,)), at_ms, 0, number)
        for number, intent in enumerate(intents)
    ]
    return write_all(deliveries, keys)


async def _play(runtime: Runtime, keys: SandboxKeys, display: DemoDisplay) -> None:
    players = make_players()
    producer = BatchProducer(ProducerSettings(runtime.broker, "pitboss.demo"))
    async with producer, QuiescenceMonitor(runtime) as monitor:
        # A first record, so that the burst meets workers that are up.
        warm_up = deposit_records([Player("first", BRAND, "", players[0].purse)], keys, _now_ms())
        await feed_records(warm_up[:1], producer, namespace=runtime.namespace)
        await monitor.wait_until_quiet(STALL_S, _ignore_progress)
        display.print_line(
            f"{PLAYERS} notices of {CREDITED_MINOR // 100:,} {CURRENCY}, of no provider"
        )
        records = deposit_records(players, keys, _now_ms())
        await feed_records(records, producer, namespace=runtime.namespace)
        await asyncio.sleep(WITHDRAWAL_AFTER_S)
        display.print_line("every player asks for a withdrawal of all of it")
        records = withdrawal_records(players, keys, _now_ms())
        await feed_records(records, producer, namespace=runtime.namespace)
        await monitor.wait_until_quiet(STALL_S, _ignore_progress)


def _ignore_progress(_: DemoProgress) -> None:
    """Show nothing: it takes seconds."""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def measure_fake_deposits(topics: TopicEvidence) -> FakeDepositFigures:
    """Return what became of the burst, from the topics alone."""
    events = [one.event for records in topics.log.values() for one in records]
    outcome_of = {event_id: outcome for (event_id, _), outcome in topics.outcomes.items()}
    found = _latest_alerts(topics)
    deposits = [e for e in events if e.operation == "AUTHORISATION"]
    requests = [e for e in events if e.operation == "withdrawal.requested"]
    accepted = [e for e in requests if outcome_of[e.event_id].outcome in {"POSTED", "EXISTS"}]
    reasons = [outcome_of[e.event_id].outcome for e in requests if e not in accepted]
    blocks = {
        e.player_id: e.appended_at
        for e in reversed(events)
        if e.operation == "player.blocked" and e.cause is not None and e.cause.type == "alert"
    }
    booked = [e for e in deposits if outcome_of[e.event_id].outcome == "POSTED"]
    waits = [blocks[e.player_id] - e.appended_at for e in deposits if e.player_id in blocks]
    return FakeDepositFigures(
        currency=CURRENCY,
        credited_minor=sum(map(_amount_of, booked)),
        exposed_minor=sum(found.values()),
        paid_minor=sum(map(_amount_of, accepted)),
        players=len({e.player_id for e in deposits}),
        blocked_players=len(blocks),
        withdrawals_refused=len(reasons),
        refusals={reason: reasons.count(reason) for reason in sorted(set(reasons))},
        slowest_block_ms=max(waits) if waits else None,
        unblocked_minor_max=_most_unblocked(booked, blocks),
    )


def _most_unblocked(deposits: Sequence[WalletTransaction], blocks: Mapping[str | None, int]) -> int:
    """Return the most money at one time of deposits whose players had no block yet."""
    steps = [(e.appended_at, _amount_of(e)) for e in deposits]
    steps += [(blocks[e.player_id], -_amount_of(e)) for e in deposits if e.player_id in blocks]
    # Of one millisecond the deposits first: it may have been in their order.
    steps.sort(key=lambda step: (step[0], -step[1]))
    return max(accumulate(minor for _, minor in steps), default=0)


def _latest_alerts(topics: TopicEvidence) -> dict[str, int]:
    """Return the money exposed by alert of D02, as of its latest revision."""
    revisions = sorted(topics.alerts.values(), key=lambda alert: alert.revision)
    return {
        alert.alert_id: alert.exposed_minor or 0
        for alert in revisions
        if alert.rule_id == "D02" and alert.status != AlertStatus.CLOSED
    }


def _amount_of(event: WalletTransaction) -> int:
    return sum(leg_minor(leg) or 0 for leg in event.legs)
