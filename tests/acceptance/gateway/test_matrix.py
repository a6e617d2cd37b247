"""Every provider has an answer on file for every case: a cell that is missing fails.

The files are compared byte for byte with what the real gateway answers (test_wallets.py,
test_questions.py, test_notices.py).
"""

from __future__ import annotations

import json
import re

import pytest

from gateway.decisions.routes import RouteTable
from lab.conformance.questions import questions_of
from streams.providers.keyring import requires_key
from streams.providers.registry import DIALECTS
from tests.acceptance.gateway import test_notices, test_questions
from tests.acceptance.gateway.conftest import OTHERS, PROVIDERS
from tests.acceptance.gateway.golden import VECTORS
from tests.acceptance.gateway.test_wallets import HAS_SESSIONS

CASES = {
    "bet": "bet",
    "retry of a bet": "the same bet again",
    "win": "win",
    "retry of a win": "the same win again",
    "rollback": "rollback",
    "retry of a rollback": "the same rollback again",
    "rollback of what never came": "a rollback of what never came",
    "refusal": "refused for funds",
    "conflict": "the same id with another amount",
    "wrong signature": "wrong signature",
    "unknown player": "unknown player",
    "unreadable": "unreadable",
}
LATE_CASES = {
    "time-out": "a bet that is late",
    "retry after a time-out": "its retry",
    "rollback after a time-out": "its rollback",
    "bet after a time-out": "the next bet",
}
WITHOUT_SIGNATURE = {"uof": "a feed over its own TLS connection and token: no message is signed"}
"""Providers of which no wrong signature can be sent, with the reason."""


def answers_of(name: str) -> dict[str, list[object]]:
    answers: dict[str, list[object]] = json.loads((VECTORS / f"{name}.json").read_text())
    return answers


def test_every_provider_that_calls_is_in_the_matrix():
    assert set(RouteTable(DIALECTS).faces) == {*PROVIDERS, *OTHERS}
    assert set(test_notices.NOTICES) == {*OTHERS} - {"house"}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("case", [*CASES, *LATE_CASES])
def test_a_wallet_has_an_answer_on_file(provider: str, case: str):
    name = f"{provider}-late" if case in LATE_CASES else provider
    answers = answers_of(name)
    status, content_type, body = answers[CASES.get(case) or LATE_CASES[case]]
    assert isinstance(status, int)
    assert content_type
    assert body


@pytest.mark.parametrize("provider", PROVIDERS)
def test_answers_that_mean_something_else_differ(provider: str):
    """A provider that is told the same of a bet and of its refusal could not know what stands."""
    answers, late = answers_of(provider), answers_of(f"{provider}-late")
    success = _bare(answers["bet"])
    for case in ("refusal", "conflict", "wrong signature", "unknown player"):
        assert _bare(answers[CASES[case]]) != success, case
    assert _bare(late["a bet that is late"]) != success
    if provider != "hundredhp":  # its document has an error for a repeat
        assert _bare(answers["the same bet again"]) == success


def _bare(answer: list[object]) -> tuple[object, str]:
    """Return an answer without the ids that two requests differ in."""
    return answer[0], re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", str(answer[2]))


def test_every_session_and_every_question_has_its_answers():
    for provider in HAS_SESSIONS:
        assert "unknown session" in answers_of(provider)
    asking = {name for name in (*PROVIDERS, "house") if questions_of(DIALECTS[name].face)}
    assert set(test_questions.ASKING) == asking
    for provider in asking:
        kinds: dict[str, set[str]] = {}
        for key in answers_of(f"{provider}-questions"):
            word, _, kind = key.partition(": ")
            kinds.setdefault(word, set()).add(kind)
        assert set(kinds) == set(questions_of(DIALECTS[provider].face))
        for word, found in kinds.items():
            assert len(found) == 6, (provider, word, found)


@pytest.mark.parametrize("provider", [name for name in OTHERS if name != "house"])
@pytest.mark.parametrize("case", ["acknowledgement and repeat", "wrong signature"])
def test_a_notice_has_an_answer_on_file(provider: str, case: str):
    if case == "acknowledgement and repeat":
        assert test_notices.ACKNOWLEDGED[provider][0] == 200
    elif provider in WITHOUT_SIGNATURE:
        assert not requires_key(DIALECTS[provider]), WITHOUT_SIGNATURE[provider]
    else:
        assert test_notices.FORGED[provider][0] in {400, 401}
        assert test_notices.FORGED[provider] != test_notices.ACKNOWLEDGED[provider]
