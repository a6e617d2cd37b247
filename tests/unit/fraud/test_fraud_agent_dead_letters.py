"""Records that the fraud agent cannot read, when it is killed at any step and reads them again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from fraud_agents.detectors.shard import WATCHED
from fraud_agents.owned import RECORD_TYPES
from lab.fraud.story import PlayerStory, Stream
from runtime.dead_letters.letters import Action, CaseState, Letter, collect_cases
from runtime.dead_letters.sink import KafkaDeadLetterSink
from runtime.kafka.batches import RecordBatch
from runtime.kafka.intake.start_offsets import LOG_START
from schemas import codec
from schemas.events import DeadLetter, Position
from schemas.topics import DEAD_LETTER_SUFFIX, PLAYER_EVENTS, SIGNALS
from tests.unit.fraud.test_fraud_agent_kills import Killed, Rules, Servers, agent_of

T0 = 1_788_739_200_000
RECORDS = 60
UNREADABLE = range(5, RECORDS, 10)
WHERE = [PLAYER_EVENTS, SIGNALS]


def records_of(topic: str) -> list[SimpleNamespace]:
    """Logins, or signals that are none of a detector's; some of them are not readable."""
    stream = Stream(9)
    player = PlayerStory(stream)
    for number in range(RECORDS):
        player.report(T0 + 1_000 * number, "LOGIN")
    encode = codec.encoder(RECORD_TYPES[PLAYER_EVENTS])
    return [
        SimpleNamespace(
            topic=topic,
            partition=0,
            offset=offset,
            timestamp=T0 + offset,
            key=b"player",
            value=b"broken" if topic == SIGNALS or offset in UNREADABLE else encode(sent.record),
            headers=[],
        )
        for offset, sent in enumerate(stream.sent)
    ]


class OneKill(Servers):
    """Kills the process once, at this step; None: never."""

    def __init__(self, kill_at: int | None) -> None:
        super().__init__(None)
        self.kill_at = kill_at
        self.steps = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.kill_at:
            self.kills += 1
            raise Killed


async def watch(servers: Servers, topic: str) -> None:
    """Watch a topic in batches of ten, beginning again at the snapshot after every kill."""
    records = records_of(topic)
    topics = (SIGNALS,) if topic == SIGNALS else WATCHED
    watched = [TopicPartition(name, 0) for name in topics]
    producer: Any = servers
    while True:
        letters = KafkaDeadLetterSink(producer, "fraud", "test")
        agent = agent_of(servers, Rules(servers), topics, letters)
        try:
            starts = await agent.claim(watched)
            start = starts[TopicPartition(topic, 0)]
            for first in range(0 if start == LOG_START else start, RECORDS, 10):
                batch = RecordBatch(topic, 0, first, first + 10, records[first : first + 10], 1)
                await agent.handle(batch)
            await agent.release(watched)
        except Killed:
            continue
        return


def letters_of(servers: Servers, topic: str) -> list[Letter]:
    own = [value for name, _, value in servers.written if name == topic + DEAD_LETTER_SUFFIX]
    decode = codec.decoder(DeadLetter)
    return [
        Letter(Position(topic + DEAD_LETTER_SUFFIX, 0, offset), decode(value))
        for offset, value in enumerate(own)
    ]


def encoded(one: Letter) -> bytes:
    return codec.encoder(DeadLetter)(one.letter)


@pytest.mark.parametrize("topic", WHERE)
async def test_a_worker_that_is_killed_writes_a_letter_again_and_it_stays_one_case(topic):
    """The letter is durable before the snapshot is, so a successor cannot know of it."""
    undisturbed = OneKill(None)
    await watch(undisturbed, topic)
    expected = letters_of(undisturbed, topic)
    assert len(expected) == (RECORDS if topic == SIGNALS else len(UNREADABLE))
    copies = set()
    for number in range(1, undisturbed.steps + 1):
        servers = OneKill(number)
        await watch(servers, topic)
        assert servers.kills == 1
        written = letters_of(servers, topic)
        copies.add(len(written) - len(expected))
        # Copies are equal to the byte, so it does not matter which one is read.
        assert {encoded(one) for one in written} == {encoded(one) for one in expected}
        cases = collect_cases(written, {})
        assert [one.source for one in cases] == [one.letter.source for one in expected]
        assert {len(one.letters) for one in cases} == {1}
    assert {0, 1} < copies


async def test_a_copy_does_not_open_a_case_again_that_is_done():
    servers = Servers(None)
    await watch(servers, PLAYER_EVENTS)
    source = Position(PLAYER_EVENTS, 0, UNREADABLE[0])
    done = Action(1, source, "DROP", "MALFORMED", "kim", "a test", False, T0, True, None)
    servers.rows.clear()  # as where a release discards a snapshot that it cannot read
    await watch(servers, PLAYER_EVENTS)
    written = letters_of(servers, PLAYER_EVENTS)
    assert len(written) == 2 * len(UNREADABLE)
    cases = collect_cases(written, {source: [done]})
    states = [one.state for one in cases]
    assert states == [CaseState.DROPPED, *[CaseState.OPEN] * (len(UNREADABLE) - 1)]
