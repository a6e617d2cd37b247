"""Sumsub's webhooks: POST JSON, one object a request, the results of identity checks.

They hold no money and no personal data. Sources: docs.sumsub.com, user-verification-webhooks,
transaction-monitoring-webhooks (last changed 2026-10-02), applicant-statuses, webhook-manager and
receive-and-interpret-results-via-api. Each message is a player event; the verdict of a finished
review is also a player's state: RED with FINAL blocks, GREEN releases. A word of a verdict that the
documents do not list is kept and decides nothing. Messages about a transaction, `applicantKyt…`,
have a verdict of their own, which is never the player's. Failed
deliveries are repeated for a day, so an old RED may come after a newer GREEN: `provider_at` is the
time of the message, and the ledger goes by that, not by the order of arrival.

`createdAtMs` is text in UTC, `2026-11-22 10:15:30.123`, despite its name; older messages have
`createdAt` with whole seconds and `+0000`. The signature is over the raw bytes: bodies are printed
with spaces around colons.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import partial
from types import MappingProxyType
from typing import Annotated, ClassVar, Final, TypeAlias

import msgspec
from msgspec import Meta

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import Cause, Kind, Leg, SignatureVerdict, WalletOutcome
from streams.providers.dialect import (
    Dialect,
    Draft,
    Headers,
    Item,
    KeyMaterial,
    PlayerDraft,
    Reader,
    Reply,
    UnreadableItem,
    require_key,
)
from streams.providers.fields import (
    Id,
    OptionalId,
    optional_text,
    read_json,
    read_player_id,
    require,
    text_of,
)
from streams.providers.http_face import HttpCall, HttpFace
from streams.providers.references import reference_or_none
from streams.providers.signatures import Digest, Hmac
from streams.providers.times import ms_of_text

DIGEST_HEADER: Final = "x-payload-digest"
ALGORITHM_HEADER: Final = "x-payload-digest-alg"

_DIGESTS: Final[dict[bytes, Digest]] = {
    b"HMAC_SHA1_HEX": "sha1",
    b"HMAC_SHA256_HEX": "sha256",
    b"HMAC_SHA512_HEX": "sha512",
}
_TYPES: Final = MappingProxyType(
    {
        "applicantCreated": "KYC_STARTED",
        "applicantPending": "KYC_PENDING",
        "applicantPrechecked": "KYC_PRECHECKED",
        "applicantOnHold": "KYC_ON_HOLD",
        "applicantReviewed": "KYC_REVIEWED",
        "applicantWorkflowCompleted": "KYC_WORKFLOW_COMPLETED",
        "applicantWorkflowFailed": "KYC_WORKFLOW_FAILED",
        "applicantActionPending": "KYC_ACTION_PENDING",
        "applicantActionOnHold": "KYC_ACTION_ON_HOLD",
        "applicantActionReviewed": "KYC_ACTION_REVIEWED",
        "applicantActionLevelChanged": "KYC_ACTION_LEVEL_CHANGED",
        "applicantAwaitingService": "KYC_AWAITING_SERVICE",
        "applicantAwaitingUser": "KYC_AWAITING_USER",
        "applicantPersonalInfoChanged": "KYC_DATA_CHANGED",
        "applicantTagsChanged": "KYC_TAGS_CHANGED",
        "applicantLevelChanged": "KYC_LEVEL_CHANGED",
        "applicantActivated": "KYC_ACTIVATED",
        "applicantDeactivated": "KYC_DEACTIVATED",
        "applicantReset": "KYC_RESET",
        "applicantDeleted": "KYC_DELETED",
        "videoIdentStatusChanged": "KYC_VIDEO_CHANGED",
        "videoIdentCompositionCompleted": "KYC_VIDEO_COMPLETED",
    }
)
_TRANSACTION_TYPES: Final = MappingProxyType(
    {
        "applicantKytTxnCreated": "KYT_CREATED",
        "applicantKytTxnApproved": "KYT_APPROVED",
        "applicantKytTxnRejected": "KYT_REJECTED",
        "applicantKytTxnReviewed": "KYT_REVIEWED",
        "applicantKytTxnDeleted": "KYT_DELETED",
        "applicantKytOnHold": "KYT_ON_HOLD",
        "applicantKytTxnAwaitingUser": "KYT_AWAITING_USER",
        "applicantKytTxnDataChanged": "KYT_DATA_CHANGED",
    }
)
_STATES: Final = {"RED": "player.blocked", "GREEN": "player.released"}

_LISTED_WORDS: Final = frozenset({"GREEN", "RED", "RETRY", "FINAL", "", None})
# A word that the documents do not list yet: no mark-up and no control characters.
_NEW_WORD: Final = re.compile(r"[\w .:/-]*")

_Word: TypeAlias = Annotated[str, Meta(max_length=128)]
_Label: TypeAlias = Annotated[str, Meta(max_length=64)]
_Check: TypeAlias = Callable[[bytes, Headers], str]


class _Result(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    review_answer: _Word | None = None
    review_reject_type: _Word | None = None
    reject_labels: Annotated[list[_Label], Meta(max_length=64)] | None = None


class _SumsubMessage(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    type: str
    external_user_id: Id
    applicant_id: OptionalId = None
    correlation_id: OptionalId = None
    inspection_id: OptionalId = None
    applicant_action_id: OptionalId = None
    kyt_data_txn_id: OptionalId = None
    kyt_txn_id: OptionalId = None
    applicant_type: _Word | None = None
    level_name: _Word | None = None
    previous_level_name: _Word | None = None
    review_status: _Word | None = None
    review_result: _Result | None = None
    sandbox_mode: bool | None = None
    created_at_ms: str | None = None
    created_at: str | None = None


_NO_RESULT: Final = _Result()
_BODY: Final = msgspec.json.Decoder(_SumsubMessage)


@dataclass(frozen=True)
class Sumsub(Dialect):
    """Sumsub's dialect and its settings.

    `deciding_levels` are the levels whose verdict blocks or releases a player; empty: every
    level's. A rejection with RETRY blocks no player: the applicant may try again. `accept_sandbox`
    lets messages of the sandbox through; an installation with real players leaves it.
    """

    provider: ClassVar[str] = "sumsub"
    version: ClassVar[str] = "1"
    face: ClassVar[HttpFace | None] = HttpFace(
        (HttpCall("", ("any type",)),),
        signature_headers=(DIGEST_HEADER, ALGORITHM_HEADER),
        signs_bytes=True,
        waits=False,
        patience_ms=5_000,
        patience_source="docs.sumsub.com, user-verification-webhooks: 5 seconds",
    )

    deciding_levels: frozenset[str] = frozenset()
    accept_sandbox: bool = False

    def reader(self, material: KeyMaterial | None) -> Reader:
        """Return a reader that checks `X-Payload-Digest` by the algorithm named beside it.

        Needs `secret`.
        """
        check = None
        if material is not None:
            secret = require_key(material, "secret", self.provider).encode()
            check = partial(
                _verdict, {name: Hmac(secret, digest) for name, digest in _DIGESTS.items()}
            )
        return partial(self._read, check)

    def answer(self, request: RawRecord, results: Sequence[WalletOutcome | Rejected]) -> Reply:
        """Return 200, which ends the repeats: what could not be read is a dead letter.

        Only a forged message gets 400.
        """
        del request
        forged = {RejectCode.BAD_SIGNATURE, RejectCode.MISSING_SIGNATURE}
        wrong = any(isinstance(result, Rejected) and result.reason in forged for result in results)
        return Reply(400 if wrong else 200, "text/plain", b"")

    def _read(self, check: _Check | None, record: RawRecord, headers: Headers) -> list[Item]:
        value = record.value or b""
        verdict = SignatureVerdict.NOT_CHECKED.value if check is None else check(value, headers)
        try:
            body = read_json(_BODY, value)
        except Rejected as error:
            raise UnreadableItem(
                error.reason, error.detail, read_player_id(value, "externalUserId", verdict)
            ) from error
        player_id = text_of(body.external_user_id, "externalUserId")
        try:
            return self._items(body, player_id, verdict)
        except Rejected as error:
            raise UnreadableItem(error.reason, error.detail, player_id) from error

    def _items(self, body: _SumsubMessage, player_id: str, verdict: str) -> list[Item]:
        meaning = _TYPES.get(body.type) or _TRANSACTION_TYPES.get(body.type)
        if meaning is None:
            raise Rejected(RejectCode.UNKNOWN_OPERATION, f"type {body.type[:64]!r} is not mapped")
        if body.sandbox_mode and not self.accept_sandbox:
            raise Rejected(
                RejectCode.BAD_FIELD, "a message of the sandbox where only live ones are accepted"
            )
        applicant_id, transaction_id = _subject(body)
        at, event_id = _time(body), _event_id(body, applicant_id, transaction_id)
        attributes = _attributes(body, applicant_id, transaction_id)
        scope = f"{applicant_id or ''}:{transaction_id or body.level_name or ''}"
        items: list[Item] = [
            PlayerDraft(body.type, event_id, player_id, meaning, attributes, at, verdict, scope)
        ]
        operation = self._state(body)
        if operation is not None:
            reason = " ".join(attributes[name] for name in _REASONS if name in attributes)
            cause = Cause("kyc", event_id, self.provider, reason[:500])
            leg = Leg(Kind.PLAYER_STATE.value)
            items.append(
                Draft(
                    operation,
                    event_id,
                    [leg],
                    player_id,
                    None,
                    None,
                    False,
                    None,
                    at,
                    False,
                    verdict,
                    cause,
                )
            )
        return items

    def _state(self, body: _SumsubMessage) -> str | None:
        """Return the player's state after this message; None where it decides nothing."""
        result = body.review_result
        if (
            body.type != "applicantReviewed"
            or result is None
            or body.review_status not in {None, "completed"}
        ):
            return None
        if self.deciding_levels and body.level_name not in self.deciding_levels:
            return None
        if result.review_answer == "RED" and result.review_reject_type != "FINAL":
            return None
        return _STATES.get(result.review_answer or "")


