"""A library's warnings are in a file, and not among the lines of a command."""

from __future__ import annotations

import logging

import pytest

from pitboss.cli.client_log import LIBRARIES, ClientLog, write_library_logs_to
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
