"""What the owner of the database changes behind the ledger's back is found and named, every time."""

from __future__ import annotations

import asyncio
import itertools
import random

import msgspec
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger_sink.booking.positions import claim_positions
from ledger_sink.proof import sealing, seals
from ledger_sink.proof.sealing import find_seal_faults, last_seals, seal_partitions
from ledger_sink.proof.seals import Checkpoint
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.migrate import migrate
from schemas.errors import Unavailable, UsageError
from schemas.events import Attempt, Cause
from schemas.identity import ENTRY
from schemas.policies import LedgerPolicy
from schemas.topics import TRANSACTIONS
from tests.support.fix_stack import SEED
from tests.support.ledger_events import (
    bet,
    call,
    deposit,
    house,
    leg,
    limit_events,
    log_event,
    rollback,
    transaction,
    win,
)

pytestmark = pytest.mark.integration
PARTITIONS = 2


def history():
    for n in range(40):
        player = f"p-{n % 5}"
        yield deposit(f"d{n}", 1_000, player=player)
        yield bet(f"b{n}", 100 + n, player=player)
        yield win(f"w{n}", 50, f"b{n}", player=player)
        yield rollback(f"r{n}", f"b{n}", player=player)
        yield bet(f"x{n}", 10_000_000, player=player)


async def book(url, events, first=0):
    database = LedgerDatabase(url, "pitboss.test")
    ledger = PostgresLedger(database, {"hundredhp": LedgerPolicy(rollback_after_win="REFUSE")})
    claims = await claim_positions(database, range(PARTITIONS))
    ledger.epochs.update({partition: claim.epoch for partition, claim in claims.items()})
    by_partition = [
        [event for event in events if int((event.player_id or "p-0")[2:]) % PARTITIONS == partition]
        for partition in range(PARTITIONS)
    ]
    for partition, its in enumerate(by_partition):
        placed = [log_event(event, partition, first + n) for n, event in enumerate(its)]
        await ledger.commit_group([Slice(partition, first, first + len(placed), placed)])
    await database.close()
    return [len(its) for its in by_partition]


@pytest.fixture
def url(runtime):
    migrate(runtime.database_url)
    asyncio.run(book(runtime.database_url, list(history())))
    return runtime.database_url


@pytest.fixture
def owner(url):
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def faults(connection, checkpoints=()):
    return list(find_seal_faults(connection, TRANSACTIONS, checkpoints))


def make_checkpoint(connection):
    return Checkpoint(1, "2026-11-22T10:00:00Z", "cluster", "db", "", last_seals(connection))


def test_untouched_rows_are_as_they_were_sealed(owner):
    assert len(seal_partitions(owner, TRANSACTIONS, offsets_max=30)) > 4
    assert seal_partitions(owner, TRANSACTIONS) == []
    assert faults(owner, [make_checkpoint(owner)]) == []


def test_seals_of_the_form_before_are_verified_in_it(url, owner, monkeypatch):
    for module in (seals, sealing):
        monkeypatch.setattr(module, "FORM", 1)
    seal_partitions(owner, TRANSACTIONS, offsets_max=30)
    monkeypatch.undo()
    further = [deposit(f"further{n}", 7, player="p-0") for n in range(3)]
    next_offset = max(
        after for (after,) in owner.execute("SELECT next_offset FROM stream_position")
    )
    owner.execute("UPDATE stream_position SET next_offset = %s", (next_offset,))
    asyncio.run(book(url, further, next_offset))
    seal_partitions(owner, TRANSACTIONS, offsets_max=30)
    assert {form for (form,) in owner.execute("SELECT form FROM seal")} == {1, 2}
    assert faults(owner) == []
    owner.execute("UPDATE seal SET form = 3 WHERE part = 0 AND number = 1")
    with pytest.raises(UsageError, match="has the form 3, this release knows 1, 2"):
        faults(owner)


def test_sealing_goes_on_where_it_was_left(url, owner):
    seal_partitions(owner, TRANSACTIONS, offsets_max=30)
    before = make_checkpoint(owner)
    further = [deposit(f"further{n}", 7, player="p-0") for n in range(3)]
    next_offset = max(
        after for (after,) in owner.execute("SELECT next_offset FROM stream_position")
    )
    owner.execute("UPDATE stream_position SET next_offset = %s", (next_offset,))
    asyncio.run(book(url, further, next_offset))
    made = seal_partitions(owner, TRANSACTIONS)
    assert sum(seal.rows for seal in made) == 6
    assert faults(owner, [before, make_checkpoint(owner)]) == []


def test_two_sealers_do_not_seal_at_once(url, owner):
    with psycopg.connect(url) as other, other.transaction():
        other.execute("SELECT pg_advisory_xact_lock(7065150061)")
        with pytest.raises(Unavailable, match="another sealer"):
            seal_partitions(owner, TRANSACTIONS)


