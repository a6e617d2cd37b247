"""What a worker tells Python and the C library about memory, seen from a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

from runtime.kafka.memory_tuning import GC_THRESHOLD_OBJECTS

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
