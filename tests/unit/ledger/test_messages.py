from __future__ import annotations

from ledger_sink.booking.messages import player_message
from schemas.events import Outcome
from tests.acceptance.documented import page, table_rows


def test_every_outcome_has_a_sentence_for_the_player_and_the_page_shows_it():
    shown = {
        row[0].strip("`"): row[1] for row in table_rows(page("ledger.md"), "Messages to players")
    }
    shown.pop("outcome")
    assert shown == {outcome.value: player_message(outcome) for outcome in Outcome}


def test_no_sentence_names_a_code():
    for outcome in Outcome:
        assert "_" not in player_message(outcome)
        assert player_message(outcome).endswith(".")
