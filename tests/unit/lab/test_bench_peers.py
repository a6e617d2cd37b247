"""The loops of peers, on clients that only keep what they are given."""

from __future__ import annotations

import os
import signal
from itertools import islice
from types import SimpleNamespace

import confluent_kafka
import pytest

from lab.bench.peers.normalise_peers import NormalisePeerSettings, run_loop
from lab.bench.raw_records import endless_bets
from lab.sandbox.keys import SandboxKeys
from runtime.security import BrokerAddress
from schemas import codec
from schemas.events import WalletTransaction

TOPIC = "provider.hub88.raw.v1"


def message(record, offset: int) -> SimpleNamespace:
    key, value, headers, _ = record
    fields = {
        "error": None,
        "topic": TOPIC,
        "partition": 3,
        "offset": offset,
        "key": key,
        "value": value,
        "timestamp": (1, 1_790_000_000_000),
        "headers": list(headers),
    }
    return SimpleNamespace(**{name: (lambda v=v: v) for name, v in fields.items()})


@pytest.fixture
def restored_signal():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_the_bare_loop_passes_each_record_on_and_leaves_its_group(monkeypatch, restored_signal):
    records = list(islice(endless_bets(SandboxKeys.generate(), 5), 7))
    produced: list[tuple[str, bytes, bytes]] = []
    events: list[str] = []

    class Consumer:
        def __init__(self, settings) -> None:
            assert settings["enable.auto.commit"] is False

        def subscribe(self, topics) -> None:
            assert topics == [TOPIC]

        def consume(self, count, timeout):
            if produced:
                os.kill(os.getpid(), signal.SIGTERM)
                return []
            return [message(record, offset) for offset, record in enumerate(records)]

        def commit(self, asynchronous) -> None:
            events.append("commit")

        def close(self) -> None:
            events.append("close")

    class Producer:
        def __init__(self, settings) -> None:
            assert settings["enable.idempotence"] is True

        def produce(self, topic, value, key) -> None:
            produced.append((topic, value, key))

        def poll(self, timeout) -> None:
            pass

        def flush(self) -> None:
            events.append("flush")

    monkeypatch.setattr(confluent_kafka, "Consumer", Consumer)
    monkeypatch.setattr(confluent_kafka, "Producer", Producer)
    run_loop(NormalisePeerSettings("loop", BrokerAddress("kafka:1"), "group", TOPIC, "log"))
    decode = codec.decoder(WalletTransaction)
    assert [topic for topic, *_ in produced] == ["log"] * 7
    assert [decode(value).player_id for _, value, _ in produced] == [
        key.decode() for key, *_ in records if key
    ]
    assert [decode(value).attempt.offset for _, value, _ in produced] == list(range(7))
    assert events == ["flush", "close"]
