"""One call of a provider over HTTP, as its writer signs it and its dialect's face places it."""

from __future__ import annotations

from typing import NamedTuple

from lab.conformance.intents import (
    DEFAULT_BRAND,
    KINDS,
    GameSession,
    Intent,
    IntentLeg,
    Verb,
)
from lab.conformance.writers.writer import Secrets, Sending, Writer
from streams.providers.http_face import HttpFace


class CallOrder(NamedTuple):
    """What a call is about. `minor` is in minor units; `bet_id` is of the bet referred to."""

    verb: Verb
    player: str
    tx_id: str
    minor: int = 0
    currency: str = "EUR"
    round_id: str = "1001"
    bet_id: str = ""
    deposit_id: str | None = None
    win_minor: int = 0
    token: str = ""
    details: tuple[tuple[str, str], ...] = ()
    at_ms: int = 0


class HttpRequest(NamedTuple):
    """A request as its provider sends it; `path` stands behind the provider's base URL."""

    path: str
    content_type: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


def make_intent(writer: Writer, order: CallOrder) -> Intent:
    """Return the intent of an order; a SPIN is a bet and what it wins."""
    money = (order.minor, order.currency)
    if order.verb is Verb.SPIN:
        legs: tuple[IntentLeg, ...] = (
            IntentLeg("BET", *money),
            IntentLeg("WIN", order.win_minor, order.currency),
        )
    else:
        legs = (IntentLeg(KINDS[order.verb], *money),) if order.verb in KINDS else ()
    bet = Verb.BET if Verb.BET in writer.says else Verb.SPIN
    reference = None
    if order.bet_id:
        reference = (DEFAULT_BRAND, writer.provider, writer.says[bet], order.bet_id)
    return Intent(
        order.verb,
        (DEFAULT_BRAND, writer.provider, writer.says[order.verb], order.tx_id),
        order.player,
        legs,
        reference,
        order.round_id,
        GameSession(writer.provider, order.token, 1, writer.games[0]),
        at_ms=order.at_ms,
        deposit_id=order.deposit_id,
        details=order.details,
    )


def make_request(
    writer: Writer, face: HttpFace, intent: Intent, sending: Sending, secrets: Secrets | None
) -> HttpRequest:
    """Return the request of an intent. What the connector states is not in it.

    Raises ValueError where the face has no call for the intent's operation.
    """
    message = writer.write((intent,), sending, secrets)
    headers = tuple(
        (name, value.decode()) for name, value in message.headers if name in face.signature_headers
    )
    path = path_of(face, intent.operation)
    return HttpRequest(path, message.content_type, headers, message.body)


def encode_request(path: str, request: HttpRequest) -> bytes:
    """Return the bytes of a request to a path, for a connection that is kept."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Type: {request.content_type}",
        f"Content-Length: {len(request.body)}",
        *(f"{name}: {value}" for name, value in request.headers),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + request.body


def path_of(face: HttpFace, operation: str) -> str:
    """Return the path that an operation or a question is sent to."""
    calls = [call for call in face.calls if operation in {*call.operations, *call.asks}]
    # A face with one call has words of all kinds for what comes there.
    if calls or len(face.calls) == 1:
        return (calls or face.calls)[0].path
    message = f"no call of the face has the operation {operation!r}"
    raise ValueError(message)
