"""The embedded servers: found again, mended after SIGKILL, stopped for good, and never confused with others.

Each test has a stack of its own, since it kills it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from pitboss.cli.main import cli
from pitboss.embedded import jars, kafka
from pitboss.embedded.databases import create_database, database_exists, drop_database
from pitboss.embedded.errors import PartMissing, StackBusy, StartFailed
from pitboss.embedded.files import exclusive_lock
from pitboss.embedded.jars import checksums, class_path, jar_folder
from pitboss.embedded.ports import PORTS, choose_port
from pitboss.embedded.postgres import PostgresServer
from pitboss.embedded.processes import ProcessId, launch
from pitboss.embedded.stack import Stack
from pitboss.embedded.state import read_state, resolve_runtime
from runtime.security import BrokerAddress
from tests.support.stack_faults import kill_server, restart_server

pytestmark = pytest.mark.integration


def test_a_second_up_finds_the_first(private_stack):
    first = read_state(private_stack.settings.home)
    assert private_stack.up() == first
    assert Stack.open(private_stack.settings).up() == first
    assert all(server.is_ready for server in private_stack.status())


def test_two_ups_at_once_start_one_stack(private_settings):
    script = (
        "from pitboss.settings import read_settings; from pitboss.embedded.stack import Stack;"
        "print(Stack.open(read_settings()).up())"
    )
    environ = {**os.environ, "PITBOSS_HOME": str(private_settings.home)}
    command = [sys.executable, "-c", script]
    try:
        both = [
            subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        outputs = [process.communicate()[0] for process in both]
        assert outputs[0] == outputs[1] != ""
    finally:
        Stack.open(private_settings).down()


@pytest.mark.faults
def test_killed_servers_come_back_on_their_ports_with_their_data(private_stack):
    before = read_state(private_stack.settings.home)
    runtime = private_stack.runtime("kept")
    create_database(runtime)
    with psycopg.connect(runtime.database_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    topic_id = _create_topic(runtime.broker, "kept")
    kill_server(private_stack.kafka)
    kill_server(private_stack.postgres)
    assert before is not None
    assert not before.is_running
    assert not any(server.is_ready for server in private_stack.status())
    after = private_stack.up()
    assert (after.broker, after.database_url) == (
        before.broker,
        before.database_url,
    )
    assert after.kafka != before.kafka
    with psycopg.connect(runtime.database_url) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    assert _topic_id(runtime.broker, "kept") == topic_id


@pytest.mark.faults
@pytest.mark.parametrize("name", ["kafka", "postgres"])
def test_one_server_restarts_while_the_other_goes_on(private_stack, name):
    before = read_state(private_stack.settings.home)
    assert before is not None
    after = restart_server(private_stack, getattr(private_stack, name))
    other = "postgres" if name == "kafka" else "kafka"
    assert getattr(after, name) != getattr(before, name)
    assert getattr(after, other) == getattr(before, other)
    assert after.broker == before.broker
    assert after.database_url == before.database_url
    assert read_state(private_stack.settings.home) == after


def test_servers_without_their_files_are_found_and_not_started_twice(private_stack):
    home = private_stack.settings.home
    before = read_state(home)
    assert before is not None
    for file in (
        home / "stack.json",
        home / "kafka" / "server.pid",
        home / "postgres" / "server.pid",
    ):
        file.unlink()
    after = private_stack.up()
    assert (after.kafka.pid, after.postgres.pid) == (before.kafka.pid, before.postgres.pid)


def test_down_stops_both_and_a_second_down_finds_nothing(private_stack):
    before = read_state(private_stack.settings.home)
    assert before is not None
    assert private_stack.down()
    assert not before.kafka.is_alive
    assert not before.postgres.is_alive
    assert not private_stack.down()
    with pytest.raises(Exception, match="pitboss up"):
        resolve_runtime(private_stack.settings)


def test_a_foreign_process_with_a_recycled_pid_is_never_signalled(private_settings):
    stack = Stack.open(private_settings)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as foreign:
        theirs = ProcessId.of(foreign.pid)
        stale = json.dumps({"pid": foreign.pid, "started": "0badb007:1"})
        for name in ("kafka", "postgres"):
            folder = private_settings.home / name
            folder.mkdir(parents=True)
            (folder / "server.pid").write_text(stale)
        assert not stack.down()
        kill_server(stack.kafka)
        kill_server(stack.postgres)
        assert theirs is not None
        assert theirs.is_alive
        assert foreign.stdin is not None
        foreign.stdin.close()


def test_a_zombie_is_not_alive():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert Path(f"/proc/{pid}").exists()
        assert ProcessId.of(pid) is None
    finally:
        os.waitpid(pid, 0)


def test_a_launched_process_is_nobodys_child_and_known_before_it_runs(tmp_path):
    pid_file = tmp_path / "server.pid"
    program = [
        sys.executable,
        "-c",
        f"import json; print(json.load(open({str(pid_file)!r}))['pid'])",
    ]
    process = launch(program, log=tmp_path / "log", pid_file=pid_file, cwd=tmp_path, environ={})
    assert process.wait(60)
    assert (tmp_path / "log").read_text().strip() == str(process.pid)


def test_a_port_that_was_taken_meanwhile_is_given_up(private_settings):
    server = PostgresServer(private_settings.home)
    try:
        server.start(lambda _: None)
        old = server.url
        server.stop()
        import socket

        with socket.create_server(("127.0.0.1", server.port)):
            server.start(lambda _: None)
            assert server.url != old
            assert server.is_ready()
    finally:
        server.stop()


def test_a_server_that_cannot_start_says_why_and_what_to_do(private_settings):
    server = PostgresServer(private_settings.home)
    server.start(lambda _: None)
    server.stop()
    (server.data / "PG_VERSION").write_text("9.6\n")
    try:
        with pytest.raises(StartFailed) as failure:
            server.start(lambda _: None)
        assert "initialized by PostgreSQL version 9.6" in str(failure.value)
        assert "PITBOSS_DATABASE" in str(failure.value)
    finally:
        server.stop()


def test_jars_that_cannot_be_fetched_say_what_to_do_and_leave_nothing(tmp_path):
    nowhere = f"http://127.0.0.1:{choose_port()}/maven2"
    with pytest.raises(PartMissing, match="PITBOSS_MAVEN"):
        class_path(tmp_path, maven=nowhere, progress=lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["kafka.lock"]


def test_a_jar_that_is_not_the_listed_one_is_refused(tmp_path, monkeypatch):
    def resolve(scratch: Path, maven: str | None, coordinates: str) -> dict[str, Path]:
        forged = {name: scratch / name for name in checksums()}
        for path in forged.values():
            path.write_bytes(b"not a jar")
        return forged

    monkeypatch.setattr(jars, "_resolve", resolve)
    with pytest.raises(PartMissing, match="expected SHA-256"):
        class_path(tmp_path, maven="https://mirror", progress=lambda _: None)
    assert not jar_folder(tmp_path).exists()


def test_a_held_lock_is_waited_for_and_then_reported(tmp_path):
    waits = []
    lock = tmp_path / "stack.lock"
    with exclusive_lock(lock, timeout_s=1), pytest.raises(StackBusy, match=r"stack\.lock"):  # noqa: SIM117
        with exclusive_lock(lock, timeout_s=0.1, on_wait=lambda: waits.append(1)):
            pass
    assert waits == [1]


def test_chosen_ports_are_below_the_ephemeral_ones():
    assert all(choose_port() in PORTS for _ in range(50))
    taken = choose_port()
    assert choose_port(taken) == taken


def test_databases_are_made_and_dropped_once(stack, namespace):
    runtime = stack.runtime(namespace)
    assert create_database(runtime)
    assert not create_database(runtime)
    with psycopg.connect(runtime.database_url):
        drop_database(runtime)
    assert not database_exists(runtime)
    drop_database(runtime)


def test_the_command_line_starts_reports_and_stops(private_settings):
    runner = CliRunner(env={"PITBOSS_HOME": str(private_settings.home), "PITBOSS_KAFKA": None})
    assert runner.invoke(cli, ["status"]).exit_code == 3
    up = runner.invoke(cli, ["up"])
    try:
        assert up.exit_code == 0, up.output
        password = (private_settings.home / "postgres" / "password").read_text()
        assert password not in up.output
        status = runner.invoke(cli, ["status", "--json"])
        assert json.loads(status.output)["ready"] is True
        doctor = runner.invoke(cli, ["doctor"])
        assert doctor.exit_code == 0, doctor.output
        assert "FAIL" not in doctor.output
    finally:
        down = runner.invoke(cli, ["down"])
    assert "stopped in" in down.output


def test_the_command_line_reports_an_error_without_a_traceback(private_settings):
    runner = CliRunner(env={"PITBOSS_HOME": str(private_settings.home), "PITBOSS_NAMESPACE": "No"})
    result = runner.invoke(cli, ["up"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: USAGE namespace 'No' is not usable")


def test_servers_of_others_are_not_started_or_stopped(private_settings):
    url = "postgresql://u@127.0.0.1:1/postgres"
    runner = CliRunner(env={"PITBOSS_KAFKA": "127.0.0.1:1", "PITBOSS_DATABASE": url})
    for command in ("up", "down"):
        result = runner.invoke(cli, [command])
        assert (result.exit_code, "not ours" in result.stderr) == (2, True)
    assert runner.invoke(cli, ["status"]).exit_code == 3


@pytest.mark.prove
def test_the_start_up_cache_is_kept_when_the_broker_stops(private_settings, tmp_path):
    fetched = class_path(
        private_settings.cache, maven=private_settings.maven, progress=lambda _: None
    )[0].parent
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / fetched.name).symlink_to(fetched)
    server = kafka.KafkaServer(tmp_path / "pitboss", tmp_path / "cache", private_settings.maven)
    server.start(lambda _: None)
    try:
        assert server.is_recording
    finally:
        server.stop()
    assert list((tmp_path / "cache").glob("*.aot"))
    server.start(lambda _: None)
    try:
        assert not server.is_recording
    finally:
        server.stop()


def test_a_home_that_root_alone_may_enter_is_opened_for_the_account_to_pass(private_settings):
    if os.geteuid() != 0:
        pytest.skip("only root runs PostgreSQL as another account")
    closed = private_settings.home.parent / "closed"
    closed.mkdir(mode=0o700)
    server = PostgresServer(closed / "pitboss")
    messages: list[str] = []
    try:
        server.start(messages.append)
        assert any(f"pass through {closed}" in line for line in messages)
        assert closed.stat().st_mode & 0o777 == 0o701
    finally:
        server.stop()


def _create_topic(broker: BrokerAddress, name: str) -> str:
    import asyncio

    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    async def create() -> None:
        admin = AIOKafkaAdminClient(**broker.aiokafka_options())
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, 1, 1)])
        finally:
            await admin.close()

    asyncio.run(create())
    return _topic_id(broker, name)


def _topic_id(broker: BrokerAddress, name: str) -> str:
    import asyncio

    from aiokafka.admin import AIOKafkaAdminClient

    async def read() -> str:
        admin = AIOKafkaAdminClient(**broker.aiokafka_options())
        await admin.start()
        try:
            return str((await admin.describe_topics([name]))[0])
        finally:
            await admin.close()

    return asyncio.run(read())
