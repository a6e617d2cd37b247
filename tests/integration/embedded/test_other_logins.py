"""Mutual TLS alone, and SCRAM-SHA-256: the two ways to a broker that `up --secure` does not make."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from pitboss.embedded.kafka import KafkaServer
from pitboss.embedded.tls import StackTls
from pitboss.settings import read_settings
from replay.log.broker import BrokerLog, list_topics
from runtime.certificates import ClientRefused, LoginRefused, TlsExpected
from runtime.connection_faults import find_broker_fault
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.kafka.topic_reader import read_topics
from runtime.security import BrokerAddress, SecurityProtocol

pytestmark = [pytest.mark.integration, pytest.mark.prove, pytest.mark.timeout(300)]

SCRAM_SHA_256 = "SCRAM-SHA-256"
TOPIC = "t.v1"


class MutualTls(StackTls):
    """Clients show a certificate, and give no password."""

    def broker_address(self, port: int | None) -> BrokerAddress:
        files = self.folder / "client.pem", self.folder / "client.key"
        if not files[0].exists():
            for file, text in zip(files, self.issue("client"), strict=True):
                file.write_text(text)
                file.chmod(0o600)
        return BrokerAddress(
            f"127.0.0.1:{port}",
            SecurityProtocol.SSL,
            ca_file=str(self.ca_file),
            certificate_file=str(files[0]),
            key_file=str(files[1]),
        )


class MutualTlsServer(KafkaServer):
    def _write_properties(self) -> None:
        super()._write_properties()
        lines = self.properties.read_text().replace("SASL_SSL", "SSL").splitlines()
        lines = [line for line in lines if "sasl" not in line and "ScramLogin" not in line]
        lines = [line for line in lines if not line.startswith("username=")]
        lines.append("listener.name.ssl.ssl.client.auth=required")
        self.properties.write_text("\n".join(lines) + "\n")


class ScramSha256(StackTls):
    def broker_address(self, port: int | None) -> BrokerAddress:
        return replace(super().broker_address(port), sasl_mechanism=SCRAM_SHA_256)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    servers: list[KafkaServer] = []

    def start_server(kind: type[KafkaServer], tls: StackTls) -> BrokerAddress:
        tls.make()
        settings = read_settings()
        servers.append(server := kind(tmp_path / "home", settings.cache, settings.maven, tls))
        server.start(lambda _: None)
        return server.broker

    yield start_server
    for server in servers:
        server.stop()


async def each_library_works(broker: BrokerAddress) -> None:
    admin = AIOKafkaAdminClient(**broker.aiokafka_options())
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, 1, 1)])
    await admin.close()
    async with BatchProducer(ProducerSettings(broker, "test")) as producer:
        await producer.send(TOPIC, b"k", b"value")
    assert [record.value async for record in read_topics(broker, [TOPIC])] == [b"value"]
    assert await asyncio.to_thread(list_topics, broker, "") is not None
    with BrokerLog(broker) as log:
        blocks = await asyncio.to_thread(lambda: [*log.read(TOPIC, 0, 0, 1)])
    assert [block.values for block in blocks] == [[b"value"]]


async def test_mutual_tls_alone(start, tmp_path):
    broker = await asyncio.to_thread(start, MutualTlsServer, MutualTls(tmp_path / "tls"))
    await each_library_works(broker)
    unknown = replace(broker, certificate_file=None, key_file=None)
    assert isinstance(find_broker_fault(unknown), ClientRefused)
    assert isinstance(find_broker_fault(BrokerAddress(broker.servers)), TlsExpected)


async def test_scram_sha_256(start, tmp_path, monkeypatch):
    monkeypatch.setattr("pitboss.embedded.kafka.SCRAM_SHA_512", SCRAM_SHA_256)
    broker = await asyncio.to_thread(start, KafkaServer, ScramSha256(tmp_path / "tls"))
    await each_library_works(broker)
    wrong = replace(broker, sasl_password="wrong")
    assert isinstance(find_broker_fault(wrong), LoginRefused)
    other = replace(broker, sasl_mechanism="SCRAM-SHA-512")
    assert isinstance(find_broker_fault(other), LoginRefused)
