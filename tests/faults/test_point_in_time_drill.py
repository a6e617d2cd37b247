"""Drill of docs/howto/operations.md, Backups: a base backup and its WAL, restored to a moment in the middle of traffic."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest

from pitboss.embedded.databases import create_database
from pitboss.embedded.postgres import SERVER_SETTINGS, postgres_programs
from pitboss.embedded.processes import poll
from pitboss.embedded.stack import Stack
from tests.faults.ledger_scene import PATIENCE_S, Scene, new_scene
from tests.faults.test_restore_drills import command, play, settle
from tests.support.restore_points import booked_rows
from tests.support.stack_faults import restart_server

pytestmark = [
    pytest.mark.integration,
    pytest.mark.faults,
    pytest.mark.prove,
    pytest.mark.timeout(900),
]

EVENTS = 80
WHO = ("--by", "ann")


class Backups:
    """The archive of a server's WAL and a base backup, beside its home."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self.wal = folder / "wal"
        self.base = folder / "base"

    def take_base(self) -> None:
        """Copy the cluster. The wheel's pg_verifybackup ends with SIGSEGV, so it is not run here."""
        program = str(postgres_programs() / "pg_basebackup")
        url = self.stack.postgres.url
        options = ["--wal-method=stream", "--checkpoint=fast"]
        subprocess.run([program, "--dbname", url, "--pgdata", str(self.base), *options], check=True)

    def archive_all(self) -> None:
        """Close the WAL file in use, and wait until the archive has it."""
        with psycopg.connect(self.stack.postgres.url, autocommit=True) as connection:
            [row] = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchall()
        assert poll((self.wal / row[0]).exists, PATIENCE_S)

    def restore(self, moment: str) -> None:
        """Put the cluster back to the base backup, and play its WAL up to a moment."""
        server = self.stack.postgres
        owner = server.data.stat()
        server.stop()
        shutil.rmtree(server.data)
        shutil.copytree(self.base, server.data)
        (server.data / "recovery.signal").touch()
        with (server.data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"restore_command = 'cp {self.wal}/%f %p'\n")
            settings.write(f"recovery_target_time = '{moment}'\n")
            settings.write("recovery_target_action = 'promote'\n")
        for path in (server.data, *server.data.rglob("*")):
            shutil.chown(path, owner.st_uid, owner.st_gid)
        server.data.chmod(0o700)
        restart_server(self.stack, server)
        assert poll(self._is_promoted, PATIENCE_S), server.log.read_text()

    def _is_promoted(self) -> bool:
        with psycopg.connect(self.stack.postgres.url) as connection:
            return connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)


@pytest.fixture
def backups(private_settings, monkeypatch) -> Backups:
    """A stack whose database archives its WAL."""
    folder = private_settings.home.parent
    found = Backups(Stack.open(private_settings), folder)
    found.wal.mkdir()
    found.wal.chmod(0o777)  # the server runs under an account of its own
    copy = f"test ! -f {found.wal}/%f && cp %p {found.wal}/%f"
    for name, value in (("archive_mode", "on"), ("archive_command", copy)):
        monkeypatch.setitem(SERVER_SETTINGS, name, value)
    found.stack.up()
    return found


@pytest.fixture
async def scene(backups, namespace, tmp_path) -> Scene:
    runtime = backups.stack.runtime(namespace)
    create_database(runtime)
    return await new_scene(runtime, tmp_path)


async def moment_with(scene: Scene, entries: int) -> tuple[int, str]:
    """Return a moment once so many entries are committed, and how many of them there were before it."""
    assert await asyncio.to_thread(poll, lambda: count_entries(scene) >= entries, PATIENCE_S)
    [found] = scene.rows("SELECT count(*)::int, clock_timestamp()::text FROM entry")
    return found


def count_entries(scene: Scene) -> int:
    [(count,)] = scene.rows("SELECT count(*)::int FROM entry")
    return count


async def test_a_database_is_restored_to_a_moment_between_two_commits(scene, backups):
    runtime = scene.runtime
    with scene.worker("ledger-1") as ledger, scene.worker("resolve-1", role="resolve") as resolve:
        await play(scene, 1, EVENTS)
        await settle(scene, 1, (ledger, resolve))
        in_base = count_entries(scene)
        await asyncio.to_thread(backups.take_base)
        await play(scene, 2, EVENTS)
        at_least, moment = await moment_with(scene, in_base + 20)
        await play(scene, 3, EVENTS)
        await settle(scene, 3, (ledger, resolve))
        for process in (ledger, resolve):
            process.terminate()
            assert await scene.ended(process) == 0, scene.logs()
    undisturbed, booked = booked_rows(runtime), count_entries(scene)
    await asyncio.to_thread(backups.archive_all)
    await asyncio.to_thread(backups.restore, moment)
    assert in_base < at_least <= count_entries(scene) < booked
    with scene.worker("refused-1") as refused:
        assert await scene.ended(refused) == 71, scene.logs()
    done = await command(runtime, "recover", "--to-log", *WHO)
    assert (done["finished"], done["lost"], done["outcomes"]["differing"]) == (True, 0, 0)
    assert done["events"] > 0
    assert booked_rows(runtime) == undisturbed
    with scene.worker("ledger-2") as ledger, scene.worker("resolve-2", role="resolve") as resolve:
        await play(scene, 4, EVENTS)
        await settle(scene, 4, (ledger, resolve))
    await scene.proven()
