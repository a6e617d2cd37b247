"""An adapter with planted faults, repaired: the corrections make the ledger that of one without the fault."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from ledger_sink.rules.book import Book, LogEvent
from ledger_sink.rules.journal import Wallet
from ledger_sink.rules.posting import post
from pitboss.ops.missing_events import records_of
from replay.raw.comparison import RawComparison, compare_period, read_players
from replay.raw.corrections import AdapterChanges, Correction, PlayerCorrections, correct_players
from runtime.dead_letters.headers import redrive_headers
from runtime.kafka.partitioner import partition_for
from schemas import codec
from schemas.events import Cause, Position, WalletTransaction
from schemas.policies import DEFAULT_POLICY
from schemas.topics import TRANSACTIONS, UNRESOLVED
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser
from streams.normalise.mapping.renormalise import EventFinding
from streams.providers.registry import Dialects
from tests.support.faulty_provider import PLAYERS, RAW_TOPIC, dialects, make_bodies
from tests.support.ledger_events import house, leg
from tests.support.memory_log import START_MS, MemoryLog, MemoryRecord

PARTITIONS = 3
FAULTS = ("factor", "guest", "status", "reject", "lose")
BRAND = (("brand", b"acme"),)


@dataclass
class Installation:
    """Raw records, the log that an adapter made of them, and the ledger of that log."""

    adapter: Dialects
    raw: list[MemoryRecord] = field(default_factory=list)
    log: dict[int, list[MemoryRecord]] = field(
        default_factory=lambda: {number: [] for number in range(PARTITIONS)}
    )
    book: Book = field(default_factory=Book)

    def receive(self, bodies, headers=BRAND) -> None:
        normaliser = Normaliser(self.adapter, {})
        for key, body in bodies:
            at_ms = START_MS + len(self.raw) * 1_000
            self.raw.append(MemoryRecord(len(self.raw), at_ms, key.encode(), body, headers))
            [block] = self.source().read(RAW_TOPIC, 0, len(self.raw) - 1, len(self.raw))
            record = Raw(block.topic, 0, block.offsets[0], at_ms, block.keys[0], body, headers)
            for item in normaliser.normalise(record):
                if isinstance(item, AcceptedTransaction):
                    self.append(item.transaction, at_ms + 5)

    def append_missing(self, adapter: Dialects) -> int:
        """The records of missing events once more, as `pitboss raw replay` appends them."""
        self.adapter = adapter
        found = self.compare(adapter)
        places = records_of(AdapterChanges(found.found, found.known).missing)
        for place in places:
            record = found.originals[place]
            headers = redrive_headers(record.headers, Position(*place), "ann", "repaired")
            self.receive([((record.key or b"").decode(), record.value)], tuple(headers))
        return len(places)

    def append(self, event: WalletTransaction, at_ms: int) -> str:
        partition = partition_for((event.player_id or event.provider_tx_id).encode(), PARTITIONS)
        rows = self.log[partition]
        key = (event.player_id or event.provider_tx_id).encode()
        rows.append(MemoryRecord(len(rows), at_ms, key, codec.encoder(WalletTransaction)(event)))
        source = Position(TRANSACTIONS, partition, len(rows) - 1)
        return post(self.book, LogEvent(event, source, at_ms), DEFAULT_POLICY).answer.outcome

    def source(self) -> MemoryLog:
        return MemoryLog(
            {RAW_TOPIC: {0: self.raw}, TRANSACTIONS: self.log, UNRESOLVED: {0: []}},
            append_time=True,
        )

    def wallets(self) -> dict[str, list[Wallet]]:
        return {
            player: [
                one for one in self.book.wallets.values() if one.player_id == player and one.version
            ]
            for player in PLAYERS
        }

    def balances(self) -> dict[str, tuple[int, int, int]]:
        return {
            one.player_id: (one.cash_minor, one.bonus_minor, one.held_minor)
            for some in self.wallets().values()
            for one in some
        }

    def compare(self, adapter: Dialects, until_ms: int = START_MS * 2) -> RawComparison:
        topics = (TRANSACTIONS, UNRESOLVED)
        return compare_period(
            self.source(), Normaliser(adapter, {}), RAW_TOPIC, topics, 0, until_ms
        )

    def replay(self, adapter: Dialects, until_ms: int = START_MS * 2) -> list[PlayerCorrections]:
        source, found = self.source(), self.compare(adapter, until_ms)
        changes = AdapterChanges(found.found, found.known)
        events, _ = read_players(source, TRANSACTIONS, changes.players)
        return correct_players(events, changes, self.wallets(), {})

    def correct(self, correction: Correction) -> None:
        """Two people propose and approve it."""
        at_ms = START_MS + 10_000_000 + sum(map(len, self.log.values()))
        money = leg("INFORMATIONAL", correction.amount_minor)
        by = Cause("operator", correction.id, "ann", "adapter repaired")
        proposed = house(
            "adjustment.proposed", correction.id, money, player=correction.player_id, cause=by
        )
        approved = house(
            "adjustment.approved",
            f"ok-{correction.id}",
            leg("ADJUSTMENT", None, None),
            player=correction.player_id,
            reference=("adjustment.proposed", correction.id),
            cause=replace(by, actor="bob"),
        )
        assert self.append(proposed, at_ms) == "INFORMATIONAL"
        assert self.append(approved, at_ms + 1) == "POSTED"


@dataclass(frozen=True)
class Raw:
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = BRAND


def corrections(found: list[PlayerCorrections]) -> list[Correction]:
    assert [one.unexplained for one in found if one.unexplained] == []
    return [one for player in found for one in player.corrections]


@pytest.mark.parametrize("faults", [*[(fault,) for fault in FAULTS], FAULTS], ids="+".join)
@pytest.mark.parametrize("seed", range(3))
def test_the_corrections_make_the_ledger_that_never_had_the_fault(faults, seed):
    bodies = make_bodies(seed, 120)
    faulty, sound = Installation(dialects(*faults)), Installation(dialects())
    faulty.receive(bodies)
    sound.receive(bodies)
    assert faulty.balances() != sound.balances()
    appended = faulty.append_missing(dialects())
    assert (appended > 0) is bool({"reject", "lose"}.intersection(faults))
    proposed = corrections(faulty.replay(dialects()))
    assert proposed or {"reject", "lose"}.issuperset(faults)
    for one in proposed:
        faulty.correct(one)
    assert faulty.balances() == sound.balances()
    assert corrections(faulty.replay(dialects())) == []
    assert faulty.append_missing(dialects()) == 0


def test_a_bet_that_the_adapter_lost_stays_without_money_as_its_provider_was_answered():
    bodies = make_bodies(4, 120)
    faulty = Installation(dialects("lose-bets"))
    faulty.receive(bodies)
    before = faulty.balances()
    assert faulty.append_missing(dialects()) > 3
    expired = [one for one in faulty.book.decisions if one.answer.reason == "DECISION_EXPIRED"]
    assert len(expired) > 3
    assert faulty.balances() == before
    assert faulty.append_missing(dialects()) == 0


def test_without_a_fault_nothing_is_proposed():
    sound = Installation(dialects())
    sound.receive(make_bodies(1, 60))
    assert sound.replay(dialects()) == []


def test_a_proposal_that_waits_is_not_made_again_and_a_part_of_the_period_is_enough():
    bodies = make_bodies(2, 80)
    faulty, sound = Installation(dialects(*FAULTS)), Installation(dialects())
    faulty.receive(bodies)
    sound.receive(bodies)
    first = corrections(faulty.replay(dialects(), START_MS + 40_000))
    for one in first:
        faulty.correct(one)
    rest = corrections(faulty.replay(dialects()))
    assert rest
    assert not {one.id for one in first} & {one.id for one in rest}
    by = Cause("operator", rest[0].id, "ann", "adapter repaired")
    money = leg("INFORMATIONAL", rest[0].amount_minor)
    at_ms = START_MS + 20_000_000
    faulty.append(
        house("adjustment.proposed", rest[0].id, money, player=rest[0].player_id, cause=by), at_ms
    )
    waiting = [one for one in corrections(faulty.replay(dialects())) if one.is_proposed]
    assert [one.id for one in waiting] == [rest[0].id]


def test_an_answer_that_was_given_stands():
    """Without the fault the bet would have been accepted; the provider was told that it was not."""
    gift, win = (
        ("p-0", b'{"op": "gift", "id": "g", "player": "p-0", "amount": 100}'),
        ("p-0", b'{"op": "win", "id": "w", "player": "p-0", "amount": 9000}'),
    )
    bet = ("p-0", b'{"op": "bet", "id": "b", "player": "p-0", "amount": 5000}')
    faulty = Installation(dialects("factor"))
    faulty.receive([gift, win, bet])
    [correction] = corrections(faulty.replay(dialects()))
    assert (correction.amount_minor, correction.provider_tx_id) == (8_100, "w")
    faulty.correct(correction)
    assert faulty.balances() == {"p-0": (9_100, 0, 0)}


def test_a_bet_that_was_accepted_stays_although_its_money_was_not_there():
    status = ("p-0", b'{"op": "status", "id": "s", "player": "p-0", "amount": 5000}')
    bet = ("p-0", b'{"op": "bet", "id": "b", "player": "p-0", "amount": 4000}')
    faulty = Installation(dialects("status"))
    faulty.receive([status, bet])
    [correction] = corrections(faulty.replay(dialects()))
    assert (correction.amount_minor, correction.provider_tx_id) == (-5_000, "s")
    faulty.correct(correction)
    assert faulty.balances() == {"p-0": (-4_000, 0, 0)}


def test_a_balance_that_the_events_do_not_explain_is_left_to_a_person():
    faulty = Installation(dialects("factor"))
    faulty.receive([("p-0", b'{"op": "win", "id": "w", "player": "p-0", "amount": 9000}')])
    faulty.book.wallets["p-0", "EUR"].cash_minor += 1
    [found] = faulty.replay(dialects())
    assert found.corrections == []
    assert found.unexplained is not None
    assert "by hand" in found.unexplained


def test_an_event_that_the_log_lacks_is_missing_and_not_an_adjustment():
    sound = Installation(dialects())
    sound.receive([("p-0", b'{"op": "gift", "id": "g", "player": "p-0", "amount": 100}')])
    sound.log = {number: [] for number in range(PARTITIONS)}
    [found] = compare_period(
        sound.source(),
        Normaliser(dialects(), {}),
        RAW_TOPIC,
        (TRANSACTIONS, UNRESOLVED),
        0,
        START_MS * 2,
    ).found
    assert found.finding is EventFinding.MISSING
    changes = AdapterChanges([found])
    assert [one.provider_tx_id for one in changes.missing] == ["g"]