def _subject(body: _SumsubMessage) -> tuple[str | None, str | None]:
    """Return the applicant and the transaction that a message is about.

    Only a message about a transaction may leave the applicant out.
    """
    applicant_id = optional_text(body.applicant_id, "applicantId")
    if body.type not in _TRANSACTION_TYPES:
        return require(applicant_id, "applicantId"), None
    given = optional_text(body.kyt_data_txn_id, "kytDataTxnId")
    transaction_id = reference_or_none(given or optional_text(body.kyt_txn_id, "kytTxnId"))
    if applicant_id is None and transaction_id is None:
        raise Rejected(RejectCode.MISSING_FIELD, "kytDataTxnId is missing, and so is applicantId")
    return applicant_id, transaction_id


def _event_id(body: _SumsubMessage, applicant_id: str | None, transaction_id: str | None) -> str:
    """Return the id of one applicant's message: its correlation id, in older messages its time.

    A message about a transaction has that transaction's id in it: one request of ours may be about
    several.
    """
    message_id = (
        reference_or_none(optional_text(body.correlation_id, "correlationId"))
        or body.created_at_ms
        or body.created_at
    )
    if message_id is None:
        raise Rejected(RejectCode.MISSING_FIELD, "correlationId is missing, and so is createdAtMs")
    if transaction_id is None:
        return f"{applicant_id}:{message_id}"
    return ":".join([*(text for text in (applicant_id, transaction_id) if text), message_id])


