"""Clean-up of commands on SIGTERM and SIGHUP, as on Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_AS_CTRL_C = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def unwind_on_termination() -> Iterator[None]:
    """Unwind the block on SIGTERM and SIGHUP as on Ctrl-C.

    Raises SystemExit with the shell's exit code for the signal. Only for the main thread. A signal
    that is already ignored, as under nohup, stays ignored.
    """
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        # While an event loop runs, Ctrl-C is asyncio's, which ends the tasks in order.
        on_ctrl_c = signal.getsignal(signal.SIGINT)
        if callable(on_ctrl_c):
            on_ctrl_c(signal.SIGINT, frame)
        else:
            raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in _AS_CTRL_C}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(128 + (received[0] if received else signal.SIGINT)) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
