"""The environment of a demo: servers left as they were, a fresh namespace, isolated workers."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import ClassVar

import orjson
import pytest

from lab.sandbox.keys import SandboxKeys
from pitboss.demo import environment
from pitboss.demo.environment import demo_environment, running_workers
from pitboss.embedded.errors import StackError
from pitboss.embedded.stack import ServerStatus, Stack
from pitboss.settings import Runtime, StackSettings, runtime_of
from runtime.security import BrokerAddress
from schemas.errors import UsageError

URL = "postgresql://pitboss@127.0.0.1:1/postgres"


class Scene:
    """Servers, and what was done to them."""

    def __init__(self, running: set[str]) -> None:
        self.running = running
        self.calls: list[str] = []
        self.lines: list[str] = []
        self.on_up: BaseException | None = None

    def status(self) -> list[ServerStatus]:
        return [
            ServerStatus(name, name in self.running, 7 if name in self.running else None, "", None)
            for name in ("kafka", "postgres")
        ]

    def up(self, _say, *, secure) -> None:
        self.calls.append("up")
        if self.on_up is not None:
            raise self.on_up

    def down(self) -> None:
        self.calls.append("down")

    def runtime(self, namespace: str) -> Runtime:
        return runtime_of(BrokerAddress("127.0.0.1:1"), URL, namespace)


@pytest.fixture
def settings(tmp_path):
    return StackSettings(home=tmp_path / "home", cache=tmp_path / "cache")


@pytest.fixture
def scene(monkeypatch):
    scene = Scene(set())
    monkeypatch.setattr(Stack, "open", lambda _: scene)
    monkeypatch.setattr(
        environment,
        "provision",
        lambda runtime, **_: scene.calls.append(f"made {runtime.namespace}"),
    )
    monkeypatch.setattr(
        environment,
        "deprovision",
        lambda runtime: scene.calls.append(f"removed {runtime.namespace}"),
    )
    return scene


@pytest.mark.parametrize(
    ("running", "is_stopped"),
    [(set(), True), ({"kafka", "postgres"}, False), ({"kafka"}, False)],
    ids=["nothing ran", "both ran", "one ran: what was started stays"],
)
def test_servers_are_left_as_they_were_found(scene, settings, running, is_stopped):
    scene.running = running
    with demo_environment(settings, "demo", scene.lines.append) as found:
        namespace, folder = found.runtime.namespace, found.folder
        assert folder.is_dir()
    ended = ["down"] if is_stopped else []
    assert scene.calls == ["up", f"made {namespace}", f"removed {namespace}", *ended]
    assert not folder.exists()


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), StackError("Kafka ended while starting")])
def test_what_was_started_half_is_stopped(scene, settings, error, keep):
    scene.on_up = error
    with (
        pytest.raises(type(error)),
        demo_environment(settings, "demo", scene.lines.append, keep=keep),
    ):
        pass
    assert scene.calls == ["up", "down"]


def test_a_terminal_that_is_gone_leaves_no_server_running(scene, settings):
    def fail_to_write(line: str) -> None:
        if line.startswith(("stopping", "kept")):
            raise OSError(errno.EIO, "the terminal is gone")

    with pytest.raises(OSError, match="gone"), demo_environment(settings, "demo", fail_to_write):
        raise KeyboardInterrupt
    assert scene.calls[-1] == "down"


def test_each_namespace_is_new(scene, settings):
    names = []
    for _ in range(2):
        with demo_environment(settings, "demo", scene.lines.append) as found:
            names.append(found.runtime.namespace)
    assert len(set(names)) == 2
    assert all(name.startswith("demo_") for name in names)


def test_a_play_that_fails_leaves_its_namespace_and_logs_to_be_looked_at(scene, settings):
    with (
        pytest.raises(ZeroDivisionError),
        demo_environment(settings, "demo", scene.lines.append) as found,
    ):
        raise ZeroDivisionError
    assert found.folder.is_dir()
    assert [what.split()[0] for what in scene.calls] == ["up", "made", "down"]
    assert any("PITBOSS_NAMESPACE=" + found.runtime.namespace in line for line in scene.lines)


def test_what_is_to_be_kept_is_kept_with_its_servers(scene, settings):
    with demo_environment(settings, "demo", scene.lines.append, keep=True) as found:
        pass
    assert found.folder.is_dir()
    assert [what.split()[0] for what in scene.calls] == ["up", "made"]


def test_servers_of_the_environment_are_filled_only_on_request(scene, settings, tmp_path):
    given = StackSettings(
        tmp_path / "home", tmp_path / "cache", kafka=BrokerAddress("10.0.0.1:9092"), database=URL
    )
    with (
        pytest.raises(UsageError, match="--yes-use-these-servers"),
        demo_environment(given, "demo", scene.lines.append),
    ):
        pass
    assert scene.calls == []
    with demo_environment(given, "demo", scene.lines.append, use_given_servers=True) as found:
        assert found.runtime.broker == BrokerAddress("10.0.0.1:9092")
    namespace = found.runtime.namespace
    assert scene.calls == [f"made {namespace}", f"removed {namespace}"], (
        "started or stopped what is not ours"
    )


class Idle:
    """A supervisor that starts nothing."""

    seen: ClassVar[list[list]] = []

    def __init__(self, workers, _say) -> None:
        Idle.seen.append(workers)

    def run(self) -> None: ...

    def stop(self) -> None: ...


def test_workers_get_the_keys_and_no_option_of_the_shell(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "Supervisor", Idle)
    monkeypatch.setenv("PITBOSS_PARK", "hub88")
    keys = SandboxKeys.generate()
    runtime = runtime_of(BrokerAddress("127.0.0.1:1"), URL, "demo_x")
    with running_workers(runtime, tmp_path, print, keys) as workers:
        environment_given = workers["ledger"]._environment
    assert (
        environment_given["PITBOSS_PARK"]
        == environment_given["PITBOSS_CURRENCIES_FILE"]
        == environment_given["PITBOSS_DRIFT_SAMPLE"]
        == ""
    )
    file = Path(environment_given["PITBOSS_KEYS_FILE"])
    assert orjson.loads(file.read_bytes()) == orjson.loads(orjson.dumps(keys.keyring()))
    assert file.stat().st_mode & 0o077 == 0, "others may read the keys"
