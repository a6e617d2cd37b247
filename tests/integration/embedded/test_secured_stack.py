"""A secured stack of this machine's: what it takes, what it refuses, and that each refusal has a name."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import NewTopic
from click.testing import CliRunner

from pitboss.cli.main import cli
from pitboss.embedded.databases import create_database
from pitboss.embedded.stack import Stack
from pitboss.settings import Runtime, worker_environment
from replay.log.broker import list_topics
from runtime.certificates import (
    ClientRefused,
    ConnectionFault,
    LoginRefused,
    TlsExpected,
    UnknownAuthority,
)
from runtime.connection_faults import find_broker_fault
from runtime.kafka.app import AppSettings, create_app
from runtime.kafka.batches import BatchChannel
from runtime.kafka.clients import start_client
from runtime.kafka.intake.intake import Intake, IntakeSettings
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.kafka.topic_reader import read_topics
from runtime.security import BrokerAddress
from tests.support.certificates import Authority
from tests.support.topics import make_topics

pytestmark = pytest.mark.integration


@pytest.fixture
def secured(secured_stack: Stack) -> Stack:
    return secured_stack


@pytest.fixture
def runtime(secured: Stack) -> Runtime:
    return secured.runtime("secured")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "stranger")


async def start_fails(broker: BrokerAddress) -> ConnectionFault:
    with pytest.raises(ConnectionFault) as caught:
        await start_client(AIOKafkaConsumer(**broker.aiokafka_options()), broker)
    return caught.value


async def intake_fails(broker: BrokerAddress, monkeypatch: pytest.MonkeyPatch) -> ConnectionFault:
    monkeypatch.setattr("runtime.kafka.intake.client.CONNECT_TIMEOUT_S", 2.0)
    app = create_app(AppSettings("test", broker))
    intake = Intake(IntakeSettings(broker, "g"), BatchChannel(app), topics=["t"])
    with pytest.raises(ConnectionFault) as caught:
        await intake.start()
    return caught.value


async def test_what_one_client_appends_another_library_reads(runtime):
    await make_topics(runtime.broker, NewTopic(runtime.topic("t.v1"), 1, 1))
    async with BatchProducer(ProducerSettings(runtime.broker, "test")) as producer:
        await producer.send(runtime.topic("t.v1"), b"k", b"value")
    read = [record.value async for record in read_topics(runtime.broker, [runtime.topic("t.v1")])]
    assert read == [b"value"]
    assert await asyncio.to_thread(list_topics, runtime.broker, "") is not None


async def test_a_wrong_password_has_a_name_in_each_library(runtime, monkeypatch):
    wrong = replace(runtime.broker, sasl_password="wrong")
    for fault in (await start_fails(wrong), await intake_fails(wrong, monkeypatch)):
        assert isinstance(fault, LoginRefused), fault
        assert "PITBOSS_KAFKA_SASL_USER" in str(fault)
        assert "wrong" not in str(fault)
    url = re.sub(r"(?<=//postgres:)\w+", "wrong", runtime.database_url)
    elsewhere = replace(runtime, database_url=url)
    with pytest.raises(LoginRefused, match="PITBOSS_DATABASE"):
        create_database(elsewhere)


async def test_plain_text_is_refused(runtime):
    assert isinstance(await start_fails(BrokerAddress(runtime.broker.servers)), TlsExpected)
    url = runtime.database_url.replace("verify-full", "disable")
    with pytest.raises(TlsExpected, match="no encryption"):
        create_database(replace(runtime, database_url=url))


async def test_another_authority_is_refused(runtime, secured, stranger):
    other = replace(runtime.broker, ca_file=stranger.file)
    assert isinstance(await start_fails(other), UnknownAuthority)
    own = str(secured.kafka.tls and secured.kafka.tls.ca_file)
    url = runtime.database_url.replace(own, stranger.file)
    with pytest.raises(UnknownAuthority, match="PITBOSS_DATABASE_CA"):
        create_database(replace(runtime, database_url=url))


def test_the_broker_chooses_the_cipher_that_costs_it_less(runtime):
    context = ssl.create_default_context(cafile=runtime.broker.ca_file)
    host, port = runtime.broker.servers.split(":")
    with (
        socket.create_connection((host, int(port))) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        chosen = connection.cipher()
    assert chosen is not None
    assert chosen[0] == "TLS_AES_128_GCM_SHA256"


def test_the_controller_takes_the_broker_alone(runtime, secured):
    text = secured.kafka.properties.read_text()
    [line] = [one for one in text.splitlines() if one.startswith("controller.quorum.voters=")]
    controller = replace(runtime.broker, servers=line.partition("@")[2])
    assert isinstance(find_broker_fault(controller), ClientRefused)


def test_no_password_is_in_the_arguments_of_a_process(secured):
    assert secured.kafka.tls is not None
    secrets = [*secured.kafka.tls.read_users().values()]
    secrets.append((secured.postgres.folder / "password").read_text().strip())
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = entry.read_bytes()
        except OSError:
            continue
        assert not any(secret.encode() in arguments for secret in secrets), entry


def test_doctor_says_how_named_servers_are_reached(runtime, stranger):
    environment = worker_environment(runtime)
    shown = CliRunner().invoke(cli, ["doctor"], env=environment).output
    assert f"answers on {runtime.broker}, SASL_SSL as pitboss" in shown
    assert "postgres server      answers on 127.0.0.1" in shown
    assert "FAIL  kafka server" not in shown
    wrong = environment | {"PITBOSS_KAFKA_CA": stranger.file}
    shown = CliRunner().invoke(cli, ["doctor"], env=wrong).output
    assert "FAIL  kafka server         TLS_UNKNOWN_CA" in shown
    assert "PITBOSS_KAFKA_CA" in shown


def test_what_speaks_tls_for_the_database_is_started_again(runtime, secured):
    before = secured.postgres.front()
    assert before is not None
    before.signal(SIGKILL)
    assert before.wait(30)
    assert secured.ended_servers() == ["postgres"]
    assert secured.revive()
    assert secured.postgres.front() not in {None, before}
    with psycopg.connect(secured.postgres.url) as connection:
        assert connection.pgconn.ssl_in_use


@pytest.mark.prove
def test_down_and_up_keep_authority_logins_and_data(runtime, secured):
    assert secured.kafka.tls is not None
    authority = secured.kafka.tls.ca_file.read_text()
    create_database(runtime)
    assert secured.down()
    assert secured.postgres.front() is None
    again = Stack.open(secured.settings)
    again.up()
    assert again.is_secured
    assert again.kafka.tls is not None
    assert again.kafka.tls.ca_file.read_text() == authority
    assert not create_database(again.runtime("secured")), "it is there"
