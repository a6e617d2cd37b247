"""What a provider sends next follows from the answers that it gets, as its document says."""

from __future__ import annotations

import pytest

from lab.conformance.reactions import REACTIONS, AnswerVerdict
from lab.load import provider_model
from lab.load.provider_model import ProviderModel
from schemas.errors import Stalled

HUB88_OK, HUB88_ERROR = b'{"status":"RS_OK"}', b'{"status":"RS_ERROR_UNKNOWN"}'
HUB88_POOR = b'{"status":"RS_ERROR_NOT_ENOUGH_MONEY"}'
PLAYNGO_OK, PLAYNGO_ERROR = b"<statusCode>0</statusCode>", b"<statusCode>12</statusCode>"
HOUSE_LATE, HOUSE_OK = b'{"outcome":"UNAVAILABLE"}', b'{"outcome":"POSTED"}'


class Scripted(ProviderModel[int]):
    """A provider whose calls get the answers of a script, the last one again and again."""

    def __init__(self, provider: str, *answers: bytes | None) -> None:
        self.sent: list[int] = []
        self._script = list(answers)
        super().__init__(REACTIONS[provider], self._give, again_s=0.0)

    async def _give(self, request: int) -> bytes | None:
        self.sent.append(request)
        return self._script.pop(0) if len(self._script) > 1 else self._script[0]


def number(sending: int) -> int:
    return sending


@pytest.mark.parametrize(
    ("provider", "answers", "verdict", "sent"),
    [
        ("hub88", [HUB88_OK], AnswerVerdict.SUCCEEDED, 1),
        ("hub88", [HUB88_POOR], AnswerVerdict.REFUSED, 1),
        ("hub88", [HUB88_ERROR], AnswerVerdict.OPEN, 1),
        ("hub88", [None], AnswerVerdict.OPEN, 1),
        ("playngo", [PLAYNGO_ERROR, None, PLAYNGO_OK], AnswerVerdict.SUCCEEDED, 3),
        ("playngo", [PLAYNGO_ERROR], AnswerVerdict.OPEN, 3),
        ("house", [HOUSE_LATE] * 20 + [HOUSE_OK], AnswerVerdict.SUCCEEDED, 21),
        ("house", [HOUSE_LATE, b'{"outcome":"CANCELLED"}'], AnswerVerdict.REFUSED, 2),
    ],
)
async def test_a_bet_is_sent_until_an_answer_ends_it(provider, answers, verdict, sent):
    model = Scripted(provider, *answers)
    assert await model.ask(number) is verdict
    assert model.sent == list(range(sent))
    assert model.counts["calls"] == sent


async def test_a_rollback_is_sent_until_nothing_stands():
    model = Scripted("hundredhp", None, b'{"errCode":702}', b'{"errCode":605}')
    await model.take_back(number)
    assert model.sent == [0, 1, 2]
    assert model.counts == {"calls": 3, "no answer": 1, "sent again": 2}


async def test_a_win_is_sent_until_it_is_booked():
    model = Scripted("hundredhp", b'{"errCode":605}', b'{"errCode":609}')
    await model.pay(number)
    assert model.sent == [0, 1]


async def test_what_is_never_settled_is_reported_with_its_last_answer(monkeypatch):
    monkeypatch.setattr(provider_model, "GIVES_UP_S", -1.0)
    model = Scripted("hub88", b'{"status":"RS_ERROR_TRANSACTION_DOES_NOT_EXIST"}')
    with pytest.raises(Stalled, match="TRANSACTION_DOES_NOT_EXIST"):
        await model.pay(number)
