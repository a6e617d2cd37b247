"""Questions as providers ask them, signed: balances, sessions, players.

The forms are those of each provider's sources, as its writer and its adapter name them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from lab.conformance.calls import HttpRequest, path_of
from lab.conformance.writers.encoding import form_body, json_body, rfc3339, xml_body
from lab.conformance.writers.house import signature as house_signature
from lab.conformance.writers.hub88 import signature as hub88_signature
from lab.conformance.writers.ids import uuid_of
from lab.conformance.writers.pragmatic import hash_of
from lab.conformance.writers.writer import Secrets
from streams.providers.http_face import HttpFace


class QuestionOrder(NamedTuple):
    """What is asked: the provider's word, about a player, or a session by its token."""

    word: str
    player: str
    currency: str = "EUR"
    token: str = ""
    at_ms: int = 0
    nonce: int = 0


_Parts: TypeAlias = tuple[bytes, tuple[tuple[str, str], ...]]
_Write: TypeAlias = Callable[[QuestionOrder, Secrets], _Parts]


def questions_of(face: HttpFace | None) -> tuple[str, ...]:
    """Return a provider's words for questions."""
    return () if face is None else tuple(word for call in face.calls for word in call.asks)


def make_question(
    provider: str, face: HttpFace, order: QuestionOrder, secrets: Secrets
) -> HttpRequest:
    """Return a question as its provider sends it.

    Raises ValueError where the provider does not ask that.
    """
    if order.word not in questions_of(face):
        message = f"{provider} does not ask {order.word!r}"
        raise ValueError(message)
    body, headers = _WRITERS[provider](order, secrets)
    return HttpRequest(path_of(face, order.word), face.content_type, headers, body)


def _write_hub88(order: QuestionOrder, secrets: Secrets) -> _Parts:
    fields = {"user": order.player, "request_uuid": uuid_of(order.nonce)}
    if order.word == "balance":
        fields |= {"token": order.token, "game_code": "aur_fruits", "currency": order.currency}
    body = json_body(fields, None)
    return body, (("x-hub88-signature", hub88_signature(body, secrets).decode()),)


def _write_hundredhp(order: QuestionOrder, secrets: Secrets) -> _Parts:
    return json_body({"sessionId": order.token, "secret": secrets["secret"]}, None), ()


def _write_playngo(order: QuestionOrder, secrets: Secrets) -> _Parts:
    session = {"gameId": "100210", "accessToken": secrets["access_token"], "channel": "1"}
    if order.word == "authenticate":
        elements = {"username": order.token, "productId": "1", "language": "en_GB", **session}
    else:
        elements = {"externalId": order.player, "productId": "1", "currency": order.currency}
        elements |= {**session, "externalGameSessionId": order.token}
    return xml_body(order.word, elements.items(), None), ()


def _write_microgaming(order: QuestionOrder, secrets: Secrets) -> _Parts:
    auth = f'<auth login="{secrets["login"]}" password="{secrets["password"]}"/>'
    call = f'<call seq="{uuid_of(order.nonce)}" token="{order.token}" clienttypeid="1">'
    at = rfc3339(order.at_ms)[:23].replace("-", "/").replace("T", " ")
    method = f'<methodcall name="{order.word}" timestamp="{at}" system="casino">'
    return f"<pkt>{method}{auth}{call}<extinfo/></call></methodcall></pkt>".encode(), ()


def _write_pragmatic(order: QuestionOrder, secrets: Secrets) -> _Parts:
    fields = {"providerId": "PragmaticPlay", "token": order.token}
    if order.word == "balance":
        fields["userId"] = order.player
    fields = {name: text for name, text in fields.items() if text}
    return form_body({"hash": hash_of(fields, secrets), **fields}, None), ()


def _write_pgsoft(order: QuestionOrder, secrets: Secrets) -> _Parts:
    fields = {name: secrets[name] for name in ("secret_key", "operator_token")}
    fields["operator_player_session"] = order.token
    if order.word == "Get":
        fields["player_name"] = order.player
    fields["game_id"] = "1101"
    return form_body({name: text for name, text in fields.items() if text}, None), ()


def _write_house(order: QuestionOrder, secrets: Secrets) -> _Parts:
    fields = {"player_id": order.player, "at": rfc3339(order.at_ms), "currency": order.currency}
    body = json_body(fields, None)
    return body, (("x-house-signature", house_signature(body, secrets).decode()),)


_WRITERS: Final[Mapping[str, _Write]] = MappingProxyType(
    {
        "hub88": _write_hub88,
        "hundredhp": _write_hundredhp,
        "playngo": _write_playngo,
        "microgaming": _write_microgaming,
        "pragmatic": _write_pragmatic,
        "pgsoft": _write_pgsoft,
        "house": _write_house,
    }
)
