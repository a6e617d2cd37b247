"""What a provider makes of the answers to its calls, and what it sends next. Pure.

A provider believes answers only. What success and a final refusal are stands in its document; what
neither of them is, an error or silence, leaves a bet open: the provider may send it again, and then
takes it back until that succeeds. A win is sent until it succeeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class AnswerVerdict(StrEnum):
    """What a provider takes an answer for. OPEN: neither success nor a final refusal."""

    SUCCEEDED = "SUCCEEDED"
    REFUSED = "REFUSED"
    OPEN = "OPEN"


@dataclass(frozen=True)
class Reactions:
    """One provider's reactions: pieces of answers, and how often it sends a bet again.

    `refused` ends a bet without a rollback. `resends` is how often a bet without success or refusal
    is sent again before it is taken back; None: until there is one of both, and it is never taken
    back. `already_back` and `already_paid` are errors that say that a rollback or a win was booked
    before, or that nothing of the bet stands.
    """

    succeeded: tuple[bytes, ...]
    refused: tuple[bytes, ...] = ()
    resends: int | None = 0
    already_back: tuple[bytes, ...] = ()
    already_paid: tuple[bytes, ...] = ()

    def read_bet_answer(self, answer: bytes | None) -> AnswerVerdict:
        """Return what the answer to a bet means; None is silence."""
        if answer is None:
            return AnswerVerdict.OPEN
        if _has_any(answer, self.succeeded):
            return AnswerVerdict.SUCCEEDED
        return AnswerVerdict.REFUSED if _has_any(answer, self.refused) else AnswerVerdict.OPEN

    def is_back(self, answer: bytes | None) -> bool:
        """Return whether, by the answer to a rollback, nothing of its bet stands."""
        return answer is not None and _has_any(answer, (*self.succeeded, *self.already_back))

    def is_paid(self, answer: bytes | None) -> bool:
        """Return whether a win, or anything else that is never refused, is booked."""
        return answer is not None and _has_any(answer, (*self.succeeded, *self.already_paid))


def _has_any(answer: bytes, pieces: tuple[bytes, ...]) -> bool:
    return any(piece in answer for piece in pieces)


REACTIONS: Final[Mapping[str, Reactions]] = {
    # docs.hub88.io, wallet API: a rollback follows any status but these two refusals, and silence.
    "hub88": Reactions(
        (b'"status":"RS_OK"',),
        (b'"status":"RS_ERROR_NOT_ENOUGH_MONEY"', b'"status":"RS_ERROR_LIMIT_REACHED"'),
    ),
    "hundredhp": Reactions(
        (b'"balance":',),
        already_back=(b'"errCode":605', b'"errCode":608'),
        already_paid=(b'"errCode":609',),
    ),
    # No document says how often; integrators see a reserve again before its cancelReserve.
    "playngo": Reactions(
        (b"<statusCode>0</statusCode>",),
        (b"<statusCode>7</statusCode>", b"<statusCode>4</statusCode>"),
        resends=2,
    ),
    "pragmatic": Reactions((b'"error":0,',), resends=2),
    # The house dialect's UNAVAILABLE says: send the same message again.
    "house": Reactions(
        (b'"outcome":"POSTED"', b'"outcome":"EXISTS"', b'"outcome":"INFORMATIONAL"'),
        (b'"outcome":"REFUSED_', b'"outcome":"CANCELLED"', b'"outcome":"CONFLICT"'),
        resends=None,
    ),
    # docs.adyen.com, webhooks: a notice is sent again until it is accepted.
    "adyen": Reactions((b"[accepted]",), resends=None),
}