def _time(body: _SumsubMessage) -> int | None:
    time = body.created_at_ms or body.created_at
    return None if time is None else ms_of_text(time, UTC, field="createdAtMs")


_REASONS: Final = ("review_answer", "review_reject_type", "reject_labels", "level_name")


def _attributes(
    body: _SumsubMessage, applicant_id: str | None, transaction_id: str | None
) -> dict[str, str]:
    """Return the attributes of a message without its comments, which may identify the player.

    The verdict on a transaction has names of its own, so that no reader takes it for the player's.
    """
    result = body.review_result or _NO_RESULT
    for word in (result.review_answer, result.review_reject_type):
        if word not in _LISTED_WORDS and not _NEW_WORD.fullmatch(word or ""):
            raise Rejected(RejectCode.BAD_FIELD, "reviewResult holds something else than a word")
    verdict = "transaction" if body.type in _TRANSACTION_TYPES else "review"
    attributes = {
        "applicant_id": applicant_id,
        "inspection_id": optional_text(body.inspection_id, "inspectionId"),
        "applicant_action_id": optional_text(body.applicant_action_id, "applicantActionId"),
        "transaction_id": transaction_id,
        "applicant_type": body.applicant_type,
        "level_name": body.level_name,
        "previous_level_name": body.previous_level_name,
        "review_status": body.review_status,
        f"{verdict}_answer": result.review_answer,
        f"{verdict}_reject_type": result.review_reject_type,
        "reject_labels": ",".join(sorted(result.reject_labels or ())),
        "sandbox": "true" if body.sandbox_mode else None,
    }
    return {name: text_of(value, name) for name, value in attributes.items() if value}


def _verdict(keys: Mapping[bytes, Hmac], body: bytes, headers: Headers) -> str:
    """Return VALID.

    Raises Rejected: MISSING_SIGNATURE without a digest, BAD_SIGNATURE for a wrong one.
    """
    given = headers.get(DIGEST_HEADER)
    if not given:
        raise Rejected(RejectCode.MISSING_SIGNATURE, "the header X-Payload-Digest is missing")
    key = keys.get(headers.get(ALGORITHM_HEADER) or b"")
    if key is None:
        raise Rejected(
            RejectCode.BAD_SIGNATURE, "X-Payload-Digest-Alg names no algorithm of Sumsub's"
        )
    if not key.matches_hex(body, given):
        raise Rejected(RejectCode.BAD_SIGNATURE, "X-Payload-Digest does not sign this body")
    return SignatureVerdict.VALID.value
