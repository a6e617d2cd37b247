"""Any order of payments, wholes, their parts, and what people do with them: suspense holds what is open, and no more."""

from __future__ import annotations

from collections import Counter, defaultdict
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from lab.simulator.database import SimulatedDatabase
from lab.simulator.process import Process
from lab.simulator.run import SimulatedLoop
from lab.simulator.tables import Server
from ledger_sink.booking.positions import claim_positions
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from schemas.causes import PART
from schemas.events import Cause, WalletTransaction
from schemas.identity import ENTRY
from tests.support.examples import examples
from tests.support.ledger_events import deposit, house, leg, limit_events, log_event, transaction

PLAYERS = ("p-1", "p-2")
WHOLE = {"w-1": 10_000, "w-2": 300}
PAYMENTS = {"d-1": 5_000, "d-2": 40}


def whole(name: str) -> WalletTransaction:
    return transaction("CRDT", name, leg("DEPOSIT", WHOLE[name]), provider="camt", player=None)


def parts(name: str) -> list[WalletTransaction]:
    """The payments of a whole, and the event that takes it back."""
    of = Cause(PART, name, reason="CRDT")
    third = WHOLE[name] // 3
    amounts = {"p-2": third, None: WHOLE[name] - third}
    return [
        *(
            transaction(
                "CRDT",
                f"{name}-{n}",
                leg("DEPOSIT", minor),
                provider="camt",
                player=player,
                cause=of,
            )
            for n, (player, minor) in enumerate(amounts.items())
        ),
        transaction(
            "CRDT:DTLS",
            name,
            leg("ROLLBACK", WHOLE[name]),
            provider="camt",
            player=None,
            reference=("CRDT", name),
            cause=Cause("divided", name, reason="DEPOSIT"),
        ),
    ]


MONEY = [
    *(deposit(name, minor, player=None) for name, minor in PAYMENTS.items()),
    *(whole(name) for name in WHOLE),
    *(event for name in WHOLE for event in parts(name)),
]
PLACED = {event.event_id for event in MONEY if event.provider_tx_id in {*WHOLE, *PAYMENTS}} - {
    parts(name)[-1].event_id for name in WHOLE
}
"""What comes into suspense by itself."""
ITEMS = [event.event_id for event in MONEY] + 3 * sorted(PLACED)


@st.composite
def acts(draw):
    """An act of a person on any event, alone or as a proposal with its approval."""
    act = draw(st.sampled_from(["assign", "assign", "return", "answer"]))
    name = draw(st.sampled_from("abcd"))
    item, player = draw(st.sampled_from(ITEMS)), draw(st.sampled_from(PLAYERS))
    kind, operation = {
        "assign": ("SUSPENSE_ASSIGNMENT", "suspense.assignment"),
        "return": ("SUSPENSE_RETURN", "suspense.return"),
        "answer": ("ANSWER", "item"),
    }[act]
    who = {"player": player if act == "assign" else None, "cause": Cause("operator", "o", "ann")}
    named = {**who, "reference": (ENTRY, item)}
    alone = {
        "assign": "suspense.assigned",
        "return": "suspense.returned",
        "answer": "item.answered",
    }
    if act == "answer" or draw(st.booleans()):
        return [house(alone[act], f"{name}-{act}-{item}-{player}", leg(kind, None, None), **named)]
    proposed = f"{operation}.proposed"
    second_actor = draw(st.sampled_from(["ann", "bob", "bob"]))
    second = {**who, "cause": Cause("operator", "o", second_actor)}
    return [
        house(proposed, f"{name}-{player}-{item}", leg("PROPOSAL", None, None), **named),
        house(
            f"{operation}.approved",
            f"{name}-{player}-{item}-{second_actor}",
            leg(kind, None, None),
            reference=(proposed, f"{name}-{player}-{item}"),
            **second,
        ),
    ]


@st.composite
def histories(draw):
    """Events in an order that any partitions may have, mostly a likely one, cut into transactions."""

    def placed(events, earliest, latest):
        return draw(st.integers(earliest, latest)), events

    limits = draw(st.lists(st.sampled_from([0, 40, 10_000]), min_size=1, max_size=2))
    groups = [placed(list(limit_events(minor)), 0, 6) for minor in limits]
    groups += [placed([event], 0, 6) for event in MONEY if event.event_id in PLACED]
    groups += [placed([event], 2, 9) for event in MONEY if event.event_id not in PLACED]
    groups += [placed(act, 2, 9) for act in draw(st.lists(acts(), min_size=4, max_size=12))]
    in_order = sorted(draw(st.permutations(groups)), key=lambda group: group[0])
    events = [event for _, group in in_order for event in group]
    events += draw(st.lists(st.sampled_from(events), max_size=4))  # some come again
    sizes = draw(st.lists(st.integers(1, 5), min_size=len(events), max_size=len(events)))
    return events, sizes