A_TRANSFER = "(SELECT ctid FROM transfer WHERE part = 0 ORDER BY source_offset OFFSET 20 LIMIT 1)"
AN_ENTRY = "(SELECT ctid FROM entry WHERE part = 0 ORDER BY source_offset OFFSET 20 LIMIT 1)"
TAMPERINGS = {
    "an amount": f"UPDATE transfer SET amount_minor = amount_minor + 1 WHERE ctid = {A_TRANSFER}",
    "a balance": f"UPDATE transfer SET cash_minor = cash_minor + 1 WHERE ctid = {A_TRANSFER}",
    "an account": f"UPDATE transfer SET credit = 'adjustments' WHERE ctid = {A_TRANSFER}",
    "whose it is": f"UPDATE transfer SET player_id = 'p-77' WHERE ctid = {A_TRANSFER}",
    "an outcome": f"UPDATE entry SET outcome = 'EXISTS' WHERE ctid = {AN_ENTRY}",
    "what is billed": f"UPDATE entry SET is_billable = false WHERE ctid = {AN_ENTRY}",
    "a time": f"UPDATE entry SET occurred_at_ms = occurred_at_ms + 1 WHERE ctid = {AN_ENTRY}",
    "another partition": f"UPDATE transfer SET part = 1 WHERE ctid = {A_TRANSFER}",
    "no partition": f"UPDATE transfer SET part = 9 WHERE ctid = {A_TRANSFER}",
    "a transfer gone": f"DELETE FROM transfer WHERE ctid = {A_TRANSFER}",
    "an entry gone": f"DELETE FROM entry WHERE ctid = {AN_ENTRY}",
    "all of it gone": "TRUNCATE transfer",
    "the end of it gone": "DELETE FROM transfer WHERE part = 0 AND source_offset > 60",
    "two swapped": (
        "UPDATE transfer t SET source_offset = CASE source_offset WHEN 0 THEN 1 ELSE 0 END"
        " WHERE part = 0 AND source_offset IN (0, 1)"
    ),
    "one more": (
        "INSERT INTO transfer SELECT 'p-0', 'EUR', 900, debit, credit, 5, 1, 0, 0, event_id, decision, part,"
        f" source_offset, occurred_at_ms FROM transfer WHERE ctid = {A_TRANSFER}"
    ),
    "the future": f"UPDATE transfer SET source_offset = 10000 WHERE ctid = {A_TRANSFER}",
    "the position": "UPDATE stream_position SET next_offset = 50 WHERE part = 0",
    "a seal": "UPDATE seal SET digests = digests || '\\x00112233445566778899aabbccddeeff' WHERE part = 0 AND number = 2",
    "a seal gone": "DELETE FROM seal WHERE part = 0 AND number = 2",
}


A_CLOSING = "(SELECT ctid FROM closing WHERE part = 0 ORDER BY source_offset OFFSET 5 LIMIT 1)"
A_BET = "(SELECT event_id FROM entry WHERE provider_tx_id = 'x3')"
OF_A_CLOSING, OF_A_BET = (
    f"FROM closing WHERE ctid = {A_CLOSING}",
    f"FROM entry WHERE event_id = {A_BET}",
)
OF_CLOSINGS = {
    "gone": (f"DELETE FROM closing WHERE ctid = {A_CLOSING}", "is gone, or no longer ends it"),
    "no end any more": (
        f"UPDATE closing SET action = 'SETTLED' WHERE ctid = {A_CLOSING}",
        "is gone, or no longer ends it",
    ),
    "another end": (
        f"UPDATE closing SET action = 'PAID' WHERE ctid = {A_CLOSING}",
        "closed it as PAID",
    ),
    "another player's": (
        f"UPDATE closing SET player_id = 'p-77' WHERE ctid = {A_CLOSING}",
        "is gone, or no longer ends it",
    ),
    "made up": (
        f"INSERT INTO closing SELECT {A_BET}, player_id, action, by_event_id, part, source_offset {OF_A_CLOSING}",
        "closed it as REVERSED",
    ),
    "made by itself": (
        f"INSERT INTO closing SELECT event_id, player_id, 'REVERSED', event_id, part, source_offset {OF_A_BET}",
        "closed it as REVERSED",
    ),
}


@pytest.mark.parametrize("what", OF_CLOSINGS)
def test_a_closing_that_the_sealed_entries_do_not_tell_of_is_found(owner, what):
    """A second rollback of one bet would be booked as duly as the first: no row that is sealed would differ."""
    statement, what_is_found = OF_CLOSINGS[what]
    seal_partitions(owner, TRANSACTIONS, offsets_max=30)
    assert owner.execute(statement).rowcount == 1
    assert what_is_found in faults(owner)[0].what


