"""The numbers behind the plots, and the figures that are made of them."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from msgspec.structs import replace

from replay.export.request import ExportRequest
from replay.export.views import VIEWS, export_views, open_views
from replay.plots import VIEWS_OF, Curve, PlotSeries, draw, read_series
from schemas import codec
from schemas.errors import UsageError
from schemas.events import WalletOutcome, WalletTransaction
from schemas.topics import OUTCOMES, TRANSACTIONS
from tests.support.ledger_events import bet, rollback, win
from tests.support.memory_log import MemoryLog, MemoryRecord

MINUTE_MS = 60_000
START_MS = 1_790_000_040_000
"""A whole minute."""


def log_of(events, outcomes) -> MemoryLog:
    """A log in which each event is its own attempt, and each outcome that of an event."""
    encode, encode_outcome = codec.encoder(WalletTransaction), codec.encoder(WalletOutcome)
    rows, answers = [], []
    for number, (at_ms, story) in enumerate(events):
        attempt = replace(story.attempt, offset=number)
        event = replace(story, occurred_at=at_ms, appended_at=at_ms, attempt=attempt)
        key = event.player_id.encode()
        rows.append(MemoryRecord(number, at_ms, key, encode(event)))
        outcome, balance = outcomes[number]
        answer = WalletOutcome(
            event_id=event.event_id,
            brand=event.brand,
            provider=event.provider,
            operation=event.operation,
            provider_tx_id=event.provider_tx_id,
            attempt=attempt,
            player_id=event.player_id,
            outcome=outcome,
            reason="",
            message="",
            currency="EUR",
            scale=2,
            balance_minor=balance,
            version=number + 1,
            decided_at=at_ms,
        )
        answers.append(MemoryRecord(number, at_ms, key, encode_outcome(answer)))
    return MemoryLog({TRANSACTIONS: {0: rows}, OUTCOMES: {0: answers}})


@pytest.fixture
def log() -> MemoryLog:
    events = [
        (START_MS, bet("b1", 1_000)),
        (START_MS + 1_000, bet("b2", 1_000)),
        (START_MS + 2_000, win("w1", 1_500, "b1")),
        (START_MS + 3 * MINUTE_MS, bet("b3", 9_900)),
        (START_MS + 3 * MINUTE_MS + 1, bet("b4", 5_000)),
        (START_MS + 3 * MINUTE_MS + 2, rollback("r4", "b4")),
    ]
    posted = [("POSTED", balance) for balance in (900, 800, 950, 0, 450, 950)]
    posted[3] = ("REFUSED_FUNDS", 950)
    return log_of(events, posted)


def series_of(log, kind, folder, player="p-1") -> PlotSeries:
    requests = {name: ExportRequest(VIEWS[name]) for name in VIEWS_OF[kind]}
    export_views(log, "", requests, folder)
    with open_views(folder) as database:
        return read_series(database, kind, player)


def test_bets_are_counted_by_minute_and_a_minute_without_one_has_none(log, tmp_path):
    [curve] = series_of(log, "bets", tmp_path).curves
    found = {
        (at_ms - START_MS) // MINUTE_MS: value
        for at_ms, value in zip(curve.places, curve.values, strict=True)
    }
    assert (curve.name, found) == ("hub88", {-1: 0, 0: 2, 1: 0, 2: 0, 3: 2, 4: 0})


def test_a_balance_is_that_after_each_decision(log, tmp_path):
    [curve] = series_of(log, "balance", tmp_path).curves
    assert curve.values == (9.0, 8.0, 9.5, 9.5, 4.5, 9.5)
    assert curve.places[0] == START_MS


def test_payout_is_of_booked_bets_that_were_not_rolled_back(log, tmp_path):
    [curve] = series_of(log, "payout", tmp_path).curves
    assert curve.name == "EUR"
    # 15.00 won of 10.00 and 10.00; 99.00 was refused, 50.00 rolled back.
    assert curve.values == (0.75,)


@pytest.mark.parametrize("suffix", [".svg", ".png"])
@pytest.mark.parametrize("kind", ["bets", "balance", "payout"])
def test_the_same_numbers_give_the_same_file(kind, suffix, tmp_path):
    places = ("slot-1", "slot-2") if kind == "payout" else (START_MS, START_MS + MINUTE_MS)
    series = PlotSeries(kind, "A title", "a unit", (Curve("a", places, (0.9, 0.5)),))
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    draw(series, first)
    draw(series, second)
    assert first.read_bytes() == second.read_bytes()
    if suffix == ".svg":
        assert "A title" in "".join(ET.fromstring(first.read_text()).itertext())
    else:
        assert first.read_bytes().startswith(b"\x89PNG")


def test_another_format_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"\.svg or \.png"):
        draw(PlotSeries("bets", "", "", ()), tmp_path / "a.pdf")
