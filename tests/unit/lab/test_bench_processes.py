"""A process under measurement, and what is reported of the machine."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import pytest

from lab.bench.machine import this_commit, this_machine
from lab.bench.processes import BenchFailed, MeasuredProcess, ProcessCommand, machine_cpu_s


def python(code: str, tmp_path: Path) -> MeasuredProcess:
    return MeasuredProcess(
        ProcessCommand([sys.executable, "-c", code], dict(os.environ), tmp_path / "log" / "run.log")
    )


def wait_until(condition, deadline_s: float = 120.0) -> None:
    end_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end_s, "the deadline is over"
        time.sleep(0.01)


def test_cpu_time_is_that_of_the_process_with_all_its_threads(tmp_path):
    busy = (
        "import threading\ndef spin():\n    while True: pass\nthreading.Thread(target=spin).start()"
    )
    with python(busy, tmp_path) as process:
        before_s = process.cpu_s()
        wait_until(lambda: process.cpu_s() >= before_s + 0.2)
    with python("import time; print('asleep', flush=True); time.sleep(600)", tmp_path) as process:
        wait_until(lambda: "asleep" in process.log_tail())
        before_s, began_s = process.cpu_s(), time.monotonic()
        wait_until(lambda: time.monotonic() > began_s + 0.3)
        assert process.cpu_s() - before_s < 0.2, "the time that passes is not that of the CPU"


def test_the_machine_spends_at_least_what_a_process_does(tmp_path):
    with python("while True: pass", tmp_path) as process:
        machine_s, own_s = machine_cpu_s(), process.cpu_s()
        wait_until(lambda: process.cpu_s() >= own_s + 0.3)
        assert machine_cpu_s() - machine_s >= 0.25


def test_a_process_that_ends_is_noticed_and_quoted(tmp_path):
    with python(
        "import sys; print('no such topic', file=sys.stderr); sys.exit(3)", tmp_path
    ) as process:
        wait_until(lambda: not alive(process))
        with pytest.raises(BenchFailed, match=r"(?s)ended with code 3.*no such topic"):
            process.cpu_s()


def test_leaving_ends_the_process_even_one_that_will_not(tmp_path, monkeypatch):
    monkeypatch.setattr("lab.bench.processes.STOP_TIMEOUT_S", 0.2)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    with python(deaf, tmp_path) as process:
        wait_until(lambda: "deaf" in process.log_tail())
    assert not alive(process)


def alive(process: MeasuredProcess) -> bool:
    try:
        process.check_alive()
    except BenchFailed:
        return False
    return True


def test_the_machine_and_the_commit_are_named():
    machine = this_machine()
    assert machine.cpu
    assert machine.cores >= 1
    assert machine.memory_gb > 0.1
    assert set(machine.libraries) >= {"faust-streaming", "aiokafka"}
    commit = this_commit()
    assert commit is None or re.fullmatch(r"[0-9a-f]{7,40}(-dirty)?", commit)
