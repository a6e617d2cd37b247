"""Progress on a terminal and in a pipe, and what of it is on stdout: nothing."""

from __future__ import annotations

import threading
from io import StringIO

import pytest
from click.testing import CliRunner
from rich.console import Console

from pitboss.cli import progress as progress_module
from pitboss.cli.main import cli
from pitboss.cli.progress import StepProgress, show_waiting


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def show_steps(console: Console) -> None:
    clock = Clock()
    with StepProgress(console, clock) as progress:
        progress.begin("run [/x]")
        for tenth in range(1, 31):
            clock.now_s = tenth / 10
            progress.update(tenth, 30)
        progress.end("30/s")


def test_a_pipe_gets_one_line_a_second():
    stream = StringIO()
    show_steps(Console(file=stream, markup=False, highlight=False, emoji=False, width=10))
    assert stream.getvalue().splitlines() == [
        "run [/x]",
        "run [/x] 10 of 30, 1 s, 10/s, 2 s left",
        "run [/x] 20 of 30, 2 s, 10/s, 1 s left",
        "run [/x] 30 of 30, 3 s, 10/s, 0 s left",
        "run [/x]: 30/s",
    ]


def terminal(stream: StringIO, **environment: str) -> Console:
    return Console(
        file=stream,
        markup=False,
        highlight=False,
        force_terminal=True,
        width=100,
        _environ={"TERM": "xterm-256color", **environment},
    )


def test_a_terminal_gets_a_bar_that_leaves_only_the_result():
    stream = StringIO()
    show_steps(terminal(stream))
    text = stream.getvalue()
    assert "30/30" in text
    assert "10/s" in text
    assert "━" * 20 in text
    # What a bar has drawn is erased: the last thing that stays is the result.
    assert "run [/x]: 30/s" in text
    assert text.rstrip().endswith(("\x1b[2K", "\x1b[?25h"))


def test_what_was_done_before_does_not_count_as_speed_for_long():
    """A resumed export begins with what it finds done; then the rate is that of the last half minute."""
    clock, stream = Clock(), StringIO()
    progress = StepProgress(Console(file=stream, width=80, highlight=False), clock)
    progress.begin("export")
    for second in range(1, 61):
        clock.now_s = second
        progress.update(1_000_000 + 4_000 * second, 1_400_000)
    assert stream.getvalue().splitlines()[-1] == (
        "export 1,240,000 of 1,400,000, 60 s, 4,000/s, 40 s left"
    )


def test_a_step_that_stands_still_has_no_time_left():
    clock, stream = Clock(), StringIO()
    progress = StepProgress(Console(file=stream, width=80, highlight=False), clock)
    progress.begin("export")
    for second, count in ((1, 0), (2, 1)):
        clock.now_s = second
        progress.update(count, 3)
    assert stream.getvalue().splitlines() == [
        "export",
        "export 0 of 3, 1 s",
        "export 1 of 3, 2 s, 0.5/s, 4 s left",
    ]


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}])
def test_a_terminal_has_colours_unless_no_color_says_otherwise(environment):
    stream = StringIO()
    show_steps(terminal(stream, **environment))
    assert ("\x1b[38;" in stream.getvalue()) == (not environment)


def test_a_dumb_terminal_gets_lines():
    stream = StringIO()
    show_steps(terminal(stream, TERM="dumb"))
    assert "run [/x] 10 of 30, 1 s" in stream.getvalue()
    assert "\x1b[2K" not in stream.getvalue()


class Lines(StringIO):
    """A stream that says when a line with a text has come."""

    def __init__(self, wanted: str) -> None:
        super().__init__()
        self.wanted = wanted
        self.has_come = threading.Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.wanted in self.getvalue():
            self.has_come.set()
        return written


def test_a_step_that_nothing_counts_tells_its_seconds(monkeypatch):
    monkeypatch.setattr(progress_module, "LINE_EVERY_S", 0.02)
    clock, stream = Clock(), Lines("checking, 3 s")
    progress = StepProgress(Console(file=stream, width=80, highlight=False), clock)
    with progress.wait("checking"):
        clock.now_s = 3.0
        assert stream.has_come.wait(60)
    threads = threading.active_count()
    assert stream.getvalue() == "checking, 3 s\n"
    assert threads == threading.active_count()


def test_a_wait_in_a_pipe_names_its_stage(monkeypatch):
    monkeypatch.setattr(progress_module, "LINE_EVERY_S", 0.02)
    clock, stream = Clock(), Lines("partitions 7 of 24, 3 s")
    progress = StepProgress(Console(file=stream, width=80, highlight=False), clock)
    with progress.wait("provisioning"):
        progress.report("database", 0, 1)
        progress.report("partitions", 7, 24)
        clock.now_s = 3.0
        assert stream.has_come.wait(60)
    assert stream.getvalue() == "provisioning: partitions 7 of 24, 3 s\n"


def test_a_wait_on_a_terminal_names_its_stage():
    stream = StringIO()
    with StepProgress(terminal(stream), Clock()) as progress, progress.wait("provisioning"):
        progress.report("partitions [/x]", 7, 24)
    assert "provisioning: partitions [/x]" in stream.getvalue()
    assert "7/24" in stream.getvalue()


def test_a_short_wait_prints_nothing(capsys, monkeypatch):
    monkeypatch.setattr(
        progress_module, "LINE_EVERY_S", 600.0
    )  # short, however busy the machine is
    with show_waiting("checking") as progress:
        progress.report("database", 0, 1)
    assert capsys.readouterr() == ("", "")


def test_an_error_inside_a_wait_comes_out_and_ends_the_lines():
    before = threading.active_count()
    with pytest.raises(ValueError, match="inside"), show_waiting("checking"):
        raise ValueError("inside")
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("arguments", "step"),
    [
        (("simulate", "--seeds", "2"), "simulating"),
        (("providers", "fuzz", "--count", "300", "--provider", "hub88"), "fuzzing"),
        (("bench", "adapters", "--provider", "house", "--rounds", "1"), "house"),
    ],
)
def test_stdout_has_the_result_and_stderr_the_progress(arguments, step):
    done = CliRunner().invoke(cli, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith(("{", "["))
    assert step in done.stderr
