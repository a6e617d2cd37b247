"""Lines of progress in a pipe, and a library's warnings in a file and not among them."""

from __future__ import annotations

import logging
import threading

import click
import pytest

from pitboss.cli import stage_progress
from pitboss.cli.client_log import LIBRARIES, ClientLog, write_library_logs_to
from pitboss.cli.stage_progress import StageProgress
from pitboss.embedded import files


@pytest.fixture
def library():
    yield logging.getLogger("aiokafka.cluster")
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        for handler in [one for one in logger.handlers if isinstance(one, ClientLog)]:
            logger.removeHandler(handler)


def test_a_librarys_warning_goes_to_the_file_and_not_to_stderr(
    tmp_path, capfd, library, monkeypatch
):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # those of pytest
    log = tmp_path / "log" / "client.log"
    write_library_logs_to(tmp_path / "other.log")
    write_library_logs_to(log)
    assert not log.parent.exists(), "nothing is made before there is something to write"
    library.warning("NotLeaderForPartitionError")
    assert log.read_text().endswith(" WARNING aiokafka.cluster NotLeaderForPartitionError\n")
    assert not (tmp_path / "other.log").exists()
    assert capfd.readouterr().err == ""


def test_a_log_that_cannot_be_written_stops_no_command(tmp_path, library, capfd, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    (tmp_path / "file").touch()
    write_library_logs_to(tmp_path / "file" / "client.log")
    library.warning("lost")
    assert capfd.readouterr().err == ""


def test_a_full_log_begins_again(tmp_path, library, monkeypatch):
    monkeypatch.setattr("pitboss.cli.client_log.LOG_BYTES_MAX", 10)
    assert files.LOG_BYTES_MAX > 10
    write_library_logs_to(tmp_path / "client.log")
    for text in ("one", "two"):
        library.warning(text)
    assert (tmp_path / "client.log").read_text().count("\n") == 1


def test_in_a_pipe_the_stage_is_printed_at_an_interval(capsys, monkeypatch):
    monkeypatch.setattr(stage_progress, "LINE_EVERY_S", 0.01)
    seen = threading.Event()
    echo = click.echo

    def record(text, **options):
        echo(text, **options)
        if "partitions 7 of 24" in text:
            seen.set()

    monkeypatch.setattr(click, "echo", record)
    with StageProgress("provisioning") as progress:
        progress.report("database", 0, 1)
        progress.report("partitions", 7, 24)
        assert seen.wait(30)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "provisioning: partitions 7 of 24 (0 s)"


def test_short_work_prints_nothing(capsys):
    with StageProgress("provisioning") as progress:
        progress.report("database", 0, 1)
    assert capsys.readouterr() == ("", "")
