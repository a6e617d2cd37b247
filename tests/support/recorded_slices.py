"""Golden slices that `pitboss replay record` has made of a run of real workers: what providers sent in it.

    PITBOSS_TEST_RECORD_SLICES=yes pytest tests/integration/replay/test_recorded_slices.py

records them anew, after a change that is meant: read the difference of the outcomes first.
"""

from __future__ import annotations

import json
from typing import Any

from tests.support.dialect_records import vectors

KEY = b"p-1001"

RawMessage = tuple[bytes, list[tuple[str, bytes | None]]]
"""Body and headers of one request."""

PLAYNGO = (
    "reserve",  # no money yet
    "release",
    "release with a jackpot inside",
    "the same reserve retried: other order, spaces and zeros",
    "free game",
    "cancelReserve has its reserve's id",
    "release",  # sent again
    "cut short",  # a dead letter
    "release that closes the round",
)
"""Names of the provider's vectors."""

REVIEW: dict[str, Any] = {
    "applicantId": "a1",
    "inspectionId": "i1",
    "applicantType": "individual",
    "levelName": "basic",
    "externalUserId": KEY.decode(),
    "type": "applicantReviewed",
    "reviewStatus": "completed",
}
FINAL = {"reviewAnswer": "RED", "reviewRejectType": "FINAL", "rejectLabels": ["FORGERY"]}
RETRY = {"reviewAnswer": "RED", "reviewRejectType": "RETRY", "rejectLabels": ["BAD_FACE"]}
GREEN = {"reviewAnswer": "GREEN"}


def review(number: int, minute: int, result: dict[str, Any]) -> RawMessage:
    at = f"2026-09-21 14:{minute:02}:00.000"
    body = REVIEW | {"correlationId": f"c{number}", "reviewResult": result, "createdAtMs": at}
    return json.dumps(body).encode(), [("content-type", b"application/json")]


def sumsub() -> list[RawMessage]:
    blocked = review(2, 11, FINAL)
    return [
        review(1, 10, RETRY),
        blocked,
        review(3, 13, GREEN),
        review(4, 12, FINAL),  # older than what came before it
        blocked,  # sent again
        (b'{"type": "applicantReviewed"}', []),  # a dead letter
    ]


def playngo() -> list[RawMessage]:
    records = {one.name: one.record for one in vectors() if one.provider == "playngo"}
    return [(records[name].value or b"", [*records[name].headers]) for name in PLAYNGO]


def recorded_stories() -> dict[str, tuple[str, list[RawMessage]]]:
    """Provider and requests by the name of a slice."""
    return {"playngo-rounds": ("playngo", playngo()), "sumsub-reviews": ("sumsub", sumsub())}
