"""A worker whose role is how it behaves; it prints its pid once its signal handlers are in place."""

from __future__ import annotations

import os
import signal
import sys
import time


def main(role: str) -> None:
    if role == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif role == "steady":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(
        f"{role} {os.getpid()} {os.environ['PITBOSS_NAMESPACE']} {os.environ['PITBOSS_WORKER_ID']}",
        flush=True,
    )
    if role == "failing":
        sys.exit(71)
    if role == "refused":
        print(
            "2026-11-30 00:00:00,001 CRITICAL runtime.kafka.process LOGIN_REFUSED: b:9093",
            flush=True,
        )
        sys.exit(69)
    if role == "misconfigured":
        # As `runtime.kafka.process` logs it, with a line of its own between and behind.
        print("2026-11-30 00:00:00,000 WARNING streams.x a warning", flush=True)
        print(
            "2026-11-30 00:00:00,001 CRITICAL runtime.kafka.process USAGE: keys.json: no key",
            flush=True,
        )
        sys.exit(2)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main(sys.argv[1])
