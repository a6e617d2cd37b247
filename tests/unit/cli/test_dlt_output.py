"""What `pitboss dlt redrive` and `dlt drop` say about their results."""

from __future__ import annotations

import click
import pytest

from pitboss.cli.dlt import REDRIVEN, _report
from runtime.dead_letters.redrive import RedriveResult, RedriveStatus
from schemas.events import Position

SOURCE, PLACE = Position("t", 0, 1), Position("t", 0, 9)


@pytest.mark.parametrize(
    ("status", "verb", "as_json", "is_advised"),
    [
        (RedriveStatus.DONE, REDRIVEN, False, True),
        (RedriveStatus.DONE, REDRIVEN, True, True),
        (RedriveStatus.PLANNED, REDRIVEN, False, False),
        (RedriveStatus.DONE, "dropped", False, False),
    ],
)
def test_done_is_said_to_mean_appended_and_where_to_look(capsys, status, verb, as_json, is_advised):
    """`done` stood there two seconds before the record was a dead letter again (issue 12)."""
    results = [RedriveResult(SOURCE, ("BAD_SIGNATURE",), status, "", PLACE)]
    with pytest.raises(click.exceptions.Exit):
        _report(click.Context(click.Command("redrive")), results, verb, as_json=as_json)
    advice = "look for it with `pitboss dlt list --state open`" in capsys.readouterr().err
    assert advice is is_advised
