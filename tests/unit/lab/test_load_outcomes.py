"""A listener of outcomes: for each attempt the first arrival counts."""

from __future__ import annotations

from lab.load.outcomes import OutcomeListener
from runtime.security import BrokerAddress
from schemas import codec
from schemas.events import Attempt, WalletOutcome

FIRST, SECOND = Attempt("raw", 0, 7), Attempt("raw", 0, 7, 1)


def outcome(attempt: Attempt, code: str = "POSTED") -> bytes:
    return codec.encoder(WalletOutcome)(
        WalletOutcome(
            "e", "acme", "hub88", "bet", "t", attempt, "p-1", code, "", "", "EUR", 2, 100, 1
        )
    )


def test_an_outcome_that_comes_again_is_counted_and_does_not_arrive_again():
    seen: list[tuple[Attempt, float]] = []
    listener = OutcomeListener(
        BrokerAddress("127.0.0.1:1"), lambda: 0.0, lambda *one: seen.append(one)
    )
    listener._note(outcome(FIRST), 10.0)
    listener._note(outcome(SECOND, "REFUSED_FUNDS"), 11.0)
    listener._note(outcome(FIRST), 12.0)
    assert listener.arrived == {FIRST: 10.0, SECOND: 11.0}
    assert seen == [(FIRST, 10.0), (SECOND, 11.0)]
    assert (listener.total, listener.outcomes) == (3, {"POSTED": 2, "REFUSED_FUNDS": 1})
