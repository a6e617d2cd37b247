"""One simulation: servers, consumer groups of workers, and the intents that connectors append."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from random import Random
from typing import Final

from aiokafka import TopicPartition
from msgspec.structs import replace

from lab.conformance.intents import IntentLeg
from lab.simulator.broker import Broker, SimulatedRecord
from lab.simulator.bundle import BUNDLE, BUNDLE_MAX, Bundle
from lab.simulator.group import ConsumerGroup
from lab.simulator.intents import AttemptKey, SimulatedIntent, encode_record, link_call
from lab.simulator.process import FaultKind, Process
from lab.simulator.roles import WORKERS
from lab.simulator.tables import Server
from lab.simulator.unbookable import UnbookableEvents
from lab.simulator.workers import LEDGER, NORMALISE, RESOLVE, SimulatedWorker, SimulationEnvironment
from schemas.policies import LedgerPolicy
from schemas.topics import TRANSACTIONS, UNRESOLVED, raw_topic
from streams.normalise.mapping.normaliser import Normaliser
from streams.normalise.mapping.operator_marks import CANCEL_HEADER
from streams.providers.adyen import Adyen
from streams.providers.house import House
from streams.providers.hub88 import Hub88
from streams.providers.hundredhp import HundredHP
from streams.providers.playngo import PlayNGo

EPOCH_MS: Final = 1_790_000_000_000
PROVIDERS: Final = ("adyen", BUNDLE, "house", "hub88", "hundredhp", "playngo")
SKEW_MS: Final = 400_000_000
"""The clocks of some providers and connectors are wrong by days."""
SETTLE_TIMEOUT_S: Final = 900.0


class SettleTimeout(Exception):
    """Something is still not booked or published long after the last fault."""


class Simulation:
    """State of one simulation; making one needs a running simulated loop."""

    def __init__(
        self,
        rng: Random,
        policies: Mapping[str, LedgerPolicy],
        trace: Callable[[str], None],
        partitions: int = 3,
    ) -> None:
        self.rng = rng
        self.policies = policies
        self.broker = Broker(partitions, rng)
        self.server = Server(partitions)
        self.intents: dict[AttemptKey, SimulatedIntent] = {}
        self.intent_times_ms: dict[AttemptKey, int] = {}
        """The provider's time of each intent, which may be wrong by days."""
        self.clock_ms = EPOCH_MS
        self.unbookable = UnbookableEvents(self, rng)
        self._trace = trace
        self._planned = 0
        self._numbers = count(1)
        self._processes: list[Process] = []
        dialects = {
            dialect.provider: dialect
            for dialect in (Hub88(), HundredHP(), PlayNGo(), Adyen(), House(), Bundle())
        }
        topics = tuple(raw_topic(provider) for provider in PROVIDERS)
        self.environment = SimulationEnvironment(
            self.broker,
            self.server,
            Normaliser(dialects, {}),
            policies,
            topics,
            self.now_ms,
            rng,
        )
        self.groups = {
            NORMALISE: self._group(NORMALISE, topics),
            LEDGER: self._group(LEDGER, (TRANSACTIONS,)),
            RESOLVE: self._group(RESOLVE, (UNRESOLVED,)),
        }
        self._running = [asyncio.ensure_future(group.run()) for group in self.groups.values()]

    def now_ms(self) -> int:
        """Return the time of the broker's clock."""
        return self.clock_ms + int(asyncio.get_running_loop().time() * 1000)

    def trace(self, text: str) -> None:
        """Report an occurrence as one line, with the simulated time."""
        self._trace(f"{asyncio.get_running_loop().time():9.3f} {text}")

    def _group(self, role: str, topics: Sequence[str]) -> ConsumerGroup:
        partitions = [
            TopicPartition(topic, partition)
            for topic in topics
            for partition in range(self.broker.partitions)
        ]

        def start() -> SimulatedWorker:
            process = Process(f"{role}-{next(self._numbers)}", self.rng, self.trace)
            self._processes.append(process)
            process.on_freeze = self.groups[role].notice_freeze
            process.ended.add_done_callback(lambda _: self.server.end_all_of(process.name))
            return WORKERS[role](self.environment, process)

        return ConsumerGroup(partitions, start, self.rng, self.trace)

    def append_intents(self, items: Sequence[SimulatedIntent]) -> SimulatedRecord:
        """Append intents as one record to their raw topic, as a connector does."""
        now_ms = self.now_ms()
        off = self.rng.choice((0, 0, 0, -SKEW_MS, SKEW_MS, 1))
        provider_ms = max(0, now_ms - self.rng.randrange(90_000) - off)
        received_ms = max(0, now_ms - 20 + off)
        items = link_call(items)
        key, value, headers = encode_record(items, received_ms, provider_ms, self.rng)
        kept = self.broker.append(raw_topic(items[0].provider), key, value, headers, now_ms)
        for index, intent in enumerate(items):
            self.intents[kept.topic, kept.partition, kept.offset, index] = intent
            self.intent_times_ms[kept.topic, kept.partition, kept.offset, index] = provider_ms
        return kept

    def append_again(self, record: SimulatedRecord) -> None:
        """Append a record again, as a connector does that got no acknowledgement."""
        again = self.broker.append(
            record.topic,
            record.key or b"",
            record.value or b"",
            self._headers(record),
            self.now_ms(),
        )
        for index, intent in enumerate(self._items(record)):
            key = (again.topic, again.partition, again.offset, index)
            self.intents[key] = intent
            self.intent_times_ms[key] = self.intent_times_ms[
                record.topic, record.partition, record.offset, index
            ]

    def append_cancel(self, record: SimulatedRecord) -> None:
        """Append the cancel of a record, as a connector does that got no answer in time."""
        attempt = f"{record.topic}-{record.partition}@{record.offset}"
        headers = [*self._headers(record), (CANCEL_HEADER, attempt.encode())]
        kept = self.broker.append(
            record.topic, record.key or b"", record.value or b"", headers, self.now_ms()
        )
        items = self._items(record)
        is_decided_call = items[0].provider == BUNDLE and any(one.decides for one in items)
        for index, intent in enumerate(items):
            key = (record.topic, record.partition, record.offset, index)
            identity = (*intent.identity[:2], "cancel", f"{attempt}#{index}")
            is_decision = intent.decides or is_decided_call
            self.intents[kept.topic, kept.partition, kept.offset, index] = replace(
                intent,
                identity=identity,
                legs=(IntentLeg("CANCEL" if is_decision else "INFORMATIONAL"),),
                reference=intent.identity,
                other_references=(),
                is_implied=False,
                cancels=key,
            )

    def call_of(self, key: AttemptKey) -> list[tuple[SimulatedIntent, AttemptKey]]:
        """Return the attempts that are decided together with one; empty for one decided alone."""
        intent = self.intents[key]
        if intent.provider != BUNDLE or intent.cancels is not None:
            return []
        keys = [(*key[:3], index) for index in range(BUNDLE_MAX)]
        call = [(self.intents[one], one) for one in keys if one in self.intents]
        return call if len(call) > 1 else []

    def schedule(
        self, after_s: float, act: Callable[[SimulatedRecord], None], record: SimulatedRecord
    ) -> None:
        """Do something with a record after a while; `settle` waits until it is done."""
        self.plan(after_s, lambda: act(record))

    def plan(self, after_s: float, act: Callable[[], object]) -> None:
        """Do something after a while; `settle` waits until it is done."""
        self._planned += 1

        def do() -> None:
            self._planned -= 1
            act()

        asyncio.get_running_loop().call_later(after_s, do)

    def _items(self, record: SimulatedRecord) -> list[SimulatedIntent]:
        key = (record.topic, record.partition, record.offset)
        return [
            self.intents[*key, index] for index in range(1_000) if (*key, index) in self.intents
        ]

    @staticmethod
    def _headers(record: SimulatedRecord) -> list[tuple[str, bytes]]:
        return [(name, value or b"") for name, value in record.headers if name != CANCEL_HEADER]

    def processes(self, role: str) -> list[Process]:
        """Return the processes of a role that are neither dead nor frozen."""
        members = self.groups[role].members
        return [
            one.process for one in members if not one.process.is_dead and not one.process.is_frozen
        ]

    def arm(self, role: str, point: str, fault: FaultKind, seconds: float = 0.0) -> None:
        """Inject a fault into a random process of a role when it reaches a point."""
        processes = self.processes(role)
        if processes:
            process = self.rng.choice(processes)
            process.arm(point, fault, seconds)

    @property
    def injected_faults(self) -> list[str]:
        """Faults of processes that have happened, in words."""
        return [
            f"{process.name}: {fault}" for process in self._processes for fault in process.faults
        ]

    @property
    def had_freeze(self) -> bool:
        """Whether a process was frozen, and may have sent something old after it."""
        return any(process.freezes for process in self._processes)

    async def settle(self) -> None:
        """Wait until everything is booked and published. Raises SettleTimeout."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + SETTLE_TIMEOUT_S
        self.server.is_away = False
        for process in self._processes:
            process.disarm()
        while True:
            reason = self._find_unsettled()
            if reason is None:
                self.stop()
                return
            if loop.time() > deadline_s or any(
                group.unexpected_exits for group in self.groups.values()
            ):
                raise SettleTimeout(reason)
            await asyncio.sleep(0.5)

    def _find_unsettled(self) -> str | None:
        if self._planned:
            return f"{self._planned} scheduled appends are still to come"
        if any(process.is_frozen and not process.is_dead for process in self._processes):
            return "a process is still frozen"
        committed = self.broker.committed
        for topic in self.environment.raw_topics:
            for partition, log in enumerate(self.broker.topics[topic]):
                if committed.get((NORMALISE, topic, partition), 0) != log.end:
                    return f"{topic}-{partition} is not normalised up to {log.end}"
        rows = self.server.tables["stream_position"].rows
        for consumer, topic in ((RESOLVE, UNRESOLVED), (LEDGER, TRANSACTIONS)):
            for partition, log in enumerate(self.broker.topics[topic]):
                row = rows.get((consumer, topic, partition), {})
                if row.get("next_offset", 0) != log.end:
                    return f"{topic}-{partition} is at {row.get('next_offset')} of {log.end}"
                if consumer == LEDGER and row.get("published_offset", 0) != log.end:
                    published = row.get("published_offset")
                    return f"{topic}-{partition} is published up to {published} of {log.end}"
        waiting = [row for row in self.server.tables["parked"].rows.values() if not row["appended"]]
        return f"{len(waiting)} events still wait for their player" if waiting else None

    def stop(self) -> None:
        """End every process, so that the state no longer changes."""
        for task in self._running:
            task.cancel()
        for group in self.groups.values():
            group.size = 0
        for process in self._processes:
            process.kill()

    async def close(self) -> None:
        """Stop, and cancel all tasks that are left."""
        self.stop()
        await asyncio.sleep(0)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