def test_every_way_of_closing_is_stated_by_its_entry(url, owner):
    """Nothing that was booked as it should be is taken for a fault, whatever closed it and in whatever order."""
    seal_partitions(owner, TRANSACTIONS)
    next_offset = max(
        after for (after,) in owner.execute("SELECT next_offset FROM stream_position")
    )
    owner.execute("UPDATE stream_position SET next_offset = %s", (next_offset,))
    asyncio.run(book(url, list(endings()), next_offset))
    seal_partitions(owner, TRANSACTIONS)
    kinds = {kind for (kind,) in owner.execute("SELECT DISTINCT action FROM closing")}
    by_person = {"ASSIGNED", "RETURNED", "ANSWERED"}
    assert kinds == {"REVERSED", "CANCELLED", "PAID", "REFUSED", "APPROVED", "SETTLED"} | by_person
    assert faults(owner) == []


def acts_of_people():
    """Money in suspense that one or two people move, and an answer to what moved none."""
    ann, bob = (Cause("operator", "o", name, "why") for name in ("ann", "bob"))
    lost = win("lost", 4, "never", player=None, provider="hundredhp")
    money = [deposit(f"u{n}", 500, player=None) for n in range(4)]
    yield from (*limit_events(500), lost, *money)

    def act(operation, tx_id, kind, event=None, reference=None, player=None, cause=ann):
        named = reference or (ENTRY, event.event_id)
        more = {"player": player, "reference": named, "cause": cause}
        return house(operation, tx_id, leg(kind, None, None), **more)

    yield act("suspense.assigned", "1", "SUSPENSE_ASSIGNMENT", money[0], player="p-0")
    yield act("suspense.returned", "2", "SUSPENSE_RETURN", money[1])
    yield act("item.answered", "3", "ANSWER", lost)
    proposed = ("suspense.assignment.proposed", "4")
    yield act(*proposed, "PROPOSAL", money[2], player="p-0")
    kind = "SUSPENSE_ASSIGNMENT"
    yield act("suspense.assignment.approved", "5", kind, None, proposed, player="p-0", cause=bob)
    proposed = ("suspense.return.proposed", "6")
    yield act(*proposed, "PROPOSAL", money[3])
    yield act("suspense.return.approved", "7", "SUSPENSE_RETURN", None, proposed, cause=bob)


def endings():
    def of(operation, tx_id, kind, reference, provider="hub88", minor=None, **more):
        the_leg = leg(kind, minor, "EUR" if minor else None)
        return transaction(
            operation, tx_id, the_leg, reference=reference, provider=provider, player="p-0", **more
        )

    yield rollback("early", "late", player="p-0")
    yield bet("late", 5, player="p-0")
    yield rollback("again", "late", player="p-0")
    yield bet("given up", 5, player="p-0", attempt=Attempt("raw", 0, 1, 0))
    yield of("cancel", "c", "CANCEL", ("bet", "given up"), cause=Cause("connector", "raw-0@1#0"))
    yield of("cancel", "c2", "CANCEL", ("bet", "given up"), cause=Cause("connector", "raw-0@1#0"))
    for tx_id in ("w1", "w2"):
        yield of("withdrawal.requested", tx_id, "WITHDRAWAL", None, "house", 10)
    yield of("withdrawal.paid", "p1", "WITHDRAWAL", ("withdrawal.requested", "w1"), "house", 10)
    yield of(
        "withdrawal.refused", "r2", "WITHDRAWAL_REVERSAL", ("withdrawal.requested", "w2"), "house"
    )
    yield of("withdrawal.paid", "p2", "WITHDRAWAL", ("withdrawal.requested", "w2"), "house", 10)
    yield of("withdrawal.paid", "p3", "WITHDRAWAL", ("withdrawal.requested", "w3"), "house", 10)
    yield of("withdrawal.requested", "w3", "WITHDRAWAL", None, "house", 10)
    by_ann, by_bob = (Cause("operator", "o", name, "why") for name in ("ann", "bob"))
    yield transaction(
        "adjustment.proposed",
        "a",
        leg("INFORMATIONAL", 7),
        provider="house",
        player="p-0",
        cause=by_ann,
    )
    for tx_id in ("a", "a2"):
        yield of(
            "adjustment.approved",
            tx_id,
            "ADJUSTMENT",
            ("adjustment.proposed", "a"),
            "house",
            cause=by_bob,
        )
    yield from acts_of_people()
    yield bet("settled", 5, player="p-0", provider="hundredhp")
    yield win("s", 4, "settled", player="p-0", provider="hundredhp")
    yield bet("both", 5, player="p-0", provider="hundredhp")
    yield win("b", 4, "both", player="p-0", provider="hundredhp")
    sweep = Cause("sweep", "s")
    yield rollback("swept", "both", player="p-0", provider="hundredhp", cause=sweep)
    yield rollback("of nothing", "x1", player="p-1")
    # A rollback that does not say what it means closes the bet and the win that may come under the id.
    yield rollback("of either", "either", player="p-0", other_operations=("win",))
    yield transaction("win", "either", leg("WIN", 4), player="p-0")
    stake, won = bet("in a call", 5, player="p-0"), win("beside", 4, "in a call", player="p-0")
    yield from call(stake, won, offset=7_777)
    yield rollback("of the call", "in a call", player="p-0")


