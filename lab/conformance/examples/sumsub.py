"""Identity checks at Sumsub: one application until a final rejection, and another that passes."""

from __future__ import annotations

import hmac
import json
from datetime import UTC, datetime
from typing import Any, Final

from lab.conformance.examples.fill import Example, Expected, Fill
from streams.providers.dialect import KeyMaterial

KEYS: Final[KeyMaterial] = {"secret": "sumsub-5b1e7c90d2f84a36"}

_DIGESTS: Final = ("sha256", "sha512", "sha1")


def examples(fill: Fill) -> list[Example]:
    """Return the messages of a check.

    It is started, pending, rejected with another try, rejected finally, and passed; then come an
    older spelling and another level.
    """
    retry = {"reviewAnswer": "RED", "reviewRejectType": "RETRY", "rejectLabels": ["BAD_SELFIE"]}
    final = {
        "reviewAnswer": "RED",
        "reviewRejectType": "FINAL",
        "rejectLabels": ["FORGERY", "FRAUDSTER"],
    }
    green = {"reviewAnswer": "GREEN"}
    return [
        _message(fill, 0, "applicantCreated", {"reviewStatus": "init"}),
        _message(fill, 1, "applicantPending", {"reviewStatus": "pending"}),
        _message(
            fill, 2, "applicantReviewed", {"reviewStatus": "completed", "reviewResult": retry}
        ),
        _message(
            fill,
            3,
            "applicantReviewed",
            {"reviewStatus": "completed", "reviewResult": final},
            "player.blocked",
        ),
        _message(
            fill,
            4,
            "applicantReviewed",
            {"reviewStatus": "completed", "reviewResult": green},
            "player.released",
        ),
        _older(fill, 5, green),
        _message(
            fill,
            6,
            "applicantLevelChanged",
            {"previousLevelName": "basic", "levelName": "enhanced"},
        ),
    ]


def rebatch(fill: Fill) -> list[Example]:
    """Return the same messages, the last one first.

    A message is one applicant's, so there is nothing to cut.
    """
    return examples(fill)[::-1]


def _message(
    fill: Fill, n: int, kind: str, more: dict[str, Any], state: str | None = None
) -> Example:
    correlation = fill.uuid(100 + n)
    at = datetime.fromtimestamp(fill.first_at_ms / 1000, UTC)
    body = _body(fill, kind) | {
        "correlationId": correlation,
        "createdAtMs": f"{at:%Y-%m-%d %H:%M:%S}.{fill.first_at_ms % 1000:03d}",
        **more,
    }
    return _sign(fill, n, body, f"{_applicant(fill)}:{correlation}", state)


def _older(fill: Fill, n: int, result: dict[str, Any]) -> Example:
    """Return an older message: without correlation id, and with whole seconds and an offset."""
    at = f"{datetime.fromtimestamp(fill.first_at_ms // 1000, UTC):%Y-%m-%d %H:%M:%S}+0000"
    more = {"createdAt": at, "reviewStatus": "completed", "reviewResult": result}
    return _sign(
        fill,
        n,
        _body(fill, "applicantReviewed") | more,
        f"{_applicant(fill)}:{at}",
        "player.released",
    )


def _applicant(fill: Fill) -> str:
    return fill.uuid(0).replace("-", "")[:24]


def _body(fill: Fill, kind: str) -> dict[str, Any]:
    return {
        "applicantId": _applicant(fill),
        "inspectionId": fill.uuid(1).replace("-", "")[:24],
        "applicantType": "individual",
        "levelName": "basic",
        "sandboxMode": False,
        "externalUserId": fill.player,
        "type": kind,
        "clientId": "acme",
    }


def _sign(fill: Fill, n: int, body: dict[str, Any], event_id: str, state: str | None) -> Example:
    value = json.dumps(body, indent=2, separators=(",", " : ")).encode()
    digest = _DIGESTS[n % len(_DIGESTS)]
    headers = {
        "x-payload-digest": hmac.digest(KEYS["secret"].encode(), value, digest).hex().encode(),
        "x-payload-digest-alg": f"HMAC_{digest.upper()}_HEX".encode(),
    }
    expects = [Expected.event(body["type"], event_id, fill.player)]
    if state is not None:
        expects.append(Expected(state, event_id, fill.player, (("PLAYER_STATE", None),)))
    sent = fill.headers("application/json", "/sumsub", headers)
    return Example(
        f"{body['type']} {n}", sent, fill.player.encode(), value, tuple(expects), "webhook"
    )
