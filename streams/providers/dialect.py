"""The contract of a dialect: everything specific to one provider, in one file.

A dialect reads a raw record and returns, as `Draft`s, what the provider meant: its own operation
and transaction id, the legs, the player, the references, and whether the provider waits for our
decision. It knows nothing of brands, topics or event ids; `streams.normalise` completes its drafts.
Reading is pure: same bytes, same drafts, no clock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias

import msgspec

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected, UsageError
from schemas.events import Cause, Leg, Reference, WalletOutcome
from schemas.policies import DEFAULT_POLICY, LedgerPolicy
from schemas.topics import DAY_MS
from streams.providers.http_face import HttpFace
from streams.providers.questions import PlayerStatus, Question, QuestionReader

ROLLBACK_PRECEDED: Final = "ROLLBACK_PRECEDED"
"""The ledger's reason for an event whose rollback preceded it.

No money moves, however often it is repeated.
"""

Headers: TypeAlias = Mapping[str, bytes | None]
"""Headers of a raw record by lower-case name; the last one wins where a name is repeated."""

FILE_PART_BYTES_MAX: Final = 1_000_000
"""The largest value of a raw record (docs/howto/connectors.md)."""

KeyMaterial: TypeAlias = Mapping[str, str]
"""One provider's entry in the keyring, as written in the keys file."""


class Draft(msgspec.Struct, frozen=True, gc=False):
    """One provider transaction's effect on one player, in the provider's terms.

    `provider_at` is epoch ms. `group` is the same text in all drafts of one message that their
    provider decides together, all or nothing: an error means to it that none of them stands. Each
    keeps an identity of its own, by which it may be rolled back alone. `is_billable`: whether the
    provider counts the transaction towards the revenue that it invoices.
    """

    operation: str
    provider_tx_id: str
    legs: list[Leg]
    player_id: str | None
    reference: Reference | None
    round_id: str | None
    round_closed: bool
    game_id: str | None
    provider_at: int | None
    decision_required: bool
    signature: str
    cause: Cause | None = None
    group: str | None = None
    is_billable: bool = True


class PlayerDraft(msgspec.Struct, frozen=True, gc=False):
    """A fact about a player that moves no money, in the provider's terms.

    It is the record of `player.events.v1`. `scope` is the aspect of the player that the fact holds
    for (`schemas.events.PlayerEvent`).
    """

    operation: str
    provider_event_id: str
    player_id: str
    type: str
    attributes: dict[str, str]
    provider_at: int | None
    signature: str
    scope: str | None = None


class MarketDraft(msgspec.Struct, frozen=True, gc=False):
    """One outcome of a market as a feed reports it: the record of `sports.settlements.v1`.

    It names no player. `action` is SETTLED, CANCELLED, SETTLEMENT_ROLLED_BACK or
    CANCELLATION_ROLLED_BACK; factors are decimal texts; `specifiers` is sorted, so that one market
    has one spelling; a cancel has no outcome and names its time window instead.
    """

    operation: str
    match_id: str
    market_id: str
    specifiers: str
    outcome_id: str | None
    action: str
    result: str | None
    void_factor: str | None
    dead_heat_factor: str | None
    certainty: str | None
    from_at: int | None
    until_at: int | None
    provider_at: int | None
    signature: str
    void_reason: str | None = None
    superseded_by: str | None = None


class UnreadableItem(Rejected):
    """One item that its dialect refuses to read, with the player where the item named one."""

    def __init__(self, reason: RejectCode, detail: str, player_id: str | None) -> None:
        """Keep the reason, the detail and the player, None where the item named none."""
        super().__init__(reason, detail)
        self.player_id = player_id


Item: TypeAlias = Draft | PlayerDraft | MarketDraft | Rejected

Reader: TypeAlias = Callable[[RawRecord, Headers], list[Item]]
"""A function that returns one item per element, in the order of the body.

It raises Rejected where no item can be distinguished from another.
"""


class Reply(msgspec.Struct, frozen=True, gc=False):
    """The HTTP response that a connector sends back to the provider, byte for byte."""

    status: int
    content_type: str
    body: bytes


class FilePart(NamedTuple):
    """A raw record that a file, or a part of it, becomes."""

    key: bytes
    value: bytes


