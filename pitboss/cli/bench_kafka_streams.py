"""The Kafka Streams peer of `bench normalise --peers`: its jars, its classes, its command."""

from __future__ import annotations

import json

from lab.bench.kafka_streams import (
    MAIN_CLASS,
    NAME,
    SOURCES,
    NoJdk,
    StreamsPeer,
    compile_peer,
    find_jdk,
    join_class_path,
)
from lab.bench.observation import MeasuredSubject
from lab.bench.processes import ProcessCommand
from pitboss.cli.bench_environment import BenchRun
from pitboss.cli.bench_pipeline import PEERS_FOLDER
from pitboss.embedded.errors import PartMissing
from pitboss.embedded.jars import KAFKA_VERSION, JarSet, class_path
from pitboss.settings import Runtime, worker_environment
from schemas.events import WalletTransaction
from schemas.registry import released_registry, subject_of
from schemas.topics import TRANSACTIONS, raw_topic
from streams.providers.hub88 import Hub88

KAFKA_STREAMS = JarSet(
    f"Kafka Streams {KAFKA_VERSION}",
    f"kafka-streams-{KAFKA_VERSION}",
    f"org.apache.kafka:kafka-streams:{KAFKA_VERSION}",
    # Of all that it resolves to: the others are Kafka's own, or for stores, which it has none of.
    SOURCES / "jars.sha256",
)


def make_streams_peer(opened: BenchRun, runtime: Runtime) -> StreamsPeer:
    """Return the peer, compiled for this run, or why it cannot run."""
    if runtime.broker.uses_tls:
        return StreamsPeer(None, "the peer speaks plain text, and this broker takes TLS")
    settings, report = opened.settings, opened.progress.begin
    try:
        jdk = find_jdk()
        jars = [
            *class_path(settings.cache, maven=settings.maven, progress=report),
            *class_path(
                settings.cache, maven=settings.maven, progress=report, jar_set=KAFKA_STREAMS
            ),
        ]
    except (NoJdk, PartMissing) as error:
        return StreamsPeer(None, str(error))
    report(f"compiling {NAME}")
    classes = compile_peer(jdk, jars, settings.home / PEERS_FOLDER)
    group = runtime.group("peer_kafka_streams")
    source, sink = runtime.topic(raw_topic("hub88")), runtime.topic(TRANSACTIONS)
    argument = {
        "group": group,
        "source": source,
        "sink": sink,
        "state_dir": str(opened.folder / "kafka-streams"),
        "schema_id": released_registry().latest(subject_of(WalletTransaction)).id,
        "tolerance_ms": Hub88().time_tolerance_ms,
        "client": runtime.broker.librdkafka_options(),
    }
    command = ProcessCommand(
        (
            jdk.java,
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp",
            join_class_path([classes, *jars]),
            MAIN_CLASS,
            json.dumps(argument),
        ),
        worker_environment(runtime),
        opened.folder / "kafka-streams.log",
    )
    return StreamsPeer(MeasuredSubject(NAME, command, group, source, sink))