def partition_of(event: WalletTransaction) -> int:
    """The same for a key, as in the log; a whole and its division have one key."""
    key = event.player_id or event.provider_tx_id
    return sum(key.encode()) % 3


async def book(server: Server, events, sizes) -> None:
    ledger = PostgresLedger(
        SimulatedDatabase(server, Process("ledger", Random(1), lambda _: None), "db"), {}
    )
    for number, claim in (await claim_positions(ledger.database, [0, 1, 2])).items():
        ledger.epochs[number] = claim.epoch
    ends: Counter[int] = Counter()
    at = 0
    for size in sizes:
        slices: dict[int, list[WalletTransaction]] = defaultdict(list)
        for event in events[at : at + size]:
            slices[partition_of(event)].append(event)
        at += size
        batch = []
        for number, several in slices.items():
            begin = ends[number]
            placed = [log_event(event, number, begin + n) for n, event in enumerate(several)]
            ends[number] += len(several)
            batch.append(Slice(number, begin, ends[number], placed))
        if batch:
            silent = parts_of_moved_wholes(server) - moved(server)
            await ledger.commit_group(batch)
            assert not silent & moved(server)
            check(server)


def parts_of_moved_wholes(server: Server) -> set[str]:
    """The payments of wholes that a person has moved: from now on they move nothing."""
    closings = server.tables["closing"].rows
    ends = {name: closings.get((whole(name).event_id, ""), {}).get("action") for name in WHOLE}
    names = [name for name, end in ends.items() if end in ("ASSIGNED", "RETURNED")]
    return {event.event_id for name in names for event in parts(name)}


def moved(server: Server) -> set[str]:
    return {row["event_id"] for row in server.tables["transfer"].rows.values()}


def check(server: Server) -> None:
    balances: defaultdict[tuple[str, str], int] = defaultdict(int)
    for row in server.tables["transfer"].rows.values():
        balances[row["debit"], row["currency"]] -= row["amount_minor"]
        balances[row["credit"], row["currency"]] += row["amount_minor"]
    held: defaultdict[tuple[str, str], int] = defaultdict(int)
    for row in server.tables["open_item"].rows.values():
        if row["in_suspense"]:
            held[f"suspense:{row['provider']}", row["currency"]] += row["amount_minor"]
    suspense = {key: minor for key, minor in balances.items() if key[0].startswith("suspense:")}
    assert all(minor >= 0 for minor in suspense.values()), suspense
    assert {key: minor for key, minor in suspense.items() if minor} == dict(held)
    assert sum(balances.values()) == 0
    for row in server.tables["wallet"].rows.values():
        account = (f"player:{row['player_id']}:cash", row["currency"])
        assert balances[account] == row["cash_minor"] >= 0
    entries = list(server.tables["entry"].rows.values())
    items = Counter(
        row["debit"]
        for row in server.tables["transfer"].rows.values()
        if row["debit"].startswith("suspense:") and not row["credit"].startswith("suspense:")
    )
    # Each entry that had put money into suspense leaves it at most once.
    placed = Counter(
        row["credit"]
        for row in server.tables["transfer"].rows.values()
        if row["credit"].startswith("suspense:")
    )
    assert all(items[account] <= placed[account] for account in items)
    closings = server.tables["closing"].rows
    for row in server.tables["open_item"].rows.values():
        assert (row["event_id"], "") not in closings, row
    unresolved = {row["event_id"] for row in entries if row["outcome"] == "UNRESOLVED"}
    open_now = {row["event_id"] for row in server.tables["open_item"].rows.values()}
    closed = {event_id for event_id, player in closings if player == ""}
    assert unresolved == open_now | (unresolved & closed)


@examples(150)
@given(histories())
def test_suspense_holds_what_is_open_and_each_entry_leaves_it_once(history):
    events, sizes = history
    loop = SimulatedLoop()
    try:
        loop.run_until_complete(book(Server(), events, sizes))
    finally:
        loop.close()
