"""The samples that the normaliser hands to drift: how many, which, and in what form."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lab.conformance.examples.fill import ExampleRecord
from runtime.kafka.batches import RecordBatch
from schemas.errors import Unavailable
from schemas.topics import SAMPLES, raw_topic
from streams.normalise.handler import create_handler, create_reader
from streams.normalise.mapping.normaliser import Normaliser
from streams.normalise.stats import NormaliseStats, format_delta
from streams.providers.registry import DIALECTS
from streams.samples import BYTES_MAX, QUIET_MS, Sampler, read_sample, write_sample

TOPIC = "t." + raw_topic("hub88")


def raw(offset: int = 0, at_ms: int = 1_000, value: bytes = b"{}", **more: Any) -> ExampleRecord:
    return ExampleRecord(TOPIC, 3, offset, at_ms, b"p-1", value, **{"headers": ()} | more)


def test_a_share_is_chosen_by_position_alone():
    records = [raw(offset) for offset in range(20_000)]
    chosen = Sampler(0.01).choose(records)
    assert 150 <= len(chosen) <= 250
    assert Sampler(0.01).choose(records) == chosen
    assert Sampler(1.0).choose(records) == records
    assert Sampler(0.0).choose(records) == []
    assert Sampler(0.01).choose([]) == []


def test_a_partition_that_was_quiet_is_sampled_whatever_the_rate():
    sampler = Sampler(0.000_001)
    times = (0, 1, QUIET_MS - 1, QUIET_MS, QUIET_MS + 1, 5 * QUIET_MS)
    chosen = [bool(sampler.choose([raw(at_ms=at_ms)])) for at_ms in times]
    assert chosen == [True, False, False, True, False, True]


@given(
    st.binary(max_size=50),
    st.none() | st.binary(max_size=50),
    st.lists(st.tuples(st.text(max_size=9), st.none() | st.binary(max_size=9)), max_size=4),
)
def test_a_sample_holds_its_record_byte_for_byte(value, key, headers):
    record = ExampleRecord(TOPIC, 3, 17, 1_234, key, value, tuple(headers))
    written = write_sample(record)
    assert written is not None
    key_out, value_out, headers_out, _ = written
    found = read_sample(ExampleRecord("t." + SAMPLES, 0, 0, 9, key_out, value_out, headers_out))
    assert found is not None
    assert (found.topic, found.partition, found.offset, found.timestamp) == (TOPIC, 3, 17, 1_234)
    assert (found.key, found.value, tuple(found.headers)) == (key, value, tuple(headers))


def test_a_record_of_another_form_is_no_sample_and_a_large_one_is_not_sampled():
    assert read_sample(raw()) is None
    wrong = (("sample-of", b"here"), ("sample-appended-at", b"now"))
    assert read_sample(raw(headers=wrong)) is None
    full = b"x" * BYTES_MAX
    assert write_sample(ExampleRecord(TOPIC, 3, 0, 1, None, full, ())) is not None
    for key, value, headers in ((b"k", full, ()), (full, b"x", ()), (b"k", b"", (("h", full),))):
        assert write_sample(ExampleRecord(TOPIC, 3, 0, 1, key, value, headers)) is None


class Broker:
    """Takes what the handler sends; has no topic for samples where `is_missing`."""

    def __init__(self, *, is_missing: bool) -> None:
        self.sent: dict[str, list[Any]] = {}
        self._is_missing = is_missing

    async def send_keyed(self, topic: str, records: Any) -> None:
        if topic == f"t.{SAMPLES}" and self._is_missing:
            raise Unavailable("the topic does not exist")
        self.sent.setdefault(topic, []).extend(records)

    async def ensure_topic(self, topic: str) -> None:
        pass

    async def publish_all(self, rejections: Any) -> None:
        self.sent.setdefault("dlt", []).extend(rejections)


async def take(broker: Broker, records: list[ExampleRecord]) -> NormaliseStats:
    stats = NormaliseStats()
    read = create_reader(Normaliser(DIALECTS, {}), Sampler(1.0))
    handle = create_handler(broker, broker, "t", stats)
    await handle(RecordBatch(TOPIC, 3, 0, len(records), (), 1, readings=(read(TOPIC, records),)))
    return stats


async def test_samples_go_out_with_their_batch():
    broker = Broker(is_missing=False)
    mark = raw(1, headers=(("drop-of", b"x"),))
    stats = await take(broker, [raw(0), mark])
    [(key, value, headers, _)] = broker.sent[f"t.{SAMPLES}"]
    assert (key, value, headers[0]) == (b"p-1", b"{}", ("sample-of", f"{TOPIC}-3@0".encode()))
    assert stats.unsent_samples == 0


async def test_events_do_not_wait_for_a_missing_topic_of_samples():
    broker = Broker(is_missing=True)
    stats = await take(broker, [raw(0), raw(1)])
    assert (stats.records, stats.unsent_samples, len(broker.sent["dlt"])) == (2, 2, 2)
    line = format_delta(stats, NormaliseStats(), 0)
    assert line is not None
    assert "2 samples for drift without a topic: run `pitboss topics create`" in line
