"""Whole conversations with a wallet: the provider's bytes in, its own answer out, through dialect, normaliser and ledger.

The stories are those of the providers' documents and integrators' tests. The resolver, which finds the player of what
names none, is played here by looking the reference up in the book.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from lxml import etree
from msgspec.structs import replace

from ledger_sink.rules.book import Book
from ledger_sink.rules.posting import post
from schemas.events import Outcome, WalletOutcome, WalletTransaction
from schemas.identity import referenced_event_id
from schemas.money import exponent_of
from schemas.topics import UNRESOLVED
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser
from streams.providers.dialect import Dialect
from streams.providers.hundredhp import HundredHP
from streams.providers.microgaming import Microgaming
from streams.providers.pgsoft import PGSoft
from streams.providers.pragmatic import Pragmatic
from tests.support.dialect_records import raw_record
from tests.support.ledger_events import house, leg, limit_events, log_event

PLAYER = "p-1"


class Wallet:
    """One player's wallet as one provider sees it."""

    def __init__(self, dialect: Dialect, cash_minor: int, currency: str = "EUR") -> None:
        self.dialect = dialect
        self.currency = currency
        self.book = Book()
        self._normaliser = Normaliser({dialect.provider: dialect}, {})
        self._offset = 0
        for event in limit_events(cash_minor, currency):
            self._post(event)
        self._post(
            replace(
                house("adjustment", "a-1", leg("ADJUSTMENT", cash_minor, currency)), brand="default"
            )
        )

    @property
    def cash(self) -> int:
        return self.book.wallet(PLAYER, self.currency).cash_minor

    def _post(self, event: WalletTransaction) -> WalletOutcome:
        post(self.book, log_event(event, offset=self._offset), self.dialect.policy)
        answer = self.book.decisions[-1].answer
        scale = None if answer.currency is None else exponent_of(answer.currency)
        return WalletOutcome(
            event.event_id,
            event.brand,
            event.provider,
            event.operation,
            event.provider_tx_id,
            event.attempt,
            event.player_id,
            answer.outcome,
            answer.reason,
            "No.",
            answer.currency,
            scale,
            answer.available_minor,
            answer.version,
        )

    def send(
        self, path: str, value: bytes, more: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        self._offset += 1
        headers = {"http-path": path, "player": PLAYER, "currency": self.currency} | dict(
            more or {}
        )
        record = raw_record(self.dialect.provider, value, headers, offset=self._offset)
        [item] = self._normaliser.normalise(record)
        assert isinstance(item, AcceptedTransaction), item
        event = item.transaction
        if item.topic == UNRESOLVED:
            assert event.reference is not None
            known = self.book.entries.get(
                referenced_event_id(event.brand, event.provider, event.reference)
            )
            event = replace(event, player_id=known[-1].player_id if known else None)
        reply = self.dialect.answer(record, [self._post(event)])
        return reply.status, reply.body


# --- 100HP ------------------------------------------------------------------------------------------------------------


def hundredhp(wallet: Wallet, call: str, tx_id: str, amount: str | None = None) -> tuple[int, str]:
    body = {"secret": "s", "sessionId": "x", "txId": tx_id} | (
        {} if amount is None else {"amount": amount}
    )
    status, answer = wallet.send(f"/{call}", json.dumps(body).encode())
    body = json.loads(answer)
    assert body.get("errCode", 200) == status
    return status, body.get("balance", "")


def test_100hp_a_bet_is_settled_once_and_then_for_good() -> None:
    wallet = Wallet(HundredHP(), 10_000)
    assert hundredhp(wallet, "withdrawal", "t-1", "10.009") == (200, "90.00")
    assert hundredhp(wallet, "withdrawal", "t-1", "10.00") == (607, "")
    assert hundredhp(wallet, "deposit", "t-1", "25.129") == (200, "115.12")
    assert hundredhp(wallet, "deposit", "t-1", "25.12") == (609, "")
    assert hundredhp(wallet, "rollback", "t-1") == (609, "")
    assert hundredhp(wallet, "withdrawal", "t-2", "1000") == (603, "")
    assert wallet.cash == 11_512


def test_100hp_a_bet_is_rolled_back_once_and_wins_nothing_after_that() -> None:
    wallet = Wallet(HundredHP(), 10_000)
    hundredhp(wallet, "withdrawal", "t-1", "10")
    assert hundredhp(wallet, "rollback", "t-1") == (200, "100.00")
    assert hundredhp(wallet, "rollback", "t-1") == (608, "")
    assert hundredhp(wallet, "deposit", "t-1", "5") == (608, "")
    assert wallet.cash == 10_000


def test_100hp_what_never_came_is_not_found() -> None:
    wallet = Wallet(HundredHP(), 10_000)
    assert hundredhp(wallet, "deposit", "t-1", "5") == (605, "")
    assert hundredhp(wallet, "rollback", "t-2") == (605, "")
    assert wallet.cash == 10_000


def test_100hp_a_lost_bet_is_a_deposit_of_zero_and_cannot_be_rolled_back() -> None:
    wallet = Wallet(HundredHP(), 10_000)
    hundredhp(wallet, "withdrawal", "t-1", "10")
    assert hundredhp(wallet, "deposit", "t-1", "0") == (200, "90.00")
    assert hundredhp(wallet, "rollback", "t-1") == (609, "")


def test_100hp_cents_of_a_currency_without_them_do_not_stop_the_ledger() -> None:
    wallet = Wallet(HundredHP(), 10_000, "JPY")
    assert hundredhp(wallet, "withdrawal", "t-1", "10.009")[0] == 200
    assert hundredhp(wallet, "deposit", "t-1", "25.12")[0] == 702  # a person looks at it
    assert wallet.book.decisions[-1].answer.outcome == Outcome.UNRESOLVED
    assert hundredhp(wallet, "withdrawal", "t-2", "10")[0] == 200


# --- Microgaming ------------------------------------------------------------------------------------------------------


def microgaming(
    wallet: Wallet, playtype: str, action: str, cents: int, **more: str
) -> dict[str, Any]:
    body = {
        "seq": "always-the-same",
        "playtype": playtype,
        "token": "t",
        "gameid": "20",
        "gamereference": "ACME",
    }
    body |= {"actionid": action, "amount": str(cents), "currency": "eur"} | more
    pkt = etree.Element("pkt")
    method = etree.SubElement(pkt, "methodcall", {"name": "play", "timestamp": ""})
    etree.SubElement(method, "call", body)
    status, answer = wallet.send("/", etree.tostring(pkt))
    assert status == 200
    result = etree.fromstring(answer).find("methodresponse/result")
    assert result is not None
    answered: Any = result.attrib
    return dict(answered)


def test_microgaming_the_integration_documents_example() -> None:
    wallet = Wallet(Microgaming(), 1_000)
    assert microgaming(wallet, "bet", "12157", 20_000)["errorcode"] == "6503"
    assert (
        microgaming(wallet, "bet", "12158", 225, freegame="offer", freegameofferinstanceid="1")[
            "balance"
        ]
        == "775"
    )
    assert microgaming(wallet, "win", "12159", 1_225)["balance"] == "2000"
    assert microgaming(wallet, "progressivewin", "12160", 1_001_225)["balance"] == "1003225"
    assert microgaming(wallet, "bet", "12157", 225)["balance"] == "1003000"
    refund = microgaming(wallet, "refund", "12157", 225)
    assert refund["balance"] == "1003225"
    assert refund["exttransactionid"] != "DEBIT-NOT-RECEIVED"
    unknown = microgaming(wallet, "refund", "512157", 225)
    assert (unknown["exttransactionid"], unknown["balance"]) == ("DEBIT-NOT-RECEIVED", "1003225")
    offline = microgaming(
        wallet, "win", "52160", 1_225, gameid="50", offline="true", token="p-1_50_52160"
    )
    assert offline["balance"] == "1004450"
    assert (
        microgaming(wallet, "bet", "512157", 225)["errorcode"] == "6501"
    )  # it comes after its refund
    assert wallet.cash == 1_004_450


def test_microgaming_the_refund_of_a_refused_bet_moves_nothing() -> None:
    wallet = Wallet(Microgaming(), 1_000)
    microgaming(wallet, "bet", "1", 20_000)
    assert microgaming(wallet, "refund", "1", 20_000)["exttransactionid"] == "DEBIT-NOT-RECEIVED"
    assert wallet.cash == 1_000


# --- Pragmatic Play ---------------------------------------------------------------------------------------------------


def pragmatic(
    wallet: Wallet, call: str, reference: str, amount: str | None = None, **more: str
) -> dict[str, Any]:
    form = {
        "userId": PLAYER,
        "gameId": "vs20",
        "roundId": "7",
        "reference": reference,
        "timestamp": "1790000000123",
    }
    form |= ({} if amount is None else {"amount": amount}) | more
    status, answer = wallet.send(f"/{call}.html", urlencode(form).encode())
    assert status == 200
    body: dict[str, Any] = json.loads(answer)
    return body


def test_pragmatic_a_round_with_every_message_sent_twice() -> None:
    wallet = Wallet(Pragmatic(), 10_000)
    for call, reference, amount, more, cash in (
        ("bet", "r-1", "1.50", {}, 98.5),
        ("result", "r-2", "20", {"promoWinAmount": "5", "promoCampaignID": "c"}, 123.5),
        ("bet", "r-3", "3.50", {}, 120),
        ("bonusWin", "r-4", "50", {"bonusCode": "b"}, 120),
        ("adjustment", "r-5", "-0.50", {}, 119.5),
        ("endRound", "", None, {}, 119.5),
    ):
        first = pragmatic(wallet, call, reference, amount, **more)
        again = pragmatic(wallet, call, reference, amount, **more)
        assert first == again
        assert (first["error"], first["cash"]) == (0, cash)
    refund = pragmatic(wallet, "refund", "r-3")
    assert refund == pragmatic(wallet, "refund", "r-3")
    assert refund["error"] == 0
    assert wallet.cash == 12_300
    assert pragmatic(wallet, "refund", "never")["error"] == 0
    assert pragmatic(wallet, "bet", "never", "1")["error"] == 120
    assert pragmatic(wallet, "bet", "r-1", "2.50")["error"] == 120
    assert pragmatic(wallet, "bet", "r-9", "1000")["error"] == 1
    assert wallet.cash == 12_300


# --- PG Soft ----------------------------------------------------------------------------------------------------------


def pgsoft(wallet: Wallet, tx_id: str, bet: str, win: str, net: str) -> dict[str, Any]:
    form = {
        "player_name": PLAYER,
        "currency_code": "EUR",
        "parent_bet_id": "1",
        "bet_id": "2",
        "transaction_id": tx_id,
    }
    form |= {
        "bet_amount": bet,
        "win_amount": win,
        "transfer_amount": net,
        "updated_time": "1790000000123",
    }
    _, answer = wallet.send("/Cash/TransferInOut", urlencode(form).encode())
    body: dict[str, Any] = json.loads(answer)
    return body


def test_pgsoft_bet_and_win_are_decided_together() -> None:
    wallet = Wallet(PGSoft(), 5_000)
    assert pgsoft(wallet, "t-1", "20", "5", "-15")["data"]["balance_amount"] == 35
    assert pgsoft(wallet, "t-1", "20.00", "5", "-1.5E1")["data"]["balance_amount"] == 35
    # It would win more than it costs, and cannot be paid before it has.
    assert pgsoft(wallet, "t-2", "100", "150", "50")["error"]["code"] == "3202"
    assert wallet.cash == 3_500
    assert pgsoft(wallet, "t-3", "0", "7.25", "7.25")["data"] == {
        "currency_code": "EUR",
        "balance_amount": 42.25,
        "updated_time": 1790000000123,
    }
    assert pgsoft(wallet, "t-1", "20", "6", "-14")["error"]["code"] == "3032"
