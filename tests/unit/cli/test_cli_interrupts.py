"""A command that gets a signal to end cleans up first; its exit code names the signal."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

COMMAND = """
import asyncio, sys, time
from concurrent.futures import ThreadPoolExecutor
from pitboss.cli.interrupts import unwind_on_termination

def start():  # as servers are: in threads, which cannot be interrupted
    time.sleep(0.3)
    print("started", flush=True)

with unwind_on_termination():
    try:
        with ThreadPoolExecutor(2) as pool:
            servers = [pool.submit(start) for _ in range(2)]
            print("ready", flush=True)
            [server.result() for server in servers]
        {then}
    finally:
        print("stopped", flush=True)
"""
# A session that runs in the background, or under nohup, hands on signals that are ignored.
HEEDED = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
STARTING, RUNNING = "time.sleep(60)", "print('ready', flush=True); asyncio.run(asyncio.sleep(60))"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize(
    ("then", "signal_at"), [(STARTING, 1), (RUNNING, 2)], ids=["while it starts", "in a loop"]
)
def test_it_cleans_up_and_ends_with_the_code_of_the_signal(number, then, signal_at):
    with subprocess.Popen(
        [sys.executable, "-c", HEEDED + COMMAND.format(then=then)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        printed: list[str] = []
        while printed.count("ready") < signal_at:
            printed.append(process.stdout.readline().decode().strip())
        process.send_signal(number)
        printed += process.stdout.read().decode().split()
        assert process.wait(60) == 128 + number
    assert printed[-1] == "stopped"
    assert "".join(printed).count("started") == 2, (
        "what was starting was not waited for, and would outlive the clean-up"
    )


def test_what_nohup_ignores_is_ignored_still():
    command = [
        sys.executable,
        "-c",
        COMMAND.format(then="print('ready', flush=True); time.sleep(1)"),
    ]
    ignoring = f"import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv({command[0]!r}, {command!r})"
    with subprocess.Popen([sys.executable, "-c", ignoring], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        assert process.stdout.read().decode().split()[-1] == "stopped"
        assert process.wait(60) == 0
