"""The drift worker on the real broker: one event a shape, whatever comes again, and the money's events all the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner
from msgspec.structs import replace

from lab.conformance.adapters import adapter_of
from lab.conformance.examples.fill import Example, Fill
from pitboss.cli.main import cli
from pitboss.ops.provision import provision
from pitboss.settings import Runtime, worker_environment
from runtime.kafka.app import PitbossApp
from runtime.kafka.topic_reader import read_topics
from schemas import codec
from schemas.events import SchemaDrift, WalletTransaction
from schemas.topics import DRIFT, TRANSACTIONS, raw_topic
from streams.drift.handler import create_worker
from streams.drift.settings import DriftSettings
from streams.normalise import handler as normalise
from streams.normalise.settings import NormaliseSettings
from streams.providers.registry import DIALECTS

pytestmark = pytest.mark.integration

DEADLINE_S = 120.0
COPIES = 3


def bets() -> list[Example]:
    """One bet as documented, and others with a new field, another type and without a field; each several times."""
    sent = []
    changes: list[dict[str, Any]] = [{}, {"bonus_round": "b-1"}, {"meta": "text"}, {"round": ...}]
    for copy in range(COPIES):
        for place, change in enumerate(changes):
            made = next(
                one
                for one in adapter_of(DIALECTS["hub88"]).make_examples(Fill(10 * copy + place))
                if one.name == "bet"
            )
            sent.append(changed(made, **change))
    return sent


def reviews() -> list[Example]:
    """A value outside the declared set, in a message that the dialect must refuse."""
    made = adapter_of(DIALECTS["sumsub"]).make_examples(Fill(1))
    reviewed = next(one for one in made if one.name.startswith("applicantReviewed"))
    return [changed(reviewed, reviewResult={"reviewAnswer": "<YELLOW>"})] * COPIES


def changed(made: Example, **change: Any) -> Example:
    body = json.loads(made.value) | change
    value = json.dumps({name: value for name, value in body.items() if value is not ...}).encode()
    return replace(made, value=value)


async def append(runtime: Runtime, provider: str, sent: list[Example]) -> None:
    async with AIOKafkaProducer(**runtime.broker.aiokafka_options()) as producer:
        for one in sent:
            await producer.send_and_wait(
                runtime.topic(raw_topic(provider)),
                one.value,
                one.key,
                headers=list(one.headers.items()),
            )


async def until(condition: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - plain counters have nothing to wait on
            await asyncio.sleep(0.05)
    assert condition(), what


@asynccontextmanager
async def working(app: PitbossApp) -> AsyncIterator[None]:
    await app.start()
    try:
        yield
    finally:
        await app.stop()


async def normalised(runtime: Runtime, count: int) -> None:
    worker = normalise.create_worker(
        NormaliseSettings(runtime.broker, runtime.namespace, "test", {}, sample_rate=1.0)
    )
    async with working(worker.app):
        await until(lambda: worker.stats.records == count, "normalised")


async def watched(runtime: Runtime, count: int) -> int:
    """Let a new drift worker check that many records, and return how many shapes it published."""
    worker = create_worker(DriftSettings(runtime.broker, runtime.namespace, {}))
    async with working(worker.app):
        await until(lambda: worker.stats.seen >= count, "watched")
    return worker.stats.published


async def read(runtime: Runtime, topic: str, record: type) -> list[Any]:
    decode: Callable[[bytes], Any] = codec.decoder(record)
    return [decode(one.value) async for one in read_topics(runtime.broker, [runtime.topic(topic)])]


async def story(runtime: Runtime) -> tuple[list[SchemaDrift], list[WalletTransaction], list[int]]:
    sent = bets(), reviews()
    for provider, examples in zip(("hub88", "sumsub"), sent, strict=True):
        await append(runtime, provider, examples)
    count = len(sent[0]) + len(sent[1])
    await normalised(runtime, count)
    published = [await watched(runtime, count + COPIES)]
    # The same again, under other offsets, for a worker that has to learn the published shapes.
    await append(runtime, "hub88", sent[0])
    await normalised(runtime, len(sent[0]))
    published.append(await watched(runtime, len(sent[0])))
    return (
        await read(runtime, DRIFT, SchemaDrift),
        await read(runtime, TRANSACTIONS, WalletTransaction),
        published,
    )


@pytest.fixture
def pitboss(runtime: Runtime, monkeypatch):
    for name, value in worker_environment(runtime).items():
        if name.startswith("PITBOSS_"):
            monkeypatch.setenv(name, value)
    return lambda *arguments: CliRunner().invoke(
        cli, ["providers", *arguments], catch_exceptions=False
    )


def test_one_event_a_shape_and_every_event_of_the_money(runtime: Runtime, pitboss, tmp_path):
    provision(runtime, partitions=1, raw_partitions=1, providers=["hub88", "sumsub"])
    drift, events, published = asyncio.run(story(runtime))
    assert sorted((one.provider, one.event, one.what, one.path, one.detail) for one in drift) == [
        ("hub88", "bet", "CHANGED_TYPE", "$.meta", "string instead of object or null"),
        ("hub88", "bet", "MISSING_FIELD", "$.round", ""),
        ("hub88", "bet", "NEW_FIELD", "$.bonus_round", ""),
        ("sumsub", "webhook", "NEW_VALUE", "$.reviewResult.reviewAnswer", "<YELLOW>"),
    ]
    assert published == [4, 0]
    assert {one.provider: one.rejected for one in drift} == {"hub88": None, "sumsub": "BAD_FIELD"}
    assert len(events) == 2 * len(bets()), "unknown fields never reject"
    [bonus] = [one for one in drift if one.what == "NEW_FIELD"]
    assert '"bonus_round": "b-1"' in bonus.example
    assert (bonus.source.topic, bonus.source.offset) == (runtime.topic(raw_topic("hub88")), 1)

    shown = pitboss("drift", "--json")
    assert shown.exit_code == 0
    assert {row["drift_id"] for row in json.loads(shown.stdout)} == {one.drift_id for one in drift}
    only = pitboss("drift", "--provider", "sumsub", "--since", "1d")
    assert "YELLOW" in only.stdout
    assert only.stderr == "1 shape\n"
    assert pitboss("drift", "--since", "2099-01-01T00:00:00Z").stderr == "0 shapes\n"

    log = pitboss("log", "--since", "1d", "--out", str(tmp_path))
    assert log.exit_code == 0, log.stderr
    [text] = [file.read_text() for file in tmp_path.glob("*.md")]
    [log] = [json.loads(file.read_text()) for file in tmp_path.glob("*.json")]
    assert "`$.bonus_round`" in text
    assert {one["drift_id"] for one in log["drift"]} == {one.drift_id for one in drift}
    assert log["rejected"] == [
        {"provider": "sumsub", "code": "BAD_FIELD", "records": COPIES, "open": COPIES}
    ]
    assert "| sumsub | BAD_FIELD | 3 | 3 |" in text
    assert log["unknown"] == []
    assert all(line["events"] == 0 for line in log["versions"]), "no ledger has booked them"
