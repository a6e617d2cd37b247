"""Requests to raw records, and what is to become of each before anything is appended.

The signature comes first: a request that is not signed as its provider signs is answered in the
provider's words and never appended. No header of the request can speak for the connector: the
record has the headers that are made here, and of the provider's own only those that its face names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

from gateway.decisions.call_trace import CallTrace
from gateway.decisions.routes import DEFAULT_BRAND, Route
from gateway.decisions.sessions import PlayerSession
from runtime.kafka.records import Headers
from runtime.telemetry.traces import TRACEPARENT
from schemas.errors import RejectCode, Rejected
from schemas.events import Kind
from streams.providers.answers import Answers, PendingAnswer
from streams.providers.dialect import (
    Draft,
    Item,
    MarketDraft,
    PlayerDraft,
    Reply,
    UnreadableItem,
)
from streams.providers.text_fields import CURRENCY_HEADER, PLAYER_HEADER

CANCEL_HEADER: Final = "cancel"
RECORD_BYTES_MAX: Final = 1_020_000
"""Key, value and headers of a record, below what Kafka takes by default (1,048,588 with the frame).
"""
HEADER_CHARACTERS_MAX: Final = 4_096
FORGED: Final = frozenset({RejectCode.BAD_SIGNATURE, RejectCode.MISSING_SIGNATURE})

Identity: TypeAlias = tuple[str, str, str, str]
"""Brand, provider, operation and transaction id: what two attempts have in common."""

FindSession: TypeAlias = Callable[[str], PlayerSession | None]


class CallRecord:
    """The raw record of a call. It has its place once the broker has acknowledged it."""

    __slots__ = ("headers", "key", "offset", "partition", "timestamp", "topic", "value")

    def __init__(self, topic: str, value: bytes, headers: Headers, at_ms: int) -> None:
        """Make a record without a key and a place; its time is that of the receipt, epoch ms."""
        self.topic = topic
        self.partition = -1
        self.offset = -1
        self.timestamp = at_ms
        self.key: bytes | None = None
        self.value: bytes | None = value
        self.headers = headers

    def set_place(self, partition: int, offset: int, timestamp: int) -> None:
        """Note where the broker has put it, and its time of the append if it has given one."""
        self.partition = partition
        self.offset = offset
        if timestamp >= 0:
            self.timestamp = timestamp

    @property
    def place(self) -> tuple[str, int, int]:
        """Topic, partition and offset: the attempt."""
        return self.topic, self.partition, self.offset


class Received(NamedTuple):
    """A request as it came; names of headers are in lower case.

    `trace` is ours; None where telemetry makes no traces.
    """

    method: str
    query: str
    content_type: str
    headers: Mapping[str, str]
    body: bytes
    at_ms: int
    trace: CallTrace | None = None


class Refusal(StrEnum):
    """Reason for an answer without an append, as it is counted."""

    FORGED = "not signed by its provider"
    UNKNOWN_SESSION = "unknown session"
    UNPROVEN = "not readable, and so not known to be its provider's"
    UNAPPENDABLE = "no record can be made of it"


@dataclass(frozen=True, eq=False)
class ReadCall:
    """A call that was read. With a `refusal` nothing is appended, and `reply` is its answer.

    `is_decided`: whether the ledger may refuse it, so that it can be cancelled. `drafts` are what
    it asks for, by identity; two calls with equal ones are one call sent twice.
    """

    record: CallRecord
    pending: PendingAnswer
    refusal: Refusal | None = None
    reply: Reply | None = None
    is_decided: bool = False
    drafts: Mapping[Identity, Draft] = field(default_factory=dict)
    trace: CallTrace | None = None


def read_call(
    route: Route, received: Received, answers: Answers, find_session: FindSession, connector: str
) -> ReadCall:
    """Read a request, and decide whether it is to be appended. Raises nothing for any body."""
    session = _session_of(route, received, find_session)
    headers = make_headers(route, received, session, connector)
    record = CallRecord(route.topic, received.body, headers, received.at_ms)
    pending = answers.begin(record)
    drafts = [item for item in pending.items if isinstance(item, Draft)]
    is_decided = any(draft.decision_required for draft in drafts)
    refusal = _refusal_of(route, pending, session, is_decided, received.at_ms)
    if refusal is None:
        record.key = key_of(pending.items)
        if _size_of(record) > RECORD_BYTES_MAX:
            refusal = Refusal.UNAPPENDABLE
    if refusal is not None:
        return ReadCall(record, pending, refusal, _reply_to(refusal, record, pending))
    by_identity = {
        (route.brand, route.provider, draft.operation, draft.provider_tx_id): draft
        for draft in drafts
    }
    return ReadCall(record, pending, None, None, is_decided, by_identity, received.trace)


def waits_for_outcome(route: Route, call: ReadCall) -> bool:
    """Return whether the answer follows the decision of the ledger, not the append."""
    if not route.face.waits or call.pending.is_complete:
        return False
    # A heartbeat goes to every partition of the log and has no outcome of its own.
    return any(draft.legs[0].kind != Kind.HEARTBEAT for draft in call.drafts.values())


def acknowledge(call: ReadCall) -> Reply:
    """Return the answer to what was appended and is not waited for."""
    pending = call.pending
    return pending.dialect.answer(
        call.record, pending.rejections if _is_all_rejected(pending) else []
    )


def cancel_headers(record: CallRecord) -> list[tuple[str, bytes | None]]:
    """Return the headers of the record that takes an attempt back."""
    cancel = f"{record.topic}-{record.partition}@{record.offset}"
    return [*record.headers, (CANCEL_HEADER, cancel.encode())]


def make_headers(
    route: Route, received: Received, session: PlayerSession | None, connector: str
) -> list[tuple[str, bytes | None]]:
    """Return the headers of the raw record, in the order in which all connectors write them."""
    headers: list[tuple[str, bytes | None]] = [
        ("content-type", _header_bytes(received.content_type)),
        ("http-method", received.method.encode()),
        ("http-path", route.http_path.encode()),
        ("http-query", _header_bytes(received.query)),
        ("received-at", b"%d" % received.at_ms),
        ("connector", connector.encode()),
    ]
    if route.brand != DEFAULT_BRAND:
        headers.append(("brand", route.brand.encode()))
    if route.region:
        headers.append(("region", route.region.encode()))
    if session is not None:
        headers.append((PLAYER_HEADER, session.player.encode()))
        headers.append((CURRENCY_HEADER, session.currency.encode()))
    elif route.currency and route.call.needs_session:
        headers.append((CURRENCY_HEADER, route.currency.encode()))
    if received.trace is not None:
        headers.append((TRACEPARENT, received.trace.traceparent))
    for name in route.face.signature_headers:
        text = received.headers.get(name)
        if text is not None:
            headers.append((name, _header_bytes(text)))
    return headers


def key_of(items: Sequence[Item]) -> bytes:
    """Return the key of a raw record: its player, else what its first item refers to.

    A bet, its win, its rollback and its cancel have the same.
    """
    match items[0] if items else None:
        case Draft() as draft:
            reference = None if draft.reference is None else draft.reference.tx_id
            text = draft.player_id or reference or draft.round_id or draft.provider_tx_id
        case PlayerDraft() as fact:
            text = fact.player_id
        case MarketDraft() as market:
            text = market.match_id
        case UnreadableItem(player_id=str(player_id)):
            text = player_id
        case _:
            text = ""
    return text.encode()


def _session_of(
    route: Route, received: Received, find_session: FindSession
) -> PlayerSession | None:
    read_token = route.face.session_token
    if read_token is None or not route.call.needs_session:
        return None
    token = read_token(received.body)
    return None if not token else find_session(token)


def _refusal_of(
    route: Route,
    pending: PendingAnswer,
    session: PlayerSession | None,
    is_decided: bool,
    at_ms: int,
) -> Refusal | None:
    """Return why nothing of the call is to be appended; None where it is."""
    if _is_all_rejected(pending):
        return _refusal_of_unreadable(route, pending.rejections, session)
    if session is not None:
        players = {item.player_id for item in pending.items if isinstance(item, Draft)}
        # A win or a rollback may come after the end of its session, and is booked.
        is_over = is_decided and session.ends_s * 1000 <= at_ms
        if is_over or players - {None} != {session.player}:
            return Refusal.UNKNOWN_SESSION
    return None


def _refusal_of_unreadable(
    route: Route, rejections: Sequence[Rejected], session: PlayerSession | None
) -> Refusal | None:
    if all(error.reason in FORGED for error in rejections):
        return Refusal.FORGED
    if route.call.needs_session and session is None and _lacks_field(rejections):
        return Refusal.UNKNOWN_SESSION
    if route.face.waits and not route.face.signs_bytes:
        # Its sender is answered with an error. One that waits for nothing is answered with an
        # acknowledgement, so what it sent is kept, whatever it is.
        return None if isinstance(rejections[0], UnreadableItem) else Refusal.UNPROVEN
    return None


def _is_all_rejected(pending: PendingAnswer) -> bool:
    rejections = pending.rejections
    return bool(rejections) and len(rejections) >= len(pending.items)


def _lacks_field(rejections: Sequence[Rejected]) -> bool:
    return any(error.reason is RejectCode.MISSING_FIELD for error in rejections)


def _reply_to(refusal: Refusal, record: CallRecord, pending: PendingAnswer) -> Reply:
    match refusal:
        case Refusal.UNKNOWN_SESSION:
            return pending.dialect.answer_unknown_session(record)
        case Refusal.UNAPPENDABLE:
            return pending.dialect.answer_unavailable(record)
        case _:
            return pending.dialect.answer(record, pending.rejections)


def _size_of(record: CallRecord) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    return headers + len(record.key or b"") + len(record.value or b"")


def _header_bytes(text: str) -> bytes:
    """Return a header of the request as its bytes were; no more of it than any real one has."""
    return text[:HEADER_CHARACTERS_MAX].encode("utf-8", "surrogateescape")
