"""What a worker tells Python and the C library about memory, seen from a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from runtime.kafka.memory_tuning import GC_THRESHOLD_OBJECTS, IdleDetector

PROGRAM = """
import gc, json, resource, sys
from runtime.kafka.memory_tuning import tune_memory

if sys.argv[1] == "settled":
    tune_memory()

def faults_of_a_buffer():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(b"x") * (8 * 1024 * 1024)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first, *later = [faults_of_a_buffer() for _ in range(5)]
print(json.dumps({"later": sum(later), "threshold": gc.get_threshold()[0], "frozen": gc.get_freeze_count()}))
"""


def seen_by(how: str) -> dict[str, int]:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True
    )
    seen: dict[str, int] = json.loads(ended.stdout)
    return seen


def test_garbage_is_searched_for_rarely():
    seen = seen_by("settled")
    assert seen["threshold"] == GC_THRESHOLD_OBJECTS
    assert seen["frozen"] > 0


def test_a_freed_buffer_stays_with_the_process():
    assert seen_by("settled")["later"] < seen_by("as it comes")["later"] / 10


def test_a_worker_is_idle_once_after_it_was_busy():
    detector = IdleDetector(3.0)
    assert not detector.observe(3.2), "its start is not worth a search"
    assert not detector.observe(5.0), "it is busy"
    assert not detector.observe(9.9)
    assert detector.observe(10.0)
    assert not detector.observe(10.1), "released already"
    assert not detector.observe(14.9)
    assert detector.observe(15.0)


RELEASE = """
import gc
from runtime.kafka.memory_tuning import release_memory, tune_memory

def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

tune_memory()
buffers = [bytes(40_000) for _ in range(3_000)]
last = bytes(40_000)  # the heap's end stays in use, so it does not shrink by itself
del buffers
before = resident_mb()
release_memory()
print(before - resident_mb())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_freed_memory_goes_back_wherever_in_the_heap_it_is():
    released = subprocess.run(
        [sys.executable, "-c", RELEASE], capture_output=True, text=True, check=True
    )
    assert float(released.stdout) > 60, "of 120 MB"