@dataclass(frozen=True)
class Dialect(ABC):
    """A provider's mapping, units, time rule, signature scheme and policies.

    `version` names the mapping; every event carries the version of its row in `versions.toml`. A
    later version keeps the words of the operations, also where the provider renames them: they are
    a part of the identity, and a retry under a new word would be another event. An event time
    further than `time_tolerance_ms` before the broker's append is not believed. `decides` are the
    operations whose provider awaits our answer: only those can be refused by the ledger.
    """

    provider: ClassVar[str]
    version: ClassVar[str]
    decides: ClassVar[frozenset[str]] = frozenset()
    face: ClassVar[HttpFace | None] = None
    """What the provider calls over HTTP; None where it calls nothing, as with files."""
    reads_files: ClassVar[bool] = False
    """Whether its messages come as files; then `split_file` makes records of them."""

    policy: LedgerPolicy = DEFAULT_POLICY
    time_tolerance_ms: int = DAY_MS

    @abstractmethod
    def reader(self, material: KeyMaterial | None) -> Reader:
        """Return a reader that checks signatures with `material`.

        None means that no key is configured (NOT_CHECKED). Raises UsageError for key material that
        cannot be used.
        """

    def answer(self, request: RawRecord, results: Sequence[WalletOutcome | Rejected]) -> Reply:
        """Return the response to a request whose items each have an outcome or a rejection.

        `results` are in the order of the body; a whole record that was rejected has one. Amounts
        are in the provider's own units. Raises nothing for any outcome: a new reason gets the
        provider's general error. The default is for feeds and files, whose sender reads no answer:
        200, or 400 where nothing could be read.
        """
        del request
        failed = bool(results) and all(isinstance(result, Rejected) for result in results)
        return Reply(400 if failed else 200, "text/plain", b"")

    def answer_unavailable(self, request: RawRecord) -> Reply:
        """Return the response to a request that could not be decided or kept: a temporary error.

        It never means success: a provider repeats the call, or takes it back. The default is for
        senders that repeat everything but a 2xx.
        """
        del request
        return Reply(503, "text/plain", b"")

    def answer_unknown_session(self, request: RawRecord) -> Reply:
        """Return the response to a call whose session is unknown, or over.

        Asked for only where the face has calls that need a session.
        """
        return self.answer_unavailable(request)

    def question_reader(self, material: KeyMaterial | None) -> QuestionReader:
        """Return a reader of the questions among the calls, which checks signatures as `reader`.

        The default is for providers that ask nothing. Raises UsageError for key material that
        cannot be used.
        """
        del material
        return _read_no_question

    def answer_question(
        self, request: RawRecord, question: Question, status: PlayerStatus
    ) -> Reply:
        """Return the response to a question; a restriction is named in the provider's words.

        Needed only where the face has calls that ask. A rejected question is answered by `answer`,
        one that cannot be answered now by `answer_unavailable`.
        """
        del question, status
        return self.answer_unavailable(request)

    def split_file(self, value: bytes) -> list[FilePart]:
        """Return the raw records that a file becomes: one if it fits FILE_PART_BYTES_MAX.

        Raises Rejected for a file that this dialect cannot read, TOO_LARGE where it cannot be
        split. Asked for only where `reads_files` is true.
        """
        raise NotImplementedError(f"{self.provider} reads no files")

    def redact(self, value: bytes) -> bytes:
        """Return the body as it may be shown to a person, without its secrets."""
        return value

    def payload(self, value: bytes) -> Any:
        """Return the value that the body's payload schema describes, for drift detection.

        The schemas are under `schemas/providers`. Bytes are read by what they are (JSON, a form,
        XML, an Avro record); anything else is taken as the JSON value that the schema describes.
        May raise anything for a broken body.
        """
        return value


def _read_no_question(record: RawRecord, headers: Headers) -> list[Question]:
    del record, headers
    return []


def require_key(material: KeyMaterial, name: str, provider: str) -> str:
    """Return one named entry of a provider's key material.

    Raises UsageError where it is missing, never showing what the keyring holds.
    """
    entry = material.get(name)
    if not entry:
        raise UsageError(
            f"the keyring's entry for {provider!r} needs {name!r}: add it to the keys file"
        )
    return entry