@pytest.mark.parametrize("what", TAMPERINGS)
def test_every_tampering_is_found(owner, what):
    seal_partitions(owner, TRANSACTIONS, offsets_max=30)
    assert faults(owner) == []
    changed = owner.execute(TAMPERINGS[what])
    assert changed.rowcount != 0
    found = faults(owner)
    assert found, what


def test_the_first_bad_row_is_named(owner):
    seal_partitions(owner, TRANSACTIONS, offsets_max=30)
    [player, version, event_id] = owner.execute(
        f"UPDATE transfer SET amount_minor = 1 WHERE ctid = {A_TRANSFER} RETURNING player_id, version, event_id::text"
    ).fetchone()
    owner.execute("UPDATE transfer SET amount_minor = 2 WHERE part = 0 AND source_offset > 70")
    [fault] = faults(owner)
    assert fault.where == f"transfer {player}:EUR v{version} of event {event_id}"
    assert "not as it was sealed" in fault.what


def test_new_seals_do_not_fit_the_checkpoint(owner):
    """The owner may change rows and make new seals for them; what was signed before is elsewhere."""
    seal_partitions(owner, TRANSACTIONS, offsets_max=30)
    checkpoint = make_checkpoint(owner)
    owner.execute(f"UPDATE transfer SET amount_minor = amount_minor + 1 WHERE ctid = {A_TRANSFER}")
    owner.execute("DELETE FROM seal")
    seal_partitions(owner, TRANSACTIONS, offsets_max=30)
    assert faults(owner) == []
    [fault] = faults(owner, [checkpoint])
    assert "differs from that in checkpoint 1" in fault.what
    owner.execute("DELETE FROM seal WHERE part = 0")
    assert "is gone" in faults(owner, [checkpoint])[0].what


def test_any_column_of_any_row_matters(owner):
    """Drawn by the seed of the run: one column of one row is changed, and found."""
    seal_partitions(owner, TRANSACTIONS, offsets_max=30)
    rng = random.Random(SEED)
    columns = {
        "transfer": (
            "debit",
            "credit",
            "amount_minor",
            "cash_minor",
            "bonus_minor",
            "held_minor",
            "version",
            "occurred_at_ms",
        ),
        "entry": (
            "brand",
            "provider",
            "region",
            "operation",
            "provider_tx_id",
            "kind",
            "round_id",
            "game_id",
            "fingerprint",
            "attempt_offset",
            "reason",
            "available_minor",
            "version",
            "decided_at_ms",
        ),
    }
    for table, column in itertools.chain(
        *[[(table, name) for name in names] for table, names in columns.items()]
    ):
        is_number = column.endswith(("minor", "ms", "version", "offset"))
        change = f"coalesce({column}, 0) + 1000" if is_number else f"coalesce({column}, '') || 'x'"
        with owner.transaction(force_rollback=True):
            offset = rng.randrange(0, 30)
            changed = owner.execute(
                f"UPDATE {table} SET {column} = {change} WHERE ctid ="
                f" (SELECT ctid FROM {table} WHERE part = 0 ORDER BY source_offset OFFSET {offset} LIMIT 1)"
            )
            assert changed.rowcount == 1
            assert faults(owner), (table, column, offset)


def test_a_checkpoint_is_what_was_signed():
    from ledger_sink.proof.seals import is_signature_valid, sign_checkpoint

    key = Ed25519PrivateKey.generate()
    signed = sign_checkpoint(Checkpoint(1, "t", "c", "d", "", ()), key)
    assert is_signature_valid(signed, key.public_key())
    assert not is_signature_valid(signed, Ed25519PrivateKey.generate().public_key())
    for changed in (
        msgspec.structs.replace(signed, checkpoint=signed.checkpoint.replace("1", "2", 1)),
        msgspec.structs.replace(signed, signature="zz"),
        msgspec.structs.replace(signed, signature=""),
    ):
        assert not is_signature_valid(changed, key.public_key())
