"""Workers are started again whatever they end of, later each time, and never outlive who started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pitboss.embedded.processes import ProcessId, poll
from pitboss.settings import Runtime, runtime_of
from pitboss.workers import ROLES
from pitboss.workers import supervisor as module
from pitboss.workers.degraded import ENDS_MIN, DegradedWorker, list_degraded
from pitboss.workers.lifeline import ORPHANED
from pitboss.workers.role_locks import hold_roles, list_running
from pitboss.workers.supervisor import (
    DELAY_MAX_S,
    HEALTHY_S,
    RestartPolicy,
    Supervisor,
    WorkerProcess,
    find_error,
    next_delay_s,
    workers_for,
)
from runtime.security import BrokerAddress

STUB = "tests.faults.stub_worker"
DEADLINE_S = 90


@pytest.fixture
def nowhere() -> Runtime:
    return runtime_of(BrokerAddress("127.0.0.1:1"), "postgresql://u@127.0.0.1:1/postgres", "faults")


@pytest.fixture
def worker(nowhere: Runtime, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    made: list[WorkerProcess] = []

    def make(role: str, number: int = 1) -> WorkerProcess:
        made.append(WorkerProcess(role, nowhere, home=tmp_path, number=number, module=STUB))
        return made[-1]

    yield make
    for process in made:
        process.kill()


@contextmanager
def supervising(*workers: WorkerProcess) -> Iterator[list[str]]:
    lines: list[str] = []
    supervisor = Supervisor(workers, lines.append)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        yield lines
    finally:
        supervisor.stop()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def until(condition: Callable[[], object]) -> None:
    assert poll(lambda: bool(condition()), DEADLINE_S)


def starts(process: WorkerProcess) -> list[str]:
    """What the stub printed: one line for each start that got as far as its handlers."""
    return process.log.read_text().splitlines() if process.log.exists() else []


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_delays_grow_stay_bounded_and_differ(failures, jitter):
    delay = next_delay_s(failures, jitter)
    assert next_delay_s(failures, 0.0) <= delay <= next_delay_s(failures, 1.0) <= DELAY_MAX_S
    assert next_delay_s(failures, 0.0) == next_delay_s(failures, 1.0) / 2 > 0
    assert next_delay_s(failures) <= next_delay_s(failures + 1)


def test_no_failure_no_delay():
    assert next_delay_s(0) == 0


def test_a_healthy_time_forgets_earlier_ends():
    policy = RestartPolicy()
    delays = [policy.on_end(1.0, 1.0) for _ in range(6)]
    assert delays == sorted(set(delays))
    assert policy.on_end(HEALTHY_S, 1.0) == delays[0]
    assert policy.on_end(1.0, 1.0) == delays[1]


def test_of_a_worker_that_ended_by_itself_nothing_is_left_open(worker, monkeypatch):
    # It was killed, or has crashed, and all is over before it is due to be started again.
    monkeypatch.setattr(module, "next_delay_s", lambda *_: 3_600.0)
    failing = worker("failing")
    with supervising(failing) as lines:
        until(lambda: any("exit code 71" in line for line in lines))
    assert failing._process is not None
    assert failing._process.stdin is not None
    assert failing._process.stdin.closed


def test_all_means_every_role_so_many_times(nowhere, tmp_path):
    names = [process.name for process in workers_for(ROLES, nowhere, home=tmp_path, each=2)]
    assert names == [f"{role}-{n}" for role in ROLES for n in (1, 2)]


def test_a_worker_knows_its_servers_and_its_name_and_logs_under_its_namespace(
    worker, tmp_path, monkeypatch
):
    monkeypatch.setenv("PITBOSS_WORKER_ID", "rack-7")
    steady = worker("steady", number=3)
    steady.start()
    until(lambda: starts(steady))
    assert starts(steady) == [f"steady {steady.pid} faults rack-7-steady-3"]
    assert steady.log == tmp_path / "faults" / "log" / "steady-3.log"
    assert steady.stop(DEADLINE_S)
    assert (steady.is_alive, steady.exit_code) == (False, 0)


def test_stop_kills_what_does_not_drain(worker):
    stubborn = worker("stubborn")
    stubborn.start()
    until(lambda: starts(stubborn))
    assert not stubborn.stop(timeout_s=0.2)
    assert stubborn.exit_code == -signal.SIGKILL


@pytest.mark.faults
def test_a_killed_worker_is_started_again(worker):
    steady = worker("steady")
    with supervising(steady) as lines:
        until(lambda: starts(steady))
        first = steady.pid
        os.kill(first, signal.SIGKILL)
        until(lambda: len(starts(steady)) == 2 and steady.pid != first)
    assert [line.split(",")[0].split(" after")[0] for line in lines] == [
        "steady-1 started",
        "steady-1 was ended by SIGKILL",
        "steady-1 started",
        "draining 1 workers",
        "steady-1 ended",
    ]


@pytest.mark.faults
def test_a_worker_that_keeps_failing_is_started_ever_later_and_does_not_hold_up_others(worker):
    failing, steady = worker("failing"), worker("steady")

    def ends() -> list[str]:
        return [line for line in lines if "exit code 71" in line and "starts again" in line]

    with supervising(failing, steady) as lines:
        until(lambda: len(ends()) >= 3 and starts(steady))
        assert steady.is_alive
    assert [line.split("(end ")[1].split()[0] for line in ends()[:3]] == ["1", "2", "3"]
    assert str(failing.log) in ends()[0]
    assert len(starts(steady)) == 1


@pytest.mark.faults
def test_a_worker_that_ends_again_and_again_for_one_reason_is_degraded(
    worker, tmp_path, monkeypatch
):
    # Not once more while this test looks.
    monkeypatch.setattr(
        module, "next_delay_s", lambda failures, _: 0.0 if failures < ENDS_MIN else 3_600.0
    )
    failing, steady = worker("failing"), worker("steady")

    def degraded() -> list[DegradedWorker]:
        return list_degraded(tmp_path, "faults", list_running(tmp_path, "faults"))

    with hold_roles(tmp_path, "faults", ["failing", "steady"], workers=1):
        with supervising(failing, steady) as lines:
            until(degraded)
            [found] = degraded()
            assert (found.worker, found.exit_code, found.ends) == ("failing-1", 71, ENDS_MIN)
            until(lambda: any(line.startswith("failing-1 is DEGRADED") for line in lines))
        with supervising(steady):
            until(lambda: steady.is_alive)
    assert degraded() == [], "its supervisor does not run"


@pytest.mark.faults
def test_a_worker_whose_login_is_refused_again_and_again_is_degraded_and_counted_by_that(
    worker, tmp_path
):
    refused = worker("refused")
    ends: list[tuple[str, int | None, str]] = []
    lines: list[str] = []
    supervisor = Supervisor([refused], lines.append, lambda *end: ends.append(end))
    thread = threading.Thread(target=supervisor.run)
    with hold_roles(tmp_path, "faults", ["refused"], workers=1):
        thread.start()
        try:
            until(lambda: list_degraded(tmp_path, "faults", list_running(tmp_path, "faults")))
        finally:
            supervisor.stop()
            thread.join(DEADLINE_S)
    assert ends[:ENDS_MIN] == [("refused", 69, "LOGIN_REFUSED")] * ENDS_MIN
    assert any(line.startswith("refused-1 is DEGRADED") for line in lines)


@pytest.mark.faults
def test_a_usage_error_ends_the_supervisor_with_the_sentence_of_the_worker(worker):
    misconfigured, steady = worker("misconfigured"), worker("steady")
    lines: list[str] = []
    supervisor = Supervisor([steady, misconfigured], lines.append)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    thread.join(DEADLINE_S)
    assert not thread.is_alive(), "it ends by itself"
    assert supervisor.usage_error == "USAGE: keys.json: no key"
    assert not steady.is_alive, "the others are drained"
    assert len(starts(misconfigured)) == 3, "it is not started again"
    [end] = [line for line in lines if line.startswith("misconfigured-1 ended")]
    assert "is not started again" in end
    assert str(misconfigured.log) in end


CRITICAL = "2026-11-30 00:00:00,001 CRITICAL runtime.kafka.process "


@pytest.mark.parametrize(
    ("log", "error"),
    [
        (f"{CRITICAL}USAGE: one\n", "USAGE: one"),
        (f"{CRITICAL}USAGE: one\n{CRITICAL}FATAL: two\n", "FATAL: two"),
        (
            f"{CRITICAL}USAGE: of two\nlines\n2026-11-30 00:00:01,000 INFO x y\n",
            "USAGE: of two\nlines",
        ),
        ("usage: python -m pitboss.workers ROLE\n\n", "usage: python -m pitboss.workers ROLE"),
        ("a line that says CRITICAL\n", "a line that says CRITICAL"),
        ("", "it wrote no reason"),
    ],
)
def test_the_error_of_a_log_is_its_last_critical_message(log, error):
    assert find_error(log) == error


def test_only_the_log_of_the_last_start_counts(worker):
    misconfigured = worker("misconfigured")
    misconfigured.start()
    assert misconfigured.wait(DEADLINE_S)
    assert misconfigured.last_error() == "USAGE: keys.json: no key"
    misconfigured.role = "failing"
    misconfigured.start()
    assert misconfigured.wait(DEADLINE_S)
    assert misconfigured.last_error().startswith("failing ")


@pytest.mark.faults
def test_draining_is_bounded(worker, monkeypatch):
    monkeypatch.setattr(module, "DRAIN_S", 0.5)
    stubborn, steady = worker("stubborn"), worker("steady")
    terminate = steady.terminate

    def terminate_and_see_it_end() -> None:
        # On a busy machine it may need longer than the time of both, and would be killed as well.
        terminate()
        assert steady.wait(DEADLINE_S)

    monkeypatch.setattr(steady, "terminate", terminate_and_see_it_end)
    with supervising(stubborn, steady) as lines:
        until(lambda: starts(stubborn) and starts(steady))
    assert (stubborn.exit_code, steady.exit_code) == (-signal.SIGKILL, 0)
    assert any("did not drain" in line for line in lines)


SUPERVISE = f"""
import sys
from pathlib import Path
from pitboss.settings import runtime_of
from runtime.security import BrokerAddress
from pitboss.workers.supervisor import Supervisor, WorkerProcess
runtime = runtime_of(BrokerAddress("127.0.0.1:1"), "postgresql://u@127.0.0.1:1/postgres", "faults")
workers = [WorkerProcess(role, runtime, home=Path(sys.argv[1]), module={STUB!r}) for role in ("steady", "stubborn")]
Supervisor(workers, print).run()
"""


@pytest.mark.faults
def test_no_worker_outlives_a_supervisor_that_was_killed(tmp_path):
    logs = [tmp_path / "faults" / "log" / f"{role}-1.log" for role in ("steady", "stubborn")]
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, str(tmp_path)], stdout=subprocess.DEVNULL
    ) as parent:
        until(lambda: all(log.exists() and log.read_text() for log in logs))
        workers = [ProcessId.of(int(log.read_text().split()[1])) for log in logs]
        assert all(worker is not None and worker.is_alive for worker in workers)
        parent.kill()
    until(lambda: not any(worker is not None and worker.is_alive for worker in workers))


def test_a_thread_that_started_a_worker_may_end(worker):
    """As PR_SET_PDEATHSIG would not have it."""
    steady = worker("steady")
    thread = threading.Thread(target=steady.start)
    thread.start()
    thread.join()
    until(lambda: starts(steady))
    assert steady.is_alive


def test_an_orphan_ends_with_a_code_of_its_own(tmp_path):
    environ = {**os.environ, "PITBOSS_NAMESPACE": "", "PITBOSS_WORKER_ID": ""}
    command = [sys.executable, "-m", "pitboss.workers.lifeline", STUB, "steady"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ
    ) as orphan:
        assert orphan.stdout is not None
        assert orphan.stdin is not None
        assert orphan.stdout.readline().startswith(b"steady")
        orphan.stdin.close()
        assert orphan.wait(DEADLINE_S) == ORPHANED


@pytest.mark.integration
def test_run_refuses_without_servers_and_says_what_to_do(tmp_path):
    environ = {**os.environ, "PITBOSS_HOME": str(tmp_path)}
    for name in ("PITBOSS_KAFKA", "PITBOSS_DATABASE"):
        environ.pop(name, None)
    command = [sys.executable, "-m", "pitboss.cli.main", "run", "ledger"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: NO_STACK")
    assert "pitboss up" in done.stderr
