"""Progress on a terminal and in a pipe."""

from __future__ import annotations

from io import StringIO

from lab.bench.progress import BenchProgress


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def show_steps(stream: StringIO) -> str:
    clock = Clock()
    progress = BenchProgress(stream, clock)
    progress.begin("run")
    for tenth in range(1, 31):
        clock.now_s = tenth / 10
        progress.update(tenth, 30)
    progress.end("30/s")
    return stream.getvalue()


def test_a_pipe_gets_one_line_a_second():
    assert show_steps(StringIO()).splitlines() == [
        "run",
        "run 10 of 30, 1 s",
        "run 20 of 30, 2 s",
        "run 30 of 30, 3 s",
        "run: 30/s",
    ]


def test_a_terminal_gets_a_bar_that_leaves_only_the_result():
    text = show_steps(Terminal())
    assert text.count("\n") == 1
    assert text.endswith("\r\033[Krun: 30/s\n")
    assert text.count("█" * 24) == 1
    assert text.count("\r") > 15
