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
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main(sys.argv[1])
