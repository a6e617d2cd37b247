"""The Kafka Streams peer maps as our normaliser does, byte for byte; compiled by an installed JDK."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from itertools import islice

import pytest

from lab.bench.kafka_streams import compile_peer, find_jdk, join_class_path
from lab.bench.normalise import _to_consumer_record
from lab.bench.raw_records import hub88_records
from pitboss.cli.bench_kafka_streams import KAFKA_STREAMS
from pitboss.embedded.jars import class_path
from pitboss.settings import read_settings
from schemas.events import WalletTransaction
from schemas.registry import released_registry, subject_of
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser
from streams.providers.hub88 import Hub88
from streams.providers.registry import DIALECTS
from tests.support.sandbox_keys import shared_keys

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("javac") is None, reason="needs a JDK"),
]


def encode(value: bytes) -> str:
    return base64.b64encode(value).decode()


def test_the_peer_writes_the_bytes_of_our_normaliser(tmp_path):
    settings = read_settings({})
    jars = [
        path
        for jar_set in ({}, {"jar_set": KAFKA_STREAMS})
        for path in class_path(
            settings.cache, maven=settings.maven, progress=lambda _: None, **jar_set
        )
    ]
    jdk = find_jdk()
    classes = compile_peer(jdk, jars, tmp_path)
    assert compile_peer(jdk, jars, tmp_path) == classes  # kept
    [records] = islice(hub88_records(shared_keys(), each_signed=False), 1)
    normaliser = Normaliser(DIALECTS, keyring={})
    lines, expected = [], []
    for offset, record in enumerate(records):
        raw = _to_consumer_record(record, offset)
        [item] = normaliser.normalise(raw)
        assert isinstance(item, AcceptedTransaction)
        expected.append((item.key, item.value))
        headers = {name: encode(value or b"") for name, value in raw.headers}
        lines.append(
            json.dumps(
                {
                    "topic": raw.topic,
                    "partition": raw.partition,
                    "offset": raw.offset,
                    "timestamp": raw.timestamp,
                    "value": encode(raw.value),
                    "headers": headers,
                }
            )
        )
    schema = released_registry().latest(subject_of(WalletTransaction))
    arguments = [str(schema.id), str(Hub88().time_tolerance_ms)]
    done = subprocess.run(
        [jdk.java, "-cp", join_class_path([classes, *jars]), "MappingCheck", *arguments],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    found = [
        tuple(base64.b64decode(part) for part in line.split()) for line in done.stdout.splitlines()
    ]
    assert len(found) == len(expected) > 5_000
    assert {item[1][5:] for item in found} == {item[1][5:] for item in expected}
    assert found == expected
