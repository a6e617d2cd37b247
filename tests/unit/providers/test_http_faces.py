"""What each provider calls over HTTP, and its own words where nothing can be decided."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from lab.conformance.writers.find import find_writers
from streams.providers.dialect import Dialect, Reply
from streams.providers.http_face import HttpFace
from streams.providers.registry import DIALECTS

WALLETS = ("hub88", "hundredhp", "microgaming", "pgsoft", "playngo", "pragmatic", "skylift")
BODIES = {
    "hub88": b'{"user":"p-1","request_uuid":"q-1","transaction_uuid":"t-1"}',
    "microgaming": b'<pkt><methodcall name="play"><call seq="7" token="t"/></methodcall></pkt>',
    "playngo": b"<reserve><externalId>p-1</externalId></reserve>",
}
UNAVAILABLE = {
    "hub88": (200, b'{"user":"p-1","status":"RS_ERROR_UNKNOWN","request_uuid":"q-1"}'),
    "hundredhp": (702, b'{"data":"","message":"Internal Server Error","errCode":702}'),
    "microgaming": (
        200,
        (
            b'<pkt><methodresponse name="play" timestamp="1970/01/01 00:00:00.000"><result seq="7" '
            b'errorcode="6000" errordescription="Unspecified error."><extinfo/></result>'
            b"</methodresponse></pkt>"
        ),
    ),
    "pgsoft": (
        200,
        b'{"data":null,"error":{"code":"1200","message":"Internal server error"}}',
    ),
    "playngo": (
        200,
        b"<reserve><statusCode>12</statusCode><statusMessage>error</statusMessage></reserve>",
    ),
    "pragmatic": (
        200,
        b'{"error":100,"description":"Internal server error, to be tried again"}',
    ),
    "adyen": (503, b""),
    "stripe": (503, b""),
    "sumsub": (503, b""),
}
UNKNOWN_SESSION = {
    "hundredhp": (604, b'{"data":"","message":"Session not found","errCode":604}'),
    "pragmatic": (
        200,
        (
            b'{"error":4,"description":"Player authentication failed: the token is invalid or has '
            b'expired"}'
        ),
    ),
}


class Request(NamedTuple):
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def record_of(provider: str) -> Request:
    body = BODIES.get(provider, b"{}")
    return Request(f"provider.{provider}.raw.v1", 0, 0, 0, b"", body, ())


def face_of(provider: str) -> HttpFace:
    face = DIALECTS[provider].face
    assert face is not None
    return face


def shown(reply: Reply) -> tuple[int, bytes]:
    return reply.status, reply.body


@pytest.mark.parametrize("provider", sorted(UNAVAILABLE))
def test_what_could_not_be_decided_is_a_temporary_error_in_its_words(provider):
    reply = DIALECTS[provider].answer_unavailable(record_of(provider))
    assert shown(reply) == UNAVAILABLE[provider]


def test_the_general_error_never_looks_like_the_answer_to_a_booked_bet():
    for provider in DIALECTS:
        assert b"RS_OK" not in DIALECTS[provider].answer_unavailable(record_of(provider)).body
    skylift = DIALECTS["skylift"]
    reply = skylift.answer_unavailable(record_of("skylift"))
    assert reply == skylift.answer(record_of("skylift"), [])


@pytest.mark.parametrize("provider", sorted(UNKNOWN_SESSION))
def test_an_unknown_session_is_answered_in_its_words(provider):
    reply = DIALECTS[provider].answer_unknown_session(record_of(provider))
    assert shown(reply) == UNKNOWN_SESSION[provider]


def test_a_provider_with_words_of_its_own_has_a_face():
    own = {name for name in DIALECTS if type(DIALECTS[name]).answer is not Dialect.answer}
    faces = {name for name in DIALECTS if DIALECTS[name].face is not None}
    assert own == faces - {"uof"}
    assert {name for name in faces if face_of(name).waits} == {*WALLETS, "house"}


def test_the_calls_of_a_face_are_distinct_paths_under_the_base():
    for name in DIALECTS:
        face = DIALECTS[name].face
        if face is not None:
            paths = [call.path for call in face.calls]
            assert len(set(paths)) == len(paths)
            assert all(path == "" or path.startswith("/") for path in paths)
            assert not any(path.endswith("/") for path in paths)


@pytest.mark.parametrize("provider", WALLETS)
def test_every_operation_that_is_decided_has_a_call(provider):
    dialect = DIALECTS[provider]
    named = {operation for call in face_of(provider).calls for operation in call.operations}
    assert dialect.decides <= named
    writer = find_writers((provider,))[provider]
    assert set(writer.says.values()) <= named


def test_a_call_without_its_session_would_be_rejected():
    assert {
        name: sorted(
            operation
            for call in face_of(name).calls
            if call.needs_session
            for operation in call.operations
        )
        for name in WALLETS
        if face_of(name).session_token is not None
    } == {
        "hundredhp": ["bonusWin", "withdrawal"],
        "microgaming": ["bet", "endgame", "progressivewin", "refund", "win"],
        "pragmatic": ["adjustment", "bet", "bonusWin", "jackpotWin", "result"],
    }


@pytest.mark.parametrize(
    ("provider", "body", "token"),
    [
        ("hundredhp", b'{"sessionId":"s-1","txId":"t"}', "s-1"),
        ("hundredhp", b'{"txId":"t"}', None),
        ("hundredhp", b"[", None),
        ("microgaming", BODIES["microgaming"], "t"),
        ("microgaming", b"<pkt/>", None),
        ("microgaming", b"<", None),
        ("pragmatic", b"token=a%2Bb&userId=p", "a+b"),
        ("pragmatic", b"userId=p", None),
        ("pragmatic", b"\xff", None),
    ],
)
def test_the_token_of_a_session_is_read_without_trust_in_the_body(provider, body, token):
    read = face_of(provider).session_token
    assert read is not None
    assert read(body) == token
