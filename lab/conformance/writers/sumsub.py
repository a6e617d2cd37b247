"""Sumsub's webhooks: JSON, one message about one applicant a request, signed over the body.

Sources: docs.sumsub.com, user-verification-webhooks and webhook-manager. The intent's id is the
message's correlation id. `createdAtMs` is text in UTC despite its name, and bodies are printed with
spaces around colons.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, ClassVar, Final

from lab.conformance.intents import Intent, Verb
from lab.conformance.writers.encoding import json_body
from lab.conformance.writers.writer import Message, Secrets, Sending, Writer

PATH: Final = "/sumsub"
LEVEL: Final = "basic"
DIGESTS: Final = ("sha256", "sha512", "sha1")
REVIEWED: Final = "applicantReviewed"

_REVIEWS: Final[Mapping[Verb, dict[str, Any]]] = {
    Verb.CHECK_STARTED: {"reviewStatus": "init"},
    Verb.CHECK_PENDING: {"reviewStatus": "pending"},
    Verb.CHECK_FAILED: {
        "reviewStatus": "completed",
        "reviewResult": {
            "reviewAnswer": "RED",
            "reviewRejectType": "RETRY",
            "rejectLabels": ["BAD_SELFIE"],
        },
    },
    Verb.CHECK_REJECTED: {
        "reviewStatus": "completed",
        "reviewResult": {
            "reviewAnswer": "RED",
            "reviewRejectType": "FINAL",
            "rejectLabels": ["FORGERY", "FRAUDSTER"],
        },
    },
    Verb.CHECK_PASSED: {
        "reviewStatus": "completed",
        "reviewResult": {"reviewAnswer": "GREEN"},
    },
}


class SumsubWriter(Writer):
    """Writes the messages of identity checks."""

    provider = "sumsub"
    says: ClassVar = {
        Verb.CHECK_STARTED: "applicantCreated",
        Verb.CHECK_PENDING: "applicantPending",
        Verb.CHECK_FAILED: REVIEWED,
        Verb.CHECK_REJECTED: REVIEWED,
        Verb.CHECK_PASSED: REVIEWED,
    }
    secret_names = ("secret",)

    def write(self, items: Sequence[Intent], sending: Sending, secrets: Secrets | None) -> Message:
        """Write one message; another node may sign with another algorithm."""
        [intent] = items
        at = datetime.fromtimestamp(intent.at_ms / 1000, UTC)
        fields = head_of(intent) | {
            "correlationId": intent.tx_id,
            "createdAtMs": f"{at:%Y-%m-%d %H:%M:%S}.{intent.at_ms % 1000:03d}",
            **_REVIEWS[intent.verb],
        }
        style = sending.style
        body = print_body(fields) if style is None else json_body(fields, style)
        digest = DIGESTS[0] if style is None else style.choice(DIGESTS)
        return wrap_body(intent.player or "", body, secrets, digest)


def head_of(intent: Intent) -> dict[str, Any]:
    """Return the fields that every message of the applicant has."""
    applicant = applicant_of(intent.player or "")
    return {
        "applicantId": applicant,
        "inspectionId": applicant[::-1],
        "applicantType": "individual",
        "levelName": LEVEL,
        "sandboxMode": False,
        "externalUserId": intent.player,
        "type": intent.operation,
        "clientId": "acme",
    }


def applicant_of(player: str) -> str:
    """Return the id under which Sumsub knows a player: 24 hex digits."""
    return blake2b(player.encode(), digest_size=12).hexdigest()


def print_body(fields: Mapping[str, Any]) -> bytes:
    """Print a body as Sumsub does."""
    return json.dumps(fields, indent=2, separators=(",", " : ")).encode()


def wrap_body(player: str, body: bytes, secrets: Secrets | None, digest: str) -> Message:
    """Return the message with this body, signed by the HMAC of this digest."""
    if secrets is None:
        return Message(player, body, PATH)
    signed = hmac.digest(secrets["secret"].encode(), body, digest).hex()
    headers = (
        ("x-payload-digest", signed.encode()),
        ("x-payload-digest-alg", f"HMAC_{digest.upper()}_HEX".encode()),
    )
    return Message(player, body, PATH, headers=headers)


WRITER: Final = SumsubWriter()
