"""The records that benches are fed with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from itertools import islice

import pytest
from aiokafka.structs import ConsumerRecord

from lab.bench import raw_records
from lab.bench.normalise import mapping_us_per_event
from lab.bench.raw_records import hub88_records
from runtime.kafka.producer import OutRecord
from schemas.events import SignatureVerdict
from schemas.topics import TRANSACTIONS
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser
from streams.providers.registry import DIALECTS
from tests.support.sandbox_keys import shared_keys

KEYS = shared_keys()


@cache
def two_chunks() -> list[list[OutRecord]]:
    return list(islice(hub88_records(KEYS, each_signed=False), 2))


@pytest.fixture(scope="module")
def signed_records() -> Iterator[list[OutRecord]]:
    """A small chunk: a signature costs more than all the rest of a record."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(raw_records, "_CHUNK_EVENTS", 1_000)
        yield next(hub88_records(KEYS, each_signed=True))


def test_records_are_valid_calls_of_every_kind_and_no_transaction_comes_twice():
    records = [record for chunk in two_chunks() for record in chunk]
    assert len(records) > 10_000
    calls = [
        (dict(headers)["http-path"], json.loads(value or b"")["transaction_uuid"])
        for _, value, headers, _ in records
    ]
    assert {path for path, _ in calls} == {
        b"/transaction/bet",
        b"/transaction/win",
        b"/transaction/rollback",
    }
    assert len(set(calls)) == len(calls)
    assert len({key for key, *_ in records}) > 500


def test_signed_records_are_accepted_by_a_normaliser_that_checks_them(signed_records):
    normaliser = Normaliser(DIALECTS, {"hub88": KEYS.keyring()["hub88"]})
    for key, value, headers, _ in signed_records[:100]:
        received_at = dict(headers)["received-at"]
        assert received_at is not None
        assert value is not None
        (item,) = normaliser.normalise(
            ConsumerRecord(
                "x.provider.hub88.raw.v1",
                0,
                1,
                int(received_at),
                1,
                key,
                value,
                None,
                1,
                len(value),
                tuple(headers),
            )
        )
        assert isinstance(item, AcceptedTransaction)
        assert item.transaction.signature == SignatureVerdict.VALID
        assert item.topic == TRANSACTIONS


def test_both_kinds_have_the_same_size(signed_records, monkeypatch):
    monkeypatch.setattr(raw_records, "_CHUNK_EVENTS", 1_000)
    unsigned = next(hub88_records(KEYS, each_signed=False))
    assert [size(record) for record in signed_records] == [size(record) for record in unsigned]


def size(record) -> tuple[int, int]:
    return len(record[1]), len(dict(record[2])["x-hub88-signature"])


def test_the_mapping_alone_costs_some_microseconds():
    assert 1 < mapping_us_per_event(two_chunks()[0][:500]) < 1_000
